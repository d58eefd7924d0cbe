"""The loss of Conservative Q-Learning (Kumar et al. 2020, eq. 4) on a deep Q-network, and its gradient.

Every function also takes the tensors of several models trained together, their number as first dimension.
"""

import torch
from torch import Tensor


def td_targets(rewards: Tensor, terminals: Tensor, next_q_values: Tensor, gamma: float) -> Tensor:
    """(..., n) one-step returns r + gamma max_a Q_target(s', a); the published work uses no double Q.

    Args:
        rewards: (..., n).
        terminals: (n,) bool, true where nothing follows.
        next_q_values: (..., n, n_actions) of the target network.
        gamma: discount of one step.
    """
    return rewards + gamma * next_q_values.amax(dim=-1).masked_fill(terminals, 0.0)


def cql_losses_and_gradient(
    q_values: Tensor, actions: Tensor, targets: Tensor, alpha: float | Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """TD loss (...), conservative loss (...) and the gradient of td + alpha * conservative.

    The TD loss is the mean squared Bellman error of the doses that were given. The conservative loss,
    logsumexp Q(s, a) - Q(s, a_given), is minus the log share of the given dose in softmax Q(s, .), so its
    gradient pushes every dose down by its share and the given dose up by one.

    Args:
        q_values: (..., batch, n_actions) estimated returns.
        actions: (..., batch) int64, the clinician's action.
        targets: (..., batch) one-step returns.
        alpha: weight of the conservative loss; for several models (models, 1, 1).

    Returns:
        The two losses, and the (..., batch, n_actions) gradient with respect to the Q-values.
    """
    given = actions.unsqueeze(-1)  # (..., batch, 1)
    error = q_values.gather(-1, given) - targets.unsqueeze(-1)
    log_shares = q_values.log_softmax(dim=-1)
    td_loss = error.square().mean(dim=(-2, -1))
    conservative_loss = -log_shares.gather(-1, given).mean(dim=(-2, -1))
    weight = alpha / targets.shape[-1]
    given_gradient = error.mul_(2 / targets.shape[-1]).sub_(weight)
    is_given = torch.arange(q_values.shape[-1], device=q_values.device) == given
    gradient = log_shares.exp_().mul_(weight).add_(torch.where(is_given, given_gradient, 0.0))
    return td_loss, conservative_loss, gradient
