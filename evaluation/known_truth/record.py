"""The shape of a calibration record: how estimators and verdict did against known truth, as strictly checked models."""

from pathlib import Path
from typing import NamedTuple

from sepsis_cql.common.strict import Record, read_record
from sepsis_cql.evaluation.known_truth.confounding import Confounding
from sepsis_cql.evaluation.known_truth.settings import CaseSettings

MEASURED = Path(__file__).with_name("measured")  # what `sepsis-cql calibrate --out` wrote, one file a case


class EstimatorQuality(Record):
    """Errors of one estimator with one interval; None where it was never defined.

    Attributes:
        undefined: share of repetitions without a value; these cover nothing and are left out of the errors.
        bias, standard_deviation, rmse: of the error, in units of reward.
        mean_width: of the 95% interval.
        coverage: share of all repetitions whose interval holds the truth.
        coverage_where_gates_hold: the same among repetitions in which every gate holds; None if there is none.
    """

    undefined: float
    bias: float | None = None
    standard_deviation: float | None = None
    rmse: float | None = None
    mean_width: float | None = None
    coverage: float
    coverage_where_gates_hold: float | None = None


class Share(Record):
    """A share of repetitions with its exact 95% interval (Clopper & Pearson 1934)."""

    value: float
    lower: float
    upper: float


class Spread(Record):
    """How a number varies between repetitions."""

    least: float
    median: float
    largest: float


class HiddenQuality(Record):
    """What the rule on hidden factors does, against a verdict by all others.

    Attributes:
        praised: share of repetitions in which the policy would be endorsed without it.
        wrongly_praised: in which it would be, and is not better.
        wrongly_beyond_truth: in which besides the stated Gamma exceeds the true one; None without confounding.
        stated: Gamma of every decision that the advantage is sure to survive, where it would be endorsed.
        yardstick: change of odds by leaving out the strongest measured covariate, where it was measured.
    """

    praised: Share
    wrongly_praised: Share
    wrongly_beyond_truth: Share | None
    stated: Spread | None
    yardstick: Spread | None


class PolicyQuality(Record):
    """One policy over all repetitions.

    Attributes:
        name: of the policy.
        true_value: mean over repetitions, for policies learned anew in each.
        true_gain: the same less the clinicians' value.
        ess: mean effective sample size.
        passes_gates: share of repetitions in which every gate holds that any statement needs.
        endorsed: in which the verdict is "better than clinicians".
        wrongly_endorsed: in which it is, and the policy is not better.
        hidden: what the rule on hidden factors does; None in records older than it.
        refused: share of repetitions in which each gate fails, by its name; those that never fail are left out.
        estimators: by name and interval.
        difference: of the recommended estimator's difference to the clinicians.
        independent_difference: of the other family's that an endorsement needs.
    """

    name: str
    true_value: float
    true_gain: float
    ess: float
    passes_gates: float
    endorsed: Share
    wrongly_endorsed: Share
    hidden: HiddenQuality | None = None
    refused: dict[str, float]
    estimators: dict[str, EstimatorQuality]
    difference: EstimatorQuality
    independent_difference: EstimatorQuality


class Ranking(Record):
    """How an estimator orders the policies: rank correlation with the truth, and what its first choice gives away."""

    spearman: float
    regret: float


class Calibration(Record):
    """One case: the data, the policies, and what the estimators made of them.

    Attributes:
        is_confounded: whether clinicians act on what the state lacks and what changes the outcome.
        confounding: its true strength; None without it.
        commit: of the code that made it, with `-dirty` where files differed from it.
    """

    case: str
    setting: CaseSettings
    is_confounded: bool
    confounding: Confounding | None = None
    repetitions: int
    seed: int
    resamples: int
    refits: int
    recommended: str
    clinicians_value: float
    policies: list[PolicyQuality]
    rankings: dict[str, Ranking]
    versions: dict[str, str | None]
    commit: str | None


class CalibrationLine(NamedTuple):
    """How verdict and recommended estimator did on one policy of one case."""

    of: Calibration
    policy: PolicyQuality

    @property
    def quality(self) -> EstimatorQuality:
        """Errors of the recommended estimator."""
        return self.policy.estimators[self.of.recommended]


def load_calibration(file: Path) -> Calibration:
    """Read and check a record that `calibrate` wrote."""
    return read_record(Calibration, file, expected="the record `sepsis-cql calibrate` writes")


def measured_lines(directory: Path = MEASURED) -> list[CalibrationLine]:
    """Return how verdict and recommended estimator did where the truth is known, the worst policies first."""
    records = map(load_calibration, sorted(directory.glob("*.json")))
    lines = [CalibrationLine(record, policy) for record in records for policy in record.policies]
    return sorted(
        lines, key=lambda line: (line.of.is_confounded, line.policy.true_value - line.of.clinicians_value)
    )
