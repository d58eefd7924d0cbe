"""What a command refuses before torch is imported, so that a mistyped path is told at once."""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from sepsis_cql.common.errors import EvaluationError, ReplayError, SepsisCQLError, TableError, TrainingError
from sepsis_cql.common.ownership import check_new_directory, read_mark


def check_mimic(location: str | None, cache: Path | None = None) -> None:
    """Refuse a --mimic that is no place of tables, or has among them what is no file, and a damaged --cache."""
    if location is None:
        return
    if not Path(location).exists() and ":/" not in location:
        raise TableError(
            f"{location}: not a directory, file or address. Expected the MIMIC-IV root that holds `hosp` and `icu`, or "
            "another place of tables: see `sepsis-cql build --help`."
        )
    part = Path(location)
    if part.is_dir() and part.name.lower() in ("hosp", "icu") and not (part / "hosp").exists():
        raise TableError(
            f"{location}: a part of MIMIC-IV. Expected the folder above, with `hosp` and `icu` in it."
        )
    from sepsis_cql.replay.mimic.sources.registry import find_kind  # loads the database engine
    from sepsis_cql.replay.regular_files import check_cache, check_files

    find_kind(location)
    check_files(location)
    check_cache(cache)


def check_engine(engine: str) -> None:
    """Refuse --engine ray where Ray is not installed."""
    if engine == "ray" and importlib.util.find_spec("ray") is None:
        raise TrainingError("--engine ray: Ray is not installed. Run `pip install 'sepsis-cql[ray]'`.")


def check_replay(path: Path) -> None:
    """Refuse a --replay that is neither a replay directory nor a file."""
    if not path.is_file() and not (path / "provenance.json").is_file():
        raise ReplayError(
            f"{path}: no provenance.json found. Expected a directory written by `sepsis-cql build`, or a replay "
            "parquet file."
        )


def check_selection(file: Path | None, split: str, *, again: bool, why: str | None) -> None:
    """Refuse a --selection that is no file, and what is for the test split beside another split."""
    given = [name for name, value in (("--selection", file), ("--again", again), ("--why", why)) if value]
    if given and split != "test":
        raise EvaluationError(
            f"{given[0]}: found --split {split}, expected test: no other split has a ledger or needs a frozen choice. "
            f"Add --split test, or leave {' and '.join(given)} away."
        )
    if file is not None and not file.is_file():
        raise EvaluationError(
            f"{file}: not found. Expected the selection.json that `sepsis-cql sweep` or `reproduce` froze."
        )


def check_policy(spec: str) -> list[Path]:
    """Refuse a --policy that is neither here nor spelled like a module's function or a revision on the Hub.

    Returns:
        What it is read from on this disk.
    """
    path = Path(spec)
    if spec and path.exists():
        return [path]
    if path.suffix in (".pt", ".d3"):
        raise EvaluationError(f"{spec}: not found. Expected a file that training wrote.")
    if ":" in spec:
        return _find_module(spec)
    name, _, revision = spec.partition("@")
    if name.count("/") != 1 or not revision:
        raise EvaluationError(
            f"{spec}: not found. Expected a package directory, a `.pt`, a `.d3`, module:function, or a Hub id "
            "with its revision, such as name/repository@main."
        )
    return []


def _find_module(spec: str) -> list[Path]:
    if "" not in sys.path:
        sys.path.insert(0, "")  # as `python -m` does, so that a module beside the user is found
    module = spec.partition(":")[0]
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise EvaluationError(
            f"{spec}: cannot be imported (no module named {module!r} here or installed). Expected module:function."
        )
    return [Path(found.origin)] if found.origin and Path(found.origin).is_file() else []


def check_out(
    out: Path, stage: str, *, resume: bool, force: bool = False, inputs: Sequence[Path | str] = ()
) -> None:
    """Refuse to continue what is not there, such as a mistyped --out, and to replace what --force must not."""
    if force and resume:
        raise SepsisCQLError(
            f"{out}: found --resume and --force, expected one of them. --resume goes on with what is there, --force "
            "replaces it."
        )
    if force:
        check_new_directory(out, stage, force=True, inputs=inputs)
    if resume and read_mark(out) != stage:
        raise SepsisCQLError(
            f"{out}: found nothing that `sepsis-cql {stage}` began, expected it with --resume. Correct --out, or leave "
            "--resume away to begin there."
        )
