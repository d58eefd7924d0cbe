"""The shape of the diagnostics in `evaluation.json`: aggregates that the figures are drawn from."""

import re

from pydantic import Field

from sepsis_cql.common.strict import Record


class Interval(Record):
    """A value with its 95% interval; None where there is none."""

    value: float | None
    lower: float | None
    upper: float | None


class GroupMean(Record):
    """Mean over the decisions of one severity group."""

    group: str
    value: float
    n_patients: int


class DrugShare(Record):
    """Share of decisions with any of a drug: as the behavior policy predicts, and as given."""

    predicted: float
    observed: float


class GroupDoses(Record):
    """How well the behavior policy knows the clinicians of one severity group.

    A model that is right on the whole may still give the sickest too little.
    """

    group: str
    n_patients: int
    vasopressor: DrugShare
    fluid: DrugShare


class SupportShare(Record):
    """Share of the policy's decisions on actions that clinicians give with less than `threshold`."""

    threshold: float
    share: float


class WeightHistogram(Record):
    """Episode weights: shares of episodes between the edges of log10, and the share of the sum of the largest."""

    log10_edges: list[float]
    shares: list[float]
    zero_share: float
    largest_shares: list[float]


class Subgroup(Record):
    """Observed mean return and fitted value of the policy in one group of patients."""

    characteristic: str
    group: str
    n_episodes: int
    clinicians: Interval
    policy_fqe: Interval


class SubgroupDifference(Record):
    """Policy minus clinicians in one group of patients.

    Attributes:
        ess: effective sample size of the group's weights.
        difference: by the recommended estimator.
        independent: by the independent one; None where the weights of the group, or of all others, are worth too few
            episodes.
        p_adjusted: of no departure from the difference of all other patients, adjusted by Holm's method for all groups
            that are tested; by the independent estimator.
    """

    characteristic: str
    group: str
    n_episodes: int
    ess: float
    difference: Interval
    independent: Interval
    p_adjusted: float | None


class SubgroupDifferences(Record):
    """The differences of one policy, which is the version that the verdict is about, and the estimators' names."""

    policy: str
    recommended: str
    independent: str
    rows: list[SubgroupDifference]


class ValueCalibration(Record):
    """Fitted value of the clinicians' first action and the mean return that followed, in one fifth of episodes."""

    predicted: float
    observed: float


class DoseCell(Record):
    """Mortality where clinicians gave on average `difference` bins more than the policy advises."""

    difference: int
    mortality: float
    n_episodes: int


class DoseDifference(Record):
    """Mortality by difference of dose, for each drug."""

    vasopressor: list[DoseCell]
    fluid: list[DoseCell]


class Evaluator(Record):
    """The cross-fitted evaluator: bounded sweeps made, change of the targets in the last, and the bounded value."""

    sweeps: int
    change: float
    bounded: float


class Diagnostics(Record):
    """Where a policy and the clinicians differ, and for whom; groups below the smallest cell are left out.

    Older records lack `differences` and `behavior_by_sofa`.
    """

    policy: str
    clinician_actions: list[float]
    policy_actions: list[float]
    agreement: float
    agreement_by_sofa: list[GroupMean]
    unsupported_share: list[SupportShare]
    weights: WeightHistogram
    subgroups: list[Subgroup]
    q_calibration: list[ValueCalibration]
    dose_difference: DoseDifference
    evaluator: Evaluator | None
    differences: SubgroupDifferences | None = Field(default=None, exclude_if=lambda found: found is None)
    behavior_by_sofa: list[GroupDoses] = Field(default_factory=list, exclude_if=lambda rows: not rows)


def rank_group(group: str) -> tuple[float, str]:
    """Return the key by which groups are in order: half-open intervals by their lower end, others by name."""
    interval = re.match(r"\[(-?[0-9.]+), ", group)
    return (float(interval[1]) if interval else 0.0, group)
