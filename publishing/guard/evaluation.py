"""What is published of an evaluation: the record's own shape, every field of it closed."""

import re
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from sepsis_cql.common.privacy import RoundedCount
from sepsis_cql.configuration_sepsis_cql import SepsisCQLConfig
from sepsis_cql.evaluation import record, verdict
from sepsis_cql.evaluation.estimators.table import BOOTSTRAP, ESTIMATORS
from sepsis_cql.evaluation.estimators.weights import Weights
from sepsis_cql.evaluation.original_protocol import OriginalMetrics
from sepsis_cql.evaluation.policies.behavior import Behavior, Candidate, Covariate, ReliabilityBin
from sepsis_cql.evaluation.settings import BehaviorModel
from sepsis_cql.evaluation.variations import REFITTED
from sepsis_cql.publishing.guard.build import PublishedEdges, PublishedSource
from sepsis_cql.publishing.guard.closing import Bounds, closed
from sepsis_cql.publishing.guard.diagnostics import DIAGNOSTICS
from sepsis_cql.publishing.guard.fields import Commit, Sha256, Share, Tens, Version
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
from sepsis_cql.replay.records import DoseGrid, Source

METHODS = frozenset(
    [f"{name} {BOOTSTRAP}" for name in ("bca", "percentile", "delta")]
    + [row.method for row in ESTIMATORS.values()]
)
GATES = "|".join(
    [
        *map(re.escape, verdict.NAMED),
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
    rf"^(at most {NUMBER}|at least {NUMBER}( episodes)?|{NUMBER} to {NUMBER}|0|above 0|{ABOVE}"
    rf"|at least {FACTOR}, as leaving out ({COVARIATE}) does)$"
)
VARIATION = (
    r"^(as evaluated|gamma (1|0\.[0-9]{1,6})|first [0-9]{1,3} decisions|decisions before comfort measures"
    rf"|reward sofa_shaped|{REFITTED})$"
)
MEANING = "|".join(map(re.escape, verdict.MEANINGS))


def _are_worded_by_their_numbers(policies: list[record.PolicyRecord]) -> list[record.PolicyRecord]:
    for policy in policies:
        if policy.role == "softened" and policy.name != f"{POLICY}, {policy.softening}":
            raise ValueError("another name than its softening gives")
        said = policy.verdict
        if said is not None and not any(
            said == say_verdict(policy, said.label, as_good, barred=barred)
            for as_good in _named(said)
            for barred in (None, *verdict.BARS)
        ):
            raise ValueError("another verdict than its numbers give")
    return policies


Softening = Annotated[str, Field(pattern=rf"^(greedy|none|{SOFTENINGS})$")]
BOUNDS: Bounds = {
    **DIAGNOSTICS,
    Source: PublishedSource,
    DoseGrid: PublishedEdges,
    record.Policy: {"name": Literal["package"], "kind": Literal["package"], "weights_sha256": Sha256},
    record.ReplayFacts: {"fingerprint": Sha256},
    OriginalMetrics: {
        "n_episodes": RoundedCount,
        "bootstrap_resamples": Annotated[int, Field(ge=2, lt=1_000_000)],
        "wis_nonzero_episodes": RoundedCount,
    },
    # the cap is a quantile of patients' weights, the largest weight one patient's
    record.Estimate: {"method": Annotated[str, one_of(METHODS)], "truncated_at": type(None)},
    Weights: {
        "ess_share": Share | None,
        "largest_weight_share": type(None),
        "zero_weight_share": Share | None,
    },
    record.Difference: {"estimator": EstimatorName},
    record.Tail: {"share": Share},
    record.Gate: {
        "name": Annotated[str, Field(pattern=f"^({GATES})$")],
        "threshold": Annotated[str, Field(pattern=THRESHOLD)],
        "meaning": Annotated[
            str, Field(pattern=f"^({MEANING}|{verdict.UNDONE_BY.format(f'({COVARIATE})')})?$")
        ],
    },
    record.Verdict: record.Verdict,  # its sentences follow from the numbers, as validators require
    record.PolicyRecord: {
        "name": PolicyName,
        "softening": Softening,
        "estimates": dict[EstimatorName, record.Estimate],
        "gates": Annotated[list[record.Gate], Field(max_length=30)],
        "differences": dict[EstimatorName, record.Difference],
        "tails": Annotated[list[record.Tail], Field(max_length=5)],
    },
    Candidate: {"name": BehaviorModel},
    ReliabilityBin: {"observed": Share, "n": Tens},
    Covariate: {"name": Annotated[str, Field(pattern=f"^({COVARIATE})$")]},
    Behavior: {
        "chosen": BehaviorModel,
        "candidates": Annotated[list[Candidate], Field(max_length=len(get_args(BehaviorModel)))],
        "reliability": Annotated[list[ReliabilityBin], Field(max_length=25)],
        "covariates": Annotated[list[Covariate], Field(max_length=20)],
    },
    record.Variation: {
        "name": Annotated[str, Field(pattern=VARIATION)],
        "differences": dict[EstimatorName, record.Difference],
    },
    record.Evaluation: {
        "split": Literal["validation", "test"],
        "gamma": Share,
        **dict.fromkeys(("n_episodes", "n_transitions", "n_patients"), RoundedCount),
        "test_split_uses": Annotated[int, Field(ge=0, lt=10_000)] | None,
        "policies": Annotated[
            list[record.PolicyRecord], Field(max_length=30), AfterValidator(_are_worded_by_their_numbers)
        ],
        "versions": dict[
            Literal["python", "sepsis-cql", "numpy", "scipy", "scikit-learn", "torch"], Version | None
        ],
        "step_hours": Annotated[int, Field(ge=1, le=24)] | None,
        "mortality_days": Annotated[int, Field(ge=1, le=365)] | None,
        "frozen": Softening | None,
        "sensitivity": Annotated[list[record.Variation], Field(max_length=30)],
        "git_commit": Commit | None,
    },
}


@closed(BOUNDS)
class PublishedEvaluation(record.Evaluation):
    """Contents of the published `evaluation.json`."""

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
