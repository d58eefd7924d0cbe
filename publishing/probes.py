"""probes.json: made-up states and the network's values there, so that anyone can see that a download computes alike."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from sepsis_cql.common.storage import read_json, write_json
from sepsis_cql.modeling_sepsis_cql import SepsisCQLModel

PROBES = "model/evidence/probes.json"
N_PROBES, SEED, MISSING_SHARE = 16, 20_261_124, 0.1
TOLERANCE = 1e-4  # of a value, in units of reward: float32 on another machine


def make_probes(model: SepsisCQLModel) -> dict[str, Any]:
    """States drawn around the network's own normalizer, never from patients, and the (n, 25) values there."""
    rng = np.random.default_rng(SEED)
    statistics = (model.mean, model.scale, model.clip_low, model.clip_high)
    mean, scale, low, high = (buffer.double().numpy() for buffer in statistics)
    drawn = mean + scale * rng.standard_normal((N_PROBES, len(mean)))
    states = np.round(np.clip(drawn, low, high), 3)
    if model.config.normalization != "identity":
        states[rng.random(states.shape) < MISSING_SHARE] = np.nan
    with torch.no_grad():
        outputs = model.net(model.normalize(torch.tensor(states, dtype=torch.float32))).double().numpy()
    return {
        "states": [[None if np.isnan(value) else value for value in row] for row in states.tolist()],
        "q_values": np.round(outputs, 6).tolist(),
    }


def write_probes(package: Path, model: SepsisCQLModel) -> None:
    """Write probes.json of a network into its package."""
    write_json(package / PROBES, make_probes(model))


def probe_problem(package: Path, model: SepsisCQLModel) -> str | None:
    """How probes.json differs from what the network gives; None if it does not."""
    found = read_json(package / PROBES, expected="the probes `sepsis-cql export` writes")
    expected = make_probes(model)
    if not isinstance(found, dict) or set(found) != set(expected) or found["states"] != expected["states"]:
        return "holds other states than those made up for this network"
    values = np.asarray(found["q_values"], dtype=np.float64)
    if values.shape != np.shape(expected["q_values"]):
        return f"holds values of shape {values.shape}"
    largest = float(np.abs(values - np.asarray(expected["q_values"])).max())
    if not largest <= TOLERANCE:
        return f"q-values differ by {largest:.3g}, at most {TOLERANCE:g} is rounding"
    return None
