"""From a policy and a replay to an evaluation directory."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sepsis_cql.errors import EvaluationError
from sepsis_cql.evaluation import record
from sepsis_cql.evaluation.audit import Audit, audit_clinicians, audit_policy
from sepsis_cql.evaluation.behavior import describe_behavior
from sepsis_cql.evaluation.calibration_record import measured_lines
from sepsis_cql.evaluation.diagnostics import diagnose
from sepsis_cql.evaluation.figures import draw_figures
from sepsis_cql.evaluation.loading import LoadedPolicy
from sepsis_cql.evaluation.policies import FunctionPolicy, Policy, QPolicy
from sepsis_cql.evaluation.published import PublishedMetrics, published_metrics
from sepsis_cql.evaluation.report_page import render_page
from sepsis_cql.evaluation.scene import Scene, load_scene
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.evaluation.variants import Variant, list_variants
from sepsis_cql.evaluation.verdict import UNIDENTIFIED, check_gates, identified, judge
from sepsis_cql.provenance import package_versions
from sepsis_cql.replay.transitions import Transitions, load_transitions
from sepsis_cql.storage import read_json, sha256_file, write_json

Protocol = Literal["published", "sound", "both"]
REWARD_VARIANT = "sparse"  # survival is what a policy is judged by, whatever reward shaped its training
SMALLEST_CELL = 10


@dataclass(frozen=True)
class Findings:
    """An evaluation's record with what its figures are drawn from.

    Attributes:
        record: contents of evaluation.json.
        scene: the data; None under the published protocol alone.
        audits: of every policy, the policy as it acts first.
    """

    record: record.Evaluation
    scene: Scene | None
    audits: tuple[Audit, ...]


def evaluate_policy(
    loaded: LoadedPolicy,
    replay: Path,
    split: str,
    protocol: Protocol,
    n_resamples: int,
    settings: EvaluationSettings,
    *,
    test_split_uses: int | None = None,
    report: Callable[[str], None] = lambda text: None,
) -> Findings:
    """Evaluate a policy on one split.

    Args:
        loaded: the policy.
        replay: directory written by `build`, or a file of the published format, which has no training split and
            so is evaluated by the published protocol only.
        split: validation or test; names the split of a file.
        protocol: which estimates to make.
        n_resamples: bootstrap resamples.
        settings: of the sound protocol.
        test_split_uses: policies that the ledger says have been scored on this test split.
        report: called with what is done next.

    Raises:
        EvaluationError: policy, replay and protocol do not fit together.
    """
    if protocol == "both" and replay.is_file():
        protocol = "published"
    transitions = load_transitions(replay, split, REWARD_VARIANT)
    policy = loaded.bind(transitions, replay)
    published = None
    if protocol != "sound":
        published = _published(policy, transitions, settings.gamma, n_resamples, protocol)
    scene: Scene | None = None
    audits: tuple[Audit, ...] = ()
    policies: list[record.PolicyRecord] = []
    diagnostics: dict[str, Any] = {}
    if protocol != "published":
        scene = load_scene(replay, split, settings, REWARD_VARIANT)
        audits = _audit_all(policy, scene, settings, n_resamples, report)
        policies = _describe(audits, scene, replay, settings, report)
        diagnostics = diagnose(audits[0], scene, replay, split, settings)
    hide = _suppress if replay.is_dir() else _show
    values = record.Evaluation(
        policy=loaded.facts,
        split=split,
        replay=_describe_replay(replay),
        gamma=settings.gamma,
        bound=settings.bound,
        n_episodes=hide(transitions.n_episodes),
        n_transitions=hide(len(transitions)),
        n_patients=hide(len(np.unique(transitions.subject_id))),
        test_split_uses=test_split_uses,
        published=None if published is None else _hide_counts(asdict(published), hide),
        policies=policies,
        behavior=None if scene is None else _describe_behavior(scene, replay),
        diagnostics=diagnostics,
        verdict=_overall(policies),
        calibration=[] if scene is None else measured_lines(),
        versions=package_versions("numpy", "scipy", "scikit-learn", "torch"),
    )
    return Findings(values, scene, audits)


def write_evaluation(findings: Findings, directory: Path) -> None:
    """Write evaluation.json, the file of the published format where it was made, figures and the report page."""
    write_json(directory / record.RECORD, findings.record.model_dump(mode="json"))
    if findings.record.published is not None:
        write_json(directory / published_file(findings.record.split), published_fields(findings.record))
    figures = draw_figures(findings.record, directory / "figures")
    (directory / "report.html").write_text(render_page(findings.record, figures), encoding="utf-8")


def published_file(split: str) -> str:
    """Name of the file with the published fields."""
    return "final_test_evaluation.json" if split == "test" else f"{split}_evaluation.json"


def published_fields(evaluation: record.Evaluation) -> dict[str, Any]:
    """The fields of `final_test_evaluation.json` as published."""
    metrics = evaluation.published
    assert metrics is not None
    names = ("fqe_mean", "fqe_lower", "fqe_upper", "wis_mean", "wis_lower", "wis_upper", "ess", "n_episodes")
    return {
        "checkpoint": evaluation.policy.name,
        "split": evaluation.split,
        **{name: metrics[name] for name in names},
        "bootstrap_resamples": metrics["bootstrap_resamples"],
        "ci_level": 0.95,
        "status": "complete",
    }


def _published(
    policy: Policy, transitions: Transitions, gamma: float, n_resamples: int, protocol: Protocol
) -> PublishedMetrics | None:
    """The published metrics; None for a policy without values if the sound protocol is run besides."""
    if isinstance(policy, QPolicy):
        q_values = policy.q_values(transitions.states)
        return published_metrics(transitions, q_values, gamma=gamma, n_resamples=n_resamples)
    if protocol == "published":
        raise EvaluationError(
            f'{policy.name}: has no values, and the published "FQE" is the mean of max Q(s_0). Use --protocol '
            "sound, on a replay directory."
        )
    return None


def _audit_all(
    policy: Policy,
    scene: Scene,
    settings: EvaluationSettings,
    n_resamples: int,
    report: Callable[[str], None],
) -> tuple[Audit, ...]:
    variants = list_variants(policy, scene.clinicians, scene.train.actions, settings)
    audits = []
    for variant in variants:
        report(variant.name)
        audits.append(audit_policy(variant, scene, settings, n_resamples))
    observed = Variant(FunctionPolicy("clinicians", scene.clinicians), "clinicians", "none")
    return (*audits, audit_clinicians(observed, scene, settings, n_resamples))


def _describe(
    audits: tuple[Audit, ...],
    scene: Scene,
    replay: Path,
    settings: EvaluationSettings,
    report: Callable[[str], None],
) -> list[record.PolicyRecord]:
    baselines = identified(
        (audit for audit in audits if audit.variant.role == "baseline"), scene.behavior, settings
    )
    policies = []
    for audit in audits:
        is_clinicians = audit.variant.role == "clinicians"
        gates = [] if is_clinicians else check_gates(audit, scene.behavior, settings)
        verdict = None if is_clinicians else judge(audit, gates, baselines, settings)
        report(f"true value of {audit.variant.name}")
        summary = asdict(audit.summary)
        summary.pop("truncated_at")
        policies.append(
            record.PolicyRecord(
                name=audit.variant.name,
                role=audit.variant.role,
                softening=audit.variant.softening,
                estimates=audit.estimates,
                weights=record.Weights(**summary),
                difference_to_clinicians=audit.difference,
                true_value=_true_value(audit, replay, settings),
                gates=gates,
                verdict=verdict,
            )
        )
    return policies


def _true_value(audit: Audit, replay: Path, settings: EvaluationSettings) -> record.TrueValue | None:
    """Value in the simulator that the replay's tables come from; None for real patients."""
    if (simulated := _simulated(replay)) is None:
        return None
    from sepsis_cql.synthetic.truth import true_behavior, true_value

    is_clinicians = audit.variant.role == "clinicians"
    policy = true_behavior(*simulated) if is_clinicians else audit.variant.policy
    truth = true_value(policy, *simulated, settings.truth_episodes, settings.seed, gamma=settings.gamma)
    return record.TrueValue(value=truth.value, standard_error=truth.standard_error)


def _describe_behavior(scene: Scene, replay: Path) -> record.Behavior | None:
    if isinstance(scene.model, FunctionPolicy):
        return None
    described = describe_behavior(scene.model, scene.behavior, scene.scored.actions)
    if (simulated := _simulated(replay)) is None:
        return described
    from sepsis_cql.synthetic.truth import true_behavior

    truth = np.maximum(true_behavior(*simulated).probabilities(scene.scored.states), 1e-12)
    divergence = float((truth * np.log(truth / scene.behavior)).sum(axis=1).mean())
    return described.model_copy(update={"divergence_from_truth": divergence})


def _simulated(replay: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Simulator's record and action grid of a synthetic replay; None for real patients."""
    provenance = read_json(replay / "provenance.json", expected="the provenance `build` writes")
    if provenance["source"]["name"] != "synthetic":
        return None
    statistics = read_json(replay / "statistics.json", expected="the statistics `build` writes")
    return provenance["synthetic"], statistics["action_grid"]


def _overall(policies: list[record.PolicyRecord]) -> record.Verdict:
    """The verdict on the policy as it acts."""
    if policies:
        verdict = policies[0].verdict
        assert verdict is not None
        return verdict
    reason = (
        "only the published protocol was run, which has no behaviour policy, no evaluator and no baseline"
    )
    return record.Verdict(label=UNIDENTIFIED, reasons=[reason])


def _describe_replay(replay: Path) -> record.Replay:
    if replay.is_file():
        return record.Replay(
            source=record.Source(name=replay.name, version=None), fingerprint=sha256_file(replay)
        )
    provenance = read_json(replay / "provenance.json", expected="the provenance `build` writes")
    return record.Replay.model_validate({name: provenance[name] for name in ("source", "fingerprint")})


def _hide_counts(metrics: dict[str, Any], hide: Callable[[int], record.Count]) -> dict[str, Any]:
    counts = ("n_episodes", "wis_nonzero_episodes")
    return metrics | {name: hide(metrics[name]) for name in counts}


def _suppress(count: int) -> record.Count:
    return "<10" if 0 < count < SMALLEST_CELL else count


def _show(count: int) -> record.Count:
    return count
