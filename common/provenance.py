"""What a result was made with: git commit, package versions and the code itself."""

import hashlib
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parents[1]


def git_commit() -> str | None:
    """Return the commit of the checkout, with `-dirty` where tracked files differ from it; None outside a checkout."""
    if not (ROOT / ".git").exists():
        return None
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def package_versions(*names: str) -> dict[str, str | None]:
    """Return the version of Python, of this package and of each distribution; None where it is not installed."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for name in ("sepsis-cql", *names):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return versions


def code_sha256(*paths: Path) -> str:
    """Return the SHA-256 over names and bytes of the files given and of the Python and SQL files of folders."""
    digest = hashlib.sha256()
    for path in paths:
        files = [path] if path.is_file() else [*path.rglob("*.py"), *path.rglob("*.sql")]
        for file in sorted(files):
            digest.update(f"{file.relative_to(ROOT)}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()
