"""What is published of the diagnostics: known groups of patients, shares in tens of them, nobody's extreme values."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from sepsis_cql.evaluation.report import record as shown
from sepsis_cql.evaluation.report.diagnostics import WEIGHT_EDGES
from sepsis_cql.publishing.guard.fields import Number, Share
from sepsis_cql.publishing.guard.names import EstimatorName, PolicyName
from sepsis_cql.publishing.guard.wording import is_known_group

Shares = Annotated[list[Share], Field(min_length=25, max_length=25)]
Tens = Annotated[int, Field(ge=10, lt=10_000_000, multiple_of=10)]


def _of_a_known_group(row: Any) -> Any:
    if not is_known_group(getattr(row, "characteristic", "SOFA at first step"), row.group):
        raise ValueError("not a group that is published")
    return row


class PublishedInterval(shown.Interval):
    """A value with its interval."""

    value: Number | None
    lower: Number | None
    upper: Number | None


class PublishedGroupMean(shown.GroupMean):
    """Agreement within one severity group."""

    group: str = Field(max_length=40)
    value: Share
    n_patients: Tens

    _is_of_a_known_group = model_validator(mode="after")(_of_a_known_group)


class PublishedSupport(shown.SupportShare):
    """Share of decisions below a threshold."""

    threshold: Share
    share: Share


class PublishedHistogram(shown.WeightHistogram):
    """Shares of episodes by weight; the largest weights are of single patients and are not published."""

    log10_edges: list[Number]
    shares: list[Share] = Field(max_length=20)
    zero_share: Share
    largest_shares: list[Share] = Field(max_length=0)

    @field_validator("log10_edges")
    @classmethod
    def _are_ours(cls, edges: list[float]) -> list[float]:
        if edges != WEIGHT_EDGES.tolist():
            raise ValueError("not the edges that every evaluation has")
        return edges


class PublishedSubgroup(shown.Subgroup):
    """Return and value in one group of patients."""

    n_episodes: Tens
    clinicians: PublishedInterval
    policy_fqe: PublishedInterval

    _is_of_a_known_group = model_validator(mode="after")(_of_a_known_group)


class PublishedSubgroupDifference(shown.SubgroupDifference):
    """Difference in one group of patients."""

    n_episodes: Tens
    ess: Number
    difference: PublishedInterval
    independent: PublishedInterval
    p_adjusted: Share | None

    _is_of_a_known_group = model_validator(mode="after")(_of_a_known_group)


class PublishedSubgroupDifferences(shown.SubgroupDifferences):
    """Differences of the version that is judged."""

    policy: PolicyName
    recommended: EstimatorName
    independent: EstimatorName
    rows: list[PublishedSubgroupDifference] = Field(max_length=80)  # type: ignore[assignment]


class PublishedValueCalibration(shown.ValueCalibration):
    """Value and return of one fifth of the episodes."""

    predicted: Number
    observed: Number


class PublishedDoseCell(shown.DoseCell):
    """Mortality at one difference of dose."""

    difference: int = Field(ge=-4, le=4)
    mortality: Share
    n_episodes: Tens


class PublishedDoseDifference(shown.DoseDifference):
    """Mortality by difference of dose."""

    vasopressor: list[PublishedDoseCell] = Field(max_length=9)  # type: ignore[assignment]
    fluid: list[PublishedDoseCell] = Field(max_length=9)  # type: ignore[assignment]


class PublishedEvaluator(shown.Evaluator):
    """The cross-fitted evaluator."""

    sweeps: int = Field(ge=0, lt=100_000)
    change: Number
    bounded: Number


class PublishedDiagnostics(shown.Diagnostics):
    """Where the policy and the clinicians differ."""

    policy: Literal["package"]
    clinician_actions: Shares
    policy_actions: Shares
    agreement: Share
    agreement_by_sofa: list[PublishedGroupMean] = Field(max_length=12)  # type: ignore[assignment]
    unsupported_share: list[PublishedSupport] = Field(max_length=8)  # type: ignore[assignment]
    weights: PublishedHistogram
    subgroups: list[PublishedSubgroup] = Field(max_length=80)  # type: ignore[assignment]
    q_calibration: list[PublishedValueCalibration] = Field(max_length=5)  # type: ignore[assignment]
    dose_difference: PublishedDoseDifference
    evaluator: PublishedEvaluator | None
    differences: PublishedSubgroupDifferences | None = Field(
        default=None, exclude_if=lambda found: found is None
    )
