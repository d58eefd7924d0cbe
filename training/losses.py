"""The loss of Conservative Q-Learning (Kumar et al. 2020, eq. 4) on a deep Q-network, and its gradient.

Every function also takes the tensors of several models trained together, their number as first dimension.
"""

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


def td_loss(q_values: Tensor, actions: Tensor, targets: Tensor) -> Tensor:
    """(...) mean squared Bellman error of the doses that were given.

    Args:
        q_values: (..., batch, n_actions) estimated returns.
        actions: (..., batch) int64, the clinician's action.
        targets: (..., batch) one-step returns.
    """
    return (_given(q_values, actions) - targets).square().mean(dim=-1)


def conservative_loss(q_values: Tensor, actions: Tensor) -> Tensor:
    """(...) gap between the soft maximum over all doses and the dose that was given (CQL, eq. 4).

    Args:
        q_values: (..., batch, n_actions) estimated returns.
        actions: (..., batch) int64, the clinician's action.
    """
    return (q_values.logsumexp(dim=-1) - _given(q_values, actions)).mean(dim=-1)


def cql_gradient(q_values: Tensor, actions: Tensor, targets: Tensor, alpha: float | Tensor) -> Tensor:
    """(..., batch, n_actions) gradient of td_loss + alpha * conservative_loss with respect to the Q-values.

    The conservative loss pushes every dose down by its softmax share and the given dose up by one; the
    Bellman error moves the given dose only.

    Args:
        q_values: (..., batch, n_actions).
        actions: (..., batch) int64.
        targets: (..., batch).
        alpha: weight of the conservative loss; for several models (models, 1, 1).
    """
    weight = alpha / q_values.shape[-2]
    gradient = q_values.softmax(dim=-1).mul_(weight)
    error = _given(q_values, actions).sub_(targets).unsqueeze_(-1)  # (..., batch, 1)
    return gradient.scatter_add_(-1, actions.unsqueeze(-1), error.mul_(2 / q_values.shape[-2]).sub_(weight))


def _given(q_values: Tensor, actions: Tensor) -> Tensor:
    return q_values.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
