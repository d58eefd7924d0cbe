"""One object for the replay a command works on: a directory written by `build`, or a file of the original format."""

from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sepsis_cql.common.errors import ReplayError
from sepsis_cql.common.storage import sha256_file
from sepsis_cql.common.strict import read_record
from sepsis_cql.replay.records import Provenance, Source, Statistics
from sepsis_cql.replay.rows.actions import ActionGrid
from sepsis_cql.replay.rows.cohort import attrition_frame
from sepsis_cql.replay.rows.make import Rows
from sepsis_cql.replay.rows.splits import SPLITS
from sepsis_cql.replay.transitions import (
    REWARD_VARIANTS,
    Transitions,
    read_directory_split,
    read_original_file,
)

PRIVATE_MARK = ".private-replay"
PROVENANCE, STATISTICS, STAYS = "provenance.json", "statistics.json", "stays.parquet"
TEST_USES = "test-split-"  # how the names of files begin that remember who saw a test split
STEP_COLUMNS = ["stay_id", "step_index", "sofa", "is_ventilated"]
STAY_COLUMNS = ["stay_id", "age", "gender", "race", "first_careunit"]
EXPECTED = "a directory written by `sepsis-cql build`"
ROW_GROUP = 16384  # transitions; the share of a split that one process can take
NOTICE = """\
This directory holds rows of stays, built from tables of the form of MIMIC-IV. provenance.json says from which:
simulated tables hold nobody, the demo is open data under the Open Database License, MIMIC-IV is credentialed.

If they came from credentialed MIMIC-IV, the PhysioNet Credentialed Health Data Use Agreement applies to
every file here: do not share, upload or publish any of them, do not send them to third-party services, do
not try to identify anyone, and keep the directory readable by credentialed users only. `sepsis-cql`
refuses to export or push a directory that carries the mark .private-replay.
"""


class ReplayDirectory:
    """A directory written by `sepsis-cql build`; its files are read when first asked for, and once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read: dict[tuple[str, str], Transitions] = {}

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        """Reach another process as a path: it reads the files itself."""
        return ReplayDirectory, (self.path,)

    @cached_property
    def provenance(self) -> Provenance:
        """Return what the rows were made from."""
        return read_record(Provenance, self.path / PROVENANCE, expected=f"the provenance in {EXPECTED}")

    @cached_property
    def statistics(self) -> Statistics:
        """Return the normalizer and dose bins of the training split."""
        return read_record(Statistics, self.path / STATISTICS, expected=f"the statistics in {EXPECTED}")

    @property
    def source(self) -> Source:
        """Return the tables the replay was built from."""
        return self.provenance.source

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 of all that the rows depend on."""
        return self.provenance.fingerprint

    @property
    def action_grid(self) -> ActionGrid:
        """Return the dose bins of the training split."""
        grid = self.statistics.action_grid
        return ActionGrid(tuple(grid.vasopressor_edges), tuple(grid.fluid_edges))

    def transitions(self, split: str, reward_variant: str = "sparse") -> Transitions:
        """Return the transitions of a split with one of the rewards.

        Raises:
            ReplayError: the split or reward is unknown, or the file is missing or inconsistent.
        """
        if split not in SPLITS or reward_variant not in REWARD_VARIANTS:
            raise ReplayError(
                f"{split}/{reward_variant}: expected a split of {SPLITS} and a reward of {REWARD_VARIANTS}."
            )
        key = (split, reward_variant)
        if key not in self._read:
            self._read[key] = read_directory_split(self.path / f"{split}.parquet", reward_variant)
        return self._read[key]

    def details(self, split: str) -> pd.DataFrame:
        """Return severity and demographics, one row a step of a split in the order of its transitions.

        Columns: stay_id, step_index, sofa, is_ventilated, age (years), gender, race, first_careunit.
        """
        steps = pq.read_table(self.path / f"{split}.parquet", columns=STEP_COLUMNS).to_pandas()
        stays = pq.read_table(self.path / STAYS, columns=STAY_COLUMNS).to_pandas()
        ordered = steps.sort_values(["stay_id", "step_index"], kind="stable")
        return ordered.merge(stays, on="stay_id", how="left", validate="many_to_one")

    def steps_before_comfort(self, split: str) -> np.ndarray | None:
        """Return (n_episodes,) steps of each stay that begin before comfort measures are known, at least 1.

        None where the replay is too old to tell.
        """
        if "comfort_time" not in pq.read_schema(self.path / STAYS).names:
            return None
        steps = pq.read_table(self.path / f"{split}.parquet", columns=["stay_id", "step_start"]).to_pandas()
        stays = pq.read_table(self.path / STAYS, columns=["stay_id", "comfort_time"]).to_pandas()
        joined = steps.merge(stays, on="stay_id", how="left", validate="many_to_one")
        is_before = joined["comfort_time"].isna() | (joined["step_start"] < joined["comfort_time"])
        counts: np.ndarray = is_before.groupby(joined["stay_id"]).sum().to_numpy()
        return np.maximum(counts, 1)


class ReplayFile:
    """A parquet file of the original format: one split and one reward, states normalized, no statistics."""

    provenance = None
    statistics = None

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def source(self) -> Source:
        """Return the file itself."""
        return Source(name=self.path.name, version=None)

    @cached_property
    def fingerprint(self) -> str:
        """Return the SHA-256 of the file's bytes."""
        return sha256_file(self.path)

    def transitions(self, split: str = "", reward_variant: str = "") -> Transitions:
        """Return the transitions of the file, which is every split and every reward."""
        return self._transitions

    @cached_property
    def _transitions(self) -> Transitions:
        return read_original_file(self.path)


Replay = ReplayDirectory | ReplayFile  # what training and evaluation take


def open_replay(path: Path) -> Replay:
    """Open what a command was given as --replay.

    Raises:
        ReplayError: there is neither a replay directory nor a file, or a patient is in two splits.
    """
    path = Path(path)
    if path.is_file():
        return ReplayFile(path)
    if not (path / PROVENANCE).is_file():
        raise ReplayError(f"{path}: no {PROVENANCE} found. Expected {EXPECTED}, or a replay parquet file.")
    for name in ("subject_id", "stay_id"):
        ids = {split: _ids(path / f"{split}.parquet", name) for split in SPLITS}
        for first, second in combinations(SPLITS, 2):
            if shared := ids[first] & ids[second]:
                raise ReplayError(
                    f"{path}: found {len(shared)} {name} of its {first} split in its {second} split, expected every "
                    "patient in one of them. Build the replay again."
                )
    return ReplayDirectory(path)


def _ids(file: Path, name: str) -> set[object]:
    """The different values of a column of keys; none where they cannot be read, which comes out where they are."""
    if not file.is_file():
        return set()
    try:
        return set(pq.read_table(file, columns=[name])[name].unique().to_pylist()) - {None}
    except (pa.ArrowException, OSError, KeyError):
        return set()


def write_private_marks(directory: Path) -> None:
    """Write the data use notice and the mark publishing refuses."""
    (directory / "DATA_USE_NOTICE.txt").write_text(NOTICE, encoding="utf-8")
    (directory / PRIVATE_MARK).write_text("patient-level data; never publish\n", encoding="utf-8")


def write_rows(directory: Path, rows: Rows) -> None:
    """Write one parquet file a split, the stays and the attrition table."""
    for split, table in rows.buffers.items():
        pq.write_table(table, directory / f"{split}.parquet", row_group_size=ROW_GROUP)
    pq.write_table(rows.stays, directory / STAYS)
    attrition_frame(rows.attrition).to_csv(directory / "attrition.csv", index=False)
