"""Whose a directory is: the mark of the stage that made it, one writer at a time, and what killed runs left there."""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from sepsis_cql.common.errors import SepsisCQLError

HOME = "SEPSIS_CQL_HOME"  # names another directory for locks and the ledger of test splits
NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)  # of a disk whose files cannot be locked
MARK = ".sepsis-cql"
TEMPORARY = ".sepsis-cql-tmp-"  # how the name of everything unfinished begins
LOCK = ".sepsis-cql-lock-"  # how the name of a lock beside a directory begins; it holds nothing but who writes there
STAGES = (
    "synthesize", "download", "build", "concepts", "train", "sweep", "evaluate", "calibrate", "compare", "card",
    "export", "export-pt", "export-space", "import-checkpoint", "reproduce", "audit",
)  # fmt: skip


def user_directory(name: str) -> Path:
    """Return a directory of this user's own state, readable by nobody else: below SEPSIS_CQL_HOME or XDG_STATE_HOME."""
    directory = _home() / name
    directory.parent.mkdir(parents=True, exist_ok=True)
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory


def _home() -> Path:
    try:
        state = os.environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser()
    except RuntimeError:  # a user without a home, as in some containers
        state = None
    if not (state or os.environ.get(HOME)):
        raise SepsisCQLError(
            f"This user has no home directory, expected one for locks and the ledger. Set {HOME} to a directory."
        )
    return Path(os.environ.get(HOME) or Path(state or "", "sepsis-cql"))


@contextmanager
def one_writer(target: Path | str, command: str, *, wait_seconds: float = 0) -> Iterator[None]:
    """Hold the exclusive lock on a directory, or on a name such as that of a Hub repository.

    The system frees the lock of a process that dies; a directory reached by two paths has one lock. It lies in this
    user's own directory and, where the folder around a directory can be written, there as well, for processes of other
    users or with another SEPSIS_CQL_HOME.

    Raises:
        SepsisCQLError: another process holds the lock; it is named.
    """
    place = os.fsencode(target if isinstance(target, str) else os.path.realpath(target))
    files = {user_directory("locks") / f"{hashlib.sha256(place).hexdigest()}.lock": 0o600}
    if not isinstance(target, str) and os.access(folder := Path(os.path.realpath(target)).parent, os.W_OK):
        name = hashlib.sha256(os.path.basename(place)).hexdigest()[:16]  # noqa: PTH119
        files[folder / f"{LOCK}{name}"] = 0o666
    holder = json.dumps({"pid": os.getpid(), "command": command, "since": f"{datetime.now(UTC):%F %T} UTC"})
    with ExitStack() as held:
        for file, mode in files.items():
            held.enter_context(_held(file, mode, holder, target, wait_seconds))
        yield


@contextmanager
def _held(file: Path, mode: int, holder: str, target: Path | str, wait_seconds: float) -> Iterator[None]:
    def sign(descriptor: int) -> None:
        with suppress(OSError):  # of a full disk; then nobody is named
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, holder.encode(), 0)

    lock = FileLock(file, timeout=wait_seconds, mode=mode, fallback_to_soft=False, on_acquired=sign)
    try:
        try:
            lock.acquire()
        except Timeout:
            raise SepsisCQLError(
                f"{target}: {_describe_holder(file)} is writing there; expected one writer at a time. Wait until it "
                "has ended, or choose another place."
            ) from None
        except OSError as error:
            if error.errno not in NO_LOCKS or not file.name.startswith(LOCK):
                raise
        yield
    finally:
        if lock.is_locked:
            with suppress(PermissionError):  # another user's, who alone may remove it
                file.unlink(
                    missing_ok=True
                )  # while held: whoever waits for this inode sees that it has no name
            lock.release()


def mark_of(stage: str) -> bytes:
    """Return the exact content of the mark that `stage` leaves in a directory it makes."""
    assert stage in STAGES, stage
    return (json.dumps({"made_by": "sepsis-cql", "stage": stage}) + "\n").encode()


def read_mark(directory: Path) -> str | None:
    """Return the stage that made `directory`; None where no file is exactly a mark of ours."""
    file = directory / MARK
    if file.is_symlink() or not file.is_file() or file.stat().st_size > 100:
        return None
    content = file.read_bytes()
    return next((stage for stage in STAGES if content == mark_of(stage)), None)


def write_mark(directory: Path, stage: str) -> None:
    """Mark `directory` as made by `stage`."""
    (directory / MARK).write_bytes(mark_of(stage))


def check_new_directory(
    path: Path, stage: str, *, force: bool = False, inputs: Sequence[Path | str] = ()
) -> None:
    """Refuse a directory that a stage must not create or replace, before hours of work are put into its contents.

    Args:
        path: the directory to make.
        stage: that makes it.
        force: replace one that the same stage made; without it one that holds anything is refused.
        inputs: files and directories that the command reads, which are never replaced.

    Raises:
        SepsisCQLError: it is a file, holds something, is not ours, is a symbolic link or has to do with an input, be it
            by a link inside one, or with the locks and the ledger.
    """
    path = Path(path)
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        kind = "a symbolic link" if path.is_symlink() else "a file"
        raise SepsisCQLError(f"{path}: found {kind}, expected a directory or nothing. Choose another --out.")
    is_full = path.is_dir() and any(path.iterdir())
    _check_inputs(path, inputs, is_full=is_full)
    _check_inputs(path, [_home()], is_full=False)
    if not is_full:
        return
    _check_inputs(path, list(_list_links(inputs)), is_full=False)
    if not force:
        raise SepsisCQLError(f"{path}: already exists and is not empty. Use --force or another --out.")
    _check_is_ours(path, stage)


def check_can_be_renamed(path: Path) -> None:
    """Refuse a place whose directory appears by a rename that cannot be made, which would come out after the work.

    Raises:
        SepsisCQLError: it has no name of its own, or something is mounted there, as a volume of a container is.
    """
    found = "" if path.name not in ("", "..") else "a directory without a name of its own"
    if os.path.realpath(path) in _list_mounts(Path(os.path.realpath(path)).parent):
        found = "a place where a disk or volume is mounted"
    if found:
        raise SepsisCQLError(
            f"{path}: found {found}, expected one to make. Choose another --out, such as one inside it."
        )


@contextmanager
def private_files() -> Iterator[None]:
    """Create files as 0600 and directories as 0700 within the block, whatever the umask."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def temporary_sibling(path: Path) -> Path:
    """Return an unused name beside `path`, short even where that of `path` is as long as names may be."""
    return path.parent / f"{_prefix(path)}{os.urandom(6).hex()}-{path.name[:40]}"


def aside(path: Path) -> Path:
    """Return where a directory lies for the moment in which another takes its place."""
    return path.parent / f"{_prefix(path)}old"


def remove_leftovers(path: Path) -> None:
    """Remove what killed runs left beside `path`; put back what one had moved aside. Hold the lock on `path`."""
    if aside(path).exists() and not path.exists():
        aside(path).rename(path)
    for leftover in path.parent.glob(f"{_prefix(path)}*") if path.parent.is_dir() else ():
        remove(leftover)


def list_leftovers(directory: Path, beginnings: tuple[str, ...] = (TEMPORARY,)) -> list[Path]:
    """Return everything unfinished below `directory` and not inside another such thing."""
    found = []
    for folder, names, files in os.walk(directory):
        found += [Path(folder, name) for name in (*names, *files) if name.startswith(beginnings)]
        names[:] = [name for name in names if not name.startswith(TEMPORARY)]
    return sorted(found)


def remove(path: Path) -> None:
    """Remove a file or a directory, never what a symbolic link points to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def scratch_directory(parent: Path) -> Iterator[Path]:
    """Yield a private directory in `parent` that is gone at the end; those of dead runs are removed first.

    Its lock lies in itself, not in the user's own directory: processes that share only `parent` see each other's.
    """
    for leftover in parent.glob(f"{TEMPORARY}scratch-*"):
        with suppress(OSError, Timeout):
            if leftover.lstat().st_uid == os.getuid() and not leftover.is_symlink():
                with FileLock(leftover / "lock", timeout=0, fallback_to_soft=False):
                    remove(leftover)
    name = os.urandom(6).hex()
    new, directory = parent / f"{TEMPORARY}new-{name}", parent / f"{TEMPORARY}scratch-{name}"
    new.mkdir(mode=0o700)
    try:
        with FileLock(new / "lock", timeout=0, mode=0o600, fallback_to_soft=False):
            new.rename(directory)  # held before anyone looks for it
            yield directory
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(directory, ignore_errors=True)


def _prefix(path: Path) -> str:
    return f"{TEMPORARY}{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}-"


def _check_inputs(path: Path, inputs: Sequence[Path | str], *, is_full: bool) -> None:
    """Refuse `path` if it is an input or holds one; one that lies inside an input may be new, but not replaced."""
    own, *above = _places(path)
    for given in inputs:
        found, *around = _places(given)
        relation = "is" if own == found else "holds" if own in around else ""
        relation = relation or ("lies inside" if is_full and found in above else "")
        if relation:
            raise SepsisCQLError(
                f"{path}: {relation} {given}, which this command reads; expected a directory apart from its inputs. "
                "Choose another --out."
            )


def _list_links(inputs: Sequence[Path | str]) -> Iterator[Path]:
    for given in inputs:
        for folder, names, files in os.walk(given):
            yield from (link for name in (*names, *files) if (link := Path(folder, name)).is_symlink())


def _places(path: Path | str) -> list[tuple[int, int] | Path]:
    """What a path and the folders around it are, whatever they are called: a mounted place has two names."""
    real = Path(os.path.realpath(path))
    found: list[tuple[int, int] | Path] = []
    for place in (real, *real.parents):
        try:
            status = place.stat()
            found.append((status.st_dev, status.st_ino))
        except OSError:  # nothing there
            found.append(place)
    return found


def _check_is_ours(path: Path, stage: str) -> None:
    if os.path.realpath(path) != os.path.abspath(path):  # noqa: PTH100
        raise SepsisCQLError(
            f"{path}: lies behind a symbolic link, where --force replaces nothing. Give the real path "
            f"({os.path.realpath(path)}), or choose another --out."
        )
    for lock in list_leftovers(path, (LOCK,)):
        if _is_held(lock):
            raise SepsisCQLError(
                f"{path}: {_describe_holder(lock)} is writing inside it; expected nobody. Wait until it has ended, or "
                "choose another --out."
            )
    check_can_be_renamed(path)
    if inside := _list_mounts(path):
        raise SepsisCQLError(
            f"{path}: found {inside[0]} mounted in it, expected nothing of elsewhere. Unmount it, or choose another "
            "--out."
        )
    if (found := read_mark(path)) != stage:
        made = f"of `sepsis-cql {found}`" if found else "without its mark"
        raise SepsisCQLError(
            f"{path}: found a directory {made}; --force replaces only what `sepsis-cql {stage}` made. Remove it "
            "yourself, or choose another --out."
        )


def _is_held(file: Path) -> bool:
    try:
        with FileLock(file, timeout=0, fallback_to_soft=False):
            return False
    except (Timeout, PermissionError):
        return True


def _list_mounts(path: Path) -> list[str]:
    """What is mounted inside a directory, whose files would be removed with it; Linux alone tells."""
    with suppress(OSError):
        rows = Path("/proc/self/mountinfo").read_bytes().splitlines()
        names = [
            re.sub(rb"\\([0-7]{3})", lambda code: bytes([int(code[1], 8)]), row.split()[4]) for row in rows
        ]
        inside = os.fsencode(os.path.abspath(path)).rstrip(b"/") + b"/"  # noqa: PTH100
        return [os.fsdecode(name) for name in names if name.startswith(inside)]
    return []


def _describe_holder(file: Path) -> str:
    try:
        holder = json.loads(file.read_bytes()[:1000])
        return f"`sepsis-cql {holder['command']}` (process {holder['pid']}, since {holder['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
