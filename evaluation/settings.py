"""`configs/evaluation.yaml`: how a policy is evaluated and by which rules a verdict is reached."""

from typing import Literal

from pydantic import Field

from sepsis_cql.configs.loading import Settings

BehaviorModel = Literal[
    "multinomial logistic", "multilayer perceptron", "gradient boosting", "nearest neighbours"
]


class BehaviorSettings(Settings):
    """How the clinicians' policy is estimated; see `behavior.fit_behavior`."""

    models: list[BehaviorModel] = Field(min_length=1)
    selection_rows: int = Field(ge=100)
    calibration_share: float = Field(gt=0, lt=1)
    temperatures: list[float] = Field(min_length=1)
    marginal_shares: list[float] = Field(min_length=1)


class GateSettings(Settings):
    """Rules of the verdict; see `verdict.judge`."""

    recommended: str
    families: list[str]
    support_threshold: float = Field(ge=0, le=1)
    unsupported_share: float = Field(ge=0, le=1)
    minimum_ess: float = Field(ge=1)
    mean_weight: tuple[float, float]
    fqe_bounding: float = Field(gt=0)


class DiagnosticSettings(Settings):
    """Strata and thresholds of the diagnostics."""

    support_thresholds: list[float]
    sofa_strata: list[int]
    age_strata: list[int]
    smallest_cell: int = Field(ge=1)


class EvaluationSettings(Settings):
    """The whole file."""

    seed: int
    gamma: float = Field(gt=0, le=1)
    bound: float = Field(gt=0)
    truncation_quantile: float = Field(gt=0, lt=1)
    interval: Literal["bca", "percentile", "delta"]
    fqe_refits: int = Field(ge=2)
    fqe_features: int = Field(ge=0)
    fqe_components: int = Field(ge=0)
    anchor_temperatures: list[float]
    clinician_shares: list[float]
    behavior: BehaviorSettings
    gates: GateSettings
    diagnostics: DiagnosticSettings
    truth_episodes: int = Field(ge=100)
