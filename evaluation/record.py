"""The shape of `evaluation.json`: what an evaluation found, as strictly checked, frozen models.

The card, the report and the tests read an evaluation through these models only. Counts of patients below ten are
written as "<10".
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from sepsis_cql.common.privacy import Count
from sepsis_cql.common.strict import Record, read_record
from sepsis_cql.evaluation.estimators.weights import Weights
from sepsis_cql.evaluation.original_protocol import OriginalMetrics
from sepsis_cql.evaluation.policies.behavior import Behavior
from sepsis_cql.evaluation.report.record import Diagnostics
from sepsis_cql.replay.records import DoseGrid, Source
from sepsis_cql.training.sweep.memory import LedgerHead

RECORD = "evaluation.json"
Label = Literal["better than clinicians", "not better than clinicians", "cannot be identified"]


class Policy(Record):
    """What was evaluated; `weights_sha256` is None for a Python function."""

    name: str
    kind: Literal["package", "published checkpoint", "d3rlpy", "function"]
    weights_sha256: str | None


class ReplayFacts(Record):
    """Which replay; the fingerprint of a single file is the SHA-256 of its bytes."""

    source: Source
    fingerprint: str


class Estimate(Record):
    """A value with its 95% interval: no ends where the method gives none, and nothing at all where every weight is 0.

    Attributes:
        method: how the interval was made.
        truncated_at: cap on cumulative weights, alike in point value and interval.
    """

    value: float | None
    lower: float | None
    upper: float | None
    method: str
    truncated_at: float | None = None


class Difference(Record):
    """Value of the policy minus value of the clinicians on the same resampled episodes."""

    estimator: str
    value: float | None
    lower: float | None
    upper: float | None


class TrueValue(Record):
    """Value by playing the policy in the simulator the episodes come from."""

    value: float
    standard_error: float


class Tail(Record):
    """Mean return of the worst-off share of patients (CVaR) with its 95% interval.

    Attributes:
        share: of the patients.
        value: None where it is not identified: the weights, or those of that share, are worth too few episodes.
        true_value: the same of a simulator's patients; None for real ones.
    """

    share: float
    value: float | None
    lower: float | None
    upper: float | None
    true_value: float | None


class Certain(Record):
    """Lower bounds that hold with 95% probability at any number of episodes, see `estimators.lower_bound`.

    Attributes:
        value: below that of the policy.
        difference: below the difference to the clinicians.
    """

    value: float
    difference: float


class Gate(Record):
    """One rule of the verdict: the number it looks at, its threshold and the outcome.

    Attributes:
        is_for_endorsement: whether only "better than clinicians" needs it, not every statement about a policy.
        meaning: what a failure means, in plain words; empty where the name says it.
    """

    name: str
    value: float | None
    threshold: str
    passed: bool
    is_for_endorsement: bool = False
    meaning: str = ""


class Verdict(Record):
    """What may be said about a policy, and why."""

    label: Label
    reasons: list[str]


class PolicyRecord(Record):
    """Everything found about one policy; `softening` says exactly which version of the policy it is.

    Attributes:
        difference_to_clinicians: by the recommended estimator.
        differences: by the name of each estimator that an endorsement needs, the recommended one among them.
        break_even_gamma: how far hidden severity may change the odds of the treatment over a stay before weighted
            importance sampling no longer favors the policy (`estimators.sensitivity`); None where nothing does.
        break_even_gamma_by_decision: the same of the odds at every decision.
        certain_gamma: the same, before the lower end of its 95% interval no longer does.
        tails: mean returns of the worst-off; older records lack them, and the next.
        certain: lower bounds without a large sample; None for the clinicians themselves.
    """

    name: str
    role: Literal["learned", "softened", "baseline", "clinicians"]
    softening: str
    estimates: dict[str, Estimate]
    weights: Weights
    difference_to_clinicians: Difference | None
    true_value: TrueValue | None
    gates: list[Gate]
    verdict: Verdict | None
    differences: dict[str, Difference] = Field(default_factory=dict)
    break_even_gamma: float | None = None
    break_even_gamma_by_decision: float | None = None
    certain_gamma: float | None = Field(default=None, exclude_if=lambda gamma: gamma is None)
    tails: list[Tail] = Field(default_factory=list, exclude_if=lambda tails: not tails)
    certain: Certain | None = Field(default=None, exclude_if=lambda certain: certain is None)


class Variation(Record):
    """The version of the policy that the verdict is about, estimated anew with one choice changed (`variations`).

    Attributes:
        name: what was changed; "as evaluated" is the evaluation itself.
        ess: effective sample size.
        differences: to the clinicians, by the recommended and the independent estimator.
        verdict: by gates and difference; baselines are not estimated anew.
    """

    name: str
    ess: float
    differences: dict[str, Difference]
    verdict: Label


class Evaluation(Record):
    """Contents of `evaluation.json`; under the published protocol alone there are no policies and no diagnostics.

    `bound` is the largest attainable absolute return; `action_grid` holds the dose edges of the 25 actions, which older
    records lack; `ledger` says where the ledger of test splits stood when credentialed episodes of one were scored.
    `step_hours` and `mortality_days` are those of the replay's settings: the length of a step, and until when a death
    counts. A single file does not tell them, older records lack them.
    `frozen` is the softening of the version that validation froze: `verdict` is that version's, and no other is
    endorsed. Without it `verdict` is that of the policy as it acts. `sensitivity` has the variations asked for.
    `git_commit` is that of the code that estimated, which another may have trained; older records lack it.
    """

    policy: Policy
    split: str
    replay: ReplayFacts
    gamma: float
    bound: float
    n_episodes: Count
    n_transitions: Count
    n_patients: Count
    test_split_uses: int | None
    published: OriginalMetrics | None
    policies: list[PolicyRecord]
    behavior: Behavior | None
    diagnostics: Diagnostics | None
    verdict: Verdict
    versions: dict[str, str | None]
    action_grid: DoseGrid | None = Field(default=None, exclude_if=lambda grid: grid is None)
    step_hours: int | None = Field(default=None, exclude_if=lambda hours: hours is None)
    mortality_days: int | None = Field(default=None, exclude_if=lambda days: days is None)
    ledger: LedgerHead | None = Field(default=None, exclude_if=lambda ledger: ledger is None)
    frozen: str | None = Field(default=None, exclude_if=lambda version: version is None)
    sensitivity: list[Variation] = Field(default_factory=list, exclude_if=lambda rows: not rows)
    git_commit: str | None = Field(default=None, exclude_if=lambda commit: commit is None)


def find_judged(policies: Sequence[PolicyRecord], frozen: str | None) -> PolicyRecord | None:
    """Return the version of the policy that the verdict is about; None where none was estimated."""
    own = [one for one in policies if one.role in ("learned", "softened")]
    return next((one for one in own if frozen in (None, one.softening)), None)


def load_evaluation(directory: Path) -> Evaluation:
    """Read and check the record in an evaluation directory.

    Raises:
        SepsisCQLError: it is not an evaluation record of this version.
    """
    return read_record(Evaluation, directory / RECORD, expected="the record `sepsis-cql evaluate` writes")
