"""Files and directories that appear whole or not at all, and their fingerprints."""

import errno
import hashlib
import json
import math
import os
import re
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sepsis_cql.common.errors import SepsisCQLError
from sepsis_cql.common.ownership import (
    LOCK,
    TEMPORARY,
    aside,
    check_can_be_renamed,
    check_new_directory,
    list_leftovers,
    one_writer,
    private_files,
    read_mark,
    remove,
    remove_leftovers,
    temporary_sibling,
    write_mark,
)

LARGEST_JSON = 64 * 2**20  # bytes; a sweep's ranking has a hundredth of it
ADVICE = {
    errno.ENOSPC: "Free space there",
    errno.EDQUOT: "Free space in your quota",
    errno.EFBIG: "Raise the limit on the size of files",
    errno.EACCES: "Correct the permissions",
    errno.EPERM: "Correct the permissions",
    errno.EROFS: "Choose a place that is not read-only",
    errno.ENAMETOOLONG: "Choose a shorter name",
    errno.ENOTDIR: "Choose a place inside a directory",
    errno.ELOOP: "Choose a path without a loop of symbolic links",
    errno.EIO: "Check the disk",
    errno.ENOENT: "Check the path, or run the stage that makes it",
    errno.EEXIST: "Choose a place inside a directory",
    errno.EISDIR: "Give a file",
    errno.EBUSY: "Choose a directory inside it",
    errno.EXDEV: "Choose a directory that no image holds",
    errno.EMFILE: "Raise the limit on open files",
    errno.ENFILE: "Raise the limit on open files",
    errno.ESTALE: "Check the network disk",
}
NO_MEMORY = re.compile(
    r"can't allocate memory|not enough memory|out of memory", re.IGNORECASE
)  # as torch says it
FOREIGN = ("duckdb", "_duckdb", "safetensors", "pyarrow")  # libraries whose errors only say it in words


@contextmanager
def new_directory(
    path: Path, stage: str, *, force: bool = False, private: bool = False, inputs: Sequence[Path | str] = ()
) -> Iterator[Path]:
    """Yield a temporary sibling that becomes `path`, with the mark of its stage, when the block ends without an error.

    Args:
        path: the directory to create.
        stage: that creates it; no other process writes there meanwhile.
        force: replace a directory that the same stage made; without it one that holds anything is refused.
        private: create everything in it readable by its owner only (0700, 0600).
        inputs: files and directories that the command reads.

    Raises:
        SepsisCQLError: `path` must not be replaced, or another process writes there.
    """
    path = Path(path)
    check_can_be_renamed(path)
    check_new_directory(path, stage, force=force, inputs=inputs)
    path.parent.mkdir(parents=True, exist_ok=True)
    with one_writer(path, stage):
        remove_leftovers(path)
        check_new_directory(
            path, stage, force=force, inputs=inputs
        )  # what a killed run had moved aside is back
        with replaced_directory(path, private=private) as temporary:
            yield temporary
            write_mark(temporary, stage)
            check_new_directory(path, stage, force=force, inputs=inputs)  # whatever happened meanwhile


@contextmanager
def replaced_directory(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Yield a temporary sibling that takes the place of `path`, a part of a directory that its caller owns."""
    if path.is_symlink():
        raise SepsisCQLError(f"{path}: found a symbolic link, expected a directory or nothing. Remove it.")
    temporary, old = temporary_sibling(path), aside(path)
    with _named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir(mode=0o700)
        temporary.chmod(0o700)  # whatever the umask took away
        try:
            with private_files() if private else nullcontext():
                yield temporary
            if path.exists():
                path.rename(old)
            temporary.rename(path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            if old.exists() and not path.exists():
                old.rename(path)
            raise
        if not private:  # only now: what a killed run leaves is nobody else's to read
            path.chmod(0o777 & ~_umask())
        remove(old)


def open_directory(
    path: Path, stage: str, *, resume: bool, force: bool, inputs: Sequence[Path | str] = ()
) -> None:
    """Make the directory of a stage that writes into it bit by bit, or open it to continue. Hold its lock.

    Args:
        path: the directory.
        stage: that writes there.
        resume: continue what the same stage left in `path`.
        force: empty a directory that the same stage made.
        inputs: files and directories that the command reads.

    Raises:
        SepsisCQLError: `path` holds something else, or neither `resume` nor `force` was asked for.
    """
    with _named(path):
        remove_leftovers(path)  # first: what a killed run had moved aside is somebody's result
    is_full = path.is_dir() and not path.is_symlink() and any(path.iterdir())
    if is_full and not force and not resume:
        raise SepsisCQLError(
            f"{path}: already holds files. Use --resume to continue what is there, --force to replace it, or"
            " another --out."
        )
    if is_full and resume:
        if (found := read_mark(path)) != stage:
            made = f"of `sepsis-cql {found}`" if found else "without its mark"
            raise SepsisCQLError(
                f"{path}: found a directory {made}, expected one that `sepsis-cql {stage}` made. Choose another --out."
            )
        for leftover in list_leftovers(path):
            remove(leftover)
        return
    check_new_directory(path, stage, force=force, inputs=inputs)
    with _named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_full:
            path.rename(aside(path))
        path.mkdir(exist_ok=True)
        write_mark(path, stage)
        remove(aside(path))


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling file that replaces `path` when the block ends without an error."""
    path = Path(path)
    temporary = temporary_sibling(path)
    with _named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def explain_failure(error: BaseException) -> str | None:
    """Return the sentence for a write or read that the system refused; None for any other error."""
    if type(error).__name__ == "OutOfMemoryException" and "max_temp_directory_size" in str(error):
        return (
            f"The database engine spilled to disk all that it may ({str(error).splitlines()[0]}). Allow more disk with "
            "--disk-limit or, so that less is spilled, more memory with --memory-limit."
        )
    if type(error).__name__ == "OutOfMemoryException":
        return f"The database engine ran out of memory ({str(error).splitlines()[0]}). Allow more with --memory-limit."
    is_of_torch = type(error).__name__ == "OutOfMemoryError" or NO_MEMORY.search(str(error))
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and is_of_torch):
        found = next(iter(str(error).splitlines()), "no more is free")
        return f"This machine ran out of memory ({found}). Ask for less at once, or take a machine with more of it."
    if type(error).__name__.endswith("LinAlgError"):
        return (
            "An estimate's equations have no solution in these numbers. Look for absurd states or rewards in the "
            "replay, or raise the penalty with --set evaluation.fqe.ridge."
        )
    number = errno_of(error)
    if number not in ADVICE:
        return _explain_engine(error)
    copied_to = getattr(error, "filename2", None) if number in (errno.ENOSPC, errno.EDQUOT) else None
    named = (
        copied_to
        or getattr(error, "filename", None)
        or next(iter(re.findall(r'"(/[^"]+)"', str(error))), None)
    )
    name = os.fsdecode(named) if isinstance(named, (str, bytes, os.PathLike)) else "A file"
    name = re.split(f"/({TEMPORARY}|{LOCK})", name)[0]  # the directory of something unfinished
    return (
        f"{name}: cannot be written or opened ({os.strerror(number)}). {ADVICE[number]}, or choose another place, then "
        "run the command again; what was there before is as it was."
    )


def _explain_engine(error: BaseException) -> str | None:
    """Return a sentence for an error of the database engine, whose own text can quote a cell of a table."""
    if not type(error).__module__.startswith(("duckdb", "_duckdb")):
        return None
    return (
        f"The database engine refused the tables ({type(error).__name__}); its message is not shown, because it can "
        "quote patients' values. Compare the files with the release's SHA256SUMS.txt."
    )


def errno_of(error: BaseException) -> int | None:
    """Return the system's error number, also from libraries that give it only in words."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    text = str(error)
    if not isinstance(error, OSError) and not type(error).__module__.startswith(FOREIGN):
        return None
    if found := re.search(r"(?:os error|\[?[Ee]rrno) (\d+)", text):
        return int(found[1])
    return next((number for number in ADVICE if os.strerror(number) in text), None)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Give an error of a write the name that the user knows."""
    try:
        yield
    except OSError as error:
        if error.errno in ADVICE and (error.filename is None or TEMPORARY in str(error.filename)):
            error.filename, error.filename2 = str(path), None
        raise


def _umask() -> int:
    found = os.umask(0o077)
    os.umask(found)
    return found


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
        SepsisCQLError: the file is absent, larger than any of ours, or is not JSON with unique keys and finite numbers.
    """
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise SepsisCQLError(f"{path}: found no regular file. Expected {expected}.")
        if (size := Path(path).stat().st_size) > LARGEST_JSON:
            raise SepsisCQLError(
                f"{path}: found {size} bytes, at most {LARGEST_JSON} are plausible. Expected {expected}."
            )
        text = Path(path).read_text(encoding="utf-8")
        return parse_finite(text)
    except FileNotFoundError as error:
        raise SepsisCQLError(f"{path}: not found. Expected {expected}.") from error
    except RecursionError:
        raise SepsisCQLError(f"{path}: nested too deeply. Expected {expected}.") from None
    except ValueError as error:  # of JSON, of UTF-8, a number of thousands of digits
        raise SepsisCQLError(f"{path}: not valid JSON ({error}). Expected {expected}.") from error


def parse_finite(text: str | bytes) -> Any:
    """Return what JSON holds; ValueError where a key is repeated or a number is not finite."""
    return json.loads(
        text, object_pairs_hook=distinct_keys, parse_constant=refuse_constant, parse_float=_parse_float
    )


def _parse_float(text: str) -> float:
    if math.isinf(value := float(text)):  # 1e400
        refuse_constant(text)
    return value


def distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the dictionary of a JSON object; ValueError where a key is repeated."""
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key is repeated")
    return values


def refuse_constant(text: str) -> float:
    """Raise ValueError for NaN and infinities, which Python's JSON reads."""
    raise ValueError("NaN or infinity is no number of JSON")


def sha256_file(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Return the hexadecimal SHA-256 of a value's canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
