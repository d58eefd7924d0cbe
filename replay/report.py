"""Numbers of a build by which a reader can judge it: counts, missingness, doses, implausible values."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sepsis_cql.configs.loading import Settings, load_settings
from sepsis_cql.replay.actions import N_BINS
from sepsis_cql.replay.buffers import DOSES
from sepsis_cql.replay.cohort import SEPSIS, Attrition
from sepsis_cql.replay.raw_files import TablesSettings
from sepsis_cql.replay.settings import Features, ReplaySettings
from sepsis_cql.replay.tables import MimicTables
from sepsis_cql.replay.transitions import SPLITS, state_matrix

VITAL_SIGNS = ("heart_rate", "map", "sbp", "dbp", "resp_rate", "spo2")


class PlausibleCount(Settings):
    """Range of a count, and why."""

    range: tuple[float, float]
    reason: str


class Plausible(Settings):
    """The whole of `configs/plausible.yaml`."""

    counts: dict[str, PlausibleCount]
    medians: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Built:
    """What the report describes.

    Attributes:
        buffers: replay buffer of each split.
        stays: one row an episode.
        attrition: stays removed by each criterion.
        statistics: contents of statistics.json.
        unmeasured: features never measured in the training split.
    """

    buffers: dict[str, pa.Table]
    stays: pa.Table
    attrition: list[Attrition]
    statistics: dict[str, Any]
    unmeasured: list[str]


def build_report(
    mimic: MimicTables, built: Built, settings: ReplaySettings, features: Features
) -> dict[str, Any]:
    """Contents of build_report.json: aggregate counts only, and warnings on implausible ones."""
    report = {
        "source": {"name": mimic.source, "version": mimic.version},
        "fingerprint": built.statistics["replay_fingerprint"],
        "alignment": settings.alignment,
        "tables": _table_rows(mimic),
        "cohort": _cohort_counts(built),
        "attrition": [asdict(row) for row in built.attrition],
        "splits": {split: _split_counts(built, split) for split in SPLITS},
        "action_grid": built.statistics["action_grid"] | {"counts": _action_counts(built)},
        "features": _feature_summaries(built, features),
    }
    return report | {"warnings": _warnings(report, mimic, built, settings)}


def _table_rows(mimic: MimicTables) -> dict[str, dict[str, int | None]]:
    """Rows of each raw file beside the published count of its release, None where that is not known."""
    release = "demo" if mimic.source == "mimic-iv-demo" else mimic.version
    published = load_settings(TablesSettings, Path("tables.yaml")).tables
    return {
        name: {
            "rows": rows,
            "published": None if mimic.source == "synthetic" else published[name].rows.get(release),
        }
        for name, rows in mimic.row_counts.items()
    }


def _cohort_counts(built: Built) -> dict[str, Any]:
    episodes, deaths = len(built.stays), sum(built.stays["died_90d"].to_pylist())
    return {
        "stays": built.attrition[0].stays_remaining,
        "septic_stays": _remaining(built, SEPSIS),
        "episodes": episodes,
        "transitions": sum(len(buffer) for buffer in built.buffers.values()),
        "deaths": deaths,
        "mortality": deaths / episodes,
    }


def _remaining(built: Built, criterion: str) -> int:
    return next(row.stays_remaining for row in built.attrition if row.criterion == criterion)


def _split_counts(built: Built, split: str) -> dict[str, int]:
    stays = built.stays.filter(pa.compute.equal(built.stays["split"], split))
    return {
        "patients": len(stays["subject_id"].unique()),
        "episodes": len(stays),
        "transitions": len(built.buffers[split]),
        "deaths": sum(stays["died_90d"].to_pylist()),
    }


def _action_counts(built: Built) -> dict[str, list[list[int]]]:
    """Steps of each split by vasopressor bin (rows) and fluid bin (columns)."""
    return {
        split: np.bincount(buffer["action"].to_numpy(), minlength=N_BINS**2).reshape(N_BINS, N_BINS).tolist()
        for split, buffer in built.buffers.items()
    }


def _feature_summaries(built: Built, features: Features) -> dict[str, dict[str, float | None]]:
    """Of all steps: share with no value yet, share without one in their window, quantiles of the known."""
    states = np.concatenate([state_matrix(buffer["state"]) for buffer in built.buffers.values()])
    column = {name: states[:, position] for position, name in enumerate(features.state_names)}
    summaries = {}
    for name, feature in features.features.items():
        known = column[name][~np.isnan(column[name])]
        quantiles = np.quantile(known, [0.05, 0.5, 0.95]) if len(known) else [None] * 3
        summaries[name] = {
            "unknown": float(np.isnan(column[name]).mean()),
            "not_measured": float(column[f"{name}_missing"].mean()) if feature.flag else None,
            **{
                key: None if value is None else round(float(value), 4)
                for key, value in zip(("low", "median", "high"), quantiles, strict=True)
            },
        }
    return summaries


def _warnings(
    report: dict[str, Any], mimic: MimicTables, built: Built, settings: ReplaySettings
) -> list[str]:
    plausible = load_settings(Plausible, Path("plausible.yaml"))
    warnings = []
    if settings.alignment == "concurrent":
        warnings.append(
            "alignment is concurrent: states contain the dose they are meant to choose; for comparison only"
        )
    for name, rows in report["tables"].items():
        if rows["published"] not in (None, rows["rows"]):
            warnings.append(
                f"{name} has {rows['rows']:,} rows; MIMIC-IV {mimic.version} has {rows['published']:,}"
            )
    for name, value in _checked_counts(report, built).items():
        low, high = plausible.counts[name].range
        if not low <= value <= high:
            warnings.append(
                f"{name} is {value:.3g}, expected {low:g} to {high:g}: {plausible.counts[name].reason}"
            )
    for name, (low, high) in plausible.medians.items():
        median = report["features"][name]["median"]
        if median is not None and not low <= median <= high:
            warnings.append(f"median {name} is {median:g}, expected {low:g} to {high:g}: wrong unit or item?")
    if built.unmeasured:
        warnings.append(
            f"never measured in the training split, filled with a normal value: {', '.join(built.unmeasured)}"
        )
    return warnings


def _checked_counts(report: dict[str, Any], built: Built) -> dict[str, float]:
    cohort = report["cohort"]
    grid = np.sum(list(report["action_grid"]["counts"].values()), axis=0)
    return {
        "septic_share": cohort["septic_stays"] / cohort["stays"],
        "mortality": cohort["mortality"],
        "steps_per_episode": cohort["transitions"] / cohort["episodes"],
        "vasopressor_share": float(grid[1:].sum() / grid.sum()),
        "fluid_share": float(grid[:, 1:].sum() / grid.sum()),
        **{
            f"largest_{name}": max(max(buffer[dose].to_numpy()) for buffer in built.buffers.values())
            for name, dose in zip(("vasopressor_dose", "fluid_volume"), DOSES, strict=True)
        },
        "unknown_vital_signs": max(report["features"][name]["unknown"] for name in VITAL_SIGNS),
    }
