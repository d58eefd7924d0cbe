"""What a build is told: cohort and trajectory settings, the features of a state, the fluids of an action."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from sepsis_cql.common.strict import SHIPPED, Settings, load_settings

Source = Literal["chartevents", "labevents", "outputevents"]
Bounds = tuple[float, float]


class SplitShares(Settings):
    """Share of patients in each split."""

    train: float = Field(gt=0, lt=1)
    validation: float = Field(gt=0, lt=1)
    test: float = Field(gt=0, lt=1)

    @model_validator(mode="after")
    def _sum_to_one(self) -> Self:
        if abs(self.train + self.validation + self.test - 1) > 1e-9:
            raise ValueError("train, validation and test must sum to 1")
        return self


class ReplaySettings(Settings):
    """Cohort, trajectory and reward settings; `configs/replay.yaml` says what each means."""

    onset_rule: Literal["sofa_time", "suspected_infection_time", "min", "max"]
    minimum_age: int = Field(ge=0)
    one_stay_per_patient: bool
    minimum_steps: int = Field(ge=1)
    step_hours: int = Field(ge=1, le=24)
    hours_before: int = Field(ge=0)
    hours_after: int = Field(ge=1)
    lookback_hours: int = Field(ge=1)
    availability: Literal["storetime", "charttime"]
    alignment: Literal["causal", "concurrent"]
    vasopressor_rule: Literal["maximum", "time_weighted"]
    mortality_days: int = Field(ge=1, le=365)
    terminal_reward: float = Field(gt=0)
    sofa_weight: float = Field(ge=0)
    split_shares: SplitShares
    seed: int = Field(ge=0)

    @model_validator(mode="after")
    def _whole_steps(self) -> Self:
        for name in ("hours_before", "hours_after", "lookback_hours"):
            if getattr(self, name) % self.step_hours:
                raise ValueError(f"{name} must be a multiple of step_hours ({self.step_hours})")
        return self


class Feature(Settings):
    """One clinical feature of a state; `configs/features.yaml` says what each field means."""

    items: dict[Source, list[int]] = Field(default_factory=dict)
    concept: Literal["glasgow", "oxygenation"] | None = None
    computed: str | None = None
    unit: str
    conversion: Literal["temperature", "oxygen_fraction", "irrigant"] | None = None
    specimen: Literal["arterial_only", "arterial_first"] | None = None
    prefer: Literal["charttime", "window"] = "charttime"
    valid: Bounds | None = None
    reduce: Literal["mean", "min", "max", "last", "sum"] | None = None
    carry: bool = True
    clip: Bounds
    normal: float
    flag: bool = False

    @property
    def is_measured(self) -> bool:
        """Whether the feature is reduced from measurements of a window."""
        return self.computed is None

    @model_validator(mode="after")
    def _has_one_origin(self) -> Self:
        if self.is_measured and not (self.items and self.reduce and self.valid):
            raise ValueError("needs either `computed`, or all of `items`, `valid` and `reduce`")
        for name, bounds in (("valid", self.valid), ("clip", self.clip)):
            if bounds and bounds[0] >= bounds[1]:
                raise ValueError(f"{name} must be [low, high] with low < high")
        return self


class Features(Settings):
    """The features of a state, by name."""

    features: dict[str, Feature]

    @property
    def flags(self) -> tuple[str, ...]:
        """Names of the missing flags, sorted."""
        return tuple(sorted(f"{name}_missing" for name, feature in self.features.items() if feature.flag))

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the state columns in the published order, which is their order as strings."""
        return tuple(sorted((*self.features, *self.flags)))


class Fluid(Settings):
    """An intravenous fluid and the factor from its amount to mL of isotonic fluid."""

    label: str
    factor: float = Field(gt=0)


class Fluids(Settings):
    """Which inputevents items count as resuscitation volume, and which as intake before the ICU."""

    resuscitation: dict[int, Fluid]
    before_icu: dict[int, str]


class BuildSettings(Settings):
    """Everything a build is told: each part is one YAML file, shipped or the user's."""

    replay: ReplaySettings
    features: Features
    fluids: Fluids

    @property
    def items(self) -> dict[str, set[int]]:
        """Item ids of the features and fluids by the table they are charted in."""
        found: dict[str, set[int]] = {"inputevents": {*self.fluids.resuscitation, *self.fluids.before_icu}}
        for feature in self.features.features.values():
            for source, itemids in feature.items.items():
                found.setdefault(source, set()).update(itemids)
        return found


def load_build_settings(
    replay: Path | None = None,
    features: Path | None = None,
    fluids: Path | None = None,
    changes: dict[str, Any] | None = None,
) -> BuildSettings:
    """Read the settings of a build.

    Args:
        replay: cohort, trajectory and reward settings; None for the shipped ones, as for the others.
        features: of a state.
        fluids: of an action.
        changes: nested values that replace those of the replay settings.
    """
    return BuildSettings(
        replay=load_settings(ReplaySettings, replay or SHIPPED / "replay.yaml", changes),
        features=load_settings(Features, features or SHIPPED / "features.yaml"),
        fluids=load_settings(Fluids, fluids or SHIPPED / "fluids.yaml"),
    )
