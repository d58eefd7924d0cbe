"""The contenders of one training step: the published recipe, plain PyTorch, ours by parts, and d3rlpy."""

from collections.abc import Callable, Iterator

import numpy as np
import torch

from sepsis_cql.benchmarks.published_recipe import PublishedRecipe, q_network
from sepsis_cql.benchmarks.stock_recipe import StockRecipe
from sepsis_cql.common.strict import SHIPPED
from sepsis_cql.training.learners.base import Learner, Losses
from sepsis_cql.training.learners.cql import ConservativeQLearning, CQLSettings
from sepsis_cql.training.learners.registry import load_training_settings
from sepsis_cql.training.step import kernels
from sepsis_cql.training.step.compiled import CompiledUpdate
from sepsis_cql.training.step.device_buffer import DeviceBuffer
from sepsis_cql.training.step.kernels import input_gradient, layer_gradient, linear
from sepsis_cql.training.step.network import TrainableNetwork

N_TRANSITIONS, N_STATES, N_ACTIONS = 140_635, 62, 25  # the published training split
CPU = torch.device("cpu")
Step = Callable[[], object]
Columns = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


class DerivedCQL(ConservativeQLearning):
    """CQL whose gradient of the 25 outputs comes from automatic differentiation, as a new learner's does."""

    def losses(self, outputs: torch.Tensor, rows: torch.Tensor) -> Losses:
        """Return the losses as the method words them."""
        given = outputs.gather(-1, self.buffer.actions[rows].unsqueeze(-1)).squeeze(-1)
        td_loss = (given - self._targets.gather(-1, rows)).square().mean(dim=-1)
        conservative_loss = (outputs.logsumexp(dim=-1) - given).mean(dim=-1)
        total_loss = td_loss + self._alpha.view(td_loss.shape) * conservative_loss
        names = ("td_loss", "conservative_loss", "total_loss", "mean_q")
        values = (td_loss, conservative_loss, total_loss, outputs.mean(dim=(-2, -1)))
        return dict(zip(names, values, strict=True))

    losses_and_gradient = Learner.losses_and_gradient


def made_up_columns(device: torch.device = CPU) -> Columns:
    """Random transitions of the published size: states, actions, rewards, next states, terminals."""
    generator = torch.Generator().manual_seed(0)
    states, next_states = torch.randn(2, N_TRANSITIONS, N_STATES, generator=generator)
    actions = torch.randint(0, N_ACTIONS, (N_TRANSITIONS,), generator=generator)
    terminals = torch.rand(N_TRANSITIONS, generator=generator) < 0.09
    rewards = torch.where(terminals, 15.0, 0.0)
    return (
        states.to(device),
        actions.to(device),
        rewards.to(device),
        next_states.to(device),
        terminals.to(device),
    )


def shuffled(batch_size: int, n_models: int = 1, device: torch.device = CPU) -> Iterator[torch.Tensor]:
    """Endless batches as an epoch hands them out: slices of one random order, the same for every model."""
    order = torch.randperm(N_TRANSITIONS, device=device)
    order = order.expand(n_models, -1) if n_models > 1 else order
    while True:
        yield from order.split(batch_size, dim=-1)[:-1]


def published(columns: Columns, batch_size: int) -> Step:
    """One step of the published recipe."""
    device = columns[0].device
    recipe, batches = (
        PublishedRecipe(q_network(N_STATES, 0).to(device), columns),
        shuffled(batch_size, device=device),
    )
    return torch.enable_grad()(lambda: recipe.update(next(batches)))


def new_learner(
    columns: Columns,
    precision: str,
    n_models: int = 1,
    kind: type[ConservativeQLearning] = ConservativeQLearning,
) -> ConservativeQLearning:
    """The learner of one run, or of several trained together, where the columns are."""
    states, actions, rewards, next_states, terminals = columns
    network = TrainableNetwork(
        [q_network(N_STATES, seed) for seed in range(n_models)],
        [1e-4] * n_models,
        grad_clip=10.0,
        device=states.device,
        reduced_precision=precision == "bf16",
    )
    settings = load_training_settings(SHIPPED / "cql.yaml")
    assert isinstance(settings, CQLSettings)
    return kind(
        network,
        DeviceBuffer(states.to(network.inputs_dtype), next_states, actions, terminals),
        rewards.expand(n_models, -1).clone() if n_models > 1 else rewards,
        [settings] * n_models,
    )


def ours(
    columns: Columns,
    batch_size: int,
    precision: str = "fp32",
    *,
    compiled: bool = False,
    kind: type[ConservativeQLearning] = ConservativeQLearning,
) -> Step:
    """One update of the learner of one run."""
    learner, batches = new_learner(columns, precision, kind=kind), shuffled(batch_size)
    update = CompiledUpdate(learner.update, batch_size) if compiled else learner.update
    return torch.no_grad()(lambda: update(next(batches)))


def with_products(step: Step, *, onednn: bool) -> Step:
    """A step whose products are oneDNN's or PyTorch's, whatever this processor would choose."""

    def switched() -> object:
        chosen, kernels._USES_ONEDNN = kernels._USES_ONEDNN, onednn
        try:
            return step()
        finally:
            kernels._USES_ONEDNN = chosen

    return switched


def stock(columns: Columns, batch_size: int, *, compiled: bool) -> Step:
    """One step of plain PyTorch."""
    recipe, batches = (
        StockRecipe(q_network(N_STATES, 0), columns, compiled=compiled),
        shuffled(batch_size),
    )
    return torch.enable_grad()(lambda: recipe.update(next(batches)))


def products_alone(batch_size: int) -> Step:
    """The eight matrix products of a step, which no step can be faster than."""
    inputs = [torch.randn(batch_size, n) for n in (N_STATES, 256, 256)]
    gradients = [torch.randn(batch_size, n) for n in (256, 256, N_ACTIONS)]
    weights = [torch.randn(n, m) for n, m in ((256, N_STATES), (256, 256), (N_ACTIONS, 256))]

    def step() -> None:
        for value, weight in zip(inputs, weights, strict=True):
            linear(value, weight, weight[:, 0].contiguous(), relu=True)
        for gradient, value in zip(gradients, inputs, strict=True):
            layer_gradient(gradient, value)
        for gradient, weight in zip(gradients[1:], weights[1:], strict=True):
            input_gradient(gradient, weight)

    return step


def d3rlpy_cql(columns: Columns, batch_size: int) -> Step | None:
    """One update of d3rlpy's DiscreteCQL, its sampling included; None where d3rlpy is not installed."""
    try:
        import d3rlpy
    except ImportError:
        return None
    states, actions, rewards, _, terminals = (column.numpy() for column in columns)
    terminals = terminals.copy()
    terminals[-1] = True
    dataset = d3rlpy.dataset.MDPDataset(
        states,
        actions[:, None],
        rewards[:, None],
        terminals.astype(np.float32),
        action_space=d3rlpy.ActionSpace.DISCRETE,
        action_size=N_ACTIONS,
    )
    algorithm = d3rlpy.algos.DiscreteCQLConfig(
        batch_size=batch_size,
        learning_rate=1e-4,
        alpha=0.05,
        encoder_factory=d3rlpy.models.VectorEncoderFactory([256, 256]),
    ).create(device="cpu:0")
    algorithm.build_with_dataset(dataset)
    return lambda: algorithm.update(dataset.sample_transition_batch(batch_size))
