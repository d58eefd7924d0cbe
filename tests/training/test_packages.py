"""What a package says its outputs are is what every reader makes of them, by an independent reading of its tensors."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from scipy.special import softmax

from sepsis_cql.checkpoints.hub_package import load_package
from sepsis_cql.checkpoints.original_pt import model_from_checkpoint, read_original_checkpoint
from sepsis_cql.common.errors import CheckpointError
from sepsis_cql.common.storage import read_json, write_json
from sepsis_cql.evaluation.policies.base import QPolicy, checked_probabilities, tilt_behavior
from sepsis_cql.evaluation.policies.load import load_policy
from sepsis_cql.modeling_sepsis_cql import NEVER, SepsisCQLModel
from sepsis_cql.training.learners.registry import LEARNERS
from sepsis_cql.training.run import Run, train_runs
from sepsis_cql.training.sweep.selection import sha256_policy

from .made_up import RUNTIME, make_data, make_settings

STATES = make_data().transitions.states[:50]
NAMES = sorted(LEARNERS)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A short run of every learner by its name; two models of IQL are trained together."""
    torch.set_num_threads(1)
    made = {}
    for name in NAMES:
        out = tmp_path_factory.mktemp(name)
        seeds = (7, 8) if name == "iql" else (7,)
        few = [
            Run(make_settings(name, epochs=2, learning_rate=0.02, seed=seed), out / str(seed))
            for seed in seeds
        ]
        train_runs(few, make_data(), RUNTIME, checkpoints=out / "c", report=lambda progress: None)
        made[name] = few[0].out
    return made


def read_plainly(name, package):
    """(n, 25) what the policy of a learner ranks doses by, from nothing but its tensors."""
    tensors = load_file(package / "model.safetensors")

    def apply(network):
        values = (STATES - tensors["mean"]) / tensors["scale"]
        for layer in (0, 2, 4):
            if f"{network}.{layer}.weight" not in tensors:
                break
            if layer and name == "ai_clinician":
                values = np.eye(values.shape[1])[values.argmax(axis=1)]
            elif layer:
                values = np.maximum(values, 0)
            values = values @ tensors[f"{network}.{layer}.weight"].T + tensors[f"{network}.{layer}.bias"]
        if name != "factored_bcq":
            return values
        return (values[:, :5, None] + values[:, None, 5:]).reshape(-1, 25)

    values = apply("net")
    if name in ("bcq", "factored_bcq", "one_step"):
        chances = softmax(apply("behavior"), axis=1)
        values = np.where(chances < 0.3 * chances.max(axis=1, keepdims=True), -np.inf, values)
    return np.where(values <= NEVER, -np.inf, values) if name == "ai_clinician" else values


@pytest.mark.parametrize("name", NAMES)
def test_every_reader_makes_the_same_of_a_package(runs, name):
    run = runs[name]
    expected = read_plainly(name, run / "package")
    is_policy = name in ("behavior_cloning", "iql")
    if name in ("ai_clinician", "bcq", "factored_bcq", "one_step"):
        assert 0 < np.isinf(expected).mean() < 1  # else nothing below would be seen
    (file,) = (run / "model").glob("*.pt")
    models = [
        load_package(run / "package"),
        SepsisCQLModel.from_pretrained(run / "package"),
        model_from_checkpoint(read_original_checkpoint(file)),
    ]
    states = torch.tensor(STATES)
    for model in models:
        found = model.preferences(model(states)).detach()
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
        assert torch.equal(model.greedy_action(states), torch.tensor(expected.argmax(axis=1)))
        for temperature in (0.5, 30.0):
            soft = model.action_probabilities(states, temperature)
            np.testing.assert_allclose(soft, softmax(expected / temperature, axis=1), atol=1e-4)
    assert len({sha256_policy(model) for model in models}) == 1
    policy = load_policy(str(run / "package")).bind_to(
        tuple(models[0].config.state_names), None, normalized=True
    )
    assert isinstance(policy, QPolicy) != is_policy
    plain = softmax(expected, axis=1) if is_policy else np.eye(25)[expected.argmax(axis=1)]
    np.testing.assert_allclose(checked_probabilities(policy, STATES), plain, atol=1e-4)
    if not is_policy:
        tilted = tilt_behavior(policy.q_values(STATES), np.full((len(STATES), 25), 0.04), 2.0)
        np.testing.assert_allclose(tilted, softmax(expected / 2, axis=1), atol=1e-4)
        assert (tilted[np.isinf(expected)] == 0).all()


def test_a_package_holds_the_networks_it_needs_and_says_what_they_are(runs):
    beside = {"bcq": "behavior", "factored_bcq": "behavior", "one_step": "behavior", "iql": "critic"}
    for name, run in runs.items():
        model = load_package(run / "package")
        assert list(model.networks) == ["net", *([beside[name]] if name in beside else [])]
        outputs = model(torch.tensor(STATES))
        assert (outputs.q_values is None) == (name == "behavior_cloning")
        assert (outputs.logits is None) == (
            name not in ("behavior_cloning", "bcq", "factored_bcq", "one_step", "iql")
        )
        assert model.config.algorithm == name


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("bcq", {"outputs": "values", "smallest_share": None}, "unexpected: behavior"),
        ("bcq", {"smallest_share": 0.0}, "smallest_share: found 0"),
        ("bcq", {"smallest_share": None}, "smallest_share: found None"),
        ("cql", {"smallest_share": 0.3}, "expected None"),
        ("cql", {"factored": True}, "of another shape"),
        ("iql", {"outputs": "logits"}, "unexpected: critic"),
        ("behavior_cloning", {"outputs": "actor_and_critic"}, "missing: critic"),
        ("ai_clinician", {"hidden_units": "sigmoid"}, "hidden_units"),
    ],
)
def test_a_package_that_says_something_else_is_refused(runs, tmp_path, name, change, message):
    package = runs[name] / "package"
    config = read_json(package / "config.json", expected="") | change
    write_json(tmp_path / "config.json", config)
    save_file(load_file(package / "model.safetensors"), tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        load_package(tmp_path)


def test_what_networks_are_read_as_decides_what_a_policy_is_known_by(runs):
    model = load_package(runs["bcq"] / "package")
    before = sha256_policy(model)
    model.config.smallest_share = 0.5
    assert sha256_policy(model) != before
