"""From a policy and a replay to an evaluation directory."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sepsis_cql.common.errors import EvaluationError
from sepsis_cql.common.privacy import hide_count
from sepsis_cql.common.provenance import git_commit, package_versions
from sepsis_cql.common.storage import write_json
from sepsis_cql.evaluation import record
from sepsis_cql.evaluation.data import REWARD_VARIANT, EvaluationData, load_evaluation_data
from sepsis_cql.evaluation.estimate import PolicyEstimate, estimate_clinicians, estimate_policy
from sepsis_cql.evaluation.original_protocol import OriginalMetrics, original_metrics
from sepsis_cql.evaluation.policies.base import FunctionPolicy, Policy, QPolicy, check_answers_alone
from sepsis_cql.evaluation.policies.behavior import describe_behavior
from sepsis_cql.evaluation.policies.load import LoadedPolicy, require_values
from sepsis_cql.evaluation.policies.softened import EvaluatedPolicy, list_evaluated_policies
from sepsis_cql.evaluation.report.diagnostics import diagnose
from sepsis_cql.evaluation.report.figures import draw_figures
from sepsis_cql.evaluation.report.page import render_page
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.evaluation.tails import describe_certain, describe_tails
from sepsis_cql.evaluation.test_split import check_splits
from sepsis_cql.evaluation.truth import play
from sepsis_cql.evaluation.variations import vary
from sepsis_cql.evaluation.verdict import (
    NOT_FROZEN,
    ONLY_PUBLISHED,
    SELECTED_HERE,
    UNIDENTIFIED,
    check_gates,
    identified,
    judge,
)
from sepsis_cql.replay.directory import Replay, ReplayDirectory
from sepsis_cql.replay.transitions import Transitions
from sepsis_cql.synthetic.truth import Truth

Report = Callable[[str, int], None]  # what is done next, and how many such calls follow
Protocol = Literal["published", "sound", "both"]
EXPLORER = "explorer.html"  # beside the report
SELECTION_SPLIT = "validation"  # a sweep ranks on it, so it endorses nothing
ORIGINAL_FIELDS = (
    "fqe_mean", "fqe_lower", "fqe_upper", "wis_mean", "wis_lower", "wis_upper", "ess", "n_episodes",
    "bootstrap_resamples",
)  # fmt: skip


def evaluate_policy(
    loaded: LoadedPolicy,
    replay: Replay,
    split: str,
    protocol: Protocol,
    settings: EvaluationSettings,
    *,
    truth: Truth | None = None,
    test_split_uses: int | None = None,
    behavior: FunctionPolicy | None = None,
    frozen: str | None = None,
    sensitivity: bool = False,
    report: Report = lambda text, left: None,
) -> record.Evaluation:
    """Evaluate a policy on one split.

    Args:
        loaded: the policy.
        replay: a directory, or a file of the original format, which has no training split and so is evaluated by the
            original protocol only.
        split: validation or test; names the split of a file.
        protocol: which estimates to make.
        settings: of both protocols.
        truth: the simulated ICU the replay came from; None for patients.
        test_split_uses: policies that the ledger says have been scored on this test split.
        behavior: the clinicians' probabilities at states as the replay holds them; fitted if None.
        frozen: softening of the version that validation chose; no other version is endorsed.
        sensitivity: whether to estimate the judged version anew with other discounts, horizons and rewards.
        report: called with what is done next, and how many such calls follow.

    Raises:
        EvaluationError: policy, replay and protocol do not fit together.
    """
    if split == SELECTION_SPLIT:
        check_splits(replay)  # what is no other patients' would be a way round the ledger of the test split
    is_file = replay.statistics is None
    if protocol == "both" and is_file:
        protocol = "published"
    transitions = replay.transitions(split, REWARD_VARIANT)
    policy = loaded.bind(transitions, replay)
    original = None if protocol == "sound" else _original(policy, transitions, settings, protocol)
    data: EvaluationData | None = None
    policies: list[record.PolicyRecord] = []
    diagnostics = None
    variations: list[record.Variation] = []
    if protocol != "published":
        looks = test_split_uses or 1
        check_answers_alone(policy, transitions.states, settings.seed)
        data = load_evaluation_data(replay, split, settings, behavior=behavior)
        evaluated = list_evaluated_policies(policy, data.clinicians, data.train.actions, settings)
        estimates = estimate_all(evaluated, data, settings, report, has_truth=truth is not None)
        policies = describe_policies(
            estimates,
            data,
            truth,
            settings,
            is_selection=split == SELECTION_SPLIT,
            frozen=frozen,
            looks=looks,
            report=report,
        )
        if isinstance(replay, ReplayDirectory):
            judged = estimates[policies.index(record.find_judged(policies, frozen) or policies[0])]
            diagnostics = diagnose(estimates[0], judged, data, replay.details(split), settings)
            if sensitivity:
                barred = _bar(judged, frozen, split == SELECTION_SPLIT)
                variations = vary(
                    judged, data, replay, split, settings, barred=barred, looks=looks, report=report
                )
    return record.Evaluation(
        policy=loaded.facts,
        split=split,
        replay=record.ReplayFacts(source=replay.source, fingerprint=replay.fingerprint),
        gamma=settings.gamma,
        bound=settings.bound,
        n_episodes=hide_count(transitions.n_episodes),
        n_transitions=hide_count(len(transitions)),
        n_patients=hide_count(transitions.n_patients),
        test_split_uses=test_split_uses,
        published=original,
        policies=policies,
        behavior=None if data is None else _describe_behavior(data, truth, settings),
        diagnostics=diagnostics,
        verdict=_overall(policies, frozen),
        frozen=frozen if policies else None,
        action_grid=None if replay.statistics is None else replay.statistics.action_grid,
        step_hours=None if replay.provenance is None else replay.provenance.settings.step_hours,
        mortality_days=None if replay.provenance is None else replay.provenance.settings.mortality_days,
        sensitivity=variations,
        versions=package_versions("numpy", "scipy", "scikit-learn", "torch"),
        git_commit=git_commit(),
    )


def write_evaluation(evaluation: record.Evaluation, directory: Path, explorer: str | None = None) -> None:
    """Write evaluation.json, the file of the original format where it was made, figures and the report page.

    Args:
        evaluation: the record.
        directory: that receives them.
        explorer: a page that runs the network, to put beside the report, which then leads to it.
    """
    write_json(directory / record.RECORD, evaluation.model_dump(mode="json"))
    if evaluation.published is not None:
        write_json(directory / original_file(evaluation.split), original_fields(evaluation))
    figures = draw_figures(evaluation, directory / "figures")
    if explorer is not None:
        (directory / EXPLORER).write_text(explorer, encoding="utf-8")
    page = render_page(evaluation, figures, explorer=None if explorer is None else EXPLORER)
    (directory / "report.html").write_text(page, encoding="utf-8")


def original_file(split: str) -> str:
    """Return the name of the file with the fields of the original protocol."""
    return "final_test_evaluation.json" if split == "test" else f"{split}_evaluation.json"


def original_fields(evaluation: record.Evaluation) -> dict[str, Any]:
    """Return the fields of `final_test_evaluation.json` as the original study published them."""
    assert evaluation.published is not None
    return {
        "checkpoint": evaluation.policy.name,
        "split": evaluation.split,
        **evaluation.published.model_dump(include=set(ORIGINAL_FIELDS)),
        "ci_level": 0.95,
        "status": "complete",
    }


def _original(
    policy: Policy, transitions: Transitions, settings: EvaluationSettings, protocol: Protocol
) -> OriginalMetrics | None:
    """The original metrics; None for a policy without values if the sound protocol is run besides."""
    if protocol != "published" and not isinstance(policy, QPolicy):
        return None
    q_values = require_values(policy).q_values(transitions.states)
    return original_metrics(transitions, q_values, gamma=settings.gamma, n_resamples=settings.resamples)


def estimate_all(
    policies: Sequence[EvaluatedPolicy],
    data: EvaluationData,
    settings: EvaluationSettings,
    report: Report,
    *,
    has_truth: bool,
) -> list[PolicyEstimate]:
    """Estimate every policy, and the clinicians last.

    Args:
        policies: those to estimate.
        data: the scored episodes, and what evaluators are fitted on.
        settings: of the estimators.
        report: called with each policy, and how many such calls follow.
        has_truth: whether all of them are played afterwards, which calls it as often again.
    """
    data.local_actions(settings.gates.local_neighbors)  # by all threads, before each policy takes one

    def estimate(part: tuple[int, EvaluatedPolicy]) -> PolicyEstimate:
        index, evaluated = part
        report(evaluated.name, len(policies) - index - 1 + has_truth * (len(policies) + 1))
        return estimate_policy(evaluated, data, settings, settings.resamples)

    estimates = data.of_each(estimate, enumerate(policies))
    observed = EvaluatedPolicy(FunctionPolicy("clinicians", data.clinicians), "clinicians", "none")
    return [*estimates, estimate_clinicians(observed, data, settings, settings.resamples)]


def describe_policies(
    estimates: list[PolicyEstimate],
    data: EvaluationData,
    truth: Truth | None,
    settings: EvaluationSettings,
    *,
    is_selection: bool,
    frozen: str | None = None,
    looks: int = 1,
    report: Report = lambda text, left: None,
) -> list[record.PolicyRecord]:
    """Describe every policy with its gates and its verdict.

    Args:
        estimates: of the policies, the baselines and the clinicians.
        data: they were made on.
        truth: the simulated ICU the episodes came from; None for patients.
        settings: of the evaluation.
        is_selection: whether a sweep ranks on these episodes, which then endorse nothing.
        frozen: softening of the version that validation chose, if it did; these episodes endorse no other.
        looks: policies that these episodes have judged, this one with them.
        report: called with what is done next, and how many such calls follow.

    Raises:
        EvaluationError: no version is softened so.
    """
    if frozen is not None and frozen not in (versions := [one.evaluated.softening for one in estimates]):
        raise EvaluationError(
            f"found no version {frozen}, which validation froze, expected it among {sorted(set(versions))}. Evaluate "
            "with the settings of the sweep (`tilt_temperatures`, `clinician_shares`)."
        )
    baselines = identified(
        (one for one in estimates if one.evaluated.role == "baseline"), data.behavior, settings
    )
    covariates = data.covariates(settings)
    policies = []
    for index, one in enumerate(estimates):
        is_clinicians = one.evaluated.role == "clinicians"
        gates = [] if is_clinicians else check_gates(one, data.behavior, settings, covariates, looks=looks)
        barred = _bar(one, frozen, is_selection)
        verdict = None if is_clinicians else judge(one, gates, baselines, settings, barred=barred)
        true = true_returns = None
        if truth is not None:
            report(f"true value of {one.evaluated.name}", len(estimates) - index - 1)
            policy = truth.behavior if is_clinicians else one.evaluated.policy
            true, true_returns = play(policy, truth, settings)
        policies.append(
            record.PolicyRecord(
                name=one.evaluated.name,
                role=one.evaluated.role,
                softening=one.evaluated.softening,
                estimates=one.estimates,
                weights=one.summary,
                difference_to_clinicians=one.difference,
                true_value=true,
                gates=gates,
                verdict=verdict,
                differences=one.differences,
                break_even_gamma=one.break_even_gamma,
                break_even_gamma_by_decision=one.break_even_gamma_by_decision,
                certain_gamma=one.certain_gamma,
                tails=describe_tails(one, data, settings, true_returns),
                certain=None if is_clinicians else describe_certain(one, data, settings),
            )
        )
    return policies


def _bar(one: PolicyEstimate, frozen: str | None, is_selection: bool) -> str | None:
    """Why these episodes cannot endorse a policy."""
    if is_selection:
        return SELECTED_HERE
    is_other = frozen is not None and one.evaluated.role != "baseline" and one.evaluated.softening != frozen
    return NOT_FROZEN if is_other else None


def _describe_behavior(
    data: EvaluationData, truth: Truth | None, settings: EvaluationSettings
) -> record.Behavior | None:
    if isinstance(data.model, FunctionPolicy):
        return None
    described = describe_behavior(data.model, data.behavior, data.scored.actions, settings.behavior)
    described = described.model_copy(update={"covariates": data.covariates(settings)})
    if truth is None or truth.is_confounded:
        return described
    true = np.maximum(truth.behavior.probabilities(data.scored.states), 1e-12)
    divergence = float((true * np.log(true / data.behavior)).sum(axis=1).mean())
    return described.model_copy(update={"divergence_from_truth": divergence})


def _overall(policies: list[record.PolicyRecord], frozen: str | None) -> record.Verdict:
    """The verdict on the frozen version of the policy, or on the policy as it acts."""
    if judged := record.find_judged(policies, frozen):
        assert judged.verdict is not None
        return judged.verdict
    return record.Verdict(label=UNIDENTIFIED, reasons=[ONLY_PUBLISHED])
