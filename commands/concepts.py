"""`sepsis-cql concepts` and `agree`: the official derived tables, written and compared."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from sepsis_cql.commands.early import check_mimic
from sepsis_cql.commands.options import Cache, DiskLimit, Force, MemoryLimit, Mimic, list_files
from sepsis_cql.commands.output import Work, console, new_table, print_table
from sepsis_cql.common.ownership import private_files
from sepsis_cql.common.storage import new_directory

if TYPE_CHECKING:
    from sepsis_cql.replay.report.agreement import ConceptAgreement


def concepts(
    mimic: Mimic,
    out: Annotated[Path, typer.Option(help="Directory to create, readable by its owner only.")],
    only: Annotated[list[str] | None, typer.Option(help="Concept to write; repeat. All by default.")] = None,
    force: Force = False,
    cache: Cache = None,
    memory_limit: MemoryLimit = None,
    disk_limit: DiskLimit = None,
) -> None:
    """Write the derived tables of every stay as parquet under their official names and columns."""
    check_mimic(mimic, cache)
    # imported here, because pandas and DuckDB would slow down every other command
    from sepsis_cql.replay.directory import write_private_marks
    from sepsis_cql.replay.mimic.concepts import FURTHER, create_concepts
    from sepsis_cql.replay.mimic.tables import open_mimic
    from sepsis_cql.replay.report.official import choose_concepts, write_concepts

    names = choose_concepts(only or [])
    further = [name for name in names if name in FURTHER] if only else None
    inputs = [*list_files(mimic), *([cache] if cache else [])]
    with (
        new_directory(out, "concepts", force=force, private=True, inputs=inputs) as directory,
        Work("concepts") as work,
    ):
        work("tables", len(names) + 1)
        with open_mimic(
            mimic,
            memory_limit=memory_limit,
            disk_limit=disk_limit,
            cache=cache,
            scratch_parent=directory,
            concepts=further,
        ) as tables:
            work("derived tables", len(names))
            create_concepts(tables.connection, tables.concepts)
            impossible = [name for name in names if name in FURTHER and name not in tables.concepts]
            counts = write_concepts(tables.connection, directory, set(names) - set(impossible), work)
        write_private_marks(directory)
    for name, n_rows in counts.items():
        console.print(f"{n_rows:>11,} {name}")
    for name in impossible:
        console.print(f"  not there: {name}, whose tables are not among these")
    console.print(f"Derived tables: {escape(str(out))}")
    console.answer({"out": str(out), "rows": counts})


def agree(
    mimic: Mimic,
    reference: Annotated[Path, typer.Option(help="Directory of `<concept>.parquet` files to compare with.")],
    cache: Cache = None,
    memory_limit: MemoryLimit = None,
    disk_limit: DiskLimit = None,
) -> None:
    """Compare the derived tables with reference files; exit code 1 where something differs."""
    check_mimic(mimic, cache)
    from sepsis_cql.replay.mimic.concepts import FURTHER, create_concepts
    from sepsis_cql.replay.mimic.tables import open_mimic
    from sepsis_cql.replay.report.agreement import compare_concepts, find_references

    names = find_references(reference)
    further = [name for name in names if name in FURTHER]
    with private_files(), Work("agree") as work:
        work("tables", len(names) + 1)
        with open_mimic(
            mimic, memory_limit=memory_limit, disk_limit=disk_limit, cache=cache, concepts=further
        ) as tables:
            work("derived tables", len(names))
            create_concepts(tables.connection, further)
            results = compare_concepts(tables.connection, reference, work)
    _print_table(results)
    found = [{**asdict(result), "agrees": result.agrees} for result in results]
    console.answer({"concepts": found}, failed=not all(result.agrees for result in results))


def _print_table(results: list["ConceptAgreement"]) -> None:
    headings = ("compared", "equal", "only ours", "only theirs", "difference")
    table = new_table("concept", *headings, fold=("concept",))
    for result in results:
        numbers = (result.compared, result.equal, result.only_ours, result.only_theirs)
        cells = [f"{n:,}" for n in numbers] + [f"{result.largest_difference:g}"]
        table.add_row(result.concept, *cells, style="green" if result.agrees else "red")
        for column, n in result.different_columns.items():
            table.add_row(f"  {column}: {n:,} rows")
    print_table(table)
