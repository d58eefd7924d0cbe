"""Estimators held against known truth: bias, error, coverage of intervals, ranking of policies, false endorsements."""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from scipy.stats import norm, spearmanr

from sepsis_cql.common.provenance import package_versions
from sepsis_cql.common.strict import Settings
from sepsis_cql.evaluation.data import EvaluationData, assemble_data, hold_out
from sepsis_cql.evaluation.estimate import PolicyEstimate, estimate_policy
from sepsis_cql.evaluation.estimators.fqe import FqeResult
from sepsis_cql.evaluation.estimators.importance import SumEstimator
from sepsis_cql.evaluation.estimators.intervals import Method, compute_interval
from sepsis_cql.evaluation.known_truth.environments import Environment, IcuSepsis, SimulatedIcu
from sepsis_cql.evaluation.known_truth.record import Calibration, EstimatorQuality, PolicyQuality, Ranking
from sepsis_cql.evaluation.policies.base import FunctionPolicy
from sepsis_cql.evaluation.policies.behavior import fit_behavior
from sepsis_cql.evaluation.policies.softened import EvaluatedPolicy
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.evaluation.verdict import check_gates, is_identified, judge

SCORED_SEED = 1_000_000  # keeps scored episodes apart from training episodes
BETTER = "better than clinicians"


class CaseSettings(Settings):
    """One setting: episodes to fit on, episodes to score on, and whether the behavior policy is estimated."""

    environment: Literal["icu-sepsis", "synthetic"]
    training: int = Field(ge=100)
    scored: int = Field(ge=100)
    behavior: Literal["known", "estimated"]


class CalibrationSettings(Settings):
    """`configs/calibration.yaml`."""

    repetitions: int = Field(ge=2)
    seed: int
    resamples: int = Field(ge=50)
    truth_episodes: int = Field(ge=1000)
    repeated_truth_episodes: int = Field(ge=1000)
    intervals: list[Method] = Field(min_length=1)
    behavior_models: list[str] = Field(min_length=1)
    temperatures: dict[str, list[float]]
    cases: dict[str, CaseSettings]


@dataclass(frozen=True)
class Outcome:
    """One policy in one repetition.

    Attributes:
        name: of the policy.
        true_value: of the policy.
        estimates: value, lower and upper end by estimator and interval; NaN where undefined.
        difference: value, lower and upper end of the recommended difference to the clinicians.
        ess: effective sample size.
        passes: every gate holds that any statement needs.
        endorsed: the verdict is "better than clinicians".
    """

    name: str
    true_value: float
    estimates: dict[str, tuple[float, float, float]]
    difference: tuple[float, float, float]
    ess: float
    passes: bool
    endorsed: bool


def calibrate(
    name: str,
    settings: CalibrationSettings,
    evaluation: EvaluationSettings,
    *,
    jobs: int = 1,
    report: Callable[[int], None] = lambda done: None,
) -> Calibration:
    """Repeat data collection and evaluation of one case, and compare with the truth.

    Args:
        name: of the case in `settings`.
        settings: of the calibration.
        evaluation: settings of the estimators and of the verdict.
        jobs: processes.
        report: called with the number of repetitions done.
    """
    environment = _environment(
        settings.model_dump_json(), evaluation.model_dump_json(), settings.cases[name].environment
    )
    work = partial(_repeat, settings.model_dump_json(), name, evaluation)
    repetitions = []
    for outcomes in _map(work, settings.repetitions, jobs):
        repetitions.append(outcomes)
        report(len(repetitions))
    return Calibration(
        case=name,
        **settings.cases[name].model_dump(),
        repetitions=settings.repetitions,
        seed=settings.seed,
        recommended=evaluation.gates.recommended,
        clinicians_value=environment.clinicians_value,
        policies=[summarize(found, environment.clinicians_value) for found in zip(*repetitions, strict=True)],
        rankings=rank(repetitions),
        versions=package_versions("numpy", "scipy", "scikit-learn", "torch"),
    )


def _map(work: Callable[[int], list[Outcome]], n: int, jobs: int) -> Iterator[list[Outcome]]:
    if jobs == 1:
        yield from map(work, range(n))
    else:
        with ProcessPoolExecutor(jobs, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from pool.map(work, range(n))


def open_environment(settings: CalibrationSettings, evaluation: EvaluationSettings, name: str) -> Environment:
    """Return the process with known truth that a case names, with the discount and the bound of the evaluation."""
    temperatures = settings.temperatures[name]
    if name == "icu-sepsis":
        return IcuSepsis(temperatures, evaluation.gamma, evaluation.bound)
    return SimulatedIcu(
        temperatures,
        settings.truth_episodes,
        settings.repeated_truth_episodes,
        evaluation.gamma,
        evaluation.bound,
    )


@cache
def _environment(settings: str, evaluation: str, name: str) -> Environment:
    """The same, kept by each process with the true values it has found."""
    return open_environment(
        CalibrationSettings.model_validate_json(settings),
        EvaluationSettings.model_validate_json(evaluation),
        name,
    )


def _repeat(settings: str, name: str, evaluation: EvaluationSettings, repetition: int) -> list[Outcome]:
    chosen = CalibrationSettings.model_validate_json(settings)
    case = chosen.cases[name]
    environment = _environment(settings, evaluation.model_dump_json(), case.environment)
    seed = chosen.seed + repetition
    evaluation = evaluation.model_copy(update={"seed": seed})
    data = collect(environment, case, chosen, evaluation)
    clinicians = environment.clinicians if case.behavior == "known" else data.clinicians
    counts = data.counts(chosen.resamples, seed)
    outcomes = []
    for target in environment.targets(data.train, clinicians):
        policy_estimate = estimate_policy(
            EvaluatedPolicy(target.policy, "learned", "none"), data, evaluation, chosen.resamples
        )
        gates = check_gates(policy_estimate, data.behavior, evaluation)
        passes = is_identified(gates)
        difference = policy_estimate.difference
        assert difference is not None
        outcomes.append(
            Outcome(
                name=target.policy.name,
                true_value=target.true_value,
                estimates=_estimates(policy_estimate, counts, chosen.intervals),
                difference=_numbers(difference.value, difference.lower, difference.upper),
                ess=policy_estimate.summary.ess,
                passes=passes,
                endorsed=judge(policy_estimate, gates, [], evaluation).label == BETTER,
            )
        )
    return outcomes


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
    inputs = environment.inputs(train.states)
    held = hold_out(train.subject_id, evaluation.behavior.calibration_share, evaluation.seed)
    rules = evaluation.behavior.model_copy(update={"models": chosen.behavior_models})
    parts = [(inputs[rows], train.actions[rows]) for rows in (~held, held)]
    model = fit_behavior(*parts[0], *parts[1], rules, evaluation.seed)
    return assemble_data(train, scored, environment.inputs, model, evaluation.gamma)


def _estimates(
    policy_estimate: PolicyEstimate, counts: np.ndarray, methods: list[Method]
) -> dict[str, tuple[float, float, float]]:
    """Every estimator with its own interval, those by weights with each of several, and the published one's."""
    found = {}
    for name, statistic in policy_estimate.statistics.items():
        if isinstance(statistic, SumEstimator):
            for method in methods:
                found[f"{name}, {method}"] = statistic.value, *compute_interval(statistic, counts, method)
        elif isinstance(statistic, FqeResult):
            found[name] = statistic.value, *statistic.interval()
    assert policy_estimate.fqe is not None
    initial = policy_estimate.fqe.initial_values
    margin = float(norm.ppf(0.975) * initial.std(ddof=1) / np.sqrt(len(initial)))
    found["fqe_cross_fitted, initial states only"] = (
        policy_estimate.fqe.value,
        policy_estimate.fqe.value - margin,
        policy_estimate.fqe.value + margin,
    )
    return found


def _numbers(*values: float | None) -> tuple[float, float, float]:
    value, lower, upper = (float("nan") if value is None else value for value in values)
    return value, lower, upper


def summarize(found: tuple[Outcome, ...], clinicians: float) -> PolicyQuality:
    """Summarize bias, error and coverage of every estimator for one policy over all repetitions."""
    truth = np.array([one.true_value for one in found])
    passes = np.array([one.passes for one in found])
    endorsed = np.array([one.endorsed for one in found])
    return PolicyQuality(
        name=found[0].name,
        true_value=float(truth.mean()),
        ess=float(np.mean([one.ess for one in found])),
        passes_gates=float(passes.mean()),
        endorsed=float(endorsed.mean()),
        wrongly_endorsed=float((endorsed & (truth <= clinicians)).mean()),
        estimators={
            name: _quality(np.array([one.estimates[name] for one in found]), truth, passes)
            for name in found[0].estimates
        },
        difference=_quality(np.array([one.difference for one in found]), truth - clinicians, passes),
    )


def _quality(numbers: np.ndarray, truth: np.ndarray, passes: np.ndarray) -> EstimatorQuality:
    """Errors of (n, 3) values with their intervals; an undefined one covers nothing."""
    value, lower, upper = numbers.T
    error = value - truth
    covered = (lower <= truth) & (truth <= upper)
    known = np.isfinite(error)
    if not known.any():
        return EstimatorQuality(undefined=1.0, coverage=0.0)
    return EstimatorQuality(
        undefined=float(1 - known.mean()),
        bias=float(error[known].mean()),
        standard_deviation=float(error[known].std()),
        rmse=float(np.sqrt((error[known] ** 2).mean())),
        mean_width=float((upper - lower)[known].mean()),
        coverage=float(covered.mean()),
        coverage_where_gates_hold=float(covered[passes].mean()) if passes.any() else None,
    )


def rank(repetitions: list[list[Outcome]]) -> dict[str, Ranking]:
    """Measure how well each estimator orders the policies of a repetition."""
    rankings = {}
    for name in repetitions[0][0].estimates:
        correlations, regrets = [], []
        for outcomes in repetitions:
            truth = np.array([one.true_value for one in outcomes])
            value = np.array([one.estimates[name][0] for one in outcomes])
            value = np.where(np.isfinite(value), value, -np.inf)
            correlations.append(spearmanr(value, truth).statistic if len(set(value)) > 1 else 0.0)
            regrets.append(truth.max() - truth[value.argmax()])
        rankings[name] = Ranking(spearman=float(np.mean(correlations)), regret=float(np.mean(regrets)))
    return rankings
