"""The shape of a calibration record: how each estimator did against known truth, as strictly checked models."""

from pathlib import Path
from typing import Literal

from sepsis_cql.common.strict import Record, read_record

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


class PolicyQuality(Record):
    """One policy over all repetitions.

    Attributes:
        name: of the policy.
        true_value: mean over repetitions, for policies learned anew in each.
        ess: mean effective sample size.
        passes_gates: share of repetitions in which every gate holds.
        endorsed: share in which the verdict is "better than clinicians".
        wrongly_endorsed: share in which it is, and the policy is not better.
        estimators: by name and interval.
        difference: of the recommended estimator's difference to the clinicians.
    """

    name: str
    true_value: float
    ess: float
    passes_gates: float
    endorsed: float
    wrongly_endorsed: float
    estimators: dict[str, EstimatorQuality]
    difference: EstimatorQuality


class Ranking(Record):
    """How an estimator orders the policies: rank correlation with the truth, and what its first choice gives away."""

    spearman: float
    regret: float


class Calibration(Record):
    """One case: the data, the policies, and what the estimators made of them."""

    case: str
    environment: Literal["icu-sepsis", "synthetic"]
    training: int
    scored: int
    behavior: Literal["known", "estimated"]
    repetitions: int
    seed: int
    recommended: str
    clinicians_value: float
    policies: list[PolicyQuality]
    rankings: dict[str, Ranking]
    versions: dict[str, str | None]


class CalibrationLine(Record):
    """How the recommended estimator did on one policy of one case; see `Calibration` and `PolicyQuality`."""

    case: str
    training: int
    scored: int
    behavior: str
    repetitions: int
    policy: str
    true_value: float
    clinicians_value: float
    bias: float | None
    coverage: float
    coverage_where_gates_hold: float | None
    passes_gates: float
    endorsed: float
    wrongly_endorsed: float


def load_calibration(file: Path) -> Calibration:
    """Read and check a record that `calibrate` wrote."""
    return read_record(Calibration, file, expected="the record `sepsis-cql calibrate` writes")


def measured_lines(directory: Path = MEASURED) -> list[CalibrationLine]:
    """Return how the recommended estimator did where the truth is known, a line for each policy of each case."""
    lines = []
    for record in map(load_calibration, sorted(directory.glob("*.json"))):
        for policy in record.policies:
            quality = policy.estimators[record.recommended]
            lines.append(
                CalibrationLine(
                    policy=policy.name,
                    clinicians_value=record.clinicians_value,
                    bias=quality.bias,
                    coverage=quality.coverage,
                    coverage_where_gates_hold=quality.coverage_where_gates_hold,
                    **record.model_dump(include={"case", "training", "scored", "behavior", "repetitions"}),
                    **policy.model_dump(
                        include={"true_value", "passes_gates", "endorsed", "wrongly_endorsed"}
                    ),
                )
            )
    return lines
