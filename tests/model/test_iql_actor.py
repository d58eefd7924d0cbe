"""The sibling study's actor is read from its safetensors or its nested .pt, and nothing beside them is touched."""

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from scipy.special import softmax
from typer.testing import CliRunner

from sepsis_cql.checkpoints.iql_actor import read_actor_package
from sepsis_cql.checkpoints.original_pt import model_from_checkpoint, read_original_checkpoint
from sepsis_cql.commands.app import app
from sepsis_cql.common.errors import CheckpointError
from sepsis_cql.evaluation.policies.load import load_policy

RNG = np.random.default_rng(3)
SIZES = [62, 8, 6, 25]


def new_layers(n_out=25):
    shapes = [(8, 62), (6, 8), (n_out, 6)]
    layers = {}
    for index, shape in enumerate(shapes):
        layers[f"net.{2 * index}.weight"] = RNG.normal(size=shape).astype(np.float32)
        layers[f"net.{2 * index}.bias"] = RNG.normal(size=shape[0]).astype(np.float32)
    return layers


def apply(layers, states):
    for index in (0, 2, 4):
        states = states @ layers[f"net.{index}.weight"].T + layers[f"net.{index}.bias"]
        states = np.maximum(states, 0) if index < 4 else states
    return states


ACTOR, CRITIC = new_layers(), new_layers()
STATES = RNG.normal(size=(9, 62)).astype(np.float32)


@pytest.fixture
def package(tmp_path):
    """The files of the Hub package; its code would end the test if anything ran it."""
    save_file(ACTOR, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"algorithm": "iql", "selected": "iql_sofa_shaped"}')
    (tmp_path / "modeling_iql.py").write_text("raise SystemExit('executed')\n")
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch executed'\ntR.")
    return tmp_path


def test_a_package_of_the_sibling_becomes_one_of_ours_that_acts_alike(package, tmp_path):
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["import-checkpoint", str(package), "--out", str(out)])
    assert result.exit_code == 0, result.output
    policy = load_policy(str(out)).bind_to(
        tuple(read_actor_package(package).config.state_names), None, normalized=True
    )
    expected = softmax(apply(ACTOR, STATES), axis=1)
    np.testing.assert_allclose(policy.probabilities(STATES), expected, rtol=1e-4, atol=1e-6)


def test_a_checkpoint_of_every_network_gives_the_actor_beside_its_first_critic(tmp_path):
    networks = {"policy_network": ACTOR, "q1": CRITIC, "q2": new_layers(), "target_q1": new_layers()}
    networks["value_network"] = new_layers(1)
    state = {
        name: {key: torch.tensor(value) for key, value in layers.items()} for name, layers in networks.items()
    }
    values = {"model_state_dict": state, "epoch": 2, "global_step": 9, "optimizer_state_dict": {}}
    torch.save(values, tmp_path / "iql.pt")
    model = model_from_checkpoint(read_original_checkpoint(tmp_path / "iql.pt"))
    assert (model.config.algorithm, model.config.outputs) == ("iql", "actor_and_critic")
    found = model(torch.tensor(STATES))
    np.testing.assert_allclose(found.logits.detach(), apply(ACTOR, STATES), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.q_values.detach(), apply(CRITIC, STATES), rtol=1e-4, atol=1e-4)
    assert model.greedy_action(torch.tensor(STATES)).tolist() == apply(ACTOR, STATES).argmax(axis=1).tolist()


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({**ACTOR, "encoder.0.weight": ACTOR["net.0.weight"]}, "tensor encoder.0.weight unknown"),
        ({"net.0.weight": ACTOR["net.0.weight"]}, "missing: net.0.bias"),
        (new_layers(24), "of another shape"),
        (ACTOR | {"net.0.bias": np.full(8, np.nan, dtype=np.float32)}, "holding NaN"),
    ],
)
def test_other_tensors_are_refused(package, tensors, message):
    save_file(tensors, package / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        read_actor_package(package)


def test_a_checkpoint_that_is_refused_is_named(tmp_path):
    state = {"policy_network": {key: torch.tensor(value) for key, value in new_layers(24).items()}}
    values = {"model_state_dict": state, "epoch": 2, "global_step": 9, "optimizer_state_dict": {}}
    torch.save(values, tmp_path / "iql.pt")
    with pytest.raises(CheckpointError, match=r"iql\.pt: tensors of another shape"):
        model_from_checkpoint(read_original_checkpoint(tmp_path / "iql.pt"))


def test_without_safetensors_nothing_else_is_read(package):
    (package / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors: not found"):
        read_actor_package(package)
