"""`configs/calibration.yaml`: what is varied in the processes with known truth, and how often it is repeated."""

from typing import Literal, Self

from pydantic import Field, model_validator

from sepsis_cql.common.strict import Settings
from sepsis_cql.evaluation.estimators.intervals import Method

EnvironmentName = Literal["icu-sepsis", "synthetic", "sepsis-simulator"]
Kind = Literal["optimal", "learned", "network", "vasopressor", "fluid", "greedy", "never given"]
ICU_SEPSIS_ONLY = ("hidden_hazard", "harm", "toxicity", "without_effect")
HIDDEN = (
    "heart_rate",
    "pressure",
    "oxygen",
    "glucose",
    "diabetes",
)  # may be withheld of a simulated sepsis patient


class CaseSettings(Settings):
    """One setting; whatever is not given is as the environment has it.

    Attributes:
        environment: where episodes come from.
        training, scored: episodes the behavior model and evaluators are fitted on, and that are scored.
        behavior: whether the clinicians' policy is known or estimated.
        repetitions: other than of all cases.
        policies: parameters of each kind of policy. `optimal`, `learned` and `network`: temperatures of
            clinicians x exp(Q / temperature), negative ones harm. `vasopressor`, `fluid`: clinicians x
            exp(parameter x level), level -1 for none to 1 for most. `greedy`: share of decisions on the best learned
            dose. `never given`: share of decisions on doses that clinicians never give, else as `optimal` with
            temperature 1.
        sharpness: power of the clinicians' probabilities; a large one makes them deterministic.
        hidden_pull: how much more treatment, in units of `vasopressor`, the hidden half of patients gets, the other
            half as much less; in the simulated ICU, for each standard deviation of hidden organ failure.
        hidden_treatment: which it is.
        hidden_hazard: chance to die at each step that only the hidden half of patients has; ICU-Sepsis only.
        harm: chance to die of each dose that clinicians never give; ICU-Sepsis only.
        toxicity: hazard that cumulated vasopressor adds to survivors, which no state shows; ICU-Sepsis only.
        without_effect: every dose acts as the clinicians' mixture of doses, so that all policies are equal;
            ICU-Sepsis only.
        withheld: columns that estimators and policies do not see, of the sepsis simulator; that estimators do not see,
            of the simulated ICU.
        blind: clinicians of the sepsis simulator do not see what is withheld either.
    """

    environment: EnvironmentName
    training: int = Field(ge=100)
    scored: int = Field(ge=100)
    behavior: Literal["known", "estimated"]
    repetitions: int | None = Field(default=None, ge=2)
    policies: dict[Kind, list[float]] = Field(default_factory=dict)
    sharpness: float = Field(default=1.0, gt=0)
    hidden_pull: float = 0.0
    hidden_treatment: Literal["vasopressor", "fluid"] = "vasopressor"
    hidden_hazard: float = Field(default=0.0, ge=0, lt=1)
    harm: float = Field(default=0.0, ge=0, le=1)
    toxicity: float = Field(default=0.0, ge=0)
    without_effect: bool = False
    withheld: list[str] = Field(default_factory=list)
    blind: bool = False

    @property
    def sees_more(self) -> bool:
        """Whether clinicians act on something that the behavior model cannot see."""
        withholds = bool(self.withheld) and self.environment == "sepsis-simulator" and not self.blind
        return self.hidden_pull != 0 or withholds

    @property
    def is_confounded(self) -> bool:
        """Whether what clinicians alone see also changes the outcome."""
        return self.sees_more and (self.environment != "icu-sepsis" or self.hidden_hazard > 0)

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.behavior == "known" and self.sees_more:
            raise ValueError(
                "found known clinicians who see more than the state, expected behavior: estimated"
            )
        only = [name for name in ICU_SEPSIS_ONLY if getattr(self, name)]
        if only and self.environment != "icu-sepsis":
            raise ValueError(f"{', '.join(only)}: of icu-sepsis only")
        if self.environment == "icu-sepsis" and self.withheld:
            raise ValueError("withheld: not of icu-sepsis")
        if self.environment == "sepsis-simulator" and (unknown := sorted(set(self.withheld) - set(HIDDEN))):
            raise ValueError(f"withheld: found {unknown}, expected some of {list(HIDDEN)}")
        return self


class CalibrationSettings(Settings):
    """The whole file."""

    repetitions: int = Field(ge=2)
    seed: int = Field(ge=0)
    resamples: int = Field(ge=50)
    refits: int = Field(ge=20)
    truth_episodes: int = Field(ge=1000)
    repeated_truth_episodes: int = Field(ge=1000)
    intervals: list[Method] = Field(min_length=1)
    behavior_refits: int = Field(ge=0)
    behavior_models: list[str] = Field(min_length=1)
    cases: dict[str, CaseSettings]

    def repetitions_of(self, name: str) -> int:
        """Return how often a case is repeated."""
        return self.cases[name].repetitions or self.repetitions
