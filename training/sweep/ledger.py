"""The ledger of who has seen a test split: every policy that was scored there, outside the replay and append-only.

It lies in a directory of the user's own, so that building a replay anew forgets nothing. Each entry holds the hash of
the one before it, and `test_splits.head` that of the last one: an entry that was edited, moved or cut off is noticed.
For credentialed records `memory.py` besides keeps, in this user's own directory and in the replay, how many uses the
fullest ledger had and where it stood, and the evaluation takes that along: a ledger whose two files were removed, or
another one that begins anew, is noticed, also where the user's whole directory is gone. It keeps honest people honest;
whoever removes the copies in the replay too, or takes tables or a fresh copy of the replay to another machine, starts
from nothing.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, ValidationError

from sepsis_cql.common.errors import TrainingError
from sepsis_cql.common.ownership import one_writer, user_directory
from sepsis_cql.common.storage import new_file, sha256_json
from sepsis_cql.common.strict import Record
from sepsis_cql.training.sweep.memory import (
    NOTHING,
    LedgerHead,
    Memory,
    Sha256,
    compare_with_memory,
    remember,
)

LEDGER, HEAD = "test_splits.jsonl", "test_splits.head"
LARGEST = 64 * 2**20  # bytes
WAIT_SECONDS = 30
Time = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$")]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=500)]


class LedgerEntry(Record):
    """One scoring of a policy on a test split.

    Attributes:
        number: of the entry, from 1.
        split_sha256: of the content of the test split.
        policy_sha256: of the policy.
        scored_at: when, UTC.
        why: reason given for a second or later policy on this split; None for the first and for repeats.
        previous: SHA-256 of the entry before.
    """

    number: int = Field(ge=1)
    split_sha256: Sha256
    policy_sha256: Sha256
    scored_at: Time
    why: Reason | None
    previous: Sha256

    @property
    def sha256(self) -> str:
        """Hash that the next entry holds."""
        return sha256_json(self.model_dump())


def default_ledger() -> Path:
    """Return the directory of this user's ledger."""
    return user_directory("ledger")


def open_test_split(
    ledger: Path,
    policy_sha256: str,
    split_sha256: str,
    again: bool = False,
    why: str | None = None,
    *,
    is_remembered: bool = False,
    replay: Path | None = None,
) -> LedgerEntry:
    """Enter a policy into the ledger before it is scored on a test split.

    The same policy may be scored again: that repeats a number and chooses nothing.

    Args:
        ledger: directory of the ledger.
        policy_sha256: of the policy.
        split_sha256: of the content of the test split.
        again: whether a further policy is meant to see the test split.
        why: the reason.
        is_remembered: whether the uses of this split are also counted apart from the ledger.
        replay: directory of the replay, where they then are counted, too.

    Raises:
        TrainingError: another policy has seen this test split, and `again` or `why` is missing; or the ledger is not
            as it was left.
    """
    ledger.mkdir(mode=0o700, parents=True, exist_ok=True)
    with one_writer(ledger / LEDGER, "evaluate --split test", wait_seconds=WAIT_SECONDS):
        entries = read_ledger(ledger)
        known = [entry.policy_sha256 for entry in entries if entry.split_sha256 == split_sha256]
        if is_remembered:
            hashes = [entry.sha256 for entry in entries]
            compare_with_memory(ledger / LEDGER, hashes, len(known), split_sha256, replay)
        reason = (why or "").strip()
        is_further = bool(known) and policy_sha256 not in known
        if is_further and not (again and reason):
            last = next(entry for entry in reversed(entries) if entry.split_sha256 == split_sha256)
            raise TrainingError(
                f"{ledger / LEDGER}: the test split was already used for {_count(len(set(known)))}, last for "
                f"{last.policy_sha256[:12]} on {last.scored_at[:10]}; now asked for {policy_sha256[:12]}. Scoring a "
                'further policy needs --again --why "REASON", and the card then says how often it was used.'
            )
        entry = _new_entry(entries, policy_sha256, split_sha256, reason if is_further else None)
        _write(ledger, [*entries, entry])
        if is_remembered:
            stood = LedgerHead(entries=entry.number, head=entry.sha256)
            memory = Memory(ledger=str(ledger.absolute()), uses=len(known) + 1, stood=stood)
            remember(memory, split_sha256, replay)
    return entry


def read_ledger(ledger: Path) -> list[LedgerEntry]:
    """Return every scoring on a test split, oldest first; none where there is no ledger.

    Raises:
        TrainingError: it is not exactly what was left there.
    """
    file, head = ledger / LEDGER, ledger / HEAD
    if not file.exists() and not head.exists():
        return []
    try:
        if not (file.is_file() and (head.is_file() or not head.exists())):
            raise _refusal(file, "no regular files")
        entries = _parse(file)
        last = head.read_text(encoding="ascii").strip() if head.exists() else NOTHING
    except (OSError, UnicodeDecodeError) as error:
        raise _refusal(file, f"a file that cannot be read ({type(error).__name__})") from error
    expected = [NOTHING, *(entry.sha256 for entry in entries)]
    if [entry.previous for entry in entries] != expected[:-1]:
        raise _refusal(file, "entries that do not follow from one another")
    if [entry.number for entry in entries] != list(range(1, len(entries) + 1)):
        raise _refusal(file, "entries that are not numbered 1, 2, 3, ...")
    if last not in expected[-2:]:  # a process killed between the two files leaves the head one entry behind
        raise _refusal(file, f"{len(entries)} entries that do not end where {HEAD} says")
    return entries


def count_test_uses(ledger: Path, split_sha256: str) -> int:
    """Count the different policies scored on a test split."""
    return len({entry.policy_sha256 for entry in read_ledger(ledger) if entry.split_sha256 == split_sha256})


def head_of_ledger(ledger: Path) -> LedgerHead | None:
    """Return where a ledger stands; None where there is none."""
    entries = read_ledger(ledger)
    return LedgerHead(entries=len(entries), head=entries[-1].sha256) if entries else None


def holds(ledger: Path, stood: LedgerHead) -> bool:
    """Whether a ledger once stood there."""
    return [entry.sha256 for entry in read_ledger(ledger)][stood.entries - 1 : stood.entries] == [stood.head]


def _parse(file: Path) -> list[LedgerEntry]:
    if file.stat().st_size > LARGEST:
        raise _refusal(file, f"more than {LARGEST} bytes")
    *lines, rest = file.read_text(encoding="utf-8").split("\n")
    if rest or not lines:
        raise _refusal(file, "no entry, or a last line that is cut off")
    entries = []
    for number, line in enumerate(lines, 1):
        try:
            entry = LedgerEntry.model_validate_json(line)
        except (ValidationError, RecursionError):
            raise _refusal(file, f"line {number} that is no entry") from None
        if line != _line(entry):
            raise _refusal(file, f"line {number} that this program did not write so")
        entries.append(entry)
    return entries


def _new_entry(
    entries: list[LedgerEntry], policy_sha256: str, split_sha256: str, why: str | None
) -> LedgerEntry:
    try:
        return LedgerEntry(
            number=len(entries) + 1,
            split_sha256=split_sha256,
            policy_sha256=policy_sha256,
            scored_at=datetime.now(UTC).isoformat(timespec="seconds"),
            why=why,
            previous=entries[-1].sha256 if entries else NOTHING,
        )
    except ValidationError:
        raise TrainingError(f"--why: found {len(why or '')} characters, expected at most 500.") from None


def _write(ledger: Path, entries: list[LedgerEntry]) -> None:
    """Put the entries and then their head in place, each whole or not at all."""
    text = "".join(_line(entry) + "\n" for entry in entries)
    for name, content in ((LEDGER, text), (HEAD, entries[-1].sha256 + "\n")):
        with new_file(ledger / name) as temporary:
            temporary.write_text(content, encoding="utf-8")


def _line(entry: LedgerEntry) -> str:
    return json.dumps(entry.model_dump(), separators=(",", ":"))


def _refusal(file: Path, found: str) -> TrainingError:
    return TrainingError(
        f"{file}: found {found}, expected the ledger of test splits as this program left it. Restore both files from a "
        "copy; do not remove or edit them."
    )


def _count(n: int) -> str:
    return "1 policy" if n == 1 else f"{n} policies"
