"""What a replay directory says about itself: the shapes of `provenance.json` and `statistics.json`."""

from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from sepsis_cql.common.strict import Record
from sepsis_cql.replay.settings import Features, Fluids, ReplaySettings

Finite = Annotated[float, Field(allow_inf_nan=False)]
Sha256 = Field(pattern=r"^[0-9a-f]{64}$")


CREDENTIALED = frozenset(["mimic-iv"])  # sources of patients whose records are not open


class Source(Record):
    """Tables a replay was built from; a single replay file is its own source and has no version."""

    name: str
    version: str | None


class Simulation(Record):
    """Contents of `SYNTHETIC.json`, which tells simulated tables from patients' and holds all that made them.

    Attributes:
        generator: command that wrote the tables.
        version: of the simulator.
        patients: number simulated.
        seed: of the simulation.
        settings_sha256: of the settings.
        settings: of the simulator, which `synthetic.settings.SyntheticSettings` checks.
        notice: that every patient is made up.
    """

    generator: str
    version: str
    patients: int = Field(ge=1)
    seed: int = Field(ge=0)
    settings_sha256: str = Sha256
    settings: dict[str, Any]
    notice: str


class Normalizer(Record):
    """Clip bounds, fill value, mean and scale of each of the n_states columns, in the order of `names`.

    Network inputs are `(where(isnan(x), fill, clip(x, clip_low, clip_high)) - mean) / scale`.
    """

    names: list[str]
    clip_low: list[Finite]
    clip_high: list[Finite]
    fill: list[Finite]
    mean: list[Finite]
    scale: list[Finite]

    @model_validator(mode="after")
    def _is_of_one_length(self) -> Self:
        columns = self.clip_low, self.clip_high, self.fill, self.mean, self.scale
        if {len(column) for column in columns} != {len(self.names)} or len(set(self.names)) != len(
            self.names
        ):
            raise ValueError("columns of other lengths than its different names")
        if min(self.scale, default=1.0) <= 0:
            raise ValueError("a scale that is not positive")
        if any(low > high for low, high in zip(self.clip_low, self.clip_high, strict=True)):
            raise ValueError("a clip_low above its clip_high")
        return self

    def __call__(self, states: np.ndarray) -> np.ndarray:
        """Return (n, n_states) float32 network inputs of states in clinical units with NaN for "unknown"."""
        known = np.where(np.isnan(states), self.fill, np.clip(states, self.clip_low, self.clip_high))
        return ((known - np.array(self.mean)) / np.array(self.scale)).astype(np.float32)


class DoseGrid(Record):
    """Upper edges of the dose bins 1 to 3 of each drug, with their units."""

    vasopressor_edges: list[Finite]
    vasopressor_unit: Literal["mcg/kg/min"] = "mcg/kg/min"
    fluid_edges: list[Finite]
    fluid_unit: Literal["mL"] = "mL"

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        for edges in (self.vasopressor_edges, self.fluid_edges):
            if len(edges) != 3 or sorted(edges) != edges:
                raise ValueError("not three edges in ascending order")
        return self


class Statistics(Record):
    """Contents of `statistics.json`: all of it from the training split."""

    normalizer: Normalizer
    action_grid: DoseGrid
    n_train_transitions: int
    n_train_stays: int
    replay_fingerprint: str = Sha256


class Provenance(Record):
    """Contents of `provenance.json`: everything the rows depend on, and what they were made with."""

    source: Source
    fingerprint: str = Sha256
    settings: ReplaySettings
    features: Features
    fluids: Fluids
    git_commit: str | None
    versions: dict[str, str | None]
    synthetic: Simulation | None
