"""The three files of the two-stage protocol, by the names and fields of the original study, `sound` beside them."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sepsis_cql.training.records import Metric, Score

PUBLISHED_NAMES = {"alpha": "cql_alpha"}  # fields that the files of the original study call otherwise


@dataclass(frozen=True)
class RankedRun:
    """A run as the files show it.

    Attributes:
        configuration: its values for the settings that the grid varies.
        seed: of the run.
        score: by which it counts; fields that are not published are None.
    """

    configuration: Mapping[str, Any]
    seed: int
    score: Score


def stage_document(
    stage: int,
    metric: Metric,
    runs: Sequence[RankedRun],
    configurations: Sequence[Mapping[str, Any]],
    *,
    top: int,
) -> dict[str, Any]:
    """Return the contents of `stage1_evaluation.json` or `stage2_evaluation.json`; runs and configurations best first.

    The original fields hold values by the original definitions; `sound` holds ours.
    """
    return {
        "stage": stage,
        "metric": metric,
        "n_total_configs": len(configurations),
        "top_configs": [_named(configuration) for configuration in configurations[:top]],
        "rankings": [_row(run) for run in runs],
        "val_n_episodes": runs[0].score.n_episodes,
    }


def multiseed_document(
    metric: Metric, groups: Sequence[Sequence[RankedRun]], seeds: Sequence[int]
) -> dict[str, Any]:
    """Return the contents of `stage2_multiseed_validation.json`, of the runs of each configuration, the best first."""
    return {
        "stage": 2,
        "split": "validation",
        "metric": metric,
        "n_episodes": groups[0][0].score.n_episodes,
        "seeds": list(seeds),
        "results": [_over_seeds(group) for group in groups],
    }


def deviation(values: Sequence[float]) -> float:
    """Return the sample standard deviation (ddof 1); 0 for a single seed, which shows none."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _row(run: RankedRun) -> dict[str, Any]:
    score = run.score
    return {
        **_named(run.configuration),
        "best_fqe": score.published_fqe,
        "best_epoch": score.epoch,
        "wis": score.published_wis,
        "ess": score.published_ess,
        "seed": run.seed,
        "sound": score.model_dump(mode="json"),
    }


def _over_seeds(group: Sequence[RankedRun]) -> dict[str, Any]:
    scores = [run.score for run in group]
    return {
        **_named(group[0].configuration),
        "n_seeds": len(group),
        **_spread([score.published_fqe for score in scores]),
        "sound": {
            **_spread([score.fqe for score in scores]),
            "fqe_lower_values": [score.fqe_lower for score in scores],
            "ess_values": [score.ess for score in scores],
            "n_seeds_with_overlap": sum(score.passes_gates for score in scores),
        },
    }


def _spread(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean, sample deviation and values of a metric over seeds."""
    known = [value for value in values if value is not None]
    return {
        "fqe_mean": statistics.fmean(known) if known else None,
        "fqe_std": deviation(known),
        "fqe_values": known,
    }


def _named(configuration: Mapping[str, Any]) -> dict[str, Any]:
    return {PUBLISHED_NAMES.get(name, name): value for name, value in configuration.items()}
