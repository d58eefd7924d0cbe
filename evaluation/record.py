"""The shape of `evaluation.json`: what an evaluation found, as strictly checked, frozen models.

The card, the report and the tests read an evaluation through these models only. Counts of patients below ten are
written as "<10".
"""

from pathlib import Path
from typing import Any, Literal

from sepsis_cql.configs.loading import Settings
from sepsis_cql.errors import EvaluationError
from sepsis_cql.evaluation.calibration_record import CalibrationLine
from sepsis_cql.evaluation.published import PublishedMetrics
from sepsis_cql.storage import read_json

RECORD = "evaluation.json"
Count = int | Literal["<10"]
Label = Literal["better than clinicians", "not better than clinicians", "cannot be identified"]


class Policy(Settings):
    """What was evaluated; `weights_sha256` is None for a Python function."""

    name: str
    kind: Literal["package", "published checkpoint", "d3rlpy", "function"]
    weights_sha256: str | None


class Source(Settings):
    """Tables the replay was built from."""

    name: str
    version: str | None


class Replay(Settings):
    """Which replay; the fingerprint of a single file is the SHA-256 of its bytes."""

    source: Source
    fingerprint: str


class Estimate(Settings):
    """A value with its 95% interval, all None where every weight is 0.

    Attributes:
        method: how the interval was made.
        truncated_at: cap on cumulative weights, alike in point value and interval.
    """

    value: float | None
    lower: float | None
    upper: float | None
    method: str
    truncated_at: float | None = None


class Weights(Settings):
    """Diagnostics of untruncated episode weights; see `weights.WeightSummary`."""

    ess: float
    ess_share: float
    mean_weight: float
    largest_weight_share: float
    zero_weight_share: float


class Difference(Settings):
    """Value of the policy minus value of the clinicians on the same resampled episodes."""

    estimator: str
    value: float | None
    lower: float | None
    upper: float | None


class TrueValue(Settings):
    """Value by playing the policy in the simulator the episodes come from."""

    value: float
    standard_error: float


class Gate(Settings):
    """One rule of the verdict: the number it looks at, its threshold and the outcome."""

    name: str
    value: float | None
    threshold: str
    passed: bool


class Verdict(Settings):
    """What may be said about a policy, and why."""

    label: Label
    reasons: list[str]


class PolicyRecord(Settings):
    """Everything found about one policy; `softening` says exactly which variant of the policy it is."""

    name: str
    role: Literal["learned", "softened", "baseline", "clinicians"]
    softening: str
    estimates: dict[str, Estimate]
    weights: Weights
    difference_to_clinicians: Difference | None
    true_value: TrueValue | None
    gates: list[Gate]
    verdict: Verdict | None


class Candidate(Settings):
    """A behaviour model: mean log-likelihood and expected calibration error on held-out decisions."""

    name: str
    log_likelihood: float
    calibration_error: float


class ReliabilityBin(Settings):
    """Decisions whose predicted probability fell into one bin."""

    predicted: float
    observed: float
    n: int


class Behavior(Settings):
    """The behaviour policy: which model, against which others, how well calibrated on the scored decisions.

    `divergence_from_truth` is the mean Kullback-Leibler divergence of the true policy from it, in nats, where the
    episodes come from the simulator.
    """

    chosen: str
    temperature: float
    marginal_share: float
    candidates: list[Candidate]
    scored_log_likelihood: float
    reliability: list[ReliabilityBin]
    divergence_from_truth: float | None = None


class Evaluation(Settings):
    """Contents of `evaluation.json`; `policies` and `behavior` are empty under the published protocol alone.

    `bound` is the largest attainable absolute return, and `calibration` says how the recommended estimator does where
    the truth is known.
    """

    policy: Policy
    split: str
    replay: Replay
    gamma: float
    bound: float
    n_episodes: Count
    n_transitions: Count
    n_patients: Count
    test_split_uses: int | None
    published: dict[str, float | int | str] | None
    policies: list[PolicyRecord]
    behavior: Behavior | None
    diagnostics: dict[str, Any]
    verdict: Verdict
    calibration: list[CalibrationLine]
    versions: dict[str, str | None]

    @property
    def sound(self) -> bool:
        """Whether the sound protocol was run."""
        return bool(self.policies)


PUBLISHED_FIELDS = tuple(PublishedMetrics.__annotations__)


def load_evaluation(directory: Path) -> Evaluation:
    """Read and check the record in an evaluation directory.

    Raises:
        EvaluationError: it is not an evaluation record of this version.
    """
    values = read_json(directory / RECORD, expected="the record `sepsis-cql evaluate` writes")
    try:
        return Evaluation.model_validate(values, strict=False)
    except ValueError as error:
        raise EvaluationError(f"{directory / RECORD}: {error}. Evaluate again with --force.") from error
