"""The fast learner follows the published recipe, for one model and for each of several models trained together."""

import pytest
import torch

from sepsis_cql.benchmarks.published_recipe import PublishedRecipe, q_network
from sepsis_cql.training.learners.cql import ConservativeQLearning
from sepsis_cql.training.step.device_buffer import DeviceBuffer, epoch_order
from sepsis_cql.training.step.network import TrainableNetwork

from .made_up import CPU, make_settings, make_transitions

EPOCHS, BATCH, TARGET_EPOCHS = 12, 64, 3


def columns(dtype=torch.float32):
    data = make_transitions(n_stays=60)
    states, next_states = torch.tensor(data.states).to(dtype), torch.tensor(data.next_states).to(dtype)
    rewards, terminals = torch.tensor(data.rewards).to(dtype), torch.tensor(data.terminals)
    return states, torch.tensor(data.actions), rewards, next_states, terminals


def make_learner(networks, rewards, *, learning_rates, alphas, dtype=torch.float32, reduced_precision=False):
    states, actions, _, next_states, terminals = columns(dtype)
    network = TrainableNetwork(
        networks, learning_rates, grad_clip=10.0, device=CPU, reduced_precision=reduced_precision
    )
    buffer = DeviceBuffer(states.to(network.inputs_dtype), next_states, actions, terminals)
    settings = [make_settings(alpha=alpha, target_update_epochs=TARGET_EPOCHS) for alpha in alphas]
    return ConservativeQLearning(network, buffer, rewards, settings)


@torch.no_grad()
def train(learner, seeds, n):
    losses = []
    for epoch in range(1, EPOCHS + 1):
        order = torch.stack([epoch_order(seed, epoch, n) for seed in seeds])
        for rows in (order if len(seeds) > 1 else order[0]).split(BATCH, dim=-1):
            losses.append(learner.update(rows))
        learner.end_epoch(epoch)
    return losses


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-4)])
def test_training_equals_the_published_recipe(dtype, tolerance):
    data = columns(dtype)
    n, seed = len(data[1]), 5
    plain = PublishedRecipe(q_network(62, seed, dtype), data, learning_rate=1e-3)
    plain_losses = []
    for epoch in range(1, EPOCHS + 1):
        plain_losses += [plain.update(rows) for rows in epoch_order(seed, epoch, n).split(BATCH)]
        if epoch % TARGET_EPOCHS == 0:
            plain.copy_target()
    learner = make_learner(
        [q_network(62, seed, dtype)], data[2], learning_rates=[1e-3], alphas=[0.05], dtype=dtype
    )
    losses = train(learner, [seed], n)
    assert n % BATCH != 0  # the last short batch is part of the method
    expected = torch.cat([parameter.detach().flatten() for parameter in plain.network.parameters()])
    torch.testing.assert_close(learner.network.weights, expected, rtol=tolerance, atol=tolerance)
    for name in ("td_loss", "conservative_loss", "total_loss"):
        found = [float(step[name]) for step in losses]
        assert found == pytest.approx([step[name] for step in plain_losses], rel=tolerance * 10)


def test_each_of_several_models_equals_its_single_run():
    sparse = columns()[2]
    settings = [(5, 1e-3, 0.05, sparse), (6, 3e-4, 0.5, sparse), (7, 1e-3, 2.0, sparse * 0.5 + 0.1)]
    seeds, rates, alphas, rewards = zip(*settings, strict=True)
    together = make_learner(
        [q_network(62, seed) for seed in seeds], torch.stack(rewards), learning_rates=rates, alphas=alphas
    )
    joint_losses = train(together, seeds, len(sparse))
    for index, (seed, rate, alpha, reward) in enumerate(settings):
        single = make_learner([q_network(62, seed)], reward, learning_rates=[rate], alphas=[alpha])
        losses = train(single, [seed], len(sparse))
        for name, value in single.model_state(0).items():
            torch.testing.assert_close(together.model_state(index)[name], value, rtol=1e-3, atol=2e-4)
        found = torch.stack([step["td_loss"][index] for step in joint_losses])
        torch.testing.assert_close(
            found, torch.stack([step["td_loss"] for step in losses]), rtol=1e-3, atol=1e-4
        )


def test_a_loaded_state_continues_with_the_same_bits():
    rewards = columns()[2]
    n = len(rewards)
    started = make_learner([q_network(62, 1)], rewards, learning_rates=[1e-3], alphas=[0.1])
    train(started, [1], n)
    state = {name: value.clone() for name, value in started.state_dict().items()}
    train(started, [1], n)
    resumed = make_learner([q_network(62, 2)], rewards, learning_rates=[1e-3], alphas=[0.1])
    resumed.load_state_dict(state)
    train(resumed, [1], n)
    for name, value in started.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_reduced_precision_keeps_float32_weights_and_stays_close():
    rewards = columns()[2]
    exact = make_learner([q_network(62, 1)], rewards, learning_rates=[1e-4], alphas=[0.05])
    reduced = make_learner(
        [q_network(62, 1)], rewards, learning_rates=[1e-4], alphas=[0.05], reduced_precision=True
    )
    initial = exact.network.weights.clone()
    train(exact, [1], len(rewards))
    losses = train(reduced, [1], len(rewards))
    assert reduced.network.weights.dtype == torch.float32
    assert not torch.equal(reduced.network.weights, exact.network.weights)
    moved = (exact.network.weights - initial).norm()
    assert (reduced.network.weights - exact.network.weights).norm() < 0.1 * moved
    assert losses[-1]["td_loss"].dtype == torch.float32
