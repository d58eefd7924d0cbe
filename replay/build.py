"""MIMIC-IV tables to a replay directory: the methods section, and the only module here that writes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from sepsis_cql.configs.loading import CONFIGS, load_settings
from sepsis_cql.provenance import code_sha256, git_commit, package_versions
from sepsis_cql.replay.actions import ActionGrid, fit_action_grid
from sepsis_cql.replay.buffers import DOSES, make_buffers, select_split
from sepsis_cql.replay.cohort import Attrition, attrition_frame, select_cohort
from sepsis_cql.replay.concepts import create_concepts
from sepsis_cql.replay.directory import write_private_marks, write_report, write_tables
from sepsis_cql.replay.report import Built, build_report
from sepsis_cql.replay.settings import Features, Fluids, ReplaySettings
from sepsis_cql.replay.splits import assign_splits
from sepsis_cql.replay.stages import run_stage
from sepsis_cql.replay.statistics import fit_normaliser
from sepsis_cql.replay.tables import MimicTables, open_mimic
from sepsis_cql.replay.trajectories import build_trajectories
from sepsis_cql.replay.transitions import SPLITS, state_matrix
from sepsis_cql.storage import new_directory, sha256_json, write_json

Announce = Callable[[str, str], None]


@dataclass(frozen=True)
class Engine:
    """What the build may use of the machine.

    Attributes:
        cache: directory that keeps the converted tables for the next build; None keeps nothing.
        memory_limit: most memory of the database engine, such as "8GB"; beyond it spills to disk.
        threads: most threads of the database engine.
    """

    cache: Path | None = None
    memory_limit: str | None = None
    threads: int | None = None


@dataclass(frozen=True)
class BuildSummary:
    """Counts of a finished build.

    Attributes:
        directory: the replay directory.
        stays: ICU stays in the tables.
        septic_stays: stays with Sepsis-3 onset, before the other criteria.
        episodes: stays of the cohort.
        transitions: their 4-hour steps.
        deaths: episodes followed by death within the mortality horizon.
        attrition: what each criterion removed.
        warnings: what in the result looks implausible.
        fingerprint: of raw files, settings and code.
    """

    directory: Path
    stays: int
    septic_stays: int
    episodes: int
    transitions: int
    deaths: int
    attrition: list[Attrition]
    warnings: list[str]
    fingerprint: str


def build_replay(
    root: Path,
    out: Path,
    settings: ReplaySettings,
    *,
    force: bool = False,
    engine: Engine | None = None,
    announce: Announce = lambda stage, line: None,
) -> BuildSummary:
    """Build the replay directory `out` from the MIMIC-IV tables under `root`.

    Args:
        root: directory with `hosp` and `icu`.
        out: the directory to create, private to its owner.
        settings: cohort, trajectories, rewards and splits.
        force: replace `out` where it exists.
        engine: limits and cache of the database engine.
        announce: gets a stage's name and an empty line when it begins, its name and result when it ends.

    Raises:
        TableError: the tables are not usable MIMIC-IV tables.
        CohortError: they hold no usable septic stay, or a split would be empty.
    """
    features = load_settings(Features, Path("features.yaml"))
    fluids = load_settings(Fluids, Path("fluids.yaml"))
    engine = engine or Engine()
    with new_directory(out, force=force, private=True) as directory:
        announce("tables", "")
        with open_mimic(
            root,
            memory_limit=engine.memory_limit,
            threads=engine.threads,
            cache=engine.cache,
            scratch_parent=directory,
        ) as mimic:
            fingerprint = replay_fingerprint(mimic.fingerprint, settings)
            announce("tables", f"{mimic.source} {mimic.version}, {sum(mimic.row_counts.values()):,} rows")

            announce("concepts", "")
            create_concepts(mimic.connection)
            announce("concepts", "Sepsis-3, hourly SOFA, vasopressors and the other derived tables")

            announce("cohort", "")
            attrition = select_cohort(mimic.connection, settings)
            announce("cohort", describe_attrition(attrition))

            announce("trajectories", "")
            transitions = build_trajectories(mimic.connection, settings, features, fluids)
            splits = _split_patients(mimic.connection, settings)
            run_stage(mimic.connection, "stays")
            stays = mimic.connection.sql("select * from stays order by stay_id").to_arrow_table()
            announce("trajectories", f"{len(stays):,} episodes, {len(transitions):,} transitions")

            announce("statistics", "")
            training = select_split(transitions, splits, "train")
            grid = fit_action_grid(*(training[dose].to_numpy() for dose in DOSES))
            statistics, unmeasured = _statistics(training, grid, features, fingerprint)
            buffers = make_buffers(transitions, splits, grid, features.state_names)
            announce(
                "statistics", ", ".join(f"{split} {len(buffers[split]):,} transitions" for split in SPLITS)
            )

            announce("report", "")
            built = Built(buffers, stays, attrition, statistics, unmeasured)
            report = build_report(mimic, built, settings, features)
            write_private_marks(directory)
            write_tables(directory, buffers, stays, attrition_frame(attrition))
            write_report(directory, report)
            write_json(directory / "statistics.json", statistics)
            write_json(directory / "provenance.json", _provenance(mimic, settings, fingerprint))
            announce("report", f"{len(report['warnings'])} warnings; see build_report.md")
    return BuildSummary(
        directory=out,
        attrition=attrition,
        warnings=report["warnings"],
        fingerprint=fingerprint,
        **{name: count for name, count in report["cohort"].items() if name != "mortality"},
    )


def describe_attrition(attrition: list[Attrition]) -> str:
    """One line: stays, then what each criterion removed."""
    removed = ", ".join(f"{row.criterion} removed {row.stays_removed:,}" for row in attrition[1:])
    return f"{attrition[-1].stays_remaining:,} of {attrition[0].stays_remaining:,} ICU stays: {removed}"


def replay_fingerprint(tables: str, settings: ReplaySettings) -> str:
    """SHA-256 of everything a replay depends on, so that nothing stale passes for it.

    Args:
        tables: fingerprint of the raw files.
        settings: of the build; features, fluids and the code are read from where they are shipped.
    """
    shipped = [CONFIGS / name for name in ("features.yaml", "fluids.yaml", "tables.yaml")]
    return sha256_json([tables, settings.model_dump(), code_sha256(Path(__file__).parent, *shipped)])


def _split_patients(connection: duckdb.DuckDBPyConnection, settings: ReplaySettings) -> dict[int, str]:
    """Split of each patient of the cohort, also as the table `splits`."""
    patients = connection.sql("select distinct subject_id from cohort order by subject_id").to_arrow_table()
    splits = assign_splits(patients["subject_id"].to_numpy(), settings.split_shares, settings.seed)
    connection.register("assigned", pa.table({"subject_id": list(splits), "split": list(splits.values())}))
    connection.execute("create or replace temp table splits as select * from assigned")
    return splits


def _statistics(
    training: pa.Table, grid: ActionGrid, features: Features, fingerprint: str
) -> tuple[dict[str, Any], list[str]]:
    """Contents of statistics.json, from the training split alone, and the features it never measured."""
    normaliser, unmeasured = fit_normaliser(state_matrix(training["state"]), features)
    statistics = {
        "normaliser": normaliser,
        "action_grid": {
            "vasopressor_edges": list(grid.vasopressor_edges),
            "vasopressor_unit": "mcg/kg/min",
            "fluid_edges": list(grid.fluid_edges),
            "fluid_unit": "mL",
        },
        "n_train_transitions": len(training),
        "n_train_stays": len(set(training["stay_id"].to_pylist())),
        "replay_fingerprint": fingerprint,
    }
    return statistics, unmeasured


def _provenance(mimic: MimicTables, settings: ReplaySettings, fingerprint: str) -> dict[str, Any]:
    return {
        "source": {"name": mimic.source, "version": mimic.version},
        "fingerprint": fingerprint,
        "settings": settings.model_dump(),
        "git_commit": git_commit(),
        "versions": package_versions("duckdb", "numpy", "pandas", "pyarrow"),
        "synthetic": mimic.synthetic,
    }
