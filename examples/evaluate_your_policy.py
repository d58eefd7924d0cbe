"""Evaluate a policy of your own, a Python function, against the clinicians of a simulated ICU.

    python examples/evaluate_your_policy.py

A few simulated patients and few resamples keep it quick; numbers worth reading need the shipped settings and more
patients. With real data, `open_replay` takes a directory that `sepsis-cql build` wrote, and there is no truth.
Research only, not for patient care.
"""

import tempfile
from pathlib import Path

import numpy as np

from sepsis_cql.common.strict import load_shipped
from sepsis_cql.evaluation.evaluate import evaluate_policy, write_evaluation
from sepsis_cql.evaluation.policies.load import policy_of_function
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.replay.build import build_replay
from sepsis_cql.replay.directory import open_replay
from sepsis_cql.replay.settings import load_build_settings
from sepsis_cql.synthetic.rendering.render import synthesize
from sepsis_cql.synthetic.settings import load_synthetic_settings
from sepsis_cql.synthetic.truth import open_truth

QUICK = {
    "resamples": 100,
    "fqe": {"refits": 20},
    "behavior": {"models": ["multinomial logistic"]},
    "clinician_shares": [0.9],
    "truth_episodes": 100,
}

with tempfile.TemporaryDirectory() as folder:
    tables, directory, out = (Path(folder) / name for name in ("tables", "replay", "evaluation"))
    synthesize(tables, 300, 1, load_synthetic_settings())
    build_replay(tables, directory, load_build_settings())
    replay = open_replay(directory)
    pressure = replay.transitions("validation", "sparse").state_names.index("map")

    def treat_low_pressure(states: np.ndarray) -> np.ndarray:
        """Return (n, 25) probabilities for (n, 62) states in clinical units, NaN where nothing is known."""
        probabilities = np.full((len(states), 25), 0.4 / 25)  # leaves no action out
        low = states[:, pressure] < 65  # mmHg
        probabilities[low, 5 * 2 + 2] += 0.6  # action = 5 * vasopressor bin + fluid bin
        probabilities[~low, 0] += 0.6
        return probabilities

    found = evaluate_policy(
        policy_of_function(treat_low_pressure, "treat low pressure"),
        replay,
        split="validation",
        protocol="sound",
        settings=load_shipped(EvaluationSettings, "evaluation.yaml", QUICK),
        truth=open_truth(replay),
    )
    out.mkdir()
    write_evaluation(found, out)  # evaluation.json, figures and report.html

    for policy in found.policies:
        estimate = policy.estimates.get("fqe_cross_fitted") or policy.estimates["observed"]
        truth = "unknown" if policy.true_value is None else f"{policy.true_value.value:.1f}"
        print(
            f"{policy.name}: {estimate.value:.1f} [{estimate.lower:.1f}, {estimate.upper:.1f}], true value "
            f"{truth}, effective sample size {policy.weights.ess:.0f} of {found.n_episodes}"
        )
    print(f"Verdict: {found.verdict.label}")
    for reason in found.verdict.reasons:
        print(f"- {reason}")
