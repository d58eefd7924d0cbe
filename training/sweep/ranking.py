"""The order that validation scores give to runs, and the choice among them."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sepsis_cql.training.records import Metric, Score
from sepsis_cql.training.settings import TrainingSettings
from sepsis_cql.training.sweep.documents import RankedRun, deviation, multiseed_document, stage_document


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
        """Return the contents of `stage1_evaluation.json` and `stage2_evaluation.json`."""
        configurations = [self.configuration(group[0]) for group in self.configurations()]
        runs = [self._ranked(run) for run in self.ordered()]
        return stage_document(stage, self.metric, runs, configurations, top=top)

    def multiseed_validation(self, seeds: Sequence[int]) -> dict[str, Any]:
        """Return the contents of `stage2_multiseed_validation.json`, best configuration first."""
        groups = [[self._ranked(run) for run in group] for group in self.configurations()]
        return multiseed_document(self.metric, groups, seeds)

    def _rank(self, group: list[ScoredRun]) -> tuple[float, float]:
        best = [run.best(self.metric) for run in group]
        if self.metric == "published":
            return 1.0, statistics.fmean(score.rank(self.metric)[1] for score in best)
        assured = statistics.fmean(score.fqe_lower for score in best) - deviation([s.fqe for s in best])
        return statistics.fmean(score.passes_gates for score in best), assured

    def _ranked(self, run: ScoredRun) -> RankedRun:
        return RankedRun(self.configuration(run), run.settings.seed, run.best(self.metric))
