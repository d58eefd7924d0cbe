"""The facts of the simulated ICU: one strict model for `configs/synthetic.yaml`."""

from typing import Literal

from pydantic import Field

from sepsis_cql.common.strict import Settings, load_shipped

Cause = Literal[
    "infection", "tone", "deficit", "edema", "kidney", "lung", "liver", "brain", "pressure", "perfusion",
    "vasopressor",
]  # fmt: skip
Pair = tuple[float, float]


class Spread(Settings):
    """A normal distribution over patients, and the share of the oldest where that matters."""

    mean: float
    sd: float
    oldest_share: float = 0.0


class FluidBefore(Settings):
    """Volume given before the ICU: share of patients with any, and its mean, mL."""

    share: float
    mean: float


class PatientSettings(Settings):
    """Who is admitted, and how long the episode may be."""

    steps_before_onset: list[float]
    steps_after_onset: int
    age: Spread
    weight: Spread
    pressure: Spread
    fluid_before_icu: FluidBefore


class Infection(Settings):
    """Severity at onset (log-normal) and the range of the share that remains a step later."""

    log_mean: float
    log_sd: float
    clearance: Pair


class Tone(Settings):
    """Loss of vascular tone: at onset per unit of infection, pull towards infection, noise."""

    onset: float
    gain: float
    noise: float


class Deficit(Settings):
    """Volume deficit, litres: mean at onset, leak per unit of infection, share of fluid that fills it."""

    onset: float
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
    half: float
    kept: float
    noise: float


class Shortfall(Settings):
    """Soft-plus below a target pressure, mmHg."""

    target: float
    width: float
    scale: float


class Constriction(Settings):
    """Harm per mcg/kg/min, and of pressure above a bound."""

    dose: float
    above: float
    scale: float


class Organ(Settings):
    """Gain of dysfunction a step by cause, recovery, and mean at onset."""

    infection: float
    shortfall: float
    constriction: float
    edema: float
    recovery: float
    onset: float


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

    doses: tuple[float, float, float]
    at_least: float = Field(gt=0, lt=0.5)
    base: float
    pressure: float
    lactate: float
    urine: float
    continued: float = 0.0
    dose: float
    dose_pressure: float
    dose_lactate: float
    spread: float
    random: float = Field(gt=0, lt=1)


class References(Settings):
    """Pressure (mmHg), lactate (mmol/L) and urine (mL in 4 h) at which habits are neutral.

    At `earlier_vasopressor` (cumulative, mcg/kg/min x h) the habit of continuing is half as strong as it gets.
    """

    pressure: float
    lactate: float
    urine: float
    earlier_vasopressor: float


class ClinicianSettings(Settings):
    """The behavior policy."""

    vasopressor: DrugHabit
    fluid: DrugHabit
    references: References


class GridSettings(Settings):
    """Dose edges, mcg/kg/min and mL."""

    vasopressor_edges: list[float]
    fluid_edges: list[float]


class Reading(Settings):
    """A vital sign or laboratory value as a function of the latent state."""

    base: float
    weights: dict[Cause, float]
    noise: float
    personal: float = 0.0
    bounds: Pair = (0.0, 4000.0)
    additive: bool = False
    digits: int = 0
    quiet: Pair | None = None
    onset: Pair | None = None


class Panel(Settings):
    """Tests drawn together: log-free chance of a draw, its rise with severity, share filed a window late."""

    usual: float
    severity: float
    late: float
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
    charted: float


class Comfort(Settings):
    """Stays whose goal is comfort: their share, and what it adds to the log odds of treatment and of death."""

    share: float = Field(default=0.0, ge=0, le=1)
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

    cohort: float
    others: dict[str, float]
    earlier_stay: float
    later_septic_stay: float
    other_steps: int
    celsius: float
    fraction: float
    arterial_line: float
    pounds: float
    date_only_culture: float
    venous_gas: float


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
    reading_missing: float
    minutes_before_grid: tuple[int, int]
    rendering: RenderingSettings
    hidden: HiddenSettings = Field(default_factory=HiddenSettings)


def load_synthetic_settings() -> SyntheticSettings:
    """The shipped `configs/synthetic.yaml`."""
    return load_shipped(SyntheticSettings, "synthetic.yaml")
