"""The order that validation scores give to runs, and the choice among them."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sepsis_cql.training.records import Metric, Score
from sepsis_cql.training.settings import TrainingSettings

PUBLISHED_NAMES = {"alpha": "cql_alpha"}  # fields that the files of the original study call otherwise


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

    def best(self, metric: Metric) -> Score:
        """Return the score of the best epoch."""
        return max(self.scores, key=lambda score: score.rank(metric))


@dataclass(frozen=True)
class Ranking:
    """Runs of a sweep in the order of a metric.

    Attributes:
        runs: scored.
        fields: settings that the grid varies; runs that agree in them are one configuration.
        metric: makes the order and chooses the best epoch.
    """

    runs: Sequence[ScoredRun]
    fields: Sequence[str]
    metric: Metric

    def ordered(self) -> list[ScoredRun]:
        """Return the runs, best first, each by its best epoch."""
        return sorted(self.runs, key=lambda run: run.best(self.metric).rank(self.metric), reverse=True)

    def configurations(self) -> list[list[ScoredRun]]:
        """Return the runs of each configuration, best configuration first.

        By `fqe` a configuration counts as what it assures: the mean over seeds of the lower bounds, less the
        standard deviation between seeds, after the share of seeds that pass the overlap gates. The original rule
        is the mean alone.
        """
        groups: dict[str, list[ScoredRun]] = {}
        for run in self.runs:
            groups.setdefault(repr(self.configuration(run)), []).append(run)
        return sorted(groups.values(), key=self._rank, reverse=True)

    def chosen(self) -> ScoredRun:
        """Return the best run of the best configuration."""
        return Ranking(self.configurations()[0], self.fields, self.metric).ordered()[0]

    def configuration(self, run: ScoredRun) -> dict[str, Any]:
        """Return the values of a run for the settings that the grid varies."""
        return {name: getattr(run.settings, name) for name in self.fields}

    def stage_evaluation(self, stage: int, *, top: int) -> dict[str, Any]:
        """Return the contents of `stage1_evaluation.json` and `stage2_evaluation.json`.

        The original fields hold values by the original definitions; `sound` holds ours.
        """
        return {
            "stage": stage,
            "metric": self.metric,
            "n_total_configs": len(self.configurations()),
            "top_configs": [self._named(group[0]) for group in self.configurations()[:top]],
            "rankings": [self.row(run) for run in self.ordered()],
            "val_n_episodes": self.runs[0].scores[0].n_episodes,
        }

    def row(self, run: ScoredRun) -> dict[str, Any]:
        """Return one row of the rankings."""
        score = run.best(self.metric)
        return {
            **self._named(run),
            "best_fqe": score.published_fqe,
            "best_epoch": score.epoch,
            "wis": score.published_wis,
            "ess": score.published_ess,
            "seed": run.settings.seed,
            "sound": score.model_dump(mode="json"),
        }

    def multiseed_validation(self, seeds: Sequence[int]) -> dict[str, Any]:
        """Return the contents of `stage2_multiseed_validation.json`, best configuration first."""
        results = []
        for group in self.configurations():
            best = [run.best(self.metric) for run in group]
            published = [score.published_fqe for score in best if score.published_fqe is not None]
            sound = [score.fqe for score in best]
            results.append(
                {
                    **self._named(group[0]),
                    "n_seeds": len(group),
                    "fqe_mean": statistics.fmean(published) if published else None,
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
            "metric": self.metric,
            "n_episodes": self.runs[0].scores[0].n_episodes,
            "seeds": list(seeds),
            "results": results,
        }

    def _rank(self, group: list[ScoredRun]) -> tuple[float, float]:
        best = [run.best(self.metric) for run in group]
        if self.metric == "published":
            return 1.0, statistics.fmean(score.rank(self.metric)[1] for score in best)
        assured = statistics.fmean(score.fqe_lower for score in best) - _deviation([s.fqe for s in best])
        return statistics.fmean(score.passes_gates for score in best), assured

    def _named(self, run: ScoredRun) -> dict[str, Any]:
        configuration: Mapping[str, Any] = self.configuration(run)
        return {PUBLISHED_NAMES.get(name, name): value for name, value in configuration.items()}


def _deviation(values: Sequence[float]) -> float:
    """Return the sample standard deviation (ddof 1); 0 for a single seed, which shows none."""
    return statistics.stdev(values) if len(values) > 1 else 0.0
