"""A throw-away PostgreSQL server on loopback, where one is installed."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

DEBIAN = Path("/usr/lib/postgresql")
PROGRAMS = ("initdb", "pg_ctl", "psql")


@dataclass(frozen=True)
class Postgres:
    """A running server; anyone may log in as `postgres`."""

    binaries: Path
    port: int

    def url(self, database: str, password: str = "anything") -> str:
        return f"postgresql://postgres:{password}@127.0.0.1:{self.port}/{database}"

    def run(self, script: str, database: str = "postgres") -> None:
        command = [str(self.binaries / "psql"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres"]
        finished = subprocess.run(
            [*command, "-d", database, "-q", "-v", "ON_ERROR_STOP=1"],
            input=script,
            text=True,
            capture_output=True,
        )
        assert finished.returncode == 0, finished.stderr[-2000:]


@contextmanager
def start_postgres() -> Iterator[Postgres]:
    """Start a server with text sorted by bytes, as DuckDB sorts it; skip the test where that cannot be."""
    pytest.importorskip("adbc_driver_postgresql", reason="the extra `postgresql` is not installed")
    folders = [Path(folder) for folder in os.environ["PATH"].split(os.pathsep)]
    folders += sorted(DEBIAN.glob("*/bin"), reverse=True)
    complete = [folder for folder in folders if all((folder / name).exists() for name in PROGRAMS)]
    if not complete:
        pytest.skip("no PostgreSQL server found: install Debian's `postgresql`")
    binaries = complete[0]
    owner = (
        "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    )  # it refuses to run as root
    if owner not in {user.pw_name for user in pwd.getpwall()}:
        pytest.skip("PostgreSQL does not run as root and there is no user `postgres`")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    shutil.chown(folder, owner)

    def server(*command: str) -> None:
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(command, user=owner, cwd=folder, check=True, **silent)

    control = [str(binaries / "pg_ctl"), "-D", str(folder / "data")]
    try:
        initdb = [str(binaries / "initdb"), "-D", str(folder / "data"), "-U", "postgres", "--auth=trust"]
        server(*initdb, "--encoding=UTF8", "--locale=C", "--no-sync")
        options = f"-h 127.0.0.1 -p {port} -k {folder} -F"
        server(*control, "-w", "-l", str(folder / "log"), "-o", options, "start")
        yield Postgres(binaries, port)
        server(*control, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)
