"""The package as it is installed: every room is in the wheel, and the main job runs where there is no checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
NOT_INSTALLED = {"tests", "benchmarks", "examples", "docs", "model", "outputs", "build"}


def rooms() -> set[str]:
    """Folders of the checkout that hold code of the package, as package names."""
    folders = {file.parent.relative_to(ROOT) for file in ROOT.rglob("__init__.py")}
    return {
        ".".join(["sepsis_cql", *folder.parts])
        for folder in folders
        if not any(part.startswith(".") or part in NOT_INSTALLED for part in folder.parts)
    }


def test_pyproject_lists_every_room_and_nothing_else():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert sorted(settings["packages"]) == sorted(rooms())


def test_the_exact_versions_lie_within_ranges_that_leave_other_packages_room():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "constraints.txt").read_text().split()
    exact = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    for needed in map(Requirement, project["dependencies"]):
        assert exact[canonicalize_name(needed.name)] in needed.specifier, needed
        has_end = "==" not in str(needed.specifier) and "<" in str(needed.specifier)
        assert has_end or needed.name in ("packaging", "pyarrow")
    assert all(f"3.{minor}.1" in SpecifierSet(project["requires-python"]) for minor in (11, 12, 13))


def test_code_lies_in_rooms_only():
    """A folder with modules but no __init__.py would be missing from the wheel without anybody noticing."""
    for file in ROOT.rglob("*.py"):
        folder = file.parent.relative_to(ROOT)
        if folder.parts and not any(part.startswith(".") or part in NOT_INSTALLED for part in folder.parts):
            assert (file.parent / "__init__.py").is_file(), folder


def test_the_root_holds_the_files_of_the_hub_and_documents_only():
    names = {file.name for file in ROOT.glob("*.py")}
    parts = ("configuration", "modeling", "feature_extraction", "pipeline")
    assert names == {"__init__.py", "__main__.py", *(f"{part}_sepsis_cql.py" for part in parts)}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A source distribution of a copy of the checkout, so that nothing an earlier build left gets into it."""
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns(
        ".*", "build", "outputs", "*.egg-info", "__pycache__", "tests", "benchmarks"
    )
    shutil.copytree(ROOT, folder / "checkout", ignore=ignored)
    build = "import setuptools.build_meta as backend; backend.build_sdist('..')"
    subprocess.run([sys.executable, "-c", build], cwd=folder / "checkout", check=True, capture_output=True)
    (file,) = folder.glob("*.tar.gz")
    return file


@pytest.fixture(scope="module")
def wheel(source) -> Path:
    """A wheel made from the source distribution, which therefore holds all that is needed."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(source.parent), str(source)], check=True)
    (file,) = source.parent.glob("*.whl")
    return file


def test_the_source_distribution_holds_documents_and_nothing_of_a_run(source):
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "PKG-INFO", "configs/cql.yaml"} <= names
    folders = {name.split("/")[0] for name in names}
    assert not folders & {"model", "outputs", ".venv", "tests", "shared"}
    assert not [name for name in names if name.endswith((".parquet", ".csv.gz", ".pt"))]


def test_the_wheel_holds_every_module_and_data_file_and_no_test(wheel):
    names = set(ZipFile(wheel).namelist())
    tracked = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=False
    ).stdout.split("\n")
    if tracked == [""]:
        pytest.skip("not a git checkout: the list of files to expect is not known")
    data = (".py", ".sql", ".j2", ".yaml")
    expected = {
        f"sepsis_cql/{name}"
        for name in tracked
        if name.endswith(data) and name.split("/")[0] not in NOT_INSTALLED and not name.startswith(".")
    }
    expected |= {f"sepsis_cql/{name}" for name in ("LICENSE", "py.typed", "config.json", "model.safetensors")}
    assert expected <= names
    assert not [name for name in names if name.split("/")[1] in NOT_INSTALLED - {"model"}]


@pytest.mark.slow
def test_an_installed_wheel_reproduces_outside_the_checkout(wheel, tmp_path):
    """The dependencies are those of this environment; the package is the wheel's alone."""
    home = tmp_path / "environment"
    venv.create(home, with_pip=False)
    site = next(home.glob("lib/python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(home),
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run([*pip, "--ignore-installed", str(wheel)], check=True)
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    changes = ["training.epochs=5", "training.checkpoint_epochs=5", "evaluation.fqe.refits=5"]
    changes += ["sweep.grid.reward_variant=[sparse]", "sweep.grid.learning_rate=[0.0001]"]
    changes += ["sweep.grid.alpha=[0.05]", "sweep.top=1", "sweep.stage2_seeds=[42]"]
    changes += ["study.reference.seed=42", "evaluation.behavior.models=[multinomial logistic]"]
    changes += ["evaluation.validation.refits=5", "evaluation.validation.resamples=20"]
    changes += ["evaluation.resamples=20", "evaluation.truth_episodes=100"]
    changes += ["evaluation.tilt_temperatures=[5.0]"]
    done = subprocess.run(
        [
            *(home / "bin" / "sepsis-cql", "reproduce", "--out", "run", "--patients", "150"),
            *(part for change in changes for part in ("--set", change)),
        ],
        cwd=tmp_path,
        env=alone,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    where = "import sepsis_cql.common.provenance as p; print(p.ROOT)"
    root = subprocess.run(
        [home / "bin" / "python", "-c", where], cwd=tmp_path, env=alone, capture_output=True, text=True
    )
    assert root.stdout.strip() == str(site / "sepsis_cql")
    assert (tmp_path / "run" / "export" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
