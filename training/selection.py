"""The frozen choice of a policy, and the ledger of who has seen the test split.

A policy is chosen on validation data. The choice is written down before the test split is read, and the
ledger beside the replay remembers every policy that was scored on it: the second is refused unless someone
says why.
"""

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sepsis_cql.errors import CheckpointError, TrainingError
from sepsis_cql.packages import WEIGHTS
from sepsis_cql.provenance import git_commit
from sepsis_cql.storage import read_json, sha256_file, write_json
from sepsis_cql.training.outputs import RECORD

LEDGER = "test_ledger.json"  # in the replay directory
FIELDS = {"weights_sha256", "checkpoint", "settings", "replay_fingerprint", "validation", "frozen_at"}


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


def freeze_selection(training: Path, evidence: dict[str, Any], out: Path) -> dict[str, Any]:
    """Write down which trained policy was chosen and on what evidence; returns what `out` now holds.

    Args:
        training: directory of a complete run.
        evidence: validation results the choice rests on; nothing of the test split.
        out: the file, by convention `selection.json`.

    Raises:
        TrainingError: the run is incomplete, or `out` already holds the choice of another policy.
        CheckpointError: the weights are not those the run's record names.
    """
    record = read_json(training / RECORD, expected="the record of a complete run of `sepsis-cql train`")
    found = sha256_file(training / "package" / WEIGHTS)
    if found != record["weights_sha256"]:
        raise CheckpointError(
            f"{training / 'package' / WEIGHTS}: SHA-256 {found[:12]}, but {RECORD} says "
            f"{record['weights_sha256'][:12]}. Train again with --force."
        )
    if out.exists() and (before := load_selection(out)["weights_sha256"]) != found:
        raise TrainingError(
            f"{out}: already froze policy {before[:12]}, asked to freeze {found[:12]}. Remove the file to "
            "choose anew; the ledger of the test split remembers which policies have seen it."
        )
    (checkpoint,) = (training / "model").glob("*.pt")
    selection = {
        "weights_sha256": found,
        "checkpoint": {"file": checkpoint.name, "sha256": sha256_file(checkpoint)},
        "settings": record["settings"],
        "data": record["data"],
        "replay_fingerprint": record["data"]["replay_fingerprint"],
        "validation": evidence,
        "git_commit": git_commit(),
        "frozen_at": _now(),
    }
    write_json(out, selection)
    return selection


def load_selection(path: Path) -> dict[str, Any]:
    """Contents of a selection file.

    Raises:
        TrainingError: it is not one.
    """
    selection: dict[str, Any] = read_json(path, expected="the selection frozen after validation")
    if missing := sorted(FIELDS - set(selection)):
        raise TrainingError(f"{path}: fields {missing} missing. Expected a file written by the selection.")
    return selection


def require_selected(path: Path, policy_sha256: str, replay_fingerprint: str) -> dict[str, Any]:
    """Contents of the selection at `path`, provided that it chose this policy on this replay.

    Raises:
        TrainingError: it chose another policy, or on another replay.
    """
    selection = load_selection(path)
    expected = {"weights_sha256": policy_sha256, "replay_fingerprint": replay_fingerprint}
    for name, value in expected.items():
        if selection[name] != value:
            raise TrainingError(
                f"{path}: chose {name} {str(selection[name])[:12]}, but the test split was asked for "
                f"{value[:12]}. Evaluate the chosen policy, on the replay it was chosen on."
            )
    return selection


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
    """Policies scored on the test split, oldest first; none where there is no ledger."""
    if not ledger.exists():
        return []
    try:
        return [LedgerEntry(**entry) for entry in read_json(ledger, expected="the ledger of a test split")]
    except TypeError as error:
        raise TrainingError(
            f"{ledger}: not a ledger of a test split ({error}). Restore it; do not remove it."
        ) from error


def count_test_uses(ledger: Path, replay_fingerprint: str) -> int:
    """Number of different policies scored on the test split of this replay."""
    return sum(entry.replay_fingerprint == replay_fingerprint for entry in read_ledger(ledger))


def _write(ledger: Path, entries: list[LedgerEntry]) -> None:
    write_json(ledger, [asdict(entry) for entry in entries])


def _count(n: int) -> str:
    return "1 policy" if n == 1 else f"{n} policies"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
