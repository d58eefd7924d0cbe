"""MIMIC-IV tables to a replay directory: the only module here that writes rows."""

import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from sepsis_cql.common.provenance import code_sha256, git_commit, package_versions
from sepsis_cql.common.storage import new_directory, sha256_json, write_json
from sepsis_cql.common.strict import load_shipped
from sepsis_cql.replay.directory import PROVENANCE, STATISTICS, TEST_USES, write_private_marks, write_rows
from sepsis_cql.replay.mimic.concepts import create_concepts
from sepsis_cql.replay.mimic.raw_files import TablesSettings
from sepsis_cql.replay.mimic.sources.registry import list_inputs
from sepsis_cql.replay.mimic.tables import MimicTables, open_mimic
from sepsis_cql.replay.records import DoseGrid, Provenance, Source, Statistics
from sepsis_cql.replay.regular_files import check_cache, check_files
from sepsis_cql.replay.report.counts import BuildReport, build_report
from sepsis_cql.replay.report.dataset_card import CARD, render_dataset_card
from sepsis_cql.replay.report.page import write_report
from sepsis_cql.replay.rows.make import Announce, Rows, make_rows
from sepsis_cql.replay.settings import BuildSettings

HERE = Path(__file__).parent
ROOMS_OF_ROWS = (HERE / "mimic", HERE / "rows", HERE / "sql", HERE / "settings.py")


@dataclass(frozen=True)
class Engine:
    """What the build may use of the machine.

    Attributes:
        cache: directory that keeps the converted tables for the next build; None keeps nothing.
        memory_limit: most memory of the database engine, such as "8GB"; beyond it spills to disk.
        disk_limit: most it may spill, such as "64GB"; None for the default of `open_mimic`.
        threads: most threads of the database engine.
    """

    cache: Path | None = None
    memory_limit: str | None = None
    disk_limit: str | None = None
    threads: int | None = None


def build_replay(
    mimic: Path | str,
    out: Path,
    settings: BuildSettings,
    *,
    force: bool = False,
    inputs: Sequence[Path | str] = (),
    engine: Engine | None = None,
    describe: Collection[str] = (),
    announce: Announce = lambda stage, line: None,
) -> BuildReport:
    """Build the replay directory `out` from MIMIC-IV tables and return its report.

    Args:
        mimic: where they are kept: a folder with `hosp` and `icu`, or another place that --mimic takes.
        out: the directory to create, private to its owner.
        settings: cohort, trajectories, rewards and splits, with the features and fluids they use.
        force: replace what a build made before.
        inputs: files of settings, which are never replaced, as the tables and the cache.
        engine: limits and cache of the database engine.
        describe: concepts of `replay.report.severity.DESCRIPTIONS` by which the report describes the patients; the rows
            and their fingerprint do not depend on them.
        announce: gets a stage's name and an empty line when it begins, its name and result when it ends.

    Raises:
        TableError: the tables are not usable MIMIC-IV tables.
        CohortError: they hold no usable septic stay, or a split would be empty.
    """
    check_files(mimic)
    engine = engine or Engine()
    check_cache(engine.cache)
    read = [*list_inputs(mimic), *inputs, *([engine.cache] if engine.cache else [])]
    with new_directory(out, "build", force=force, private=True, inputs=read) as directory:
        announce("tables", "")
        with open_mimic(
            mimic,
            memory_limit=engine.memory_limit,
            disk_limit=engine.disk_limit,
            threads=engine.threads,
            cache=engine.cache,
            scratch_parent=directory,
            items=settings.items,
            concepts=describe,
        ) as tables:
            fingerprint = replay_fingerprint(tables.fingerprint, settings)
            announce("tables", f"{tables.source} {tables.version}, {sum(tables.row_counts.values()):,} rows")

            announce("concepts", "")
            create_concepts(tables.connection, tables.concepts)
            announce("concepts", "Sepsis-3, hourly SOFA, vasopressors and the other derived tables")

            rows = make_rows(tables.connection, settings, announce)

            announce("report", "")
            report = build_report(tables, rows, fingerprint, settings)
            write_private_marks(directory)
            for seen in Path(out).glob(f"{TEST_USES}*.json"):  # who saw its test split outlives the replay
                shutil.copyfile(seen, directory / seen.name)
            write_rows(directory, rows)
            write_report(directory, report)
            card = render_dataset_card(report, rows.buffers["train"].column_names, settings.replay.step_hours)
            (directory / CARD).write_text(card, encoding="utf-8")
            write_json(directory / STATISTICS, _statistics(rows, fingerprint).model_dump(mode="json"))
            provenance = _provenance(tables, settings, fingerprint)
            write_json(directory / PROVENANCE, provenance.model_dump(mode="json"))
            found = len(report.warnings)
            announce("report", f"{found} {'warning' if found == 1 else 'warnings'}; see build_report.md")
    return report


def replay_fingerprint(tables: str, settings: BuildSettings) -> str:
    """Return the SHA-256 of exactly what the rows of a replay depend on.

    That is the rows read of the tables, wherever they are kept, the settings with the features and fluids (shipped or
    the user's), the columns and items that are read, and the code in the rooms that make rows; not reports, other
    formats or readers of a finished replay. `tables` is the fingerprint of the rows read.
    """
    columns = load_shipped(TablesSettings, "tables.yaml")
    return sha256_json([tables, settings.model_dump(), columns.model_dump(), code_sha256(*ROOMS_OF_ROWS)])


def _statistics(rows: Rows, fingerprint: str) -> Statistics:
    return Statistics(
        normalizer=rows.normalizer,
        action_grid=DoseGrid(
            vasopressor_edges=list(rows.grid.vasopressor_edges), fluid_edges=list(rows.grid.fluid_edges)
        ),
        n_train_transitions=rows.n_train_transitions,
        n_train_stays=rows.n_train_stays,
        replay_fingerprint=fingerprint,
    )


def _provenance(mimic: MimicTables, settings: BuildSettings, fingerprint: str) -> Provenance:
    return Provenance(
        source=Source(name=mimic.source, version=mimic.version),
        fingerprint=fingerprint,
        settings=settings.replay,
        features=settings.features,
        fluids=settings.fluids,
        git_commit=git_commit(),
        versions=package_versions("duckdb", "numpy", "pandas", "pyarrow"),
        synthetic=mimic.synthetic,
    )
