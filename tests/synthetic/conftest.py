"""A small simulated ICU, its tables and the replay the real build makes of them."""

import json
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from sepsis_cql.replay.build import Engine, build_replay
from sepsis_cql.replay.rows.actions import ActionGrid
from sepsis_cql.replay.rows.splits import SPLITS
from sepsis_cql.replay.settings import load_build_settings
from sepsis_cql.synthetic.rendering.render import Synthetic, synthesize
from sepsis_cql.synthetic.settings import SyntheticSettings, load_synthetic_settings
from sepsis_cql.synthetic.truth import Truth

PATIENTS = 200


@dataclass(frozen=True)
class RoundTrip:
    """A simulation, and what the build recovered from its tables.

    Attributes:
        synthetic: the simulator's record.
        replay: the replay directory.
        steps: every transition of the replay, sorted by stay and step.
        row: (n,) position of each transition's stay in the record.
        step: (n,) its step there.
    """

    synthetic: Synthetic
    replay: Path
    steps: pd.DataFrame
    row: np.ndarray
    step: np.ndarray

    def read(self, name: str) -> dict:
        return json.loads((self.replay / f"{name}.json").read_text())

    def of_record(self, values: np.ndarray) -> np.ndarray:
        """Values of the record, (steps, stays, ...), in the order of `steps`."""
        return values[self.step, self.row]


@pytest.fixture(scope="session")
def settings() -> SyntheticSettings:
    return load_synthetic_settings()


@pytest.fixture(scope="session")
def truth(settings: SyntheticSettings) -> Truth:
    edges = settings.action_grid
    return Truth(settings, ActionGrid(tuple(edges.vasopressor_edges), tuple(edges.fluid_edges)), 15.0)


@pytest.fixture(scope="session")
def trip(settings: SyntheticSettings, of_all_processes: Path) -> RoundTrip:
    """The round trip of `PATIENTS`, made once for all processes of a session; tests only read its files."""
    folder = of_all_processes / "synthetic"
    record = folder / "record.pickle"
    with FileLock(folder.with_suffix(".lock")):
        if not record.exists():
            made = synthesize(folder / "mimic", PATIENTS, 7, settings)
            engine = Engine(cache=folder / "cache")
            build_replay(folder / "mimic", folder / "replay", load_build_settings(), engine=engine)
            record.write_bytes(pickle.dumps(made))
    synthetic = pickle.loads(record.read_bytes())
    frames = [pd.read_parquet(folder / "replay" / f"{split}.parquet") for split in SPLITS]
    steps = pd.concat(frames).sort_values(["stay_id", "step_index"], ignore_index=True)
    position = {stay_id: row for row, stay_id in enumerate(synthetic.roster.stay_id)}
    row = steps["stay_id"].map(position).to_numpy()
    return RoundTrip(synthetic, folder / "replay", steps, row, steps["step_index"].to_numpy())


@pytest.fixture(scope="session")
def state_names(trip: RoundTrip) -> list[str]:
    return pq.read_schema(trip.replay / "train.parquet").metadata[b"state_names"].decode().split(",")
