"""Could a fairer rule than the worst case tell gains from hidden confounding? Power against wrong endorsements.

    python benchmarks/hidden_factors.py --out benchmarks/hidden_factors.json

Informal benchmarking (Cinelli & Hazlett 2020): an advantage over estimated clinicians withstands a hidden factor like a
measured one, if it stays above 0 less a multiple of what leaving out that covariate moves the estimate. A covariate is
left out of the behavior policy, of the states of fitted Q evaluation, and of the policy itself, whose preference over
the clinicians is then read at a typical value: an unmeasured covariate is seen by nobody but the clinicians. The same
blind policy is valued with and without it, and the distance is confounding alone. Of the verdicts that every other gate
lets praise, those are counted that each rule would endorse, where the policy is truly better and where it is not.
A run that was stopped goes on with the rows beside --out.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sepsis_cql.common.provenance import git_commit
from sepsis_cql.common.strict import load_shipped
from sepsis_cql.evaluation.covariates import _blank, _median, _strongest, _thin
from sepsis_cql.evaluation.data import EvaluationData
from sepsis_cql.evaluation.estimate import estimate_policy
from sepsis_cql.evaluation.estimators.fqe import cross_fit
from sepsis_cql.evaluation.estimators.fqe_basis import Decisions
from sepsis_cql.evaluation.known_truth.calibrate import BETTER, collect, open_environment
from sepsis_cql.evaluation.known_truth.environments import Target
from sepsis_cql.evaluation.known_truth.settings import CalibrationSettings
from sepsis_cql.evaluation.known_truth.summary import count_share
from sepsis_cql.evaluation.policies.base import checked_probabilities
from sepsis_cql.evaluation.policies.behavior import fit_behavior
from sepsis_cql.evaluation.policies.softened import EvaluatedPolicy
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.evaluation.verdict import ABOUT_HIDDEN, check_gates, judge

LARGE = {"training": 3000, "scored": 2585, "behavior": "estimated"}
SEPSIS, ICU = ({"environment": name, **LARGE} for name in ("sepsis-simulator", "synthetic"))
OPTIMAL, NETWORK = (
    {"policies": {kind: pair}} for kind, pair in (("optimal", [8.0, 4.0]), ("network", [5.0, 10.0]))
)
CASES: dict[
    str, dict[str, Any]
] = {  # nothing hidden first; in the simulated ICU clinicians treat hidden failure less
    "sepsis simulator": SEPSIS | OPTIMAL,
    "simulated ICU": ICU | NETWORK,
    "sepsis simulator, glucose and diabetes hidden": SEPSIS | OPTIMAL | {"withheld": ["glucose", "diabetes"]},
    "sepsis simulator, oxygen hidden": SEPSIS | OPTIMAL | {"withheld": ["oxygen"]},
    "sepsis simulator, pressure hidden": SEPSIS | OPTIMAL | {"withheld": ["pressure"]},
    "sepsis simulator, pressure and heart rate hidden": SEPSIS
    | OPTIMAL
    | {"withheld": ["pressure", "heart_rate"]},
    "sepsis simulator, all but glucose and diabetes hidden": SEPSIS
    | OPTIMAL
    | {"withheld": ["heart_rate", "pressure", "oxygen"]},
    "simulated ICU, organ failure hidden, pull 0.4": ICU | NETWORK | {"hidden_pull": -0.4},
    "simulated ICU, organ failure hidden, pull 0.8": ICU | NETWORK | {"hidden_pull": -0.8},
}
REPETITIONS = {"sepsis-simulator": 20, "synthetic": 6}
STRONGEST, GROUP, MULTIPLES = 4, 3, (0.5, 1.0, 2.0, 3.0)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--case", action="append", choices=CASES)
    options.add_argument("--repetitions", type=int, help="at most, of each case; 0 counts what there is")
    given = options.parse_args()
    torch.set_num_threads(1)
    rows = given.out.with_suffix(".jsonl")
    for name in given.case or CASES:
        done = {row["repetition"] for row in read(rows) if row["case"] == name}
        wanted = REPETITIONS[CASES[name]["environment"]]
        wanted = wanted if given.repetitions is None else min(wanted, given.repetitions)
        missing = [number for number in range(wanted) if number not in done]
        for found in repeat(name, missing):
            with rows.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(found) + "\n")
            print(json.dumps(found), flush=True)
    record = {"commit": git_commit(), "cases": summarize(read(rows))}
    given.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def read(rows: Path) -> list[dict[str, Any]]:
    """The repetitions there are."""
    return (
        [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()] if rows.is_file() else []
    )


def repeat(name: str, numbers: list[int]) -> Any:
    """Each repetition: of every policy the true gain, whether others praise it, and what covariates say."""
    settings = load_shipped(
        CalibrationSettings,
        "calibration.yaml",
        {"cases": {name: CASES[name]}, "truth_episodes": 8000, "repeated_truth_episodes": 8000},
    )
    evaluation = load_shipped(EvaluationSettings, "evaluation.yaml", {"fqe": {"refits": settings.refits}})
    case = settings.cases[name]
    environment = open_environment(case, settings, evaluation)
    for number in numbers:
        rules = evaluation.model_copy(update={"seed": settings.seed + number})
        data = collect(environment, case, settings, rules)
        policies = [
            look_at(target, environment.clinicians_value, data, rules, settings.resamples)
            for target in environment.targets(data.train, data.clinicians)
        ]
        yield {"case": name, "repetition": number, "policies": policies}


def look_at(
    target: Target, clinicians: float, data: EvaluationData, settings: EvaluationSettings, resamples: int
) -> dict[str, Any]:
    """One policy: its true gain, the lower end of its advantage, and how far leaving out covariates moves it."""
    found = estimate_policy(EvaluatedPolicy(target.policy, "learned", "none"), data, settings, resamples)
    gates = [gate for gate in check_gates(found, data.behavior, settings) if gate.name not in ABOUT_HIDDEN]
    facts = {"policy": target.policy.name, "gain": target.true_value - clinicians, "praised": False}
    if judge(found, gates, [], settings).label != BETTER:
        return facts
    assert found.difference is not None
    covariates = data.covariates(settings)
    return facts | {
        "praised": True,
        "lower": found.difference.lower,
        "withstands_today": found.certain_gamma is None or found.certain_gamma >= covariates[0].odds,
        "moved": move(target, data, settings),
    }


def move(target: Target, data: EvaluationData, settings: EvaluationSettings) -> dict[str, float]:
    """How far leaving out each strong covariate, and the strongest together, moves the value of a blind policy."""
    on, names = data.fitted_on, data.scored.state_names
    assert on is not None
    rules = settings.behavior.model_copy(update={"models": [on.model.name]})
    parts = [_thin(part, rules.selection_rows, settings.seed) for part in (on.fitted, on.held)]
    typical = np.array([_median(column) for column in parts[0][0].T])
    wanted = settings.covariates.model_copy(update={"strongest": STRONGEST})
    strongest = _strongest(on, names, parts[1], typical, wanted)
    quick = settings.model_copy(update={"fqe": settings.fqe.model_copy(update={"refits": 2, "sweeps": 1})})
    counts = data.counts(2, settings.seed)

    def value(inputs: np.ndarray, policy: np.ndarray, behavior: np.ndarray) -> float:
        return cross_fit(data.scored, Decisions(inputs, policy, behavior), counts, quick).value

    found = {}
    for columns in [*([column] for column in strongest), strongest[:GROUP]]:

        def blind(states: np.ndarray, columns: list[int] = columns) -> np.ndarray:
            for column in columns:
                states = _blank(states, column, typical)
            return states

        fitted, held = ((on.normalizer(blind(states)), actions) for states, actions in parts)
        model = fit_behavior(*fitted, *held, rules, settings.seed)
        states = blind(data.scored.states)
        inputs = on.normalizer(states)
        without = model.probabilities(inputs)
        preferred = without * checked_probabilities(target.policy, states) / data.clinicians(states)
        policy = preferred / preferred.sum(axis=1, keepdims=True)
        moved = value(inputs, policy, without) - value(data.scored_inputs, policy, data.behavior)
        found[", ".join(names[column] for column in columns)] = float(moved)
    return found


def endorses(row: dict[str, Any], rule: str) -> bool:
    """Whether a rule endorses a policy that all others praise."""
    if not row["praised"] or rule == "none":
        return bool(row["praised"])
    if rule == "worst case":
        return bool(row["withstands_today"])
    multiple, of = rule.split(" x ")
    *single, together = (abs(moved) for moved in row["moved"].values())
    return bool(row["lower"] > float(multiple) * (together if of == "group" else max(single)))


RULES = [
    "none",
    "worst case",
    *(f"{multiple:g} x {of}" for of in ("strongest", "group") for multiple in MULTIPLES),
]


def summarize(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each case and rule, the share endorsed of what is truly better, and of what is not, with exact intervals."""
    cases = defaultdict(list)
    for row in rows:
        cases[row["case"]].append(row["policies"])
    found: dict[str, dict[str, Any]] = {}
    for name in (name for name in CASES if name in cases):
        policies = [policy for repetition in cases[name] for policy in repetition]
        found[name] = {"repetitions": len(cases[name])}
        for kind, is_better in (("power", True), ("wrong", False)):
            among = [one for one in policies if (one["gain"] > 0) == is_better]
            found[name][kind] = {
                rule: count_share(np.array([endorses(one, rule) for one in among])).model_dump()
                for rule in RULES
                if among
            }
            found[name][f"of_{kind}"] = len(among)
    return found


if __name__ == "__main__":
    main()
