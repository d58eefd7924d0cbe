"""From learners to a comparison: tune each on validation, train its seeds, judge all of them on the same episodes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sepsis_cql.checkpoints.hub_package import load_package
from sepsis_cql.common.privacy import hide_count
from sepsis_cql.common.provenance import git_commit, package_versions
from sepsis_cql.common.storage import sha256_json
from sepsis_cql.common.strict import find_settings
from sepsis_cql.evaluation.comparison.record import (
    Comparison,
    ComparisonSettings,
    LearnerResult,
    SeedResult,
    budget_of,
)
from sepsis_cql.evaluation.data import EvaluationData
from sepsis_cql.evaluation.evaluate import SELECTION_SPLIT, Report, describe_policies, estimate_all
from sepsis_cql.evaluation.original_protocol import OriginalMetrics, original_metrics
from sepsis_cql.evaluation.policies.base import (
    FunctionPolicy,
    Policy,
    QPolicy,
    baseline_policies,
    checked_probabilities,
)
from sepsis_cql.evaluation.policies.ensemble import cautious_ensemble, defer_to_clinicians
from sepsis_cql.evaluation.policies.load import policy_of_model
from sepsis_cql.evaluation.policies.softened import CLONE, EvaluatedPolicy, list_versions
from sepsis_cql.evaluation.record import PolicyRecord, ReplayFacts
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.evaluation.truth import play
from sepsis_cql.evaluation.validation_score import score_policy
from sepsis_cql.modeling_sepsis_cql import SepsisCQLModel
from sepsis_cql.replay.directory import Replay
from sepsis_cql.synthetic.truth import Truth
from sepsis_cql.training.learners.registry import load_training_settings
from sepsis_cql.training.records import Score
from sepsis_cql.training.settings import RuntimeSettings
from sepsis_cql.training.sweep.protocol import Sweep, SweepSettings
from sepsis_cql.training.sweep.selection import sha256_policy


@dataclass(frozen=True)
class Arena:
    """What learners are compared on.

    Attributes:
        replay: they are trained on.
        validation: episodes that tune and choose.
        scored: episodes that the results are about.
        split: name of those.
        truth: the simulator they come from; None for patients.
    """

    replay: Replay
    validation: EvaluationData
    scored: EvaluationData
    split: str
    truth: Truth | None


@dataclass(frozen=True)
class Entry:
    """A policy of the comparison: the learner or what was made of its seeds, and the version that speaks for it."""

    name: str
    seed: int | None
    policy: Policy
    version: EvaluatedPolicy
    sha256: str


def compare_learners(
    names: Sequence[str],
    arena: Arena,
    settings: ComparisonSettings,
    rules: EvaluationSettings,
    runtime: RuntimeSettings,
    out: Path,
    *,
    enter: Callable[[str], None] = lambda sha256: None,
    report: Report = lambda text, left: None,
) -> Comparison:
    """Compare learners; what was trained already in `out` is kept.

    Args:
        names: of learners that have a grid.
        arena: replay and episodes.
        settings: grids, seeds and schedule.
        rules: of estimates and verdicts.
        runtime: device of the training.
        out: a directory of sweeps, one for each learner.
        enter: called with the SHA-256 of each policy before it is scored.
        report: called with what is done next, and how many such calls follow at least.
    """
    chosen: dict[str, dict[str, Any]] = {}
    entries: list[Entry] = []
    for index, name in enumerate(names):
        report(f"train {name}", 3 * len(names) - index)  # each is at least estimated and played as well
        chosen[name], found = _train(name, arena, settings, rules, runtime, out / name)
        entries += [*found, *_made_of_seeds(name, found, arena, settings, rules)]
    for entry in entries:
        enter(entry.sha256)
    records, baselines, clinicians = _judge(entries, arena, rules, report)
    made = list(dict.fromkeys(entry.name for entry in entries))
    results = dict(zip(range(len(entries)), records, strict=True))
    return Comparison(
        replay=ReplayFacts(source=arena.replay.source, fingerprint=arena.replay.fingerprint),
        split=arena.split,
        n_episodes=hide_count(arena.scored.episodes.n_episodes),
        n_training_episodes=hide_count(arena.scored.train.n_episodes),
        gamma=rules.gamma,
        bound=rules.bound,
        recommended=rules.gates.recommended,
        settings=settings.model_copy(update={"grids": {name: settings.grids[name] for name in names}}),
        clinicians=clinicians.estimates["observed"],
        clinicians_true_value=clinicians.true_value,
        baselines={one.name: one.true_value for one in baselines},
        learners=[
            LearnerResult(
                name=name,
                configuration=chosen.get(name, {}),
                n_configurations=budget_of(settings.grids[name]) if name in chosen else 1,
                seeds=[
                    _result(entry, results[index], arena, rules)
                    for index, entry in enumerate(entries)
                    if entry.name == name
                ],
            )
            for name in made
        ],
        versions=package_versions("numpy", "scipy", "scikit-learn", "torch"),
        minimum_ess=rules.gates.minimum_ess,
        git_commit=git_commit(),
    )


def _train(
    name: str,
    arena: Arena,
    settings: ComparisonSettings,
    rules: EvaluationSettings,
    runtime: RuntimeSettings,
    out: Path,
) -> tuple[dict[str, Any], list[Entry]]:
    """The configuration that validation chose, and its policies by seed."""
    grid = settings.grids[name]
    first = {field: values[0] for field, values in grid.items()}
    base = load_training_settings(find_settings(name, "algorithm"), settings.schedule | first)
    protocol = SweepSettings(
        grid=grid,
        stage1_seed=settings.seeds[0],
        top=1,
        stage2_seeds=settings.seeds,
        score_epochs=base.epochs,
        metric="fqe",
    )

    def score(model: SepsisCQLModel) -> Score:
        policy = policy_of_model(model).bind(arena.validation.scored, arena.replay)
        return score_policy(policy, arena.validation, rules)

    sweep = Sweep(arena.replay, out, protocol, base, runtime, score)
    sweep.open(resume=(out / "sweep.json").exists(), force=False)
    runs = sweep.run_stage2(sweep.run_stage1())
    entries = []
    for run in sorted(runs, key=lambda run: run.settings.seed):
        model = load_package(out / "runs" / run.name / "package")
        loaded = policy_of_model(model, f"{name}, seed {run.settings.seed}")
        policy = loaded.bind(arena.scored.scored, arena.replay)
        version = _version(policy, arena, rules, run.best("fqe").softening)
        entries.append(Entry(name, run.settings.seed, policy, version, sha256_policy(model)))
    return sweep.rank(runs).configuration(runs[0]), entries


def _made_of_seeds(
    name: str, found: list[Entry], arena: Arena, settings: ComparisonSettings, rules: EvaluationSettings
) -> Iterator[Entry]:
    """Yield the ensemble of a learner's seeds, and the set of doses it leaves to clinicians, if it has values."""
    members = [entry.policy.q_values for entry in found if isinstance(entry.policy, QPolicy)]
    if len(members) < 2:
        return
    sha256 = sha256_json([entry.sha256 for entry in found])
    ensemble = cautious_ensemble(f"{name}, ensemble of seeds", members, deviations=1.0)
    softening = score_policy(ensemble, arena.validation, rules).softening
    version = _version(ensemble, arena, rules, softening)
    yield Entry(ensemble.name, None, ensemble, version, sha256)
    deferring = defer_to_clinicians(
        f"{name}, defer to clinicians",
        members,
        arena.scored.clinicians,
        epsilon=settings.epsilon,
        support_threshold=settings.support_threshold,
    )
    yield Entry(deferring.name, None, deferring, EvaluatedPolicy(deferring, "learned", "none"), sha256)


def _judge(
    entries: list[Entry], arena: Arena, rules: EvaluationSettings, report: Report
) -> tuple[list[PolicyRecord], list[PolicyRecord], PolicyRecord]:
    """What is said of the policies, of the baselines and of the clinicians."""
    data = arena.scored
    baselines = [FunctionPolicy(CLONE, data.clinicians), *baseline_policies(data.train.actions)]
    versions = [entry.version for entry in entries]
    judged = [*versions, *(EvaluatedPolicy(one, "baseline", "none") for one in baselines)]
    estimates = estimate_all(
        judged,
        data,
        rules,
        lambda name, left: report(f"estimate {name}", left),
        has_truth=arena.truth is not None,
    )
    is_selection = arena.split == SELECTION_SPLIT
    records = describe_policies(estimates, data, arena.truth, rules, is_selection=is_selection, report=report)
    return records[: len(entries)], records[len(entries) : -1], records[-1]


def _result(entry: Entry, record: PolicyRecord, arena: Arena, rules: EvaluationSettings) -> SeedResult:
    published = _published(entry.policy, arena.scored, rules)
    has_values = isinstance(entry.policy, QPolicy) and np.isfinite(published.fqe_mean)
    assert record.verdict is not None and record.difference_to_clinicians is not None
    as_it_acts = record.true_value
    if arena.truth is not None and entry.version.policy is not entry.policy:
        as_it_acts, _ = play(entry.policy, arena.truth, rules)
    return SeedResult(
        seed=entry.seed,
        softening=record.softening,
        estimates=record.estimates,
        difference=record.difference_to_clinicians.value,
        ess=record.weights.ess,
        gates=[gate for gate in record.gates if not gate.passed],
        verdict=record.verdict,
        true_value=record.true_value,
        true_value_as_it_acts=as_it_acts,
        published_fqe=published.fqe_mean if has_values else None,
        published_wis=published.wis_mean,
        published_ess=published.ess,
    )


def _version(policy: Policy, arena: Arena, rules: EvaluationSettings, softening: str) -> EvaluatedPolicy:
    versions = list_versions(policy, arena.scored.clinicians, rules)
    return next(version for version in versions if version.softening == softening)


def _published(policy: Policy, data: EvaluationData, rules: EvaluationSettings) -> OriginalMetrics:
    """The metrics of the greedy policy by the original definitions."""
    states = data.scored.states
    ranked = policy.q_values(states) if isinstance(policy, QPolicy) else checked_probabilities(policy, states)
    return original_metrics(data.scored, ranked, gamma=rules.gamma, n_resamples=rules.validation.resamples)
