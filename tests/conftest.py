"""Builders and data shared by every test."""

import base64
import gc
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # read at import; a fork of a process with more threads can hang

import pytest
from matplotlib.figure import Figure

gc.disable()  # while the libraries are imported, of which nothing is garbage
ROOT = Path(__file__).parents[1]
ONE_PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FAAAAABJRU5ErkJggg=="
)


Rendering = Callable[[], AbstractContextManager[None]]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files of slow tests, so that no process waits for one of them at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Collect garbage again, but never look through the imported libraries for it."""
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    """Let the interpreter clear the libraries at its end."""
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def rendering() -> Iterator[Rendering]:
    """Make every figure, but render it only within `with rendering():`; that is most of the time of a small build."""
    render = Figure.savefig

    def save(figure: Figure, file: Any, **options: Any) -> None:
        file.write(ONE_PIXEL) if hasattr(file, "write") else Path(file).write_bytes(ONE_PIXEL)

    @contextmanager
    def within() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Figure, "savefig", render)
            yield

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", save)
        yield within


@pytest.fixture(scope="session", autouse=True)
def home_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep locks and ledgers of shared fixtures away from those of whoever runs the tests."""
    path = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEPSIS_CQL_HOME", str(path))
        yield path


@pytest.fixture(autouse=True)
def home(home_of_the_session: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of locks and ledgers for each test."""
    path = Path(tempfile.mkdtemp(dir=home_of_the_session))
    monkeypatch.setenv("SEPSIS_CQL_HOME", str(path))
    return path


@pytest.fixture(scope="session")
def shared() -> Path:
    path = ROOT.parent / "shared"
    if not path.is_dir():
        pytest.skip("reference facts not found: expected a `shared` folder beside the checkout")
    return path


@pytest.fixture(scope="session")
def golden() -> dict[str, Any]:
    """Numbers of estimators, losses and gradients that two independent computations agree on."""
    return json.loads((ROOT / "tests" / "golden" / "golden.json").read_text())


@pytest.fixture(scope="session")
def state_order() -> dict[str, Any]:
    """Names of the 62 inputs of the first study's networks, in their order."""
    return json.loads((ROOT / "tests" / "golden" / "state_order.json").read_text())


@pytest.fixture(scope="session")
def mimic_demo(shared: Path) -> Path:
    path = shared / "mimic-iv-demo"
    if not path.is_dir():
        pytest.skip("MIMIC-IV demo v2.2 not found: expected `shared/mimic-iv-demo` beside the checkout")
    return path


@pytest.fixture(scope="session")
def of_all_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of the session that its processes share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def demo_cache(of_all_processes: Path) -> Path:
    """Where the tables of the demo are kept once they are read, as by `--cache`."""
    return of_all_processes / "demo_cache"


@pytest.fixture(scope="session")
def demo_replay(mimic_demo: Path, demo_cache: Path, of_all_processes: Path, rendering: Rendering) -> Path:
    """Replay directory of the MIMIC-IV demo with the shipped settings, built once for all processes of a session."""
    from filelock import FileLock

    from sepsis_cql.replay.build import Engine, build_replay
    from sepsis_cql.replay.settings import load_build_settings

    out = of_all_processes / "demo_replay"
    with FileLock(out.with_suffix(".lock")), rendering():
        if not out.exists():
            build_replay(mimic_demo, out, load_build_settings(), engine=Engine(cache=demo_cache))
    return out
