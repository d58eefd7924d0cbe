"""How often is a policy endorsed that is truly no better than the clinicians, in wards made up to deceive the verdict?

    python benchmarks/deceptions.py --out benchmarks/deceptions.json [--ward NAME ...] [--repetitions 24]

Every repetition draws training and scored stays anew. The true gain of the policy over the clinicians is that of many
stays of each, with other chance than the repetitions; where the policy leans on estimated clinicians it is measured in
each repetition. It is 0 where no dose has an effect. Where several policies are judged on the same stays, the first is
measured, and it counts whether any is endorsed. A run that was stopped goes on with the rows beside --out.
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sepsis_cql.benchmarks.attacks.deceiving import WARDS
from sepsis_cql.benchmarks.attacks.wards import Ward
from sepsis_cql.common.provenance import git_commit
from sepsis_cql.common.strict import load_shipped
from sepsis_cql.evaluation.data import EvaluationData
from sepsis_cql.evaluation.estimate import PolicyEstimate, estimate_policy
from sepsis_cql.evaluation.known_truth.summary import count_share
from sepsis_cql.evaluation.policies.base import FunctionPolicy
from sepsis_cql.evaluation.policies.softened import EvaluatedPolicy
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.evaluation.verdict import ABOUT_HIDDEN, BETTER, check_gates, judge

REFITS, RESAMPLES = 60, 200
TRUTH, TRUTH_EACH = 50_000, 20_000  # stays at a time, and in each repetition
TRUTH_DECISIONS = 2_000_000  # of a policy, at least two times over
TRUTH_SEED, SCORED_SEED = 777, 1_000_000


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--ward", action="append", choices=WARDS)
    options.add_argument("--repetitions", type=int, default=24, help="of each ward; 0 sums up what there is")
    given = options.parse_args()
    torch.set_num_threads(1)
    settings = load_shipped(EvaluationSettings, "evaluation.yaml", {"fqe": {"refits": REFITS}})
    rows, commit = given.out.with_suffix(".jsonl"), git_commit()
    for name in given.ward or WARDS:
        done = {row["repetition"] for row in read(rows) if row["ward"] == name}
        for number in sorted(set(range(given.repetitions)) - done):
            row = {"ward": name, "repetition": number, "commit": commit}
            row |= repeat(WARDS[name], number, settings)
            with rows.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(row) + "\n")
        print(name, json.dumps(summarize(name, read(rows))), flush=True)
    found = read(rows)
    wards = {name: summarize(name, found) for name in WARDS if any(row["ward"] == name for row in found)}
    given.out.write_text(json.dumps({"wards": wards}, indent=2) + "\n", encoding="utf-8")


def read(rows: Path) -> list[dict[str, Any]]:
    """The repetitions there are."""
    return (
        [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()] if rows.is_file() else []
    )


def repeat(ward: Ward, number: int, settings: EvaluationSettings) -> dict[str, Any]:
    """Draw stays, and judge the policies one after the other: whether one is endorsed, and what refused the first."""
    told = settings.model_copy(update={"seed": number + 1})
    data = ward.assemble(SCORED_SEED + number, told)
    verdicts = [look(ward, which, data, told) for which in range(len(ward.policies))]
    endorsed, first = any(one["endorsed"] for one in verdicts), verdicts[0]
    gain = None
    if ward.told is None and not ward.is_null:
        gain = measure_gain(ward, data, told.gamma, TRUTH_EACH, TRUTH_SEED + number)
    return first | {"endorsed": endorsed, "gain": gain}


def look(ward: Ward, which: int, data: EvaluationData, settings: EvaluationSettings) -> dict[str, Any]:
    """The verdict on one policy."""
    policy = EvaluatedPolicy(FunctionPolicy("policy", ward.act(which, data)), "learned", "none")
    found = estimate_policy(policy, data, settings, RESAMPLES)
    assert found.difference is not None
    is_promising = ward.told is None and (found.difference.lower or 0) > 0
    covariates = data.covariates(settings) if is_promising else ()
    gates = check_gates(found, data.behavior, settings, covariates, looks=which + 1)
    lenient = [gate for gate in gates if gate.name not in ABOUT_HIDDEN]
    return {
        "endorsed": judge(found, gates, [], settings).label == BETTER,
        "endorsed_but_for_hidden_factors": judge(found, lenient, [], settings).label == BETTER,
        "refused_by": [gate.name for gate in gates if not gate.passed],
        **describe(found),
    }


def describe(found: PolicyEstimate) -> dict[str, Any]:
    """Numbers behind a verdict."""
    return {
        "ess": round(found.summary.ess),
        "differences": {name: [one.value, one.lower] for name, one in found.differences.items()},
        "certain_gamma": found.certain_gamma,
    }


def measure_gain(ward: Ward, data: EvaluationData, gamma: float, stays: int, seed: int) -> float:
    """The first policy's true mean return less the clinicians', from as many stays of each."""
    policy, clinicians = (
        ward.simulate(stays, seed, gamma, act)[0].mean() for act in (ward.act(0, data), None)
    )
    return float(policy - clinicians)


def summarize(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares with exact 95% intervals, the true gain, and how often each gate refused."""
    ward, found = WARDS[name], [row for row in rows if row["ward"] == name]
    settings = load_shipped(EvaluationSettings, "evaluation.yaml")
    gains = [0.0, 0.0]
    if not ward.is_null and ward.told is None:
        gains = [row["gain"] for row in found]
    elif not ward.is_null:
        data, times = ward.assemble(SCORED_SEED, settings), max(2, TRUTH_DECISIONS // (TRUTH * ward.horizon))
        gains = [measure_gain(ward, data, settings.gamma, TRUTH, TRUTH_SEED + part) for part in range(times)]
    endorsed = np.array([row["endorsed"] for row in found])
    lenient = np.array([row["endorsed_but_for_hidden_factors"] for row in found])
    return {
        "clinicians": "estimated" if ward.told is None else "known",
        "decisions": ward.horizon,
        "scored": ward.scored,
        "policies": len(ward.policies),
        "true_gain": round(float(np.mean(gains)), 3),
        "standard_error": round(float(np.std(gains, ddof=1) / np.sqrt(len(gains))), 3),
        "repetitions": len(found),
        "endorsed": count_share(endorsed).model_dump(),
        "endorsed_but_for_hidden_factors": count_share(lenient).model_dump(),
        "effective_sample_size": float(np.median([row["ess"] for row in found])),
        "refused": dict(Counter(gate for row in found for gate in row["refused_by"]).most_common()),
        "commits": sorted({row["commit"] for row in found}),
    }


if __name__ == "__main__":
    main()
