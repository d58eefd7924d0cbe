"""Evaluate a policy of your own, a Python function, against the clinicians of a simulated ICU.

    python examples/evaluate_your_policy.py

A few simulated patients and few resamples keep it quick; numbers worth reading need the shipped settings and more
patients. With real data, `open_replay` takes a directory that `sepsis-cql build` wrote, and there is no truth.
Research only, not for patient care.
"""

import tempfile
from pathlib import Path

import numpy as np

import sepsis_cql
from sepsis_cql.replay.build import build_replay
from sepsis_cql.replay.settings import load_build_settings
from sepsis_cql.synthetic.rendering.render import synthesize
from sepsis_cql.synthetic.settings import load_synthetic_settings

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
    replay = sepsis_cql.open_replay(directory)
    pressure = replay.transitions("validation", "sparse").state_names.index("map")

    def treat_low_pressure(states: np.ndarray) -> np.ndarray:
        """Return (n, 25) probabilities for (n, 62) states in clinical units, NaN where nothing is known."""
        probabilities = np.full((len(states), 25), 0.4 / 25)  # leaves no action out
        low = states[:, pressure] < 65  # mmHg
        probabilities[low, 5 * 2 + 2] += 0.6  # action = 5 * vasopressor bin + fluid bin
        probabilities[~low, 0] += 0.6
        return probabilities

    policy = sepsis_cql.load_policy(treat_low_pressure, name="treat low pressure")
    # out receives evaluation.json, figures and report.html
    found = sepsis_cql.evaluate(policy, replay, changes=QUICK, out=out)

    for one in found.policies:
        estimate = one.estimates.get("fqe_cross_fitted") or one.estimates["observed"]
        truth = "unknown" if one.true_value is None else f"{one.true_value.value:.1f}"
        print(
            f"{one.name}: {estimate.value:.1f} [{estimate.lower:.1f}, {estimate.upper:.1f}], true value "
            f"{truth}, effective sample size {one.weights.ess:.0f} of {found.n_episodes}"
        )
    print(f"Verdict: {found.verdict.label}")
    for reason in found.verdict.reasons:
        print(f"- {reason}")
