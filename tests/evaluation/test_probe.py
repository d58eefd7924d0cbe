"""A policy is asked a few states before anything is fitted, and refused in one sentence."""

import numpy as np
import pytest

from sepsis_cql.common.errors import EvaluationError
from sepsis_cql.common.provenance import ROOT
from sepsis_cql.evaluation.policies.base import FunctionPolicy, check_answers_alone
from sepsis_cql.evaluation.policies.load import load_policy, probe_policy
from sepsis_cql.replay.directory import open_replay

POLICIES = """
import numpy as np

def good(states): return np.zeros(len(states), dtype=int)
def shares(states): return np.full((len(states), 25), 0.04)
def thirty(states): return np.full(len(states), 30)
def negative(states): return np.full(len(states), -1)
def narrow(states): return np.full((len(states), 24), 1 / 24)
def one_row(states): return np.full(25, 0.04)
def logits(states): return np.tile(np.arange(25.0), (len(states), 1))
def unknown(states): return np.full((len(states), 25), states[:, :1] * np.nan)
def sums(states): return np.tile((states.mean(axis=1) * 0 + 0.04)[:, None], 25)
def fails(states): return states.act()
"""


@pytest.fixture
def policies(tmp_path, monkeypatch):
    (tmp_path / "policies_to_probe.py").write_text(POLICIES)
    monkeypatch.syspath_prepend(tmp_path)
    return "policies_to_probe"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("thirty", "returned actions 30 to 30, expected 0 to 24"),
        ("negative", "returned actions -1 to -1, expected 0 to 24"),
        ("narrow", r"returned shape \(4, 24\), expected \(4, 25\)"),
        ("one_row", r"returned shape \(25,\), expected \(4, 25\)"),
        ("logits", "4 of 4 rows are not probabilities .*softmax"),
        ("unknown", "4 of 4 rows are not probabilities"),
        ("sums", "1 of 4 rows are not probabilities"),  # NaN where something was not measured
        ("fails", r"failed on \(4, 62\) made-up states \(AttributeError"),
    ],
)
def test_a_policy_is_probed_before_anything_is_fitted(policies, demo_replay, name, message):
    with pytest.raises(EvaluationError, match=f"policies_to_probe:{name}: {message}"):
        probe_policy(load_policy(f"{policies}:{name}"), open_replay(demo_replay))


@pytest.mark.parametrize("name", ["good", "shares"])
def test_a_policy_that_answers_passes_the_probe(policies, demo_replay, name):
    probe_policy(load_policy(f"{policies}:{name}"), open_replay(demo_replay))


def test_the_network_of_the_root_passes_the_probe(demo_replay):
    probe_policy(load_policy(str(ROOT)), open_replay(demo_replay))


STATES = np.random.default_rng(0).normal(size=(300, 2))
BY_CHANCE = np.random.default_rng(1)


@pytest.mark.parametrize(
    ("name", "function", "refused"),
    [
        ("of the state", lambda states: (states[:, 0] > 0).astype(int), False),
        ("of the row's place", lambda states: np.arange(len(states)) % 25, True),
        ("of how many there are", lambda states: np.full(len(states), int(len(states) > 10)), True),
        ("drawn by chance", lambda states: BY_CHANCE.integers(0, 25, len(states)), True),
    ],
)
def test_a_policy_that_is_no_function_of_a_state_is_refused(name, function, refused, monkeypatch):
    monkeypatch.setattr("sepsis_cql.evaluation.policies.base.ASKED_AGAIN", 10 if "many" in name else 1000)
    try:
        check_answers_alone(FunctionPolicy(name, function), STATES, 0)
    except EvaluationError as error:
        assert refused and f"{name}: answered otherwise in" in str(error)
    else:
        assert not refused
