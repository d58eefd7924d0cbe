"""The audit of a run: two shadow networks from held-out patients, then every attack with its bounds."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sepsis_cql.checkpoints.hub_package import WEIGHTS, load_package
from sepsis_cql.common.errors import PublishingError
from sepsis_cql.common.ownership import scratch_directory
from sepsis_cql.common.privacy import round_count
from sepsis_cql.common.storage import new_directory, sha256_file, write_json
from sepsis_cql.evaluation.test_split import check_splits
from sepsis_cql.modeling_sepsis_cql import SepsisCQLModel
from sepsis_cql.publishing.membership.attacks import auroc, calibrate, score_patients
from sepsis_cql.publishing.membership.record import AUDIT, AuditSettings, MembershipAudit, audit_settings
from sepsis_cql.replay.directory import open_replay
from sepsis_cql.replay.transitions import Transitions
from sepsis_cql.training.data import TrainingData, load_training_data
from sepsis_cql.training.outputs import RECORD as TRAINING
from sepsis_cql.training.outputs import read_run_record
from sepsis_cql.training.run import Run, train_runs
from sepsis_cql.training.settings import RuntimeSettings, TrainingSettings


def write_audit(
    run: Path, *, force: bool = False, report: Callable[[str, int], None] | None = None
) -> MembershipAudit:
    """Audit the weights of a run and write `audit/membership.json` into it.

    Args:
        run: directory with `replay` and `training`.
        force: replace an earlier audit.
        report: called with every epoch that is trained, and how many are left.

    Raises:
        PublishingError: the run was not trained on this replay, or its weights are others than its record says.
        EvaluationError: what is said to be held out is what was trained on.
    """
    place, training = run / "replay", run / "training"
    with new_directory(run / "audit", "audit", force=force, private=True, inputs=[place, training]) as out:
        record, replay = read_run_record(training), open_replay(place)
        if record.data.replay_fingerprint != replay.fingerprint or replay.statistics is None:
            raise PublishingError(
                f"{training}: trained on another replay than {place}. Train on it, or give another --run."
            )
        if sha256_file(training / "package" / WEIGHTS) != record.weights_sha256:
            raise PublishingError(
                f"{training / 'package' / WEIGHTS}: other weights than those of {TRAINING}, of which the audit "
                "would speak. Put them back, or train again."
            )
        check_splits(replay)
        data = load_training_data(replay, [record.settings.reward_variant])
        held_out = replay.transitions("validation", record.settings.reward_variant)
        model = load_package(training / "package")
        with scratch_directory(out) as scratch:
            attacks = attack(model, record.settings, data, held_out, audit_settings(), scratch, report)
        found = describe_audit(
            attacks, record.weights_sha256, replay.fingerprint, data.transitions, held_out, audit_settings()
        )
        write_json(out / AUDIT, found.model_dump(mode="json"))
    return found


def attack(
    model: SepsisCQLModel,
    settings: TrainingSettings,
    data: TrainingData,
    held_out: Transitions,
    rule: AuditSettings,
    scratch: Path,
    report: Callable[[str, int], None] | None = None,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return, by attack, the scores of the patients of `data` and of the held-out ones; nothing where they are few.

    Each shadow network learns from one half of the held-out patients by the recipe of the run. Each held-out patient is
    calibrated by the shadow of the other half, each other patient by one drawn at random, so that the two groups
    differ in nothing but what `model` has seen. The shadows cost about as much as training on the held-out patients.

    Args:
        model: under attack.
        settings: it was trained with.
        data: holds the patients that are said to be its members.
        held_out: steps of other patients.
        rule: of the audit.
        scratch: private directory for the shadow networks.
        report: called with every epoch that is trained, and how many are left.
    """
    groups = data.transitions, held_out
    if min(group.n_patients for group in groups) < rule.fewest_patients:
        return {}
    rng = np.random.default_rng(rule.seed)
    halves = [_draw_halves(group, rng) for group in groups]
    gamma = getattr(settings, "gamma", None)
    _, patient = np.unique(held_out.subject_id, return_inverse=True)
    shadows = []
    for half in (0, 1):
        others = held_out.take((halves[1] != half)[patient])
        shadows.append(
            _train_shadow(settings, replace(data, transitions=others), half, rule, scratch, report)
        )
    scores = []
    for group, half_of in zip(groups, halves, strict=True):
        found = [score_patients(shadow, group, gamma) for shadow in shadows]
        shadow = {name: np.where(half_of == 0, found[0][name], found[1][name]) for name in found[0]}
        scores.append(calibrate(score_patients(model, group, gamma), shadow))
    return {name: (scores[0][name], scores[1][name]) for name in scores[0]}


def describe_audit(
    attacks: Mapping[str, tuple[np.ndarray, np.ndarray]],
    weights_sha256: str,
    fingerprint: str,
    members: Transitions,
    held_out: Transitions,
    rule: AuditSettings,
) -> MembershipAudit:
    """Return the record of an audit; the bounds of all attacks together have the confidence of the rule."""
    level = 1 - (1 - rule.confidence) / max(1, len(attacks))
    found: dict[str, Any] = {}
    for name, scores in attacks.items():
        area = auroc(*scores)
        ends = {"lower": area.bound(level, -1), "auroc": area.value, "upper": area.bound(level, 1)}
        found[name] = {end: round(value, 3) for end, value in ends.items()}
    values = {
        "weights_sha256": weights_sha256,
        "replay_fingerprint": fingerprint,
        "members": round_count(members.n_patients),
        "held_out": round_count(held_out.n_patients),
        "largest_auroc": rule.largest_auroc,
        "confidence": rule.confidence,
        "attacks": found,
    }
    return MembershipAudit.model_validate(values)


def _draw_halves(data: Transitions, rng: np.random.Generator) -> np.ndarray:
    """(n_patients,) 0 or 1, in ascending order of `subject_id`; the halves differ by one patient at most."""
    return rng.permutation(np.arange(data.n_patients) % 2)


def _train_shadow(
    settings: TrainingSettings,
    data: TrainingData,
    half: int,
    rule: AuditSettings,
    scratch: Path,
    report: Callable[[str, int], None] | None,
) -> SepsisCQLModel:
    out = scratch / str(half)
    changes = {"seed": rule.seed + half, "checkpoint_epochs": settings.epochs}
    run = Run(settings.model_copy(update=changes), out)
    learned = replace(data, rewards={settings.reward_variant: data.transitions.rewards})
    runtime = RuntimeSettings(device="cpu")

    def tell(progress: Any) -> None:
        if report is not None:
            left = progress.epochs * (2 - half) - progress.epoch
            report(f"shadow network {half + 1} of 2, epoch {progress.epoch}", left)

    (record,) = train_runs([run], learned, runtime, checkpoints=out / "checkpoints", report=tell)
    if isinstance(record, str):
        raise PublishingError(f"a shadow network could not be trained: {record}")
    return load_package(out / "package")
