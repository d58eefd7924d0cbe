"""Estimators and verdict held against known truth: data collected and policies evaluated anew, again and again."""

from collections.abc import Callable, Iterator
from concurrent.futures import as_completed
from functools import partial
from pathlib import Path

import numpy as np
from scipy.stats import norm

from sepsis_cql.common.processes import become_worker, open_pool
from sepsis_cql.common.provenance import ROOT, code_sha256, git_commit, package_versions
from sepsis_cql.common.storage import sha256_json
from sepsis_cql.evaluation.behavior_refits import widen_by_refits
from sepsis_cql.evaluation.data import EvaluationData, assemble_data, assemble_estimated
from sepsis_cql.evaluation.estimate import PolicyEstimate, estimate_policy
from sepsis_cql.evaluation.estimators.fqe import FqeResult
from sepsis_cql.evaluation.estimators.importance import SumEstimator
from sepsis_cql.evaluation.estimators.intervals import Method, compute_interval
from sepsis_cql.evaluation.known_truth.environments import Clinicians, FiniteEnvironment, Target
from sepsis_cql.evaluation.known_truth.record import Calibration
from sepsis_cql.evaluation.known_truth.repetitions import resume
from sepsis_cql.evaluation.known_truth.settings import CalibrationSettings, CaseSettings
from sepsis_cql.evaluation.known_truth.simulated_icu import SimulatedIcu
from sepsis_cql.evaluation.known_truth.summary import Numbers, Outcome, rank, summarize
from sepsis_cql.evaluation.policies.base import FunctionPolicy, Policy
from sepsis_cql.evaluation.policies.softened import EvaluatedPolicy
from sepsis_cql.evaluation.record import Difference
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.evaluation.verdict import ABOUT_HIDDEN, BETTER, check_gates, is_identified, judge

Environment = FiniteEnvironment | SimulatedIcu
Work = Callable[[int], list[Outcome]]  # makes the repetition of a number
KEPT: list[Work] = []  # of a worker
SCORED_SEED = 1_000_000  # keeps scored episodes apart from training episodes
CODE = [ROOT / name for name in ("evaluation", "synthetic")]  # that repetitions depend on


def calibrate(
    name: str,
    settings: CalibrationSettings,
    evaluation: EvaluationSettings,
    out: Path,
    *,
    jobs: int = 1,
    report: Callable[[int], None] = lambda done: None,
) -> Calibration:
    """Repeat data collection and evaluation of one case, and compare with the truth.

    Args:
        name: of the case in `settings`.
        settings: of the calibration.
        evaluation: settings of the estimators and of the verdict; the calibration's refits take the place of its own.
        out: directory for the repetitions; a run that was stopped goes on with them.
        jobs: processes.
        report: called with the number of repetitions done.
    """
    case, n = settings.cases[name], settings.repetitions_of(name)
    fqe = evaluation.fqe.model_copy(update={"refits": settings.refits})
    evaluation = evaluation.model_copy(update={"fqe": fqe})
    keys = [settings.model_dump_json(exclude={"cases", "repetitions"}), case.model_dump_json()]
    made_with = sha256_json([*keys, evaluation.model_dump_json(), code_sha256(*CODE)])
    environment = open_environment(case, settings, evaluation)
    run = partial(_run, partial(_repeat, environment, case, settings, evaluation), jobs)
    repetitions: list[list[Outcome]] = []
    for repetitions in resume(out / f"{name}.repetitions.jsonl", made_with, n, run):
        report(len(repetitions))
    confounding = environment.confounding() if case.is_confounded else None
    strength = None if confounding is None else confounding.odds
    return Calibration(
        case=name,
        setting=case,
        is_confounded=case.is_confounded,
        confounding=confounding,
        repetitions=n,
        seed=settings.seed,
        resamples=settings.resamples,
        refits=settings.refits,
        recommended=evaluation.gates.recommended,
        clinicians_value=environment.clinicians_value,
        policies=[
            summarize(found, environment.clinicians_value, strength)
            for found in zip(*repetitions, strict=True)
        ],
        rankings=rank(repetitions),
        versions=package_versions("numpy", "scipy", "scikit-learn", "torch"),
        commit=git_commit(),
    )


def _run(work: Work, jobs: int, numbers: list[int]) -> Iterator[tuple[int, list[Outcome]]]:
    """Each repetition with its number, as it is done."""
    if jobs == 1 or len(numbers) < 2:
        yield from ((number, work(number)) for number in numbers)
        return
    # a fork knows the environment with the true values that this process has found
    with open_pool(min(jobs, len(numbers)), "fork", _become_worker, work) as pool:
        waiting = {pool.submit(_work, number): number for number in numbers}
        for done in as_completed(waiting):
            yield waiting[done], done.result()


def _become_worker(work: Work) -> None:
    become_worker()
    KEPT.append(work)


def _work(number: int) -> list[Outcome]:
    return KEPT[-1](number)


def open_environment(
    case: CaseSettings, settings: CalibrationSettings, evaluation: EvaluationSettings
) -> Environment:
    """Return the process with known truth that a case names, with the discount and the bound of the evaluation."""
    if case.environment == "synthetic":
        return SimulatedIcu(case, settings, evaluation.gamma, evaluation.bound)
    return FiniteEnvironment(case, evaluation.gamma, evaluation.bound)


def _repeat(
    environment: Environment,
    case: CaseSettings,
    chosen: CalibrationSettings,
    evaluation: EvaluationSettings,
    repetition: int,
) -> list[Outcome]:
    evaluation = evaluation.model_copy(update={"seed": chosen.seed + repetition})
    data = collect(environment, case, chosen, evaluation)
    clinicians = environment.clinicians if case.behavior == "known" else data.clinicians
    targets = environment.targets(data.train, clinicians)

    def remake(index: int) -> Callable[[Clinicians], Policy]:
        return lambda clinicians: environment.targets(data.train, clinicians)[index].policy

    return [
        _evaluate(
            target, EvaluatedPolicy(target.policy, "learned", "none", remake(index)), data, chosen, evaluation
        )
        for index, target in enumerate(targets)
    ]


def _evaluate(
    target: Target,
    policy: EvaluatedPolicy,
    data: EvaluationData,
    chosen: CalibrationSettings,
    evaluation: EvaluationSettings,
) -> Outcome:
    """What the evaluation makes of one policy."""
    found = estimate_policy(policy, data, evaluation, chosen.resamples)
    if chosen.behavior_refits:
        found = widen_by_refits(found, data, evaluation, chosen.behavior_refits)
    difference = found.difference
    is_praised = difference is not None and difference.lower is not None and difference.lower > 0
    covariates = data.covariates(evaluation) if is_praised else []  # which nothing but praise asks for
    gates = check_gates(found, data.behavior, evaluation, covariates)
    others = [gate for gate in gates if gate.name not in ABOUT_HIDDEN]
    rules = evaluation.gates
    return Outcome(
        name=target.policy.name,
        true_value=target.true_value,
        estimates=_estimates(found, data.counts(chosen.resamples, evaluation.seed), chosen.intervals),
        differences=(
            _ends(found.differences[rules.recommended]),
            _ends(found.differences[rules.independent]),
        ),
        ess=found.summary.ess,
        passes=is_identified(gates),
        endorsed=judge(found, gates, [], evaluation).label == BETTER,
        gates={gate.name: (gate.value, gate.passed) for gate in gates},
        praised=judge(found, others, [], evaluation).label == BETTER,
        stated_gamma=np.inf if found.certain_gamma is None else found.certain_gamma,
        yardstick=covariates[0].odds if covariates else None,
    )


def collect(
    environment: Environment, case: CaseSettings, chosen: CalibrationSettings, evaluation: EvaluationSettings
) -> EvaluationData:
    """Collect training and scored episodes with the clinicians' policy, as an evaluation has them.

    Args:
        environment: where the episodes come from.
        case: how many, and whether the clinicians are known.
        chosen: which model estimates them otherwise.
        evaluation: settings with the seed of the repetition.
    """
    train = environment.sample(case.training, evaluation.seed)
    scored = environment.sample(case.scored, SCORED_SEED + evaluation.seed)
    if case.behavior == "known":
        clinicians = FunctionPolicy("clinicians", environment.clinicians)
        return assemble_data(
            train, scored, environment.inputs, clinicians, evaluation.gamma, known=environment.clinicians
        )
    models = evaluation.behavior.model_copy(update={"models": chosen.behavior_models})
    rules = evaluation.model_copy(update={"behavior": models})
    return assemble_estimated(train, scored, environment.inputs, rules)


def _estimates(
    policy_estimate: PolicyEstimate, counts: np.ndarray, methods: list[Method]
) -> dict[str, Numbers]:
    """Every estimator with its own interval, those by weights with each of several, and the published one's."""
    found = {}
    for name, statistic in policy_estimate.statistics.items():
        if isinstance(statistic, SumEstimator):
            for method in methods:
                found[f"{name}, {method}"] = statistic.value, *compute_interval(statistic, counts, method)
        elif isinstance(statistic, FqeResult):
            found[name] = statistic.value, *statistic.interval()
    assert policy_estimate.fqe is not None
    initial, value = policy_estimate.fqe.initial_values, policy_estimate.fqe.value
    margin = float(norm.ppf(0.975) * initial.std(ddof=1) / np.sqrt(len(initial)))
    found["fqe_cross_fitted, initial states only"] = value, value - margin, value + margin
    return found


def _ends(difference: Difference) -> Numbers:
    value, lower, upper = (
        float("nan") if number is None else number
        for number in (difference.value, difference.lower, difference.upper)
    )
    return value, lower, upper
