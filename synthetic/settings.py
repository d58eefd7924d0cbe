"""The facts of the simulated ICU: one strict model for `configs/synthetic.yaml`."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from sepsis_cql.common.strict import SHIPPED, Settings, load_shipped, read_yaml

Cause = Literal[
    "infection", "tone", "deficit", "edema", "kidney", "lung", "liver", "brain", "pressure", "perfusion",
    "vasopressor",
]  # fmt: skip
NAMED = ("vital_signs", "panels", "laboratory")  # parts whose names the simulator knows


def _is_rising(values: tuple[float, ...]) -> tuple[float, ...]:
    if list(values) != sorted(values):
        raise ValueError("must not fall")
    return values


Share = Annotated[float, Field(ge=0, le=1)]
Size = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Range = Annotated[tuple[float, float], AfterValidator(_is_rising)]
Edges = Annotated[list[Positive], Field(min_length=3, max_length=3), AfterValidator(_is_rising)]
Minutes = Annotated[int, Field(ge=0, le=240)]


class Spread(Settings):
    """A normal distribution over patients, and the share of the oldest where that matters."""

    mean: float
    sd: Size
    oldest_share: Share = 0.0


class FluidBefore(Settings):
    """Volume given before the ICU: share of patients with any, and its mean, mL."""

    share: Share
    mean: Size


class PatientSettings(Settings):
    """Who is admitted, and how long the episode may be."""

    steps_before_onset: list[Share]
    steps_after_onset: int = Field(ge=1)
    age: Spread
    weight: Spread
    pressure: Spread
    fluid_before_icu: FluidBefore

    @model_validator(mode="after")
    def _shares_are_all(self) -> Self:
        if abs(sum(self.steps_before_onset) - 1) > 1e-9:
            raise ValueError("steps_before_onset must sum to 1")
        return self


class Infection(Settings):
    """Severity at onset (log-normal) and the range of the share that remains a step later."""

    log_mean: float
    log_sd: Size
    clearance: Range


class Tone(Settings):
    """Loss of vascular tone: at onset per unit of infection, pull towards infection, noise."""

    onset: float
    gain: float
    noise: float


class Deficit(Settings):
    """Volume deficit, litres: mean at onset, leak per unit of infection, share of fluid that fills it."""

    onset: Size
    leak: float
    filled: float
    noise: float


class Edema(Settings):
    """Share that stays a step later, share of fluid that always leaks, litres tolerated."""

    kept: float
    share: float
    tolerated: float


class Pressure(Settings):
    """Fall of pressure by tone and deficit, saturating rise by vasopressor, mmHg; share of its effect kept."""

    tone: float
    deficit: float
    gain: float
    half: Positive
    kept: float
    noise: float


class Shortfall(Settings):
    """Soft-plus below a target pressure, mmHg."""

    target: float
    width: Positive
    scale: Positive


class Constriction(Settings):
    """Harm per mcg/kg/min, and of pressure above a bound."""

    dose: float
    above: float
    scale: Positive


class Organ(Settings):
    """Gain of dysfunction a step by cause, recovery, and mean at onset."""

    infection: float
    shortfall: float
    constriction: float
    edema: float
    recovery: float
    onset: Size


class PhysiologySettings(Settings):
    """Cause dynamics."""

    infection: Infection
    tone: Tone
    deficit: Deficit
    edema: Edema
    pressure: Pressure
    shortfall: Shortfall
    constriction: Constriction
    kidney: Organ
    lung: Organ
    liver: Organ
    brain: Organ
    organ_noise: float


class Logit(Settings):
    """Log odds of an event by organ dysfunction (summed), and by decade of age beyond 65."""

    base: float
    organs: float
    decade: float = 0.0
    earliest: int = 0


class OutcomeSettings(Settings):
    """How an episode ends."""

    icu_death: Logit
    late_death: Logit
    discharge: Logit


class DrugHabit(Settings):
    """How clinicians dose one drug: which doses there are (first, last, spacing), how often, how much."""

    doses: tuple[Positive, Positive, Positive]
    at_least: float = Field(gt=0, lt=0.5)
    base: float
    pressure: float
    lactate: float
    urine: float
    continued: float = 0.0
    dose: Positive
    dose_pressure: float
    dose_lactate: float
    spread: Positive
    random: float = Field(gt=0, lt=1)

    @model_validator(mode="after")
    def _has_a_dose(self) -> Self:
        if self.doses[0] > self.doses[1]:
            raise ValueError("doses must be [first, last, spacing] with first at most last")
        return self


class References(Settings):
    """Pressure (mmHg), lactate (mmol/L) and urine (mL in 4 h) at which habits are neutral.

    At `earlier_vasopressor` (cumulative, mcg/kg/min x h) the habit of continuing is half as strong as it gets.
    """

    pressure: float
    lactate: float
    urine: Positive
    earlier_vasopressor: Positive


class ClinicianSettings(Settings):
    """The behavior policy."""

    vasopressor: DrugHabit
    fluid: DrugHabit
    references: References


class GridSettings(Settings):
    """Dose edges, mcg/kg/min and mL."""

    vasopressor_edges: Edges
    fluid_edges: Edges


class Reading(Settings):
    """A vital sign or laboratory value as a function of the latent state."""

    base: float
    weights: dict[Cause, float]
    noise: float
    personal: float = 0.0
    bounds: Range = (0.0, 4000.0)
    additive: bool = False
    digits: int = 0
    quiet: Range | None = None
    onset: Range | None = None


class Panel(Settings):
    """Tests drawn together: probability of a draw, its rise with severity, share filed a window late."""

    usual: float
    severity: float
    late: Share
    tests: list[str]


class Oxygen(Settings):
    """Lung dysfunction from which oxygen and a ventilator are used, and their settings."""

    from_lung: float
    ventilated_from: float
    fraction: float
    lung: float
    peep: float
    peep_lung: float


class Coma(Settings):
    """Points of the Glasgow Coma Scale lost a unit of brain dysfunction."""

    brain: float


class Urine(Settings):
    """Urine of a step, mL, and the share of steps in which it is charted."""

    base: float
    weights: dict[Cause, float]
    noise: float
    charted: Share


class Comfort(Settings):
    """Stays whose goal is comfort: their share, and what it adds to the log odds of treatment and of death."""

    share: Share = 0.0
    treatment: float = 0.0
    death: float = 0.0


class HiddenSettings(Settings):
    """What stands in no state: log odds of either drug by hidden severity, goal of care, care unit and years."""

    severity: float = 0.0
    comfort: Comfort = Field(default_factory=Comfort)
    units: list[float] = Field(default_factory=list, max_length=5)
    eras: list[float] = Field(default_factory=list, max_length=5)

    @property
    def is_off(self) -> bool:
        """Whether the clinicians' doses follow from the state alone."""
        shifts = (self.severity, self.comfort.share * self.comfort.treatment, *self.units, *self.eras)
        return not any(shifts)


class RenderingSettings(Settings):
    """Shares of patients and stays with each peculiarity of the tables."""

    cohort: Share
    others: dict[Literal["no_antibiotic", "no_culture", "topical_only", "minor", "too_short"], Size]
    earlier_stay: Share
    later_septic_stay: Share
    other_steps: int = Field(ge=0)
    celsius: Share
    fraction: Share
    arterial_line: Share
    pounds: Share
    date_only_culture: Share
    venous_gas: Share

    @model_validator(mode="after")
    def _has_others(self) -> Self:
        if not any(self.others.values()):
            raise ValueError("others must have a share above 0")
        return self


class SyntheticSettings(Settings):
    """The whole of `configs/synthetic.yaml`."""

    version: str
    patients: PatientSettings
    physiology: PhysiologySettings
    outcome: OutcomeSettings
    clinicians: ClinicianSettings
    action_grid: GridSettings
    vital_signs: dict[str, Reading]
    panels: dict[str, Panel]
    laboratory: dict[str, Reading]
    oxygen: Oxygen
    coma: Coma
    urine: Urine
    reading_missing: Share
    minutes_before_grid: Annotated[tuple[Minutes, Minutes], AfterValidator(_is_rising)]
    rendering: RenderingSettings
    hidden: HiddenSettings = Field(default_factory=HiddenSettings)

    @model_validator(mode="after")
    def _has_the_names(self) -> Self:
        shipped = read_yaml(SHIPPED / "synthetic.yaml")
        for part in NAMED:
            if odd := sorted(set(getattr(self, part)) ^ set(shipped[part])):
                raise ValueError(f"{part} must have the names of the shipped ones; they differ by {odd}")
        if sorted(test for panel in self.panels.values() for test in panel.tests) != sorted(self.laboratory):
            raise ValueError("the tests of the panels must be the values of laboratory, once each")
        needed = {name for name, fact in shipped["laboratory"].items() if "onset" in fact}
        if lacking := sorted(needed - {name for name, fact in self.laboratory.items() if fact.onset}):
            raise ValueError(f"laboratory: {lacking} must have bounds at onset")
        return self


def load_synthetic_settings() -> SyntheticSettings:
    """Read the shipped `configs/synthetic.yaml`."""
    return load_shipped(SyntheticSettings, "synthetic.yaml")
