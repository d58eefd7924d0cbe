"""A `.d3` policy is read without d3rlpy and without unpickling, and answers as d3rlpy's own."""

import io
import json
import pickle
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from sepsis_cql.checkpoints.d3rlpy_file import read_d3
from sepsis_cql.common.errors import CheckpointError
from sepsis_cql.evaluation.policies.load import load_policy

N_STATES, HIDDEN, N_ACTIONS = 5, [8, 6], 25
NONE = {"type": "none", "params": {}}
ENCODER = {
    "hidden_units": HIDDEN,
    "activation": "relu",
    "use_batch_norm": False,
    "use_layer_norm": False,
    "dropout_rate": None,
    "exclude_last_activation": False,
    "last_activation": None,
}


class Planted:
    """Writes a file where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.file,))


def network(seed: int) -> torch.nn.Sequential:
    torch.manual_seed(seed)
    sizes = [N_STATES, *HIDDEN, N_ACTIONS]
    layers = [torch.nn.Linear(a, b) for a, b in pairwise(sizes)]
    return torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1], torch.nn.ReLU(), layers[2])


def named(model: torch.nn.Sequential, prefix: str) -> dict[str, torch.Tensor]:
    names = {"0": "_encoder._layers.0", "2": "_encoder._layers.2", "4": "_fc"}
    return {f"{prefix}{names[key[0]]}{key[1:]}": value for key, value in model.state_dict().items()}


def config(kind: str, **params: object) -> dict:
    common = {
        "batch_size": 8,
        "gamma": 0.99,
        "learning_rate": 0.1,
        "optim_factory": {"type": "adam"},
        "compile_graph": False,
    }
    scalers = {"observation_scaler": NONE, "action_scaler": NONE, "reward_scaler": NONE}
    encoder = {"encoder_factory": {"type": "vector", "params": ENCODER}}
    learner = {"type": kind, "params": common | scalers | encoder | params}
    return {"observation_shape": [N_STATES], "action_size": N_ACTIONS, "config": learner}


def contents(kind: str = "discrete_cql", weights: object = None, **params: object) -> dict:
    """What d3rlpy pickles: here critics of seeds 0 and 1, and the clone of seed 2."""
    critics = named(network(0), "0.") | named(network(1), "1.")
    states = {
        "q_funcs": critics,
        "targ_q_funcs": {},
        "imitator": named(network(2), ""),
        "optim": {"optim": {}},
    }
    buffer = io.BytesIO()
    torch.save(states if weights is None else weights, buffer)
    text = json.dumps(config(kind, **({} if kind == "discrete_bc" else {"n_critics": 2}) | params))
    return {"torch": buffer.getvalue(), "config": text, "version": "2.8.1"}


def write(values: object, file: Path) -> Path:
    file.write_bytes(pickle.dumps(values))
    return file


@pytest.mark.parametrize("kind", ["discrete_cql", "dqn", "double_dqn"])
def test_values_are_the_mean_of_the_critics(kind, tmp_path):
    policy = read_d3(write(contents(kind), tmp_path / "a.d3"))
    states = torch.randn(7, N_STATES)
    assert torch.allclose(policy.outputs(states), (network(0)(states) + network(1)(states)) / 2, atol=1e-6)


def test_a_dose_that_the_clone_rarely_gives_is_minus_infinity(tmp_path):
    policy = read_d3(write(contents("discrete_bcq", action_flexibility=0.9), tmp_path / "a.d3"))
    states = torch.randn(7, N_STATES)
    shares = network(2)(states).softmax(dim=1)
    is_given = shares > 0.9 * shares.max(dim=1, keepdim=True).values
    assert (~is_given).sum() > 0 and torch.equal(policy.outputs(states).isneginf(), ~is_given)


def test_a_clone_is_its_probabilities_and_values_decide_the_others(tmp_path):
    states = np.random.default_rng(0).normal(size=(7, N_STATES)).astype(np.float32)
    clone = load_policy(write(contents("discrete_bc"), tmp_path / "clone.d3"))
    assert clone.network is None and clone.facts.kind == "d3rlpy" and clone.takes_normalized
    expected = network(2)(torch.from_numpy(states)).softmax(dim=1).detach().numpy()
    assert np.allclose(clone.function(states), expected, atol=1e-6)
    valued = load_policy(write(contents(), tmp_path / "values.d3"))
    assert valued.function is None and valued.network(states).shape == (7, N_ACTIONS)


@pytest.mark.parametrize("place", ["file", "dictionary", "weights", "before"])
def test_a_planted_pickle_is_refused_and_not_run(place, tmp_path):
    mark, file = tmp_path / "ran", tmp_path / "a.d3"
    values = contents()
    if place == "weights":
        values = contents(weights={"q_funcs": Planted(mark)})
    planted = {"file": Planted(mark), "dictionary": values | {"version": Planted(mark)}}.get(place, values)
    write(planted, file)
    if place == "before":
        file.write_bytes(pickle.dumps(Planted(mark))[:-1] + b"0" + file.read_bytes())
    with pytest.raises(CheckpointError, match=r"pickle opcode|asks to load"):
        read_d3(file)
    assert not mark.exists()
    pickle.loads(file.read_bytes()) if place != "weights" else torch.load(
        io.BytesIO(values["torch"]), weights_only=False
    )
    assert mark.exists()  # so that the plant was one


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"encoder_factory": {"type": "vector", "params": ENCODER | {"use_batch_norm": True}}},
            "use_batch_norm",
        ),
        (
            {"encoder_factory": {"type": "vector", "params": ENCODER | {"hidden_units": [8, 7]}}},
            "of another shape",
        ),
        ({"encoder_factory": {"type": "pixel", "params": {}}}, "encoder_factory.type"),
        ({"observation_scaler": {"type": "standard", "params": {"mean": [0.0]}}}, "observation_scaler"),
        ({"q_func_factory": {"type": "qr", "params": {}}}, "q_func_factory"),
        ({"n_critics": 3}, "missing"),
        ({"something_new": 1}, "something_new"),
    ],
)
def test_a_network_that_would_be_read_wrongly_is_refused(change, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        read_d3(write(contents(**change), tmp_path / "a.d3"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data + b"more",
        lambda data: b"",
        lambda data: pickle.dumps({"torch": b"", "config": "{}"}),
        lambda data: pickle.dumps(pickle.loads(data) | {"config": "[" * 100_000}),
        lambda data: pickle.dumps(pickle.loads(data) | {"config": 7}),
    ],
)
def test_damage_is_refused(damage, tmp_path):
    file = tmp_path / "a.d3"
    file.write_bytes(damage(pickle.dumps(contents())))
    with pytest.raises(CheckpointError, match=r"a\.d3"):
        read_d3(file)


def test_values_that_are_no_numbers_are_refused(tmp_path):
    broken = named(network(0), "0.")
    broken["0._fc.bias"][0] = torch.nan
    with pytest.raises(CheckpointError, match="NaN or infinity"):
        read_d3(write(contents(weights={"q_funcs": broken}, n_critics=1), tmp_path / "a.d3"))


@pytest.mark.parametrize("name", ["DQN", "DoubleDQN", "DiscreteCQL", "DiscreteBCQ", "DiscreteBC"])
def test_a_policy_of_d3rlpy_acts_as_there(name, tmp_path):
    d3rlpy = pytest.importorskip("d3rlpy", reason="needs `pip install d3rlpy`, in an environment of its own")
    layers = d3rlpy.models.VectorEncoderFactory(HIDDEN)
    learner = getattr(d3rlpy.algos, f"{name}Config")(encoder_factory=layers).create(device="cpu:0")
    learner.create_impl((N_STATES,), N_ACTIONS)
    learner.save(str(tmp_path / "a.d3"))
    policy, states = (
        read_d3(tmp_path / "a.d3"),
        np.random.default_rng(0).normal(size=(50, N_STATES)).astype("f4"),
    )
    found = policy.outputs(torch.from_numpy(states)).numpy()
    assert (found.argmax(axis=1) == learner.predict(states)).all()
    if name != "DiscreteBC":
        given = learner.predict_value(states, found.argmax(axis=1))
        assert np.allclose(given, found.max(axis=1), atol=1e-6)
