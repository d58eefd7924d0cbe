"""probes.json: made-up states and the network's values there, so that anyone can see that a download computes alike."""

from typing import Any

import numpy as np
import torch

from sepsis_cql.modeling_sepsis_cql import SepsisCQLModel
from sepsis_cql.publishing.guard.strict_json import dump_json, parse_json

PROBES = "model/evidence/probes.json"
N_PROBES, SEED, MISSING_SHARE = 16, 20_261_124, 0.1
DECIMALS = 3  # of a value, in units of reward
TOLERANCE = 1.5e-3  # the last decimal may be rounded otherwise on another machine


def make_probes(model: SepsisCQLModel) -> dict[str, Any]:
    """Return states drawn around the network's own normalizer, never from patients, and the (n, 25) values there."""
    rng = np.random.default_rng(SEED)
    statistics = (model.mean, model.scale, model.clip_low, model.clip_high)
    mean, scale, low, high = (buffer.double().numpy() for buffer in statistics)
    drawn = mean + scale * rng.standard_normal((N_PROBES, len(mean)))
    states = np.round(np.clip(drawn, low, high), DECIMALS)
    if model.config.normalization != "identity":
        states[rng.random(states.shape) < MISSING_SHARE] = np.nan
    with torch.no_grad():
        found = model(torch.tensor(states, dtype=torch.float32))
    outputs = (found.logits if found.q_values is None else found.q_values).double().numpy()
    return {
        "states": [[None if np.isnan(value) else value for value in row] for row in states.tolist()],
        "q_values": np.round(outputs, DECIMALS).tolist(),
    }


def probe_problem(content: bytes, made: bytes) -> str | None:
    """Return how probes.json differs from the one we make of the network; None if by rounding at most.

    Raises:
        ValueError: it is not JSON as we write it.
    """
    found, expected = parse_json(content), parse_json(made)
    if not isinstance(found, dict) or list(found) != list(expected) or found["states"] != expected["states"]:
        return "holds other states than those made up for this network"
    values = np.array(found["q_values"], dtype=np.float64)
    if values.shape != np.shape(expected["q_values"]) or dump_json(found) != content:
        return "holds more than values of the network"
    if not np.array_equal(values, np.round(values, DECIMALS)):
        return f"holds values of more than {DECIMALS} decimals"
    largest = float(np.abs(values - np.array(expected["q_values"])).max())
    if not largest <= TOLERANCE:
        return f"q-values differ by {largest:.3g}, at most {TOLERANCE:g} is rounding"
    return None
