"""The loss and its written-out gradient are those of the method."""

import pytest
import torch
from torch import nn

from sepsis_cql.training.learners.cql import cql_losses_and_gradient
from sepsis_cql.training.learners.dqn import td_targets
from sepsis_cql.training.step.adam import Adam
from sepsis_cql.training.step.network import TrainableNetwork

from .made_up import CPU


def build(layers: dict) -> nn.Sequential:
    """The golden network: linear layers W1, W2, W3 with rectifiers between, in double precision."""
    modules = []
    for index in (1, 2, 3):
        weight = torch.tensor(layers[f"W{index}"], dtype=torch.float64)
        linear = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
        linear.weight.data, linear.bias.data = weight, torch.tensor(layers[f"b{index}"], dtype=torch.float64)
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


@pytest.fixture
def case(golden):
    given = golden["inputs"]["C"]
    rewards, states, next_states = (
        torch.tensor(given[name], dtype=torch.float64) for name in ("r", "s", "s2")
    )
    next_q_values = build(given["target"])(next_states).detach()
    targets = td_targets(rewards, torch.tensor(given["done"]).bool(), next_q_values, given["gamma"])
    expected = {name: entry["value"] for name, entry in golden["expected"]["C"].items()}
    return build(given["online"]), states, torch.tensor(given["a"]), targets, given["alpha"], expected


def test_losses_equal_the_golden_numbers(case):
    network, states, actions, targets, alpha, expected = case
    q_values = network(states).detach()
    td, conservative, _ = cql_losses_and_gradient(q_values, actions, targets, alpha)
    expected_q = torch.tensor(expected["q"], dtype=torch.float64)
    torch.testing.assert_close(q_values, expected_q, rtol=1e-9, atol=0)
    assert float(td) == pytest.approx(expected["td_mse_dqn"], rel=1e-9)
    assert float(conservative) == pytest.approx(expected["conservative"], rel=1e-9)
    assert float(td + alpha * conservative) == pytest.approx(expected["total_mse_dqn"], rel=1e-9)


def test_one_clipped_adam_step_equals_the_golden_numbers(case):
    module, states, actions, targets, alpha, expected = case
    network = TrainableNetwork([module], [1e-4], grad_clip=10.0, device=CPU)
    values = network.forward(states)
    norm = network.descend(values, cql_losses_and_gradient(values[-1], actions, targets, alpha)[2])
    assert float(norm) == pytest.approx(expected["grad_norm_mse_dqn"], rel=1e-9)
    assert network.weights[-3:].tolist() == pytest.approx(
        expected["b3_after_1_adam_step_lr1e-4_clip10"], rel=1e-9
    )


@pytest.mark.parametrize("models", [(), (3,)], ids=["one model", "three models"])
def test_the_written_gradient_equals_automatic_differentiation(models):
    generator = torch.Generator().manual_seed(1)
    q_values = torch.randn(*models, 50, 25, generator=generator, dtype=torch.float64) * 5
    q_values.requires_grad_()
    actions = torch.randint(0, 25, (*models, 50), generator=generator)
    targets = torch.randn(*models, 50, generator=generator, dtype=torch.float64) * 9
    alpha = torch.tensor([0.05, 0.5, 5.0], dtype=torch.float64)[: 3 if models else 1].view(models)
    given = q_values.gather(-1, actions[..., None]).squeeze(-1)
    td_loss = (given - targets).square().mean(dim=-1)
    conservative_loss = (q_values.logsumexp(dim=-1) - given).mean(dim=-1)
    (td_loss + alpha * conservative_loss).sum().backward()
    written = cql_losses_and_gradient(q_values.detach(), actions, targets, alpha.view(*models, 1, 1))
    for found, expected in zip(written, (td_loss, conservative_loss, q_values.grad), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_nothing_follows_a_terminal_step():
    rewards, next_q_values = torch.tensor([15.0, 0.0]), torch.tensor([[9.0, 2.0], [9.0, 2.0]])
    assert td_targets(rewards, torch.tensor([True, False]), next_q_values, 0.5).tolist() == [15.0, 4.5]


@pytest.mark.parametrize("n_models", [1, 3])
def test_adam_takes_the_steps_of_pytorch(n_models):
    generator = torch.Generator().manual_seed(2)
    gradients = torch.randn(5, n_models, 40, generator=generator, dtype=torch.float64)
    rates, scales = torch.tensor([[1e-2, 1e-3, 1e-4], [1.0, 0.1, 0.5]], dtype=torch.float64)[:, :n_models]
    weights, first, second = torch.zeros(3, n_models, 40, dtype=torch.float64)
    adam = Adam(rates, first, second, step=torch.zeros((), dtype=torch.float64))
    expected = [torch.zeros(40, dtype=torch.float64, requires_grad=True) for _ in range(n_models)]
    theirs = torch.optim.Adam(
        [{"params": [one], "lr": float(lr)} for one, lr in zip(expected, rates, strict=True)]
    )
    for gradient in gradients:
        adam.update(weights, gradient, scales[:, None])
        for one, slope, scale in zip(expected, gradient, scales, strict=True):
            one.grad = slope * scale
        theirs.step()
    torch.testing.assert_close(weights, torch.stack(expected).detach(), rtol=1e-12, atol=1e-14)
