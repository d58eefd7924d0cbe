"""The sources of a package: closed records and the weights; every other published file follows from them."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors.torch import save
from torch import Tensor

from sepsis_cql.checkpoints.hub_package import WEIGHTS, parse_weights, read_small_file, shipped_features
from sepsis_cql.checkpoints.original_pt import checkpoint_name, parse_checkpoint
from sepsis_cql.common.errors import CheckpointError, PublishingError
from sepsis_cql.common.strict import read_record
from sepsis_cql.evaluation.record import RECORD as EVALUATION
from sepsis_cql.evaluation.record import load_evaluation
from sepsis_cql.evaluation.study import RECORD as STUDY
from sepsis_cql.evaluation.study import load_study
from sepsis_cql.publishing.guard.build import PublishedBuild, PublishedTraining, reduce_build, reduce_training
from sepsis_cql.publishing.guard.disclosure import reduce_evaluation
from sepsis_cql.publishing.guard.evaluation import PublishedEvaluation
from sepsis_cql.publishing.guard.strict_json import dump_record, read_document
from sepsis_cql.publishing.guard.study import PublishedStudy, reduce_study
from sepsis_cql.publishing.membership.record import AUDIT, MembershipAudit, refusal
from sepsis_cql.replay.records import CREDENTIALED, Provenance
from sepsis_cql.replay.report.counts import BuildReport
from sepsis_cql.training.outputs import RECORD as TRAINING
from sepsis_cql.training.outputs import read_run_record

BUILD = "build_report.json"
PROVENANCE = "provenance.json"
FOLDER = "model/evidence"
RECORDS = {
    "build": f"{FOLDER}/{BUILD}",
    "training": f"{FOLDER}/{TRAINING}",
    "evaluation": f"{FOLDER}/{EVALUATION}",
    "study": f"{FOLDER}/{STUDY}",
    "membership": f"{FOLDER}/{AUDIT}",
}
CLOCK = ("step_hours", "mortality_days")  # that build and evaluation both tell
METADATA = {"format": "pt"}  # of the weights: all that transformers writes and asks for
MOMENTS = ("exp_avg", "exp_avg_sq")  # of Adam: averages of gradients on patients

Moments = list[dict[str, Tensor]]


@dataclass(frozen=True)
class Records:
    """What a card is rendered from; a run of its own belongs to no study, and weights of open records need no audit."""

    build: PublishedBuild
    training: PublishedTraining
    evaluation: PublishedEvaluation
    study: PublishedStudy | None = None
    membership: MembershipAudit | None = None

    @property
    def drawn(self) -> PublishedEvaluation:
        """Return what pictures are drawn from: the evaluation, with the lengths of time of the build."""
        clock = {name: getattr(self.build.settings, name) for name in CLOCK}
        return self.evaluation.model_copy(update=clock)

    @property
    def checkpoint(self) -> str:
        """Name of the checkpoint in the original layout, without its suffix."""
        run = self.training
        return checkpoint_name(run.settings["algorithm"], run.epochs, run.global_step)


@dataclass(frozen=True)
class Sources:
    """What an export is made from.

    Attributes:
        records: of build, training, evaluation, study and audit.
        tensors: weights and normalizer of the network.
        moments: Adam's, a mapping for each parameter; None unless they were asked for.
    """

    records: Records
    tensors: dict[str, Tensor]
    moments: Moments | None


def read_run(
    replay: Path,
    training: Path,
    evaluation: Path,
    study: Path | None = None,
    audit: Path | None = None,
    *,
    with_moments: bool = False,
) -> Sources:
    """Read the sources of a run, reduced to what may be published.

    Args:
        replay: directory written by `build`; only its aggregate reports are read.
        training: directory written by `train`.
        evaluation: directory written by `evaluate`.
        study: directory with the record of the study that chose the run; None for a run of its own.
        audit: directory written by `audit`, or nothing.
        with_moments: take Adam's moments along.

    Raises:
        PublishingError: a record holds what has no place in a published one, they are not of one run, or the weights
            may give away whom they were trained on.
    """
    report = read_record(BuildReport, replay / BUILD, expected="the report `sepsis-cql build` writes")
    _check_scarce(report, replay / BUILD)
    provenance = read_record(
        Provenance, replay / PROVENANCE, expected="the provenance `sepsis-cql build` writes"
    )
    run, found = read_run_record(training), load_evaluation(evaluation)
    audited = None
    if audit is not None and (audit / AUDIT).exists():
        audited = read_record(MembershipAudit, audit / AUDIT, expected="the record `sepsis-cql audit` writes")
    try:
        records = Records(
            reduce_build(report, provenance),
            reduce_training(run),
            reduce_evaluation(found, provenance.settings),
            None if study is None else reduce_study(load_study(study)),
            audited,
        )
    except ValidationError as error:
        fields = sorted({".".join(map(str, item["loc"][:2])) for item in error.errors(include_input=False)})
        raise PublishingError(
            f"{error.title.removeprefix('Published').lower()} record: {', '.join(fields)}: not of the form that is "
            "published (configs/publishing.yaml and the models in publishing/guard)."
        ) from None
    weights = training / "package" / WEIGHTS
    tensors = parse_weights(read_small_file(weights), weights)
    moments = _read_moments(training, records) if with_moments else None
    sources = Sources(records, tensors, moments)
    if problems := list(disagreements(sources)):
        raise PublishingError(
            f"{training.parent}: {'; '.join(problems)}. Train, evaluate and audit on one replay."
        )
    _check_membership(records)
    return sources


def read_records(files: Mapping[str, bytes]) -> Records:
    """Read the records of a package.

    Raises:
        PublishingError: one is absent or not as we write it, or the audit forbids that the package is published.
    """
    build = _read(files, "build", PublishedBuild)
    training = _read(files, "training", PublishedTraining)
    evaluation = _read(files, "evaluation", PublishedEvaluation)
    if not _is_reduced(files[RECORDS["evaluation"]], files[RECORDS["build"]]):
        raise PublishingError(f"{RECORDS['evaluation']}: shows more than is published of an evaluation")
    study = _read(files, "study", PublishedStudy) if RECORDS["study"] in files else None
    if study is not None and reduce_study(study) != study:
        raise PublishingError(f"{RECORDS['study']}: shows more than is published of a study")
    audited = _read(files, "membership", MembershipAudit) if RECORDS["membership"] in files else None
    records = Records(build, training, evaluation, study, audited)
    _check_membership(records)
    return records


def read_sources(files: Mapping[str, bytes]) -> Sources:
    """Read the sources of an export.

    Raises:
        PublishingError: one is absent or not as we write it.
    """
    records = read_records(files)
    try:
        tensors = parse_weights(files.get(WEIGHTS, b""), Path(WEIGHTS))
    except CheckpointError:
        raise PublishingError(f"{WEIGHTS}: not an intact safetensors file") from None
    name = f"model/{records.checkpoint}.pt"
    try:
        state = parse_checkpoint(files.get(name, b""), Path(name))["optimizer_state_dict"].get("state")
        moments = _moments(state) if state else None
    except (CheckpointError, AttributeError, KeyError, TypeError, RecursionError):
        raise PublishingError(f"{name}: not an intact checkpoint") from None
    return Sources(records, tensors, moments)


def disagreements(sources: Sources) -> Iterator[str]:
    """Yield where the sources are not of one run."""
    build, training = sources.records.build, sources.records.training
    evaluation = sources.records.evaluation
    weights = hashlib.sha256(dump_weights(sources.tensors)).hexdigest()
    if not weights == training.weights_sha256 == evaluation.policy.weights_sha256:
        yield "weights, training record and evaluation are not of one network"
    if not build.fingerprint == training.data.replay_fingerprint == evaluation.replay.fingerprint:
        yield "build, training and evaluation are not of one replay"
    if not build.source == training.data.source == evaluation.replay.source:
        yield "build, training and evaluation name different tables"
    if (study := sources.records.study) is not None:
        chosen = study.runs[study.choices.sound]
        own = {"seed": chosen.seed, **chosen.configuration}
        if (
            own != {name: training.settings.get(name) for name in own}
            or chosen.score.epoch != training.epochs
        ):
            yield "the study chose another run than the one that is published"
    audited = sources.records.membership
    if audited and (audited.weights_sha256, audited.replay_fingerprint) != (weights, build.fingerprint):
        yield "the membership audit is of other weights or another replay"
    if (grid := evaluation.action_grid) and grid.model_dump() != build.action_grid.model_dump(
        include=set(type(grid).model_fields)
    ):
        yield "build and evaluation have different doses"
    if any(getattr(evaluation, name) not in (None, getattr(build.settings, name)) for name in CLOCK):
        yield "build and evaluation have steps of other lengths, or count deaths until other days"
    if getattr(build.splits, evaluation.split) != evaluation.n_patients:
        yield "build and evaluation count different patients"


def dump_weights(tensors: dict[str, Tensor]) -> bytes:
    """Return the one spelling of the weights: our header, then the tensors."""
    return bytes(save(tensors, metadata=METADATA))


def feature_rows(step_hours: int) -> list[tuple[str, str]]:
    """Name and unit of each clinical feature of steps of so many hours, for the card."""
    return [(name, feature.unit) for name, feature in shipped_features(step_hours).features.items()]


@lru_cache(maxsize=16)
def _is_reduced(evaluation: bytes, build: bytes) -> bool:
    found = read_document(PublishedEvaluation, evaluation)
    return dump_record(reduce_evaluation(found, read_document(PublishedBuild, build).settings)) == evaluation


def _check_membership(records: Records) -> None:
    if why := refusal(records.membership, records.build.source.name):
        raise PublishingError(f"{WEIGHTS}: {why}.")


def _check_scarce(report: BuildReport, file: Path) -> None:
    """Refuse weights of credentialed records whose normalizer or dose bins are those of few patients."""
    if report.source.name not in CREDENTIALED or report.scarce == []:
        return
    if report.scarce is None:
        raise PublishingError(
            f"{file}: does not say which fitted numbers rest on few patients, expected the report of this version. "
            "Build the replay again, and train on it."
        )
    raise PublishingError(
        f"{file}: fewer than 10 patients of the training split determine what the weights say of "
        f"{', '.join(report.scarce)} (fill value, mean, scale, dose bins), expected at least 10. Leave such features "
        "out (`build --features`), or build from more patients, and train again."
    )


def _read(files: Mapping[str, bytes], name: str, model: type[Any]) -> Any:
    path = RECORDS[name]
    if path not in files:
        raise PublishingError(f"{path}: not found; expected what `sepsis-cql export` writes")
    try:
        return read_document(model, files[path])  # type: ignore[arg-type]  # classes are hashable
    except PublishingError as error:
        raise PublishingError(f"{path}: {error}") from None


def _read_moments(training: Path, records: Records) -> Moments:
    file = training / "model" / f"{records.checkpoint}.pt"
    return _moments(parse_checkpoint(read_small_file(file), file)["optimizer_state_dict"]["state"])


def _moments(state: Mapping[int, Mapping[str, Tensor]]) -> Moments:
    """The moments of each parameter, and nothing else of an optimizer's state."""
    moments = [{name: state[index][name] for name in MOMENTS} for index in range(len(state))]
    if not all(
        isinstance(part, Tensor) and part.dtype == torch.float32 for row in moments for part in row.values()
    ):
        raise CheckpointError("optimizer_state_dict: expected Adam's moments in float32.")
    return moments
