"""Time of the whole sound evaluation: of one policy, and of a network with every softened version and baseline.

    python benchmarks/audit.py --out DIR [--scored 300 750 2585]

Episodes are those of the simulated ICU, 4.67 to fit on for each that is scored, as in the published study; the network
is the package's, and settings are the shipped ones: 1,000 resamples, 200 refits, four models of the clinicians,
measured covariates, gates, tails and lower bounds. What an evaluation does once for all policies is in the time of one.
Each round begins anew; the processor's time tells what the work costs where other work runs beside it. The result goes
to the screen and to DIR/audit.json.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sepsis_cql.benchmarks.training_step import describe_processor
from sepsis_cql.checkpoints.hub_package import load_package
from sepsis_cql.common.provenance import ROOT, package_versions
from sepsis_cql.common.storage import write_json
from sepsis_cql.common.strict import load_shipped
from sepsis_cql.evaluation.cache import cache_last
from sepsis_cql.evaluation.data import assemble_estimated
from sepsis_cql.evaluation.estimate import estimate_policy
from sepsis_cql.evaluation.evaluate import describe_policies, estimate_all
from sepsis_cql.evaluation.known_truth.settings import CalibrationSettings, CaseSettings
from sepsis_cql.evaluation.known_truth.simulated_icu import SimulatedIcu
from sepsis_cql.evaluation.policies.base import QPolicy
from sepsis_cql.evaluation.policies.load import policy_of_model
from sepsis_cql.evaluation.policies.softened import list_evaluated_policies
from sepsis_cql.evaluation.settings import EvaluationSettings

N_TRAINING, N_SCORED = 12_062, 2_585  # episodes of the published study
SCORED_SEED = 1_000_000
Seconds = dict[str, dict[str, float]]  # by part: the processor's and the clock's


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scored", type=int, nargs="+", default=[300, 750, N_SCORED])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    settings = load_shipped(EvaluationSettings, "evaluation.yaml")
    result: dict[str, Any] = {
        "processor": describe_processor(),
        "threads": torch.get_num_threads(),
        "rounds": arguments.rounds,
        "resamples": settings.resamples,
        "refits": settings.fqe.refits,
        "load average before": round(os.getloadavg()[0], 1),
        "versions": package_versions("torch", "numpy", "scikit-learn"),
        "by scored episodes, s": {},
    }
    for n in arguments.scored:
        rounds = [measure(n, settings) for _ in range(arguments.rounds)]
        result["by scored episodes, s"][str(n)] = summarize(rounds)
        for name, value in result["by scored episodes, s"][str(n)].items():
            print(f"{n:>6} scored episodes  {name:45} {value}", flush=True)
        write_json(arguments.out / "audit.json", result)  # after every size: a larger one may be stopped


def measure(n_scored: int, settings: EvaluationSettings) -> Seconds:
    """Seconds of each part of an evaluation on so many episodes."""
    seconds: Seconds = {}

    def timed(name: str, part: Callable[[], Any]) -> Any:
        clocks = {"processor": time.process_time, "clock": time.perf_counter}
        began = {clock: read() for clock, read in clocks.items()}
        found = part()
        seconds[name] = {clock: read() - began[clock] for clock, read in clocks.items()}
        return found

    case = CaseSettings(
        environment="synthetic", training=N_TRAINING, scored=n_scored, behavior="estimated", policies={}
    )
    few = load_shipped(CalibrationSettings, "calibration.yaml", {"truth_episodes": 1000})
    environment = SimulatedIcu(case, few, settings.gamma, settings.bound)
    train = environment.sample(round(n_scored * N_TRAINING / N_SCORED), settings.seed)
    scored = environment.sample(n_scored, SCORED_SEED)
    data = timed(
        "clinicians: models fitted, compared, calibrated",
        lambda: assemble_estimated(train, scored, environment.inputs, settings),
    )
    timed("doses of patients alike", lambda: data.local_actions(settings.gates.local_neighbors))
    timed("measured covariates left out", lambda: data.covariates(settings))
    values = policy_of_model(load_package(ROOT)).network
    assert values is not None
    network = QPolicy("network", cache_last(values))  # as a policy is bound to a replay
    every = list_evaluated_policies(network, data.clinicians, data.train.actions, settings)
    one = timed("estimates of one", lambda: estimate_policy(every[0], data, settings, settings.resamples))
    timed(
        "gates, tails and bounds of one",
        lambda: describe_policies([one], data, None, settings, is_selection=False),
    )
    policies = timed(
        "estimates of all and of the clinicians",
        lambda: estimate_all(every, data, settings, lambda text, left: None, has_truth=False),
    )
    timed(
        "gates, tails and bounds of all",
        lambda: describe_policies(policies, data, None, settings, is_selection=False),
    )
    once = list(seconds)[:3]
    for whole, suffix in ((f"{len(policies)} policies", "of all"), ("one policy", "of one")):
        parts = [*once, *(name for name in seconds if suffix in name)]
        seconds[f"whole evaluation, {whole}"] = {
            clock: sum(seconds[part][clock] for part in parts) for clock in ("processor", "clock")
        }
    return seconds


def summarize(rounds: list[Seconds]) -> dict[str, dict[str, float]]:
    """Medians of the rounds, and the least and most of the processor's time."""
    found = {}
    for name in rounds[0]:
        times = {clock: [one[name][clock] for one in rounds] for clock in ("processor", "clock")}
        found[name] = {clock: round(statistics.median(values), 3) for clock, values in times.items()}
        found[name] |= {
            "least": round(min(times["processor"]), 3),
            "most": round(max(times["processor"]), 3),
        }
    return found


if __name__ == "__main__":
    main()
