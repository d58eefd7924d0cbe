"""Files and directories that appear whole or not at all, and their fingerprints."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sepsis_cql.common.errors import SepsisCQLError


@contextmanager
def new_directory(path: Path, *, force: bool = False, private: bool = False) -> Iterator[Path]:
    """Yield a temporary sibling that becomes `path` when the block ends without an error.

    Args:
        path: the directory to create.
        force: replace an existing directory; without it one that holds anything is refused.
        private: create it readable by its owner only (0700).

    Raises:
        SepsisCQLError: `path` exists, is not empty and `force` is off, or it is a file.
    """
    path = Path(path)
    check_new_directory(path, force=force)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    temporary.chmod(0o700 if private else 0o755)
    try:
        yield temporary
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if path.exists():
        shutil.rmtree(path)
    temporary.rename(path)


def check_new_directory(path: Path, *, force: bool = False) -> None:
    """Refuse a directory that `new_directory` would refuse, before hours of work are put into its contents.

    Raises:
        SepsisCQLError: `path` exists, is not empty and `force` is off, or it is a file.
    """
    if path.exists() and not path.is_dir():
        raise SepsisCQLError(f"{path}: found a file, expected a directory or nothing. Choose another --out.")
    if path.is_dir() and any(path.iterdir()) and not force:
        raise SepsisCQLError(f"{path}: already exists and is not empty. Use --force or another --out.")


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling file that replaces `path` when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON; NaN and infinity are refused, because JSON has neither."""
    with new_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path, *, expected: str) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        expected: what it is and which command makes it, for the error message.

    Raises:
        SepsisCQLError: the file is absent or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SepsisCQLError(f"{path}: not found. Expected {expected}.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SepsisCQLError(f"{path}: not valid JSON ({error}). Expected {expected}.") from error


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Hexadecimal SHA-256 of a value's canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
