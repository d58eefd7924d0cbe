"""What is remembered of the ledger of test splits apart from it, so that one that was removed or begun anew is noticed.

The same few numbers lie in this user's own directory and in the replay, where a build with `--force` keeps them.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

from sepsis_cql.common.errors import TrainingError
from sepsis_cql.common.ownership import private_files, user_directory
from sepsis_cql.common.storage import write_json
from sepsis_cql.common.strict import Record, read_record
from sepsis_cql.replay.directory import TEST_USES

NOTHING = "0" * 64  # before the first entry
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class LedgerHead(Record):
    """Where a ledger of test splits stood.

    Attributes:
        entries: how many it had, for all test splits together.
        head: SHA-256 of the last of them.
    """

    entries: int = Field(ge=1, lt=1_000_000)
    head: Sha256


class Memory(Record):
    """How often a test split was used, by the fullest ledger of it.

    Attributes:
        ledger: its directory.
        uses: entries of this test split.
        stood: the whole ledger with the last of them; older memories lack it.
    """

    ledger: str
    uses: int = Field(ge=1)
    stood: LedgerHead | None = None


def compare_with_memory(
    ledger: Path, hashes: Sequence[str], uses: int, split_sha256: str, replay: Path | None
) -> None:
    """Refuse a ledger that is shorter than one that is remembered, or another one.

    Args:
        ledger: its file.
        hashes: SHA-256 of each of its entries.
        uses: entries of this test split among them.
        split_sha256: of the content of the test split.
        replay: directory of the replay; None where there is none.

    Raises:
        TrainingError: it has fewer uses of this test split, or another entry where one is remembered.
    """
    for file in _files(split_sha256, replay):
        if not file.exists():
            continue
        known = read_record(
            Memory, file, expected="what this program remembers of a test split; do not edit it"
        )
        advice = (
            f"of the ledger in {known.ledger}, as {file} remembers. Restore both files there from a copy, or use that "
            "ledger; a new one is no way round it."
        )
        if uses < known.uses:
            raise TrainingError(
                f"{ledger}: found {uses} uses of this test split, expected the {known.uses} {advice}"
            )
        if (stood := known.stood) and hashes[stood.entries - 1 : stood.entries] != [stood.head]:
            raise TrainingError(
                f"{ledger}: found another entry {stood.entries}, expected {stood.head[:12]} {advice}"
            )


def remember(memory: Memory, split_sha256: str, replay: Path | None) -> None:
    """Write the memory into this user's own directory and, where that can be written, into the replay."""
    own, *others = _files(split_sha256, replay)
    write_json(own, memory.model_dump())
    with suppress(OSError), private_files():
        for file in others:
            write_json(file, memory.model_dump())


def _files(split_sha256: str, replay: Path | None) -> list[Path]:
    own = user_directory("seen-test-splits") / f"{split_sha256}.json"
    return [own, *([replay / f"{TEST_USES}{split_sha256[:16]}.json"] if replay and replay.is_dir() else [])]
