"""The guard: an export is made anew from its sources, and what is found must be what we make, byte for byte."""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sepsis_cql.common.errors import PublishingError
from sepsis_cql.common.ownership import MARK, read_mark
from sepsis_cql.publishing.card import render_pages
from sepsis_cql.publishing.evidence import Sources, disagreements, read_sources
from sepsis_cql.publishing.guard.png import Report, decode_png, draw_pictures, say_nothing
from sepsis_cql.publishing.guard.wording import AllowedFile, publishing_settings
from sepsis_cql.publishing.manifest import MANIFEST, SIGNATURE, dump_manifest
from sepsis_cql.publishing.package import make_files, shipped_files
from sepsis_cql.publishing.probes import PROBES, probe_problem
from sepsis_cql.publishing.signature import check_signature

FIGURES = "model/figures/"
OF_A_DOWNLOAD = re.compile(r"\.gitattributes|\.cache/huggingface/.+")
MOST_FILES = 200
SHOWN = 10  # differences in a message
SHOWN_NAME = re.compile(r"[A-Za-z_][A-Za-z_./-]{0,59}")


@dataclass(frozen=True)
class Problem:
    """Why one file, or the whole where `file` is empty, may not be published."""

    file: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}: {self.text}" if self.file else self.text


@dataclass(frozen=True)
class Export:
    """Files that may be published, by path: bytes that this program made. What is checked is what is uploaded."""

    files: Mapping[str, bytes]

    @property
    def kind(self) -> str:
        """What the Hub calls a repository of it."""
        return "model"

    def list_files(self) -> list[tuple[str, int, str]]:
        """Return path, size in bytes and the reason it may be published, of each file.

        Raises:
            PublishingError: a file is of no kind that may be published.
        """
        rows = []
        for name, content in sorted(self.files.items()):
            rule = find_rule(name)
            if rule is None or len(content) > rule.largest_kb * 1024:
                raise PublishingError(f"{_shown(name)}: not a file that may be published, or too large.")
            rows.append((name, len(content), rule.reason))
        return rows

    def write(self, directory: Path) -> None:
        """Write the files into an existing directory."""
        for name, content in self.files.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_bytes(content)


def make_package(sources: Sources, report: Report = say_nothing) -> dict[str, bytes]:
    """Return the package of the sources with its pictures and its card, by path."""
    pictures = draw_pictures(sources.records.drawn, sources.records.study, report)
    report("card", 0)
    return (
        make_files(sources)
        | {f"{FIGURES}{name}.png": data for name, data in pictures.items()}
        | render_pages(sources.records, list(pictures))
    )


def make_export(sources: Sources, report: Report = say_nothing) -> Export:
    """Return the export of the sources: package, code, settings, license and manifest."""
    return _with_manifest(make_package(sources, report) | shipped_files())


def read_export(directory: Path) -> Export:
    """Read an export once into memory and check every byte of it; what is returned is what was checked.

    Raises:
        PublishingError: with at most ten of the differences; what was found in a file is never repeated.
    """
    if not directory.is_dir():
        raise PublishingError(f"{directory}: not a directory. Expected what `sepsis-cql export` writes.")
    files, problems = read_files(directory)
    if MANIFEST not in files:
        raise PublishingError(
            f"{directory}: no {MANIFEST}, so this is not an export. Expected what `sepsis-cql export` writes."
        )
    export, more = inspect(files)
    if problems := [*problems, *more]:
        raise PublishingError(
            f"{directory}: {len(problems)} problems; nothing is published:\n  {list_some(problems)}\n"
            "Remove what does not belong there, or export again with --force."
        )
    assert export is not None
    return export


def read_files(directory: Path, *, is_download: bool = False) -> tuple[dict[str, bytes], list[Problem]]:
    """Read the regular files of the kinds an export has, once; whatever else lies there is a problem.

    The mark that `sepsis-cql export` leaves is no part of an export, provided that it is exactly that; nor is, of what
    was downloaded and is not published from here, what the Hub and its client put beside it.
    """
    files, problems = {}, []
    mark = MARK if read_mark(directory) else None
    for path in _walk(directory):
        name = path.relative_to(directory).as_posix()
        if name == mark or (is_download and OF_A_DOWNLOAD.fullmatch(name)):
            continue
        rule = find_rule(name)
        if rule is None or not stat.S_ISREG(path.lstat().st_mode):
            problems.append(Problem(_shown(name), "not a file that may be published"))
            if len(problems) > MOST_FILES:
                break
            continue
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as stream:
            content = stream.read(rule.largest_kb * 1024 + 1)
        if len(content) > rule.largest_kb * 1024:
            problems.append(Problem(name, f"more than {rule.largest_kb * 1024} bytes, which are plausible"))
        else:
            files[name] = content
    return files, problems


def inspect(files: Mapping[str, bytes], report: Report = say_nothing) -> tuple[Export | None, list[Problem]]:
    """Make the export anew from its sources and compare; the export, unless there are problems.

    What is cheap is compared first; pictures are drawn only where the rest is right.
    """
    try:
        sources = read_sources(files)
        made = make_files(sources) | shipped_files()
        problems = [Problem("", text) for text in disagreements(sources)]
        names = [name.removeprefix(FIGURES)[:-4] for name in files if name.startswith(FIGURES)]
        made |= render_pages(sources.records, names)
        problems += _compare(
            {name: data for name, data in files.items() if not name.startswith(FIGURES)}, made
        )
        if not problems:
            pictures = draw_pictures(sources.records.drawn, sources.records.study, report)
            made |= {f"{FIGURES}{name}.png": data for name, data in pictures.items()}
            problems += _compare(files, made)
    except PublishingError as error:
        return None, [Problem("", str(error))]
    signed = {SIGNATURE: files[SIGNATURE]} if SIGNATURE in files else {}
    if signed:
        try:
            check_signature(files)
        except PublishingError as error:
            problems.append(Problem(SIGNATURE, str(error).removeprefix(f"{SIGNATURE}: ")))
    if files.get(MANIFEST) != dump_manifest(files):
        problems.append(Problem(MANIFEST, "does not describe the files beside it"))
    return (None, problems) if problems else (Export({**_with_manifest(made).files, **signed}), [])


def find_rule(name: str) -> AllowedFile | None:
    """Return the row of publishing.yaml a path matches; None if it may not be published."""
    return next((row for row in publishing_settings().files if re.fullmatch(row.path, name)), None)


def list_some(problems: list[Problem]) -> str:
    """Return at most ten problems, one a line, and how many more there are."""
    more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
    return "\n  ".join([*map(str, problems[:SHOWN]), *more])


def _compare(files: Mapping[str, bytes], made: Mapping[str, bytes]) -> Iterator[Problem]:
    for name in sorted((set(files) | set(made)) - {MANIFEST, SIGNATURE}):
        if name not in files:
            yield Problem(name, "missing")
        elif name not in made:
            yield Problem(_shown(name), "not a file of this export")
        elif files[name] != made[name] and (text := _difference(name, files[name], made[name])):
            yield Problem(name, text)


def _difference(name: str, found: bytes, made: bytes) -> str | None:
    try:
        if name == PROBES:
            return probe_problem(found, made)
        if name.startswith(FIGURES) and np.array_equal(decode_png(found), decode_png(made)):
            return None  # another zlib may pack the same pixels otherwise
    except (ValueError, TypeError, KeyError):
        return "not of the form that we write"
    return "not what the sources of this export give"


def _with_manifest(files: dict[str, bytes]) -> Export:
    return Export(files | {MANIFEST: dump_manifest(files)})


def _walk(directory: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(directory):
        linked = [name for name in folders if (Path(place) / name).is_symlink()]
        yield from (Path(place) / name for name in sorted([*names, *linked]))


def _shown(name: str) -> str:
    return name if SHOWN_NAME.fullmatch(name) else "a file"
