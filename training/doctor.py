"""What this machine and these directories allow, and what to do where they do not."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from sepsis_cql.common.errors import SepsisCQLError
from sepsis_cql.common.ownership import LOCK, TEMPORARY, list_leftovers
from sepsis_cql.common.provenance import package_versions
from sepsis_cql.replay.directory import ReplayFile, open_replay
from sepsis_cql.replay.rows.splits import SPLITS
from sepsis_cql.training.devices import best_device

FREE_GIB = 5.0  # a replay of MIMIC-IV, its temporary tables and a sweep's checkpoints
MEMORY_GIB = 8.0  # what building a replay of MIMIC-IV asks for
REQUIRED = ("torch", "transformers", "safetensors", "duckdb", "pyarrow", "pandas", "numpy", "scikit-learn")
OPTIONAL = {
    "ray": "sweep --engine ray",
    "d3rlpy": "`to_d3rlpy` and benchmarks",
    "icu-sepsis": "calibrate",
    "cryptography": "--sign and verify --key",
    "tensorboard": "train --log-to tensorboard",
    "trackio": "train --log-to trackio",
    "wandb": "train --log-to wandb",
}


@dataclass(frozen=True)
class Fact:
    """One fact about the machine.

    Attributes:
        name: what was looked at.
        found: what is there.
        advice: what to do; empty where nothing is wrong.
    """

    name: str
    found: str
    advice: str = ""


def examine(directory: Path, replay: Path | None) -> list[Fact]:
    """Return facts on device, threads, memory, compiler, versions, the disk at `directory` and the replay."""
    return [
        *_device(),
        _memory(),
        _compiler(),
        *_versions(),
        _disk(directory),
        *_leftovers(directory),
        *(_replay(replay) if replay is not None else []),
    ]


def _device() -> Iterator[Fact]:
    device = best_device()
    name = torch.cuda.get_device_name() if device == "cuda" else torch.backends.cpu.get_cpu_capability()
    yield Fact("device", f"{device} ({name})")
    threads, cores = torch.get_num_threads(), _usable_cores()
    advice = ""
    if threads > cores:
        advice = (
            f"More threads than the {cores} usable cores slow training down: set OMP_NUM_THREADS={cores}."
        )
    yield Fact("threads", f"{threads} of {cores} cores", advice)


def _usable_cores() -> int:
    """Return the cores this process may use; macOS does not say, and all are counted."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory() -> Fact:
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    advice = f"Building a replay of MIMIC-IV wants {MEMORY_GIB:.0f} GiB." if gib < MEMORY_GIB else ""
    return Fact("memory", f"{gib:.1f} GiB", advice)


def _compiler() -> Fact:
    name = os.environ.get("CXX", "g++")  # where PyTorch looks
    return Fact("C++ compiler", shutil.which(name) or f"no {name}; only needed for runtime.compiled")


def _versions() -> Iterator[Fact]:
    ranges = _ranges()
    shown = package_versions(*REQUIRED)
    for name, version in (shown | package_versions(*ranges)).items():
        allowed = ranges.get(name, SpecifierSet())
        advice = ""
        if version is None:
            advice = f"Not installed: run `make install` in a checkout, or `pip install '{name}{allowed}'`."
        elif not allowed.contains(version, prereleases=True):
            advice = f"Expected {allowed}: run `pip install '{name}{allowed}'`."
        if advice or name in shown:
            yield Fact(name, version or "missing", advice)
    optional = package_versions(*OPTIONAL)
    for name, use in OPTIONAL.items():
        yield Fact(name, optional[name] or f"not installed; only needed for {use}")


def _ranges() -> dict[str, SpecifierSet]:
    """Return the versions allowed of each library that is always needed; of a bare checkout, none are known."""
    try:
        lines = [Requirement(line) for line in requires("sepsis-cql") or ()]
    except PackageNotFoundError:
        return {}
    return {line.name: line.specifier for line in lines if line.marker is None}


def _disk(directory: Path) -> Fact:
    existing = next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())
    gib = shutil.disk_usage(existing).free / 2**30
    if not os.access(existing, os.W_OK):
        return Fact("disk", f"{existing}: not writable", "Choose another directory for --out.")
    advice = f"Free space: MIMIC-IV wants {FREE_GIB:.0f} GiB." if gib < FREE_GIB else ""
    return Fact("disk", f"{gib:.1f} GiB free at {existing}", advice)


def _leftovers(directory: Path) -> Iterator[Fact]:
    """Unfinished things below a directory; one whose process still runs is not told from one whose process died."""
    found = list_leftovers(directory, (TEMPORARY, LOCK))
    if not found:
        yield Fact("leftovers", f"none below {directory}")
    for path in found:
        files = [path, *path.rglob("*")] if path.is_dir() else [path]
        mib = sum(file.lstat().st_size for file in files if not file.is_dir()) / 2**20
        advice = (
            "Of a run that was killed, or still runs: the next run there removes it, or remove it yourself."
        )
        yield Fact("leftover", f"{path}: {mib:.1f} MiB", advice)


def _replay(replay: Path) -> Iterator[Fact]:
    try:
        opened = open_replay(replay)
    except SepsisCQLError as error:
        yield Fact("replay", "unusable", str(error))
        return
    for split in ["the only split"] if isinstance(opened, ReplayFile) else SPLITS:
        try:
            data = opened.transitions(split, "sparse")
        except SepsisCQLError as error:
            yield Fact(f"replay, {split}", "unusable", str(error))
        else:
            found = f"{len(data):,} transitions of {data.n_episodes:,} stays"
            yield Fact(f"replay, {split}", found)
