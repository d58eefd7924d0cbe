"""Updates of every learner are those of its method, computed plainly: modules, optimizers and losses of papers."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from sepsis_cql.training.learners.outcome import returns_to_go
from sepsis_cql.training.learners.registry import LEARNERS
from sepsis_cql.training.step.device_buffer import DeviceBuffer
from sepsis_cql.training.step.network import TrainableNetwork

from .made_up import CPU, OWN, make_data, make_settings

N_INPUTS, N_STEPS, GAMMA = 5, 4, 0.99


@pytest.fixture(scope="module")
def buffer():
    """Made-up transitions in double precision, and their rewards."""
    found = make_data().transitions
    columns = (found.states[:, :N_INPUTS], found.next_states[:, :N_INPUTS], found.actions, found.terminals)
    tensors = [torch.tensor(column) for column in columns]
    return DeviceBuffer(*(one.double() if one.is_floating_point() else one for one in tensors)), torch.tensor(
        found.rewards
    )


def new_network(seed, n_outputs):
    torch.manual_seed(seed)
    layers = [nn.Linear(N_INPUTS, 7), nn.ReLU(), nn.Linear(7, n_outputs)]
    return nn.Sequential(*layers).double()


def of_doses(kind, network, states):
    """The 25 outputs; of a factored network by a loop over the doses of both drugs."""
    found = network(states)
    if not kind.factored:
        return found
    return torch.stack([found[:, v] + found[:, 5 + f] for v in range(5) for f in range(5)], dim=1)


def plain_loss(name, kind, nets, olds, batch, rewards, ahead_actions):
    """The loss of a paper for one model; `nets` and `olds` are its networks and target networks by part."""
    states, actions, next_states, done = batch
    index, live = torch.arange(len(actions)), (~done).double()
    own = OWN[name]
    outputs = {part: of_doses(kind, net, states) for part, net in nets.items()}
    given = {part: values[index, actions] for part, values in outputs.items()}
    with torch.no_grad():
        new = {part: of_doses(kind, net, next_states) for part, net in nets.items()}
        old = {part: of_doses(kind, net, next_states) for part, net in olds.items()}
        held = {part: of_doses(kind, net, states)[index, actions] for part, net in olds.items()}
        if name == "dqn":
            ahead = old["net"].max(dim=1).values
        elif name == "double_cql":
            ahead = old["net"][index, new["net"].argmax(dim=1)]
        elif name == "one_step":
            ahead = old["net"][index, ahead_actions]
        elif name == "iql":
            ahead = new["value"][:, 0]
        elif "bcq" in name:
            chance = new["behavior"].softmax(dim=1)
            allowed = chance / chance.max(dim=1, keepdim=True).values >= own["smallest_share"]
            ahead = old["net"][index, torch.where(allowed, new["net"], -1e9).argmax(dim=1)]
        else:
            ahead = torch.zeros(len(actions), dtype=torch.float64)
        target = rewards + GAMMA * live * ahead
    cloning = functional.cross_entropy
    if name == "behavior_cloning":
        return cloning(outputs["net"], actions)
    if name == "dqn":
        return functional.mse_loss(given["net"], target)
    if name == "double_cql":
        gap = (outputs["net"].exp().sum(dim=1).log() - given["net"]).mean()
        return functional.huber_loss(given["net"], target) + own["alpha"] * gap
    if name == "one_step":
        return functional.mse_loss(given["net"], target) + cloning(outputs["behavior"], actions)
    if "bcq" in name:
        clone = outputs["behavior"]
        error = functional.huber_loss(given["net"], target)
        return error + cloning(clone, actions) + own["logit_penalty"] * clone.pow(2).mean()
    assert name == "iql"
    value = outputs["value"][:, 0]
    gap = torch.min(held["critic"], held["critic_2"]) - value
    expectile = (torch.abs(own["expectile"] - (gap.detach() < 0).double()) * gap**2).mean()
    trust = torch.clamp(torch.exp(own["inverse_temperature"] * gap.detach()), max=own["largest_weight"])
    critics = sum(functional.mse_loss(given[part], target) for part in ("critic", "critic_2"))
    return critics + expectile + (trust * cloning(outputs["net"], actions, reduction="none")).mean()


@pytest.mark.parametrize("n_models", [1, 2])
@pytest.mark.parametrize("name", sorted(set(LEARNERS) - {"cql", "ai_clinician", "outcome"}))
def test_updates_are_those_of_the_method(buffer, name, n_models):
    data, rewards = buffer
    kind, n_outputs = LEARNERS[name], 10 if LEARNERS[name].factored else 25
    rates = [0.01, 0.002][:n_models]
    changes = [{"inverse_temperature": 0.1}, {"inverse_temperature": 0.1}] if name == "iql" else [{}, {}]
    settings = [make_settings(name, **change) for change in changes[:n_models]]
    models = [
        {part: new_network(10 * model + number, n_outputs) for number, part in enumerate(kind.parts)}
        for model in range(n_models)
    ]
    every = [net for nets in models for net in nets.values()]
    network = TrainableNetwork(every, [rate for rate in rates for _ in kind.parts], grad_clip=0.5, device=CPU)
    scales = torch.tensor([1.0, 0.3], dtype=torch.float64)[:n_models, None]
    of_models = rewards * scales if n_models > 1 else rewards
    learner = kind(network, data, of_models, settings)
    orders = [torch.randperm(len(data), generator=torch.Generator().manual_seed(m)) for m in range(n_models)]
    batches = [order[: 32 * N_STEPS].split(32) for order in orders]
    with torch.no_grad():
        for step in range(N_STEPS):
            rows = torch.stack([batches[model][step] for model in range(n_models)])
            learner.update(rows if n_models > 1 else rows[0])
    following = torch.cat([data.actions[1:], data.actions[:1]])
    for model, nets in enumerate(models):
        olds = {part: new_network(10 * model + number, n_outputs) for number, part in enumerate(kind.parts)}
        optimizers = [torch.optim.Adam(net.parameters(), lr=rates[model]) for net in nets.values()]
        for step in range(N_STEPS):
            rows = batches[model][step]
            batch = (data.states[rows], data.actions[rows], data.next_states[rows], data.terminals[rows])
            loss = plain_loss(name, kind, nets, olds, batch, (rewards * scales[model])[rows], following[rows])
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            for net, optimizer in zip(nets.values(), optimizers, strict=True):
                nn.utils.clip_grad_norm_(net.parameters(), 0.5)
                optimizer.step()
            for part, net in nets.items():
                if "target_rate" not in OWN[name]:
                    continue
                for old, new in zip(olds[part].parameters(), net.parameters(), strict=True):
                    old.data = (1 - OWN[name]["target_rate"]) * old.data + OWN[name]["target_rate"] * new.data
        for number, net in enumerate(nets.values()):
            found = network.weights.view(n_models, len(nets), -1)[model, number]
            expected = nn.utils.parameters_to_vector(net.parameters()).detach()
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


def test_returns_to_go_are_the_discounted_sums_of_the_rest_of_the_stay(buffer):
    data, rewards = buffer
    shaped = rewards + torch.arange(len(rewards)) % 7
    expected, following = torch.empty_like(shaped), 0.0
    for row in reversed(range(len(shaped))):
        following = shaped[row] + (0.0 if data.terminals[row] else 0.9 * following)
        expected[row] = following
    found = returns_to_go(torch.stack([shaped, 2 * shaped]), data.terminals, 0.9)
    torch.testing.assert_close(found, torch.stack([expected, 2 * expected]))
    learner = LEARNERS["outcome"](
        TrainableNetwork([new_network(0, 25)], [0.1], grad_clip=1.0, device=CPU),
        data,
        shaped,
        [make_settings("outcome", gamma=0.9)],
    )
    outputs = torch.zeros(len(shaped), 25, dtype=torch.float64)
    found = learner.losses(outputs, torch.arange(len(shaped)))["total_loss"]
    assert float(found) == pytest.approx(float((expected**2).mean()))


def test_the_ai_clinician_is_lloyds_algorithm_and_the_value_iteration_of_counts(buffer):
    data, rewards = buffer
    settings = make_settings("ai_clinician", hidden_sizes=[4], min_count=2)
    network = TrainableNetwork(
        [nn.Sequential(nn.Linear(N_INPUTS, 4), nn.ReLU(), nn.Linear(4, 25)).double()],
        [1.0],
        grad_clip=1.0,
        device=CPU,
    )
    learner = LEARNERS["ai_clinician"](network, data, rewards, [settings])
    states, next_states, actions = (
        tensor.numpy() for tensor in (data.states, data.next_states, data.actions)
    )
    centers = network.weights[:20].view(4, 5).numpy().copy()
    assert all((states == center).all(axis=1).any() for center in centers)
    learner.update(torch.arange(10))
    learner.end_epoch(1)

    def nearest(rows):
        return ((rows[:, None] - centers) ** 2).sum(axis=2).argmin(axis=1)

    clusters = nearest(states)
    centers = np.stack([states[clusters == number].mean(axis=0) for number in range(4)])
    before, after = nearest(states), nearest(next_states)
    values, table = np.zeros(4), np.zeros((4, 25))
    for _ in range(3000):
        for cluster in range(4):
            for dose in range(25):
                those = (before == cluster) & (actions == dose)
                ahead = np.where(data.terminals.numpy(), 0.0, values[after])
                is_rare = those.sum() < 2
                table[cluster, dose] = -np.inf if is_rare else (rewards.numpy() + GAMMA * ahead)[those].mean()
        if np.abs(table.max(axis=1) - values).max() < 1e-9:
            break
        values = table.max(axis=1)
    layers = network.weights
    np.testing.assert_allclose(layers[:20].view(4, 5), centers)
    found = layers[24 : 24 + 100].view(25, 4).mT.numpy()
    np.testing.assert_allclose(np.where(found < -1e5, -np.inf, found), table, rtol=1e-5, atol=1e-6)
