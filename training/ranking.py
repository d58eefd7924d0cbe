"""Validation scores of runs, the order they give, and the choice among them."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sepsis_cql.training.settings import TrainingSettings

Metric = Literal["fqe", "published"]


@dataclass(frozen=True)
class Score:
    """What validation says about one run after one epoch.

    Attributes:
        epoch: epochs trained.
        softening: the version of the policy that the next fields are about: `greedy`, or nearer to clinicians.
        fqe, fqe_lower, fqe_upper: value by fitted Q evaluation with its 95% interval.
        ess: effective sample size, episodes.
        passes_gates: whether the validation data overlap enough with the policy to judge it.
        gates: what failed, in words; empty where all passed.
        published_fqe, published_wis, published_ess: of the greedy policy by the published definitions.
        n_episodes: of the validation split.
    """

    epoch: int
    softening: str
    fqe: float
    fqe_lower: float
    fqe_upper: float
    ess: float
    passes_gates: bool
    gates: list[str]
    published_fqe: float
    published_wis: float
    published_ess: float
    n_episodes: int

    def rank(self, metric: Metric) -> tuple[bool, float]:
        """Greater is better: by `fqe` policies with overlap first, then what the data assure (lower bound)."""
        return (True, self.published_fqe) if metric == "published" else (self.passes_gates, self.fqe_lower)


@dataclass(frozen=True)
class ScoredRun:
    """A run of the sweep with its scores, at least one.

    Attributes:
        name: of its directory.
        settings: of the run.
        scores: after each scored epoch.
    """

    name: str
    settings: TrainingSettings
    scores: list[Score]

    @property
    def configuration(self) -> tuple[str, float, float]:
        """Reward variant, learning rate and alpha."""
        return configuration_of(self.settings)

    def best(self, metric: Metric) -> Score:
        """Score of the best epoch."""
        return max(self.scores, key=lambda score: score.rank(metric))


def configuration_of(settings: TrainingSettings) -> tuple[str, float, float]:
    """What the grid varies: reward variant, learning rate and alpha."""
    return settings.reward_variant, settings.learning_rate, settings.alpha


def rank_runs(runs: Sequence[ScoredRun], metric: Metric) -> list[ScoredRun]:
    """Best first, each by its best epoch."""
    return sorted(runs, key=lambda run: run.best(metric).rank(metric), reverse=True)


def rank_configurations(runs: Sequence[ScoredRun], metric: Metric) -> list[list[ScoredRun]]:
    """Runs of each configuration, best configuration first.

    By `fqe` a configuration counts as what it assures: the mean over seeds of the lower bounds, less the
    standard deviation between seeds, after the share of seeds that pass the overlap gates. The published rule
    is the mean alone.
    """
    groups: dict[tuple[str, float, float], list[ScoredRun]] = {}
    for run in runs:
        groups.setdefault(run.configuration, []).append(run)

    def rank(group: list[ScoredRun]) -> tuple[float, float]:
        best = [run.best(metric) for run in group]
        if metric == "published":
            return 1.0, statistics.fmean(score.published_fqe for score in best)
        assured = statistics.fmean(score.fqe_lower for score in best) - _deviation([s.fqe for s in best])
        return statistics.fmean(score.passes_gates for score in best), assured

    return sorted(groups.values(), key=rank, reverse=True)


def choose_run(runs: Sequence[ScoredRun], metric: Metric) -> ScoredRun:
    """The best run of the best configuration."""
    return rank_runs(rank_configurations(runs, metric)[0], metric)[0]


def stage_evaluation(stage: int, runs: Sequence[ScoredRun], metric: Metric, *, top: int) -> dict[str, Any]:
    """Contents of `stage1_evaluation.json` and `stage2_evaluation.json`.

    The published fields hold values by the published definitions; `sound` holds ours. `metric` says which of
    them made the order and chose the best epoch.
    """
    ranked = rank_runs(runs, metric)
    rows = [run_row(run, metric) for run in ranked]
    return {
        "stage": stage,
        "metric": metric,
        "n_total_configs": len({run.configuration for run in runs}),
        "top_configs": [_named(group[0]) for group in rank_configurations(runs, metric)[:top]],
        "rankings": rows,
        "val_n_episodes": ranked[0].scores[0].n_episodes,
    }


def run_row(run: ScoredRun, metric: Metric) -> dict[str, Any]:
    """One row of the rankings."""
    score = run.best(metric)
    return {
        **_named(run),
        "best_fqe": score.published_fqe,
        "best_epoch": score.epoch,
        "wis": score.published_wis,
        "ess": score.published_ess,
        "seed": run.settings.seed,
        "sound": asdict(score),
    }


def multiseed_validation(runs: Sequence[ScoredRun], metric: Metric, seeds: Sequence[int]) -> dict[str, Any]:
    """Contents of `stage2_multiseed_validation.json`, best configuration first."""
    results = []
    for group in rank_configurations(runs, metric):
        best = [run.best(metric) for run in group]
        published, sound = [score.published_fqe for score in best], [score.fqe for score in best]
        results.append(
            {
                **_named(group[0]),
                "n_seeds": len(group),
                "fqe_mean": statistics.fmean(published),
                "fqe_std": _deviation(published),
                "fqe_values": published,
                "sound": {
                    "fqe_mean": statistics.fmean(sound),
                    "fqe_std": _deviation(sound),
                    "fqe_values": sound,
                    "fqe_lower_values": [score.fqe_lower for score in best],
                    "ess_values": [score.ess for score in best],
                    "n_seeds_with_overlap": sum(score.passes_gates for score in best),
                },
            }
        )
    return {
        "stage": 2,
        "split": "validation",
        "metric": metric,
        "n_episodes": runs[0].scores[0].n_episodes,
        "seeds": list(seeds),
        "results": results,
    }


def _named(run: ScoredRun) -> dict[str, Any]:
    reward_variant, learning_rate, alpha = run.configuration
    return {"reward_variant": reward_variant, "learning_rate": learning_rate, "cql_alpha": alpha}


def _deviation(values: Sequence[float]) -> float:
    """Sample standard deviation (ddof 1); 0 for a single seed, which shows none."""
    return statistics.stdev(values) if len(values) > 1 else 0.0
