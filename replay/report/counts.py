"""Numbers of a build by which a reader can judge it: counts, missingness, doses, implausible values."""

import numpy as np
import pyarrow as pa

from sepsis_cql.common.privacy import SMALLEST_CELL
from sepsis_cql.common.strict import Record, Settings, load_shipped
from sepsis_cql.replay.mimic.raw_files import TablesSettings
from sepsis_cql.replay.mimic.tables import MimicTables
from sepsis_cql.replay.records import CREDENTIALED, DoseGrid, Source
from sepsis_cql.replay.report.clinical import ClinicalTables, clinical_tables, state_columns
from sepsis_cql.replay.report.notes import find_notes
from sepsis_cql.replay.report.scarce import find_scarce
from sepsis_cql.replay.rows.actions import N_ACTIONS, N_BINS
from sepsis_cql.replay.rows.buffers import DOSES, state_matrix
from sepsis_cql.replay.rows.cohort import SEPSIS, Attrition
from sepsis_cql.replay.rows.make import Rows
from sepsis_cql.replay.rows.splits import SPLITS
from sepsis_cql.replay.settings import BuildSettings, Features

VITAL_SIGNS = ("heart_rate", "map", "sbp", "dbp", "resp_rate", "spo2")


class PlausibleCount(Settings):
    """Range of a count, and why."""

    range: tuple[float, float]
    reason: str


class Plausible(Settings):
    """The whole of `configs/plausible.yaml`."""

    counts: dict[str, PlausibleCount]
    medians: dict[str, tuple[float, float]]


class TableRows(Record):
    """Rows of a raw file, and the published count of its release; None where that is not known."""

    rows: int
    published: int | None


class CohortCounts(Record):
    """Counts of a finished build.

    Attributes:
        stays: ICU stays in the tables.
        septic_stays: stays with Sepsis-3 onset, before the criteria after it.
        episodes: stays of the cohort.
        transitions: their steps.
        deaths: episodes followed by death within the mortality horizon.
        mortality: their share.
    """

    stays: int
    septic_stays: int
    episodes: int
    transitions: int
    deaths: int
    mortality: float


class SplitCounts(Record):
    """Size of a split."""

    patients: int
    episodes: int
    transitions: int
    deaths: int


class ActionCounts(DoseGrid):
    """The dose bins, and the steps of each split by vasopressor bin (rows) and fluid bin (columns)."""

    counts: dict[str, list[list[int]]]


class FeatureSummary(Record):
    """Of all steps: share with no value yet, share not measured in their window, quantiles of the known values."""

    unknown: float
    not_measured: float | None
    low: float | None
    median: float | None
    high: float | None


class BuildReport(Record):
    """Contents of `build_report.json`: aggregate counts only, and warnings on implausible ones.

    `scarce` names features and drugs whose fitted numbers rest on few patients, `periods` the groups of years of ten or
    more patients in each split; older reports lack them.
    """

    source: Source
    fingerprint: str
    alignment: str
    tables: dict[str, TableRows]
    cohort: CohortCounts
    attrition: list[Attrition]
    splits: dict[str, SplitCounts]
    action_grid: ActionCounts
    features: dict[str, FeatureSummary]
    clinical: ClinicalTables
    warnings: list[str]
    scarce: list[str] | None = None
    periods: dict[str, list[str]] | None = None


def build_report(mimic: MimicTables, rows: Rows, fingerprint: str, settings: BuildSettings) -> BuildReport:
    """Count what a build made and warn of what looks implausible in it."""
    report = BuildReport(
        source=Source(name=mimic.source, version=mimic.version),
        fingerprint=fingerprint,
        alignment=settings.replay.alignment,
        tables=_table_rows(mimic),
        cohort=_cohort_counts(rows),
        attrition=rows.attrition,
        splits={split: _split_counts(rows, split) for split in SPLITS},
        action_grid=ActionCounts(
            vasopressor_edges=list(rows.grid.vasopressor_edges),
            fluid_edges=list(rows.grid.fluid_edges),
            counts=_action_counts(rows),
        ),
        features=_feature_summaries(rows, settings.features),
        clinical=clinical_tables(rows, settings.features, mimic.connection, mimic.concepts),
        warnings=[],
        scarce=_scarce(rows),
        periods=_periods(rows),
    )
    warnings = [*mimic.notes, *_warnings(report, rows), *find_notes(mimic.connection, settings)]
    return report.model_copy(update={"warnings": warnings})


def _table_rows(mimic: MimicTables) -> dict[str, TableRows]:
    release = "demo" if mimic.source == "mimic-iv-demo" else mimic.version
    settings = load_shipped(TablesSettings, "tables.yaml")
    published = settings.tables | settings.further_tables
    return {
        name: TableRows(
            rows=n_rows, published=None if mimic.source == "synthetic" else published[name].rows.get(release)
        )
        for name, n_rows in mimic.row_counts.items()
    }


def _cohort_counts(rows: Rows) -> CohortCounts:
    episodes, deaths = len(rows.stays), sum(rows.stays["died_90d"].to_pylist())
    return CohortCounts(
        stays=rows.attrition[0].stays_remaining,
        septic_stays=next(row.stays_remaining for row in rows.attrition if row.criterion == SEPSIS),
        episodes=episodes,
        transitions=sum(len(buffer) for buffer in rows.buffers.values()),
        deaths=deaths,
        mortality=deaths / episodes,
    )


def _split_counts(rows: Rows, split: str) -> SplitCounts:
    stays = rows.stays.filter(pa.compute.equal(rows.stays["split"], split))
    return SplitCounts(
        patients=len(stays["subject_id"].unique()),
        episodes=len(stays),
        transitions=len(rows.buffers[split]),
        deaths=sum(stays["died_90d"].to_pylist()),
    )


def _periods(rows: Rows) -> dict[str, list[str]]:
    stays = rows.stays.select(["subject_id", "split", "era"]).to_pandas()
    patients = stays.groupby(["split", "era"])["subject_id"].nunique()
    return {
        split: [era for (name, era), n in patients.items() if name == split and n >= SMALLEST_CELL]
        for split in SPLITS
    }


def _action_counts(rows: Rows) -> dict[str, list[list[int]]]:
    """Steps of each split by vasopressor bin (rows) and fluid bin (columns)."""
    return {
        split: np.bincount(buffer["action"].to_numpy(), minlength=N_ACTIONS).reshape(N_BINS, N_BINS).tolist()
        for split, buffer in rows.buffers.items()
    }


def _scarce(rows: Rows) -> list[str]:
    training = rows.buffers["train"]
    subject_id, vasopressor, fluid = (training[name].to_numpy() for name in ("subject_id", *DOSES))
    return find_scarce(subject_id, state_matrix(training["state"]), rows.normalizer, (vasopressor, fluid))


def _feature_summaries(rows: Rows, features: Features) -> dict[str, FeatureSummary]:
    column = state_columns(rows, features)
    summaries = {}
    for name, feature in features.features.items():
        known = column[name][~np.isnan(column[name])]
        quantiles = np.quantile(known, [0.05, 0.5, 0.95]).round(4).tolist() if len(known) else [None] * 3
        summaries[name] = FeatureSummary(
            unknown=float(np.isnan(column[name]).mean()),
            not_measured=float(column[f"{name}_missing"].mean()) if feature.flag else None,
            low=quantiles[0],
            median=quantiles[1],
            high=quantiles[2],
        )
    return summaries


def _warnings(report: BuildReport, rows: Rows) -> list[str]:
    plausible = load_shipped(Plausible, "plausible.yaml")
    warnings = []
    if report.alignment == "concurrent":
        warnings.append(
            "alignment is concurrent: states contain the dose they are meant to choose; for comparison only"
        )
    for name, table in report.tables.items():
        if table.published not in (None, table.rows):
            warnings.append(
                f"{name} has {table.rows:,} rows; MIMIC-IV {report.source.version} has {table.published:,}"
            )
    for name, value in _checked_counts(report, rows).items():
        low, high = plausible.counts[name].range
        if not low <= value <= high:
            warnings.append(
                f"{name} is {value:.3g}, expected {low:g} to {high:g}: {plausible.counts[name].reason}"
            )
    for name, (low, high) in plausible.medians.items():
        median = report.features[name].median if name in report.features else None
        if median is not None and not low <= median <= high:
            warnings.append(f"median {name} is {median:g}, expected {low:g} to {high:g}: wrong unit or item?")
    if rows.unmeasured:
        warnings.append(
            f"never measured in the training split, filled with a normal value: {', '.join(rows.unmeasured)}"
        )
    if report.scarce and report.source.name in CREDENTIALED:
        warnings.append(
            "fewer than 10 patients of the training split determine what the weights would say of "
            f"{', '.join(report.scarce)}: a package of this replay is not exported"
        )
    return warnings


def _checked_counts(report: BuildReport, rows: Rows) -> dict[str, float]:
    cohort = report.cohort
    grid = np.sum(list(report.action_grid.counts.values()), axis=0)
    return {
        "septic_share": cohort.septic_stays / cohort.stays,
        "mortality": cohort.mortality,
        "steps_per_episode": cohort.transitions / cohort.episodes,
        "vasopressor_share": float(grid[1:].sum() / grid.sum()),
        "fluid_share": float(grid[:, 1:].sum() / grid.sum()),
        **{
            f"largest_{name}": max(max(buffer[dose].to_numpy()) for buffer in rows.buffers.values())
            for name, dose in zip(("vasopressor_dose", "fluid_volume"), DOSES, strict=True)
        },
        "unknown_vital_signs": max(
            (report.features[name].unknown for name in VITAL_SIGNS if name in report.features), default=0.0
        ),
    }
