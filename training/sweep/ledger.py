"""The ledger of who has seen the test split.

It remembers every policy that was scored there: the second is refused unless someone says why.
"""

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from sepsis_cql.common.errors import TrainingError
from sepsis_cql.common.storage import read_json, write_json

LEDGER = "test_ledger.json"  # in the replay directory


@dataclass(frozen=True)
class LedgerEntry:
    """One policy that was scored on the test split.

    Attributes:
        policy_sha256: of the policy's weights.
        replay_fingerprint: of the replay whose test split it was.
        opened_at: when it first was, UTC.
        evaluations: how often this same policy was scored; repeats give the same numbers.
        why: reason given for a second or later policy; None for the first.
    """

    policy_sha256: str
    replay_fingerprint: str
    opened_at: str
    evaluations: int = 1
    why: str | None = None


def open_test_split(
    ledger: Path, policy_sha256: str, replay_fingerprint: str, again: bool = False, why: str | None = None
) -> LedgerEntry:
    """Enter a policy into the ledger before it is scored on the test split.

    The same policy may be scored again: that repeats a number and chooses nothing.

    Args:
        ledger: the file `test_ledger.json` beside the replay.
        policy_sha256: of the policy's weights.
        replay_fingerprint: of the replay.
        again: whether a further policy is meant to see the test split.
        why: the reason, shown on the card.

    Raises:
        TrainingError: another policy has seen this test split, and `again` or `why` is missing.
    """
    entries = read_ledger(ledger)
    same_split = [entry for entry in entries if entry.replay_fingerprint == replay_fingerprint]
    others = [entry for entry in same_split if entry.policy_sha256 != policy_sha256]
    for entry in same_split:
        if entry.policy_sha256 == policy_sha256:
            repeated = replace(entry, evaluations=entry.evaluations + 1)
            _write(ledger, [repeated if old is entry else old for old in entries])
            return repeated
    reason = (why or "").strip()
    if others and not (again and reason):
        raise TrainingError(
            f"{ledger}: the test split was already used for {_count(len(others))}, last for "
            f"{others[-1].policy_sha256[:12]} on {others[-1].opened_at[:10]}; now asked for "
            f'{policy_sha256[:12]}. Scoring a further policy needs --again --why "REASON", and the card then '
            "shows how often the test split was used."
        )
    entry = LedgerEntry(policy_sha256, replay_fingerprint, _now(), why=reason if others else None)
    _write(ledger, [*entries, entry])
    return entry


def read_ledger(ledger: Path) -> list[LedgerEntry]:
    """Return the policies scored on the test split, oldest first; none where there is no ledger."""
    if not ledger.exists():
        return []
    try:
        return [LedgerEntry(**entry) for entry in read_json(ledger, expected="the ledger of a test split")]
    except TypeError as error:
        raise TrainingError(
            f"{ledger}: not a ledger of a test split ({error}). Restore it; do not remove it."
        ) from error


def count_test_uses(ledger: Path, replay_fingerprint: str) -> int:
    """Count the different policies scored on the test split of this replay."""
    return sum(entry.replay_fingerprint == replay_fingerprint for entry in read_ledger(ledger))


def _write(ledger: Path, entries: list[LedgerEntry]) -> None:
    write_json(ledger, [asdict(entry) for entry in entries])


def _count(n: int) -> str:
    return "1 policy" if n == 1 else f"{n} policies"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
