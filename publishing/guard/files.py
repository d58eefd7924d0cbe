"""First net of the privacy guard: only listed files leave, and each must be exactly what its kind promises."""

import json
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import safe_open

from sepsis_cql.checkpoints.hub_package import load_package, new_feature_extractor
from sepsis_cql.checkpoints.original_pt import read_original_checkpoint
from sepsis_cql.common.errors import PublishingError, SepsisCQLError
from sepsis_cql.common.privacy import SMALLEST_CELL
from sepsis_cql.common.provenance import ROOT
from sepsis_cql.common.strict import Settings, load_shipped
from sepsis_cql.evaluation.record import Evaluation
from sepsis_cql.publishing.card import README, render_card
from sepsis_cql.publishing.guard.png import scan_png
from sepsis_cql.publishing.guard.text import scan_json, scan_text
from sepsis_cql.publishing.manifest import MANIFEST, export_files, manifest_differences
from sepsis_cql.publishing.probes import probe_problem

LONGEST_LIST = 70  # the 62 inputs and the bins of a figure fit; rows of patients do not
LONGEST_TEXT = 1500  # characters of one JSON string
COUNTS = re.compile(r"(?:^n_|_)?(?:patients|stays|episodes|deaths|septic_stays|nonzero_episodes)$")
ADAM = {"step", "exp_avg", "exp_avg_sq"}
TENSOR_MEMBER = r"archive/data/\d+"  # of the archive torch writes
OTHER_MEMBERS = (
    r"archive/(data\.pkl|\.format_version|\.storage_alignment|byteorder|version|\.data/serialization_id)"
)
METADATA_OF_SAFETENSORS = {"format"}

Problems = Iterator[str]


class AllowedFile(Settings):
    """A row of `configs/publishing.yaml`."""

    path: str
    kind: str
    largest_kb: int
    reason: str


class PublishingSettings(Settings):
    """The whole of `configs/publishing.yaml`."""

    files: list[AllowedFile]


def check_export(directory: Path) -> list[tuple[str, int, str]]:
    """Check every file of an export; returns path, size in bytes and the reason it may be published.

    Raises:
        PublishingError: with one line for each problem; matched text is never repeated.
    """
    settings = load_shipped(PublishingSettings, "publishing.yaml")
    problems, allowed = [], []
    for name in export_files(directory):
        rule = next((row for row in settings.files if re.fullmatch(row.path, name)), None)
        path = directory / name
        if rule is None or path.is_symlink() or not path.is_file():
            problems.append(f"{_shown(name)}: not a file that may be published")
            continue
        if (size := path.stat().st_size) > rule.largest_kb * 1024:
            problems.append(f"{name}: {size} bytes, at most {rule.largest_kb * 1024} are plausible")
            continue
        problems += [f"{name}: {problem}" for problem in _problems(CHECKS[rule.kind], path, directory)]
        allowed.append((name, size, rule.reason))
    if missing := sorted(
        {README, "config.json", "model.safetensors", MANIFEST} - {row[0] for row in allowed}
    ):
        problems.append(f"{', '.join(missing)}: missing")
    if problems:
        raise PublishingError(
            f"{directory}: {len(problems)} problems; nothing is published:\n  " + "\n  ".join(problems) + "\n"
            "Remove what does not belong there, or export again with --force."
        )
    return allowed


def _problems(check: Callable[[Path, Path], Problems], path: Path, directory: Path) -> Problems:
    try:
        yield from check(path, directory)
    except (SepsisCQLError, ValidationError, ValueError, OSError) as error:
        yield f"cannot be checked ({type(error).__name__})"


def _check_card(path: Path, directory: Path) -> Problems:
    text = path.read_text(encoding="utf-8")
    if text != render_card(directory):
        yield "differs from what its evidence gives"
    body = text.replace("\u202f", " ")
    yield from (problem for problem in scan_text(_without_links(body)))


def _check_shipped(path: Path, directory: Path) -> Problems:
    original = ROOT / path.relative_to(directory)
    if not original.is_file() or original.read_bytes() != path.read_bytes():
        yield "differs from the file of that name in the installed package"


def _check_config(path: Path, directory: Path) -> Problems:
    load_package(directory)
    yield from _scan_document(path)


def _check_extractor(path: Path, directory: Path) -> Problems:
    document, own = _read(path), json.loads(new_feature_extractor().to_json_string())
    if any(document.get(name) != value for name, value in own.items() if name != "auto_map"):
        yield "differs from the feature extractor of this version"
    if extra := set(document) - set(own) - {"auto_map", "feature_extractor_type"}:
        yield f"has {len(extra)} unknown fields"
    yield from _scan_document(path)


def _check_weights(path: Path, directory: Path) -> Problems:
    load_package(directory)
    with safe_open(path, framework="pt") as file:
        if set(file.metadata() or {}) - METADATA_OF_SAFETENSORS:
            yield "holds metadata beside its tensors"


def _check_checkpoint(path: Path, directory: Path) -> Problems:
    checkpoint = read_original_checkpoint(path)
    found = checkpoint.model_state_dict
    network = {
        name: value for name, value in load_package(directory).state_dict().items() if name.startswith("net.")
    }
    if set(found) != set(network) or any(not torch.equal(found[name], network[name]) for name in found):
        yield "holds other weights than the package"
    states = checkpoint.optimizer_state_dict.get("state", {}).values()
    tensors = [*found.values(), *(tensor for state in states for tensor in state.values())]
    if any(set(state) != ADAM for state in states):
        yield "holds an optimizer state that is not Adam's"
    with zipfile.ZipFile(path) as archive:
        members = {entry.filename: entry.file_size for entry in archive.infolist()}
        comment = archive.comment
    data = sum(size for name, size in members.items() if re.fullmatch(TENSOR_MEMBER, name))
    if comment or not all(re.fullmatch(f"{TENSOR_MEMBER}|{OTHER_MEMBERS}", name) for name in members):
        yield "holds files beside its tensors"
    elif data != sum(tensor.nbytes for tensor in tensors):
        yield "holds more tensors than weights and the optimizer's state"


def _check_evidence(path: Path, directory: Path) -> Problems:
    if path.name == "evaluation.json":
        Evaluation.model_validate(_read(path), strict=False)
    yield from _scan_document(path)


def _check_published_metrics(path: Path, directory: Path) -> Problems:
    document = _read(path)
    if not isinstance(document, dict) or any(isinstance(value, (list, dict)) for value in document.values()):
        yield "is not one number a field"
    yield from _scan_document(path)


def _check_probes(path: Path, directory: Path) -> Problems:
    if problem := probe_problem(directory, load_package(directory)):
        yield problem


def _check_figure(path: Path, directory: Path) -> Problems:
    yield from scan_png(path.read_bytes())


def _check_manifest(path: Path, directory: Path) -> Problems:
    yield from manifest_differences(directory)


def _check_document(path: Path, directory: Path) -> Problems:
    yield from _scan_document(path)


CHECKS: dict[str, Callable[[Path, Path], Problems]] = {
    "card": _check_card,
    "shipped": _check_shipped,
    "config": _check_config,
    "extractor": _check_extractor,
    "weights": _check_weights,
    "checkpoint": _check_checkpoint,
    "checkpoint_manifest": _check_document,
    "evidence": _check_evidence,
    "original_metrics": _check_published_metrics,
    "probes": _check_probes,
    "figure": _check_figure,
    "manifest": _check_manifest,
}


def _scan_document(path: Path) -> Problems:
    document = _read(path)
    yield from sorted(set(scan_json(document)) | set(_scan_shape(document)))


def _scan_shape(value: Any, key: str = "") -> Problems:
    """Yield lists as long as rows of patients, free text, and small counts of patients."""
    if isinstance(value, dict):
        if len(value) > LONGEST_LIST:
            yield "a table of many rows"
        for name, item in value.items():
            yield from _scan_shape(item, name)
    elif isinstance(value, list):
        if len(value) > LONGEST_LIST:
            yield "a list of many rows"
        for item in value:
            yield from _scan_shape(item, key)
    elif isinstance(value, str) and len(value) > LONGEST_TEXT:
        yield "free text"
    elif type(value) is int and 0 < value < SMALLEST_CELL and COUNTS.search(key):
        yield f"a count of fewer than {SMALLEST_CELL} patients"


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _without_links(text: str) -> str:
    """Text without web addresses and the DOIs of the references, which hold years, dots and slashes."""
    return re.sub(r"https?://[\w./%:-]+|doi:?\s*=?\s*\{?10\.[\w./%:()-]+|doi = \{[^}]*\}", "", text)


def _shown(name: str) -> str:
    return name if len(name) < 80 and not any(scan_text(name)) else "a file"
