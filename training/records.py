"""What runs write down about themselves: the shapes of `config.yaml`, `training.json` and `scores.json`."""

from typing import Literal

from sepsis_cql.common.strict import Record
from sepsis_cql.replay.records import Source
from sepsis_cql.training.learners.registry import AnySettings

Metric = Literal["fqe", "published"]


class DataFacts(Record):
    """The training split a run learned from.

    Attributes:
        source: tables the replay was built from.
        replay_fingerprint: of the replay.
        sha256: of the arrays themselves.
        n_transitions, n_stays: size of the split.
    """

    source: Source
    replay_fingerprint: str
    sha256: str
    n_transitions: int
    n_stays: int


class RuntimeFacts(Record):
    """The facts of a machine that can change the last digits of a result."""

    device: str
    device_name: str | None
    cpu_capability: str
    threads: int
    precision: str
    compiled: bool
    torch: str


class RunIdentity(Record):
    """Everything that decides which weights a run ends with: runs with the same identity end with the same ones."""

    settings: AnySettings
    data: DataFacts
    runtime: RuntimeFacts


class RunConfig(RunIdentity):
    """Contents of `config.yaml`, written before the first step."""

    git_commit: str | None


class RunRecord(RunIdentity):
    """Contents of `training.json`, written last: its presence says that the run is complete.

    Attributes:
        epochs, global_step: done.
        resumed_from_epoch: 0 for a run in one piece.
        seconds: of this process.
        losses: means over the last epoch.
        weights_sha256: of the package's weights.
        git_commit, versions: of the code that trained.
        run: name in the sweep that chose it; None for a run of its own.
    """

    epochs: int
    global_step: int
    resumed_from_epoch: int
    seconds: float
    losses: dict[str, float]
    weights_sha256: str
    git_commit: str | None
    versions: dict[str, str | None]
    run: str | None = None


class Score(Record):
    """The validation score of one run after one epoch.

    Attributes:
        epoch: epochs trained.
        softening: the version of the policy that the next fields are about: `greedy`, or nearer to clinicians.
        fqe, fqe_lower, fqe_upper: value by fitted Q evaluation with its 95% interval.
        ess: effective sample size, episodes.
        passes_gates: whether the validation data overlap enough with the policy to judge it.
        gates: what failed, in words; empty where all passed.
        published_fqe, published_wis, published_ess: of the greedy policy by the original definitions; None for a
            network whose outputs are not values.
        n_episodes: of the validation split.
    """

    epoch: int = 0
    softening: str
    fqe: float
    fqe_lower: float
    fqe_upper: float
    ess: float
    passes_gates: bool
    gates: list[str]
    published_fqe: float | None
    published_wis: float | None
    published_ess: float | None
    n_episodes: int

    def rank(self, metric: Metric) -> tuple[bool, float]:
        """Return a key that is greater for better runs: by `fqe`, overlap first, then the lower bound of the value."""
        if metric == "published":
            return True, float("-inf") if self.published_fqe is None else self.published_fqe
        return self.passes_gates, self.fqe_lower


class Scores(Record):
    """Contents of `scores.json`: validation scores of a run after each scored epoch, at least one."""

    scores: list[Score]
