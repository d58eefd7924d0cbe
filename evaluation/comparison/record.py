"""`configs/comparison.yaml` and the shape of `comparison.json`."""

from math import prod
from typing import Any

from pydantic import Field, model_validator

from sepsis_cql.common.privacy import Count
from sepsis_cql.common.strict import Record, Settings
from sepsis_cql.evaluation.record import Estimate, Gate, ReplayFacts, TrueValue, Verdict

RECORD = "comparison.json"


class ComparisonSettings(Settings):
    """How learners are compared; `configs/comparison.yaml` says what each field means."""

    seeds: list[int] = Field(min_length=1)
    schedule: dict[str, Any]
    epsilon: float = Field(ge=0)
    support_threshold: float = Field(ge=0, lt=1)
    grids: dict[str, dict[str, list[Any]]] = Field(min_length=1)

    @model_validator(mode="after")
    def _check_budgets(self) -> "ComparisonSettings":
        """Every learner is tuned over as many configurations as any other."""
        budgets = {name: budget_of(grid) for name, grid in self.grids.items()}
        if len(set(budgets.values())) > 1:
            raise ValueError(f"grids: found {budgets} configurations, expected as many for every learner.")
        return self


def budget_of(grid: dict[str, list[Any]]) -> int:
    """Count the configurations of a grid."""
    return prod(map(len, grid.values()))


class SeedResult(Record):
    """One policy of one seed, or of all seeds together, on the compared split.

    Attributes:
        seed: of the run; None for a policy made of all seeds.
        softening: the version that validation chose to speak for it; see `training.records.Score`.
        estimates: by estimator.
        difference: to the clinicians, by the recommended estimator.
        ess: effective sample size, episodes.
        gates: that did not hold.
        verdict: by the rules of `evaluate`.
        true_value: of this version; None for patients.
        true_value_as_it_acts: of the policy without softening; None for patients.
        published_fqe, published_wis: of the policy without softening by the original definitions; None without
            values.
        published_ess: effective episodes that this WIS rests on, by weights of its own.
    """

    seed: int | None
    softening: str
    estimates: dict[str, Estimate]
    difference: float | None
    ess: float
    gates: list[Gate]
    verdict: Verdict
    true_value: TrueValue | None
    true_value_as_it_acts: TrueValue | None
    published_fqe: float | None
    published_wis: float | None
    published_ess: float


class LearnerResult(Record):
    """A learner, or a policy made of its seeds.

    Attributes:
        name: of the learner, or what was made of its seeds.
        configuration: of the grid, that validation chose; empty for what was made of seeds.
        n_configurations: it was tuned over.
        seeds: a result each.
    """

    name: str
    configuration: dict[str, Any]
    n_configurations: int
    seeds: list[SeedResult]


class Comparison(Record):
    """Contents of `comparison.json`.

    Attributes:
        minimum_ess: effective episodes that the verdict asks for.
        git_commit: of the code that made it.
    """

    replay: ReplayFacts
    split: str
    n_episodes: Count
    n_training_episodes: Count
    gamma: float
    bound: float
    recommended: str
    settings: ComparisonSettings
    clinicians: Estimate
    clinicians_true_value: TrueValue | None
    baselines: dict[str, TrueValue | None]
    learners: list[LearnerResult]
    versions: dict[str, str | None]
    minimum_ess: float
    git_commit: str | None
