"""Options that several commands share."""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from sepsis_cql.common.strict import find_settings


def list_files(*options: str | Path | None) -> list[str | Path]:
    """Return the options that name a place on this disk, there or not yet: --out must stay apart from them."""
    return [
        option
        for option in options
        if option is not None and (isinstance(option, Path) or os.path.lexists(option))
    ]


def find_runtime(runtime: str | None) -> list[str | Path]:
    """Return the file of --runtime, if it is one of the user's; a name of no shipped settings is refused."""
    if runtime is not None:
        find_settings(runtime, "device")
    return list_files(runtime)


Mimic = Annotated[
    str,
    typer.Option(
        metavar="PLACE",
        help="MIMIC-IV: a folder with `hosp` and `icu`, a DuckDB file, a MEDS extract, postgresql://host/database, or "
        "bigquery://billed-project/physionet-data/mimiciv_3_1.",
    ),
]
ReplayPath = Annotated[
    Path, typer.Option(help="Replay directory written by `build`, or a replay parquet file.")
]
Run = Annotated[
    Path,
    typer.Option(help="Run directory with `replay`, `training` and `evaluation`, as `reproduce` makes it."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace what this command made in --out before.")]
Ledger = Annotated[
    Path | None, typer.Option(help="Directory of the ledger of test splits; by default this user's own.")
]
EngineName = Literal["local", "ray"]
Engine = Annotated[EngineName, typer.Option(help="Where runs train; ray: on the nodes of a Ray cluster.")]
SplitName = Literal["validation", "test"]
Again = Annotated[bool, typer.Option("--again", help="Score a further policy on the test split.")]
Why = Annotated[str | None, typer.Option(help="Reason for --again, shown on the card.")]
Rules = Annotated[str, typer.Option(help="Rules of evaluation and verdict: shipped, or a file.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue what is in --out.")]
Cache = Annotated[
    Path | None, typer.Option(help="Keep the tables read from MIMIC-IV here (private) for the next time.")
]
MemoryLimit = Annotated[str | None, typer.Option(help="Most memory of the database engine, as `8GB`.")]
DiskLimit = Annotated[
    str | None, typer.Option(help="Most disk the database engine spills to, as `64GB`, beside the tables.")
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.FIELD=VALUE",
        help="Change one setting, as `training.alpha=0.5`; may be repeated.",
    ),
]
Runtime = Annotated[
    str | None,
    typer.Option(
        help="Device settings, shipped (`runtime.cuda`) or a file; else those of the best device here."
    ),
]
