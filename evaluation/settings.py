"""`configs/evaluation.yaml`: how a policy is evaluated and by which rules a verdict is reached."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from sepsis_cql.common.privacy import SMALLEST_CELL
from sepsis_cql.common.strict import Settings

BehaviorModel = Literal[
    "multinomial logistic", "multilayer perceptron", "gradient boosting", "nearest neighbors"
]
Temperature = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


def _ascend(ends: list[int]) -> list[int]:
    if ends != sorted(set(ends)):
        raise ValueError("expected lower ends in ascending order")
    return ends


Strata = Annotated[list[int], Field(min_length=1), AfterValidator(_ascend)]


class FqeSettings(Settings):
    """Fitted Q evaluation; see `estimators.fqe`."""

    refits: int = Field(ge=2)
    folds: int = Field(ge=2)
    features: int = Field(ge=0)
    components: int = Field(ge=0)
    transitions_per_feature: int = Field(ge=1)
    largest_ratio: float = Field(gt=0)
    largest_log_ratio: float = Field(gt=0)
    smallest_probability: float = Field(gt=0, lt=1)
    ridge: float = Field(ge=1e-6)
    sweeps: int = Field(ge=1)
    tolerance: float = Field(gt=0)


class LogisticSettings(Settings):
    """Fields of scikit-learn's `LogisticRegression`."""

    C: float = Field(gt=0)
    max_iter: int = Field(ge=1)
    tol: float = Field(gt=0)


class PerceptronSettings(Settings):
    """Fields of scikit-learn's `MLPClassifier`."""

    hidden_layer_sizes: list[Annotated[int, Field(ge=1)]]
    alpha: float = Field(ge=0)
    max_iter: int = Field(ge=1)


class BoostingSettings(Settings):
    """Fields of scikit-learn's `HistGradientBoostingClassifier`."""

    max_iter: int = Field(ge=1)
    max_leaf_nodes: int = Field(ge=2)
    learning_rate: float = Field(gt=0)


class NeighborSettings(Settings):
    """Neighbors of scikit-learn's `KNeighborsClassifier`, and the decisions there must be for each of them."""

    n_neighbors: int = Field(ge=1)
    decisions_per_neighbor: int = Field(ge=1)


class BehaviorSettings(Settings):
    """How the clinicians' policy is estimated; see `behavior.fit_behavior`."""

    exact: bool
    models: list[BehaviorModel] = Field(min_length=1)
    logistic: LogisticSettings
    perceptron: PerceptronSettings
    boosting: BoostingSettings
    neighbors: NeighborSettings
    floor: float = Field(gt=0, lt=1)
    reliability_bins: int = Field(ge=1)
    smallest_bin: int = Field(ge=SMALLEST_CELL)
    selection_rows: int = Field(ge=100)
    calibration_share: float = Field(gt=0, lt=1)
    temperatures: list[Temperature] = Field(min_length=1)
    marginal_shares: list[Share] = Field(min_length=1)


class CovariateSettings(Settings):
    """Measured covariates as yardsticks of hidden ones; see `covariates.measure_covariates`."""

    strongest: int = Field(ge=1)
    named: list[str]
    ranking_decisions: int = Field(ge=100)
    decisions: float = Field(gt=0, lt=1)


class GateSettings(Settings):
    """Rules of the verdict; see `verdict.judge`."""

    recommended: str
    families: list[str]
    support_threshold: float = Field(ge=0, le=1)
    unsupported_share: float = Field(ge=0, le=1)
    minimum_ess: float = Field(ge=1)
    mean_weight: tuple[float, float]
    fqe_bounding: float = Field(gt=0)
    missing_standard_errors: float = Field(ge=0)
    never: float = Field(ge=0, lt=1)
    independent: str
    family_distance: float = Field(gt=0)
    local_neighbors: int = Field(ge=1)
    local_support_count: int = Field(ge=0)
    local_unsupported_excess: float = Field(ge=0, le=1)
    withstands_covariate: bool
    least_gamma: float = Field(ge=1)

    @model_validator(mode="after")
    def _names_estimators(self) -> Self:
        from sepsis_cql.evaluation.estimators import table  # which itself needs these settings

        known = table.list_with_interval()
        if unknown := sorted({self.recommended, self.independent, *self.families} - set(known)):
            raise ValueError(f"found {unknown}, expected estimators of policies with an interval: {known}")
        return self


class TailSettings(Settings):
    """The worst-off whose mean return is told; see `estimators.tails`."""

    shares: list[Annotated[float, Field(gt=0, le=1)]]
    minimum_ess: float = Field(ge=SMALLEST_CELL)


class SensitivitySettings(Settings):
    """What `evaluate --sensitivity` varies; see `variations`."""

    gammas: list[Annotated[float, Field(gt=0, le=1)]]
    first_steps: list[Annotated[int, Field(ge=1)]]
    behavior_refits: int = Field(ge=2)


class DiagnosticSettings(Settings):
    """Strata and thresholds of the diagnostics."""

    resamples: int = Field(ge=2)
    support_thresholds: list[Share]
    sofa_strata: Strata
    age_strata: Strata
    subgroup_ess: float = Field(ge=SMALLEST_CELL)
    smallest_cell: int = Field(ge=SMALLEST_CELL)


class ValidationSettings(Settings):
    """How a sweep scores a policy: fewer resamples and refits than a report makes."""

    resamples: int = Field(ge=2)
    refits: int = Field(ge=2)


class EvaluationSettings(Settings):
    """The whole file."""

    seed: int = Field(ge=0)
    gamma: float = Field(gt=0, le=1)
    bound: float = Field(gt=0)
    truncation_quantile: float = Field(gt=0, lt=1)
    resamples: int = Field(ge=2)
    interval: Literal["bca", "percentile", "delta"]
    fqe: FqeSettings
    tilt_temperatures: list[Temperature]
    clinician_shares: list[Share]
    behavior: BehaviorSettings
    covariates: CovariateSettings
    gates: GateSettings
    tails: TailSettings
    sensitivity: SensitivitySettings
    diagnostics: DiagnosticSettings
    validation: ValidationSettings
    truth_episodes: int = Field(ge=100)
