"""Speed of evaluation: every estimate of a policy, the bootstrap as published, fitted Q evaluation by d3rlpy.

    python benchmarks/evaluation.py --out DIR

Everything is timed in one process, on episodes of the simulated ICU in the published numbers: 12,062 to fit on, 2,585
to score. d3rlpy is left out where it is not installed (`benchmarks/requirements.txt`).
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sepsis_cql.benchmarks.training_step import describe_processor
from sepsis_cql.common.provenance import package_versions
from sepsis_cql.common.storage import write_json
from sepsis_cql.common.strict import load_shipped
from sepsis_cql.evaluation.data import EvaluationData
from sepsis_cql.evaluation.estimate import estimate_policy
from sepsis_cql.evaluation.estimators.fqe import make_fqe_data
from sepsis_cql.evaluation.estimators.fqe_basis import Decisions, new_basis
from sepsis_cql.evaluation.estimators.lstd import FqeData, episode_pulls, solve
from sepsis_cql.evaluation.known_truth.calibrate import collect, open_environment
from sepsis_cql.evaluation.known_truth.environments import Target
from sepsis_cql.evaluation.known_truth.settings import CalibrationSettings, CaseSettings
from sepsis_cql.evaluation.original_protocol import original_metrics
from sepsis_cql.evaluation.policies.softened import EvaluatedPolicy
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.replay.transitions import Transitions

N_TRAINING, N_SCORED, N_ACTIONS = 12_062, 2_585, 25
N_RESAMPLES, N_REFITS, BATCH, STEPS = 1000, 100, 4096, 20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    settings = load_shipped(EvaluationSettings, "evaluation.yaml", {"fqe": {"refits": N_REFITS}})
    chosen = load_shipped(CalibrationSettings, "calibration.yaml", {"truth_episodes": 1000})
    case = CaseSettings(
        environment="synthetic",
        training=N_TRAINING,
        scored=N_SCORED,
        behavior="known",
        policies={"network": [5.0]},
    )
    environment = open_environment(case, chosen, settings)
    data = collect(environment, case, chosen, settings)
    target = environment.targets(data.train, environment.clinicians)[0]
    contenders = tasks(data, target, settings)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(arguments.rounds):
        for name, task in contenders.items():
            began = time.perf_counter()
            task()
            seconds[name].append(time.perf_counter() - began)
    result: dict[str, Any] = {
        "processor": describe_processor(),
        "threads": torch.get_num_threads(),
        "load average before": round(load, 1),
        "versions": package_versions("torch", "d3rlpy", "numpy"),
    }
    result |= describe({name: statistics.median(values) for name, values in seconds.items()}, data)
    write_json(arguments.out / "evaluation.json", result)
    for name, value in result.items():
        print(f"{name:60} {value}")


def tasks(data: EvaluationData, target: Target, settings: EvaluationSettings) -> dict[str, Callable[[], Any]]:
    """What is timed, each on the same episodes and for the same policy."""
    evaluated = EvaluatedPolicy(target.policy, "learned", "none")
    probabilities = target.policy.probabilities(data.train.states)
    training = Decisions(data.train_inputs, probabilities, data.train_behavior)
    basis = new_basis(training.inputs, settings.fqe, settings.seed)
    decisions, _ = make_fqe_data(basis, data.train, training, settings)
    fit = solve(decisions, settings.fqe)
    counts = torch.tensor(np.random.default_rng(0).poisson(1.0, (data.train.n_episodes, N_REFITS)) - 1.0)
    q_values = np.log(np.maximum(target.policy.probabilities(data.scored.states), 1e-12))
    contenders: dict[str, Callable[[], Any]] = {
        "whole policy_estimate of one policy": lambda: estimate_policy(
            evaluated, data, settings, N_RESAMPLES
        ),
        "published metrics, ours": lambda: original_metrics(
            data.scored, q_values, gamma=settings.gamma, n_resamples=N_RESAMPLES
        ),
        "published metrics, plain loops": lambda: plain_loops(data.scored, q_values),
        "one fit": lambda: solve(make_fqe_data(basis, data.train, training, settings)[0], settings.fqe),
        "100 first-order refits": lambda: (
            fit.parameters[:, None] + episode_pulls(decisions, fit, data.train.n_episodes) @ counts
        ),
        "one exact refit": lambda: solve(decisions, settings.fqe, torch.ones_like(decisions.rewards)),
        "one sweep": lambda: sweep(decisions, fit.parameters),
    }
    if step := d3rlpy_fqe(data):
        contenders["d3rlpy, 20 steps"] = step
    return contenders


def plain_loops(scored: Transitions, q_values: np.ndarray) -> tuple[list[float], list[float]]:
    """The bootstrap as the published protocol words it: episodes in a dictionary, one loop for each resample."""
    stays, starts = scored.stay_id, scored.episode_starts
    value_of = {str(stays[row]): float(q_values[row].max()) for row in starts}
    shares = np.bincount(scored.actions, minlength=N_ACTIONS) / len(scored)
    ratios = (q_values.argmax(axis=1) == scored.actions) / shares[scored.actions]
    weights, returns = [], []
    for start, end in zip(starts, [*starts[1:], len(stays)], strict=True):
        weight, total = 1.0, 0.0
        for step, row in enumerate(range(start, end)):
            weight *= ratios[row]
            total += 0.99**step * scored.rewards[row]
        weights.append(weight)
        returns.append(total)
    rng, identifiers = np.random.default_rng(42), list(value_of)
    means = []
    for _ in range(N_RESAMPLES):
        drawn = rng.choice(identifiers, size=len(identifiers), replace=True)
        means.append(float(np.mean([value_of[one] for one in drawn])))
    weight_array, return_array = np.array(weights), np.array(returns)
    estimates = []
    for rows in np.random.default_rng(42).integers(0, len(weights), size=(N_RESAMPLES, len(weights))):
        total = weight_array[rows].sum()
        estimates.append(float((weight_array[rows] * return_array[rows]).sum() / total) if total > 0 else 0.0)
    return means, estimates


def sweep(data: FqeData, parameters: torch.Tensor) -> torch.Tensor:
    """One pass of fitted Q evaluation over all transitions: targets, and the right-hand side of the regression."""
    return data.features.T @ (data.rewards + data.next_features @ parameters).clamp(-1, 1)


def d3rlpy_fqe(data: EvaluationData) -> Callable[[], None] | None:
    """Updates of d3rlpy's DiscreteFQE, sampling included; None where d3rlpy is not installed."""
    try:
        import d3rlpy
    except ImportError:
        return None
    dataset = d3rlpy.dataset.MDPDataset(
        data.train_inputs,
        data.train.actions[:, None],
        data.train.rewards[:, None].astype(np.float32),
        data.train.terminals.astype(np.float32),
        action_space=d3rlpy.ActionSpace.DISCRETE,
        action_size=N_ACTIONS,
    )
    layers = d3rlpy.models.VectorEncoderFactory([256, 256])
    policy = d3rlpy.algos.DiscreteCQLConfig(batch_size=BATCH, encoder_factory=layers).create(device="cpu:0")
    policy.build_with_dataset(dataset)
    config = d3rlpy.ope.FQEConfig(batch_size=BATCH, encoder_factory=layers)
    evaluator = d3rlpy.ope.DiscreteFQE(algo=policy, config=config, device="cpu:0")
    evaluator.build_with_dataset(dataset)

    def steps() -> None:
        for _ in range(STEPS):
            evaluator.update(dataset.sample_transition_batch(BATCH))

    return steps


def describe(seconds: dict[str, float], data: EvaluationData) -> dict[str, Any]:
    """Times and the ratios that the project aims at."""
    found: dict[str, Any] = {f"seconds, {name}": round(value, 4) for name, value in seconds.items()}
    found["published plain loops / ours"] = round(
        seconds["published metrics, plain loops"] / seconds["published metrics, ours"], 1
    )
    found["100 first-order refits / one fit"] = round(
        seconds["100 first-order refits"] / seconds["one fit"], 2
    )
    found["100 exact refits / one fit"] = round(100 * seconds["one exact refit"] / seconds["one fit"], 1)
    if "d3rlpy, 20 steps" in seconds:
        step = seconds["d3rlpy, 20 steps"] / STEPS
        batches = len(data.train) / BATCH
        found["d3rlpy step / ours, per batch of 4096"] = round(step / (seconds["one sweep"] / batches), 1)
        found["whole fit of ours in d3rlpy steps"] = round(seconds["one fit"] / step, 1)
    return found


if __name__ == "__main__":
    main()
