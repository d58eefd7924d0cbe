"""What a build is told: cohort and trajectory settings, the features of a state, the fluids of an action."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from sepsis_cql.common.strict import SHIPPED, Settings, load_settings, load_shipped

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
    """Cohort, trajectory and reward settings; `configs/replay.yaml` says what each means.

    A value given here is what a replay had before there was the setting: its record is read, and written as it was.
    """

    onset_rule: Literal["sofa_time", "suspected_infection_time", "min", "max"]
    minimum_age: int = Field(ge=0)
    septic_shock: bool = False
    shock_hours: int = Field(default=24, ge=1, le=72)
    comfort_measures: Literal["keep", "exclude", "censor"] = "keep"
    one_stay_per_patient: bool
    first_stay: Literal["usable", "any"] = "any"
    minimum_steps: int = Field(ge=1)
    step_hours: int = Field(ge=1, le=24)
    hours_before: int = Field(ge=0)
    hours_after: int = Field(ge=1)
    lookback_hours: int = Field(ge=1)
    availability: Literal["storetime", "charttime"]
    partial_window_urine: Literal["as_charted", "scaled", "missing"] = "as_charted"
    carry_forward: Literal["limited", "unlimited"] = "unlimited"
    alignment: Literal["causal", "concurrent"]
    vasopressor_items: Literal["official", "complete"] = "official"
    vasopressor_rule: Literal["maximum", "time_weighted"]
    carriers: Literal["counted", "left_out"] = "counted"
    intubated_gcs: Literal["official", "last_known", "missing"] = "official"
    ventilation_source: Literal["automatic", "charted", "procedures"] = "charted"
    mortality_days: int = Field(ge=1, le=365)
    terminal_reward: float = Field(gt=0)
    sofa_weight: float = Field(ge=0)
    split_by: Literal["patient", "time"] = "patient"
    split_shares: SplitShares
    seed: int = Field(ge=0)

    @model_serializer(mode="wrap")
    def _as_given(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in write(self).items() if name in self.model_fields_set}

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
    per_hours: int | None = None
    carry_as: str | None = None
    ends_with_ventilation: bool = False
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


class CarryLimit(Settings):
    """For how many hours values of one kind are carried forward, and why no longer."""

    hours: float = Field(ge=0)
    reason: str


class Features(Settings):
    """The features of a state, by name, and for how long their values are carried forward."""

    carry_limits: dict[str, CarryLimit] = Field(default_factory=dict)
    features: dict[str, Feature]

    @model_validator(mode="after")
    def _limits_exist(self) -> Self:
        kinds = {feature.carry_as for feature in self.features.values() if feature.carry_as}
        if unknown := sorted(kinds - set(self.carry_limits)):
            raise ValueError(f"carry_as names {', '.join(unknown)}, which carry_limits does not have")
        return self

    def carry_hours(self, name: str) -> float | None:
        """Hours for which a feature is carried forward after the window it was measured in; None without end."""
        kind = self.features[name].carry_as
        return None if kind is None else self.carry_limits[kind].hours

    def of_windows(self, hours: int) -> "Features":
        """Return the features with those that are sums over a window named and bounded for windows of so many hours."""
        return self.model_copy(
            update={"features": dict(_of_windows(*item, hours) for item in self.features.items())}
        )

    @property
    def aged_names(self) -> tuple[str, ...]:
        """Names of the features whose values have an age, in the order of the state."""
        measured = {name for name, feature in self.features.items() if feature.is_measured}
        return tuple(sorted(measured | ({"shock_index"} & set(self.features))))

    @property
    def flags(self) -> tuple[str, ...]:
        """Names of the missing flags, sorted."""
        return tuple(sorted(f"{name}_missing" for name, feature in self.features.items() if feature.flag))

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the state columns in the published order, which is their order as strings."""
        return tuple(sorted((*self.features, *self.flags)))


def _of_windows(name: str, feature: Feature, hours: int) -> tuple[str, Feature]:
    """A feature under the name and with the bounds of a window; unchanged unless it is a sum over other hours."""
    if feature.per_hours in (None, hours):
        return name, feature
    share = hours / feature.per_hours
    bounds = {
        field: value and (value[0] * share, value[1] * share)
        for field, value in (("valid", feature.valid), ("clip", feature.clip))
    }
    changed = feature.model_copy(update={**bounds, "normal": feature.normal * share, "per_hours": hours})
    return name.removesuffix(f"_{feature.per_hours}h") + f"_{hours}h", changed


class Fluid(Settings):
    """An intravenous fluid and the factor from its amount to mL of isotonic fluid."""

    label: str
    factor: float = Field(gt=0)
    may_carry: bool = False


class Fluids(Settings):
    """Which inputevents items count as resuscitation volume, and which as intake before the ICU."""

    resuscitation: dict[int, Fluid]
    before_icu: dict[int, str]


class VasopressorItem(Settings):
    """An infusion that the official concepts leave out."""

    agent: str
    label: str


class Vasopressors(Settings):
    """What one unit of each vasopressor is in norepinephrine, and the items beyond the official ones."""

    equivalents: dict[str, float]
    beyond_official: dict[int, VasopressorItem]


class BuildSettings(Settings):
    """Everything a build is told: each part is one YAML file, shipped or the user's; vasopressors are shipped."""

    replay: ReplaySettings
    features: Features
    fluids: Fluids
    vasopressors: Vasopressors = Field(
        default_factory=lambda: load_shipped(Vasopressors, "vasopressors.yaml")
    )

    @property
    def items(self) -> dict[str, set[int]]:
        """Item ids of the features and fluids by the table they are charted in."""
        given = {*self.fluids.resuscitation, *self.fluids.before_icu, *self.vasopressors.beyond_official}
        found: dict[str, set[int]] = {"inputevents": given}
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
    chosen = load_settings(ReplaySettings, replay or SHIPPED / "replay.yaml", changes)
    return BuildSettings(
        replay=chosen,
        features=load_settings(Features, features or SHIPPED / "features.yaml").of_windows(chosen.step_hours),
        fluids=load_settings(Fluids, fluids or SHIPPED / "fluids.yaml"),
    )
