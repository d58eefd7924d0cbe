"""How well each family of estimators tells 26 policies of the sepsis simulator apart, MAGIC among them.

    python benchmarks/ranking.py --repetitions 10 --out benchmarks/ranking.json

A setting like that of Tang & Wiens (2023, their table of 26 policies): 1,000 scored episodes, nothing hidden, known
clinicians. Values are divided by the largest return, as theirs are, so that errors compare; theirs of WIS: RMSE .079,
Spearman .868. `toxic`: ICU-Sepsis with a hazard that no state shows, where models are biased and weights are not.

MAGIC (Thomas & Brunskill 2016) blends the evaluator's value with weighted doubly robust returns cut off after each
step, by the least estimated squared error. It is here and not in the table of estimators: this record says why.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.stats import spearmanr

from sepsis_cql.benchmarks.training_step import describe_processor
from sepsis_cql.common.provenance import git_commit
from sepsis_cql.common.storage import write_json
from sepsis_cql.common.strict import load_shipped
from sepsis_cql.evaluation.data import EvaluationData
from sepsis_cql.evaluation.estimate import PolicyEstimate, estimate_policy, weigh_policy
from sepsis_cql.evaluation.estimators.episodes import select_rows
from sepsis_cql.evaluation.known_truth.calibrate import collect, open_environment
from sepsis_cql.evaluation.known_truth.settings import CalibrationSettings, CaseSettings
from sepsis_cql.evaluation.policies.softened import EvaluatedPolicy
from sepsis_cql.evaluation.settings import EvaluationSettings

TEMPERATURES = [8.0, 4.0, 2.0, 1.0, 0.5, 0.25, 16.0, 32.0]
LEVELS = [0.25, 0.5, 1.0, 2.0]
CASES: dict[str, dict[str, Any]] = {
    "sepsis-simulator": {
        "environment": "sepsis-simulator",
        "policies": {
            "optimal": [*TEMPERATURES, *(-one for one in TEMPERATURES)],
            "vasopressor": [*LEVELS, *(-one for one in LEVELS)],
            "greedy": [0.25, 0.5],
        },
    },
    "toxic": {
        "environment": "icu-sepsis",
        "toxicity": 0.1,
        "policies": {"optimal": [4.0, 1.0, -1.0, -4.0], "vasopressor": [*LEVELS[:3], *(-one for one in LEVELS[:3])]},
    },
}  # fmt: skip
EPISODES, RESAMPLES, REFITS = 1000, 50, 20
SHOWN = ("wis", "pdwis", "dr", "wdr", "fqe", "fqe_cross_fitted")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--repetitions", type=int, default=10)
    options.add_argument("--case", choices=CASES, action="append")
    options.add_argument("--out", type=Path)
    given = options.parse_args()
    settings = load_shipped(EvaluationSettings, "evaluation.yaml", {"fqe": {"refits": REFITS}})
    chosen = load_shipped(CalibrationSettings, "calibration.yaml")
    found = {name: measure(name, given.repetitions, chosen, settings) for name in given.case or list(CASES)}
    result = {
        "episodes": EPISODES,
        "repetitions": given.repetitions,
        "cases": found,
        "processor": describe_processor(),
        "commit": git_commit(),
    }
    print(json.dumps(result, indent=2))
    if given.out:
        write_json(given.out, result)


def measure(
    name: str, repetitions: int, chosen: CalibrationSettings, settings: EvaluationSettings
) -> dict[str, object]:
    """Return RMSE over all policies and repetitions, in units of the largest return, and mean Spearman's rho."""
    case = CaseSettings.model_validate(
        {"training": EPISODES, "scored": EPISODES, "behavior": "known", **CASES[name]}
    )
    environment = open_environment(case, chosen, settings)
    truths = []
    values: dict[str, list[list[Any]]] = {one: [] for one in (*SHOWN, "magic")}
    sizes = []
    for number in range(repetitions):
        told = settings.model_copy(update={"seed": number})
        data = collect(environment, case, chosen, told)
        targets = environment.targets(data.train, environment.clinicians)
        found = [
            estimate_policy(EvaluatedPolicy(one.policy, "learned", "none"), data, told, RESAMPLES)
            for one in targets
        ]
        truths.append([one.true_value for one in targets])
        sizes.append([one.summary.ess for one in found])
        for estimator in SHOWN:
            values[estimator].append([one.estimates[estimator].value for one in found])
        values["magic"].append([magic(one, data, number) for one in found])
    truth = np.array(truths)
    return {
        "policies": truth.shape[1],
        "mean effective sample size": round(float(np.mean(sizes)), 1),
        "estimators": {
            estimator: describe(np.array(found, dtype=float), truth, settings.bound)
            for estimator, found in values.items()
        },
    }


def describe(values: np.ndarray, truth: np.ndarray, bound: float) -> dict[str, float]:
    """Return errors and order of (repetitions, policies) values."""
    orders = [spearmanr(a, b).statistic for a, b in zip(values, truth, strict=True)]
    return {
        "rmse": round(float(np.sqrt(((values - truth) ** 2).mean()) / bound), 4),
        "spearman": round(float(np.mean(orders)), 3),
        "regret": round(
            float((truth.max(axis=1) - truth[range(len(truth)), values.argmax(axis=1)]).mean() / bound), 4
        ),
    }


def magic(found: PolicyEstimate, data: EvaluationData, seed: int) -> float:
    """Return the blend of Thomas & Brunskill (2016) over all lengths, with cross-fitted Q-values.

    Args:
        found: estimates of the policy.
        data: scored episodes.
        seed: of the bootstrap of the longest return, whose 50% interval tells the bias of the shorter ones.
    """
    assert found.fqe is not None
    episodes, q_all = data.episodes, found.fqe.q_values
    _, rho = weigh_policy(found.evaluated.policy, data)
    q = episodes.pad(select_rows(q_all, data.scored.actions))
    v = episodes.pad((found.probabilities * q_all).sum(axis=1))
    parts = cut_returns(episodes.rewards, rho, q, v, episodes.discounts)
    n = len(parts)
    values = parts.sum(axis=0)
    drawn = np.random.default_rng(seed).integers(0, n, (200, n))
    longest = [
        cut_returns(episodes.rewards[rows], rho[rows], q[rows], v[rows], episodes.discounts)[:, -1].sum()
        for rows in drawn
    ]
    low, high = np.quantile(longest, [0.25, 0.75])
    bias = np.maximum(0, values - high) - np.maximum(0, low - values)
    spread = np.cov(parts.T) * n
    matrix = spread + np.outer(bias, bias)
    weights = minimize(
        lambda x: x @ matrix @ x,
        np.full(len(values), 1 / len(values)),
        jac=lambda x: 2 * matrix @ x,
        bounds=[(0, 1)] * len(values),
        constraints={"type": "eq", "fun": lambda x: x.sum() - 1, "jac": lambda x: np.ones_like(x)},
        method="SLSQP",
    ).x
    return float(weights @ values)


def cut_returns(
    rewards: np.ndarray, rho: np.ndarray, q: np.ndarray, v: np.ndarray, discounts: np.ndarray
) -> np.ndarray:
    """Return (n_episodes, horizon + 1) contributions to the value by none, one, ... and all weighted steps."""
    weights = rho / rho.sum(axis=0)
    before = np.concatenate([np.full((len(rho), 1), 1 / len(rho)), weights[:, :-1]], axis=1)
    steps = np.cumsum((weights * (rewards - q) + before * v) * discounts, axis=1)
    ahead = before * v * discounts  # what the evaluator says of the steps from t on
    so_far = np.concatenate([np.zeros((len(rho), 1)), steps[:, :-1]], axis=1)
    return np.concatenate([so_far + ahead, steps[:, -1:]], axis=1)


if __name__ == "__main__":
    main()
