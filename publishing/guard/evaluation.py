"""What is published of an evaluation: the record's own shape, every field of it closed."""

import re
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from sepsis_cql.common.privacy import RoundedCount
from sepsis_cql.configuration_sepsis_cql import SepsisCQLConfig
from sepsis_cql.evaluation import record
from sepsis_cql.evaluation.estimators.table import BOOTSTRAP, ESTIMATORS
from sepsis_cql.evaluation.estimators.weights import Weights
from sepsis_cql.evaluation.original_protocol import OriginalMetrics
from sepsis_cql.evaluation.policies.behavior import Behavior, Candidate, Covariate, ReliabilityBin
from sepsis_cql.evaluation.settings import BehaviorModel
from sepsis_cql.evaluation.verdict import ALONE, BARS, DISAGREE, HIDDEN, NO_GAIN, UNDONE, UNDONE_BY, WORST
from sepsis_cql.publishing.guard.build import PublishedEdges, PublishedSource
from sepsis_cql.publishing.guard.diagnostics import PublishedDiagnostics
from sepsis_cql.publishing.guard.fields import Number, Sha256, Share, Version
from sepsis_cql.publishing.guard.names import (
    NAMES,
    OTHERS,
    POLICY,
    SOFTENINGS,
    EstimatorName,
    PolicyName,
    one_of,
)
from sepsis_cql.publishing.guard.wording import say_verdict

METHODS = frozenset(
    [f"{name} {BOOTSTRAP}" for name in ("bca", "percentile", "delta")]
    + [row.method for row in ESTIMATORS.values()]
)
FIVE_GATES = (
    "support: share of decisions where clinicians hardly ever act so",
    "effective sample size",
    "mean weight, 1 in expectation",
    "bounds: largest value or interval end",
    "the evaluator is stable: change of its value when targets are bounded",
)
GATES = "|".join(
    [
        *map(re.escape, (*FIVE_GATES, WORST, HIDDEN)),
        rf"({NAMES}) agrees: gap between its interval and the recommended one",
        rf"({NAMES}) agrees: standard deviations between it and the recommended value",
        rf"lower end of the difference to clinicians by ({NAMES}), which needs no Markov property",
        r"local support: share of decisions on doses that at most [0-9]{1,3} of the [0-9]{1,4} most similar training "
        r"states got, beyond the clinicians' own share",
    ]
)
ABOVE = "above the clinicians'"  # whose value stands in its own row
NUMBER = r"[0-9]{1,3}(\.[0-9]{1,3})?"
A_COVARIATE = "a measured covariate"  # that the study's inputs do not have
COVARIATES = frozenset(SepsisCQLConfig().state_names)
COVARIATE = "|".join(map(re.escape, [*sorted(COVARIATES), A_COVARIATE]))
FACTOR = r"[0-9.]{1,6}(e\+[0-9]{2})?"
THRESHOLD = (
    rf"^(at most {NUMBER}|at least {NUMBER} episodes|{NUMBER} to {NUMBER}|0|above 0|{ABOVE}"
    rf"|at least {FACTOR}, as leaving out ({COVARIATE}) does)$"
)
VARIATION = (
    r"^(as evaluated|gamma (1|0\.[0-9]{1,6})|first [0-9]{1,3} decisions|decisions before comfort measures"
    r"|reward sofa_shaped)$"
)
MEANING = "|".join(map(re.escape, (DISAGREE, ALONE, NO_GAIN, UNDONE)))


class PublishedPolicy(record.Policy):
    """The network of the export."""

    name: Literal["package"]
    kind: Literal["package"]
    weights_sha256: Sha256


class PublishedReplay(record.ReplayFacts):
    """Which replay."""

    source: PublishedSource
    fingerprint: Sha256


class PublishedMetrics(OriginalMetrics):
    """Metrics by the published definitions; a WIS that rests on fewer than ten episodes is hidden."""

    fqe_mean: Number
    fqe_lower: Number
    fqe_upper: Number
    wis_mean: Number | None
    wis_lower: Number | None
    wis_upper: Number | None
    ess: Number
    n_episodes: RoundedCount
    bootstrap_resamples: Annotated[int, Field(ge=2, lt=1_000_000)]
    initial_state_max_q_mean: Number
    wis_point_clipped50: Number | None
    ess_point_clipped50: Number
    wis_nonzero_episodes: RoundedCount


class PublishedEstimate(record.Estimate):
    """A value with its interval; the cap on weights is a quantile of patients' weights and is not published."""

    value: Number | None
    lower: Number | None
    upper: Number | None
    method: Annotated[str, one_of(METHODS)]
    truncated_at: None = None


class PublishedDifference(record.Difference):
    """Value minus that of the clinicians."""

    estimator: EstimatorName
    value: Number | None
    lower: Number | None
    upper: Number | None


class PublishedTruth(record.TrueValue):
    """Value in the simulator."""

    value: Number
    standard_error: Number


class PublishedTail(record.Tail):
    """Mean return of the worst-off."""

    share: Share
    value: Number | None
    lower: Number | None
    upper: Number | None
    true_value: Number | None


class PublishedCertain(record.Certain):
    """Lower bounds."""

    value: Number
    difference: Number


class PublishedWeights(Weights):
    """Diagnostics of the weights in whole tens of episodes; the largest is one patient's and is not published."""

    ess: Number
    ess_share: Share | None
    mean_weight: Number | None
    largest_weight_share: None
    zero_weight_share: Share | None


class PublishedGate(record.Gate):
    """One rule of the verdict."""

    name: str = Field(pattern=f"^({GATES})$")
    value: Number | None
    threshold: str = Field(pattern=THRESHOLD)
    meaning: str = Field(default="", pattern=f"^({MEANING}|{UNDONE_BY.format(f'({COVARIATE})')})?$")


class PublishedPolicyRecord(record.PolicyRecord):
    """Everything published about one policy; the sentences of its verdict follow from its numbers."""

    name: PolicyName
    softening: str = Field(pattern=rf"^(greedy|none|{SOFTENINGS})$")
    estimates: dict[EstimatorName, PublishedEstimate]  # type: ignore[assignment]
    weights: PublishedWeights
    difference_to_clinicians: PublishedDifference | None
    true_value: PublishedTruth | None
    gates: list[PublishedGate] = Field(max_length=30)  # type: ignore[assignment]
    verdict: record.Verdict | None
    differences: dict[EstimatorName, PublishedDifference] = Field(default_factory=dict)  # type: ignore[assignment]
    break_even_gamma: Number | None = None
    break_even_gamma_by_decision: Number | None = None
    certain_gamma: Number | None = Field(default=None, exclude_if=lambda gamma: gamma is None)
    tails: list[PublishedTail] = Field(  # type: ignore[assignment]
        default_factory=list, max_length=5, exclude_if=lambda tails: not tails
    )
    certain: PublishedCertain | None = Field(default=None, exclude_if=lambda certain: certain is None)

    @model_validator(mode="after")
    def _is_worded_by_its_numbers(self) -> Self:
        if self.role == "softened" and self.name != f"{POLICY}, {self.softening}":
            raise ValueError("another name than its softening gives")
        if self.verdict is not None and not any(
            self.verdict == say_verdict(self, self.verdict.label, as_good, barred=barred)
            for as_good in _named(self.verdict)
            for barred in (None, *BARS)
        ):
            raise ValueError("another verdict than its numbers give")
        return self


class PublishedCandidate(Candidate):
    """A behavior model that was compared."""

    name: BehaviorModel
    log_likelihood: Number
    calibration_error: Number


class PublishedReliability(ReliabilityBin):
    """Decisions of one bin of predicted probability."""

    predicted: Number
    observed: Share
    n: int = Field(ge=10, lt=10_000_000, multiple_of=10)


class PublishedCovariate(Covariate):
    """What leaving out one input of the study changes."""

    name: str = Field(pattern=f"^({COVARIATE})$")
    odds: Number
    weights: Number


class PublishedBehavior(Behavior):
    """The behavior policy."""

    chosen: BehaviorModel
    temperature: Number
    marginal_share: Number
    candidates: list[PublishedCandidate] = Field(max_length=len(get_args(BehaviorModel)))  # type: ignore[assignment]
    scored_log_likelihood: Number
    reliability: list[PublishedReliability] = Field(max_length=25)  # type: ignore[assignment]
    divergence_from_truth: Number | None
    covariates: list[PublishedCovariate] = Field(  # type: ignore[assignment]
        default_factory=list, max_length=20, exclude_if=lambda found: not found
    )


class PublishedVariation(record.Variation):
    """The judged version with one choice changed."""

    name: str = Field(pattern=VARIATION)
    ess: Number
    differences: dict[EstimatorName, PublishedDifference]  # type: ignore[assignment]


class PublishedEvaluation(record.Evaluation):
    """Contents of the published `evaluation.json`."""

    policy: PublishedPolicy
    split: Literal["validation", "test"]
    replay: PublishedReplay
    gamma: Share
    bound: Number
    n_episodes: RoundedCount
    n_transitions: RoundedCount
    n_patients: RoundedCount
    test_split_uses: Annotated[int, Field(ge=0, lt=10_000)] | None
    published: PublishedMetrics | None
    policies: list[PublishedPolicyRecord] = Field(max_length=30)  # type: ignore[assignment]
    behavior: PublishedBehavior | None
    diagnostics: PublishedDiagnostics | None
    versions: dict[  # type: ignore[assignment]
        Literal["python", "sepsis-cql", "numpy", "scipy", "scikit-learn", "torch"], Version | None
    ]
    action_grid: PublishedEdges | None = Field(default=None, exclude_if=lambda grid: grid is None)
    frozen: Annotated[str, Field(pattern=rf"^(greedy|none|{SOFTENINGS})$")] | None = Field(
        default=None, exclude_if=lambda version: version is None
    )
    sensitivity: list[PublishedVariation] = Field(  # type: ignore[assignment]
        default_factory=list, max_length=30, exclude_if=lambda rows: not rows
    )

    @model_validator(mode="after")
    def _says_what_its_policies_say(self) -> Self:
        names = [policy.name for policy in self.policies]
        if len(set(names)) != len(names):
            raise ValueError("a policy is repeated")
        judged = record.find_judged(self.policies, self.frozen)
        stated = judged.verdict if judged else say_verdict(None, self.verdict.label, ())
        if self.verdict != stated:
            raise ValueError("another verdict than that of its policy")
        if self.ledger is not None and not self.test_split_uses:
            raise ValueError("a ledger of a split that was not used")
        return self


def _named(verdict: record.Verdict) -> list[tuple[str, ...]]:
    """Which baselines a verdict may name as no worse: none, or those of its last sentence that have known names."""
    last = verdict.reasons[-1].removeprefix("no better than ") if verdict.reasons else ""
    names = tuple(last.split(", "))
    known = OTHERS.split("|")[:3]
    is_known = all(name in known or name.startswith("always the modal action (") for name in names)
    return [(), names] if is_known and len(last) < 120 else [()]
