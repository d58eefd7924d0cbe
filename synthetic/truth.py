"""True values of policies by rollouts in the simulated ICU: what every off-policy estimate can be held against."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sepsis_cql.configs.loading import load_settings
from sepsis_cql.errors import EvaluationError
from sepsis_cql.replay.actions import N_BINS, ActionGrid
from sepsis_cql.replay.settings import Features
from sepsis_cql.synthetic.clinicians import Clinicians
from sepsis_cql.synthetic.settings import SyntheticSettings
from sepsis_cql.synthetic.simulator import SimulatedICU

GAMMA = 0.99
TERMINAL_REWARD = 15.0  # plus for survival to day 90, minus for death; all other rewards are 0
BATCH = 5000  # episodes that advance together


class Policy(Protocol):
    """Anything that gives action probabilities for states in clinical units with NaN for "unknown"."""

    def probabilities(self, states: np.ndarray) -> np.ndarray:
        """(n, 25) probabilities for (n, 62) states."""


@dataclass(frozen=True)
class TrueValue:
    """Mean discounted return of a policy.

    Attributes:
        value: from the first step of the episode.
        standard_error: of the rollouts; the only error there is.
        mortality: share of episodes followed by death by day 90.
        n_episodes: rollouts.
    """

    value: float
    standard_error: float
    mortality: float
    n_episodes: int


@dataclass(frozen=True)
class TrueBehavior:
    """The clinicians' own probabilities for a replay's action grid: the behavior policy without estimation."""

    clinicians: Clinicians
    grid: ActionGrid

    def probabilities(self, states: np.ndarray) -> np.ndarray:
        """(n, 25) probabilities for (n, 62) states in clinical units."""
        return self.clinicians.probabilities(states, self.grid)


@dataclass(frozen=True)
class ConstantPolicy:
    """Gives every state the same probabilities: one action always, or all 25 equally."""

    action: int | None = None

    def probabilities(self, states: np.ndarray) -> np.ndarray:
        """(n, 25) probabilities."""
        row = np.full(N_BINS**2, 1 / N_BINS**2) if self.action is None else np.eye(N_BINS**2)[self.action]
        return np.tile(row, (len(states), 1))


def true_value(
    policy: Policy,
    record: dict[str, Any],
    action_grid: dict[str, Any],
    n_episodes: int = 20_000,
    seed: int = 0,
    *,
    gamma: float = GAMMA,
    terminal_reward: float = TERMINAL_REWARD,
) -> TrueValue:
    """Value of `policy` in the simulated ICU a replay came from.

    Within an action's dose bins, doses fall as clinicians choose them in the same state, which is what the
    replay's actions mean; so the clinicians' own policy on the grid has the value of the clinicians.

    Args:
        policy: its `probabilities` get (n, 62) states in clinical units, NaN where nothing is known.
        record: `synthetic` of the replay's provenance.json, which holds the simulator's settings.
        action_grid: `action_grid` of the replay's statistics.json.
        n_episodes: rollouts.
        seed: of the rollouts; unlike the seed of the tables.
        gamma: discount a step.
        terminal_reward: of the last step.

    Raises:
        EvaluationError: `record` is not that of synthetic tables, or the policy gives no probabilities.
    """
    settings, grid = read_record(record), read_grid(action_grid)
    sequence = np.random.SeedSequence([seed, 20_261_124])
    sizes = [min(BATCH, n_episodes - done) for done in range(0, n_episodes, BATCH)]
    batches = [
        _rollout(policy, SimulatedICU(settings, size, child), grid)
        for size, child in zip(sizes, sequence.spawn(len(sizes)), strict=True)
    ]
    died, n_steps = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    returns = np.where(died, -terminal_reward, terminal_reward) * gamma ** (n_steps - 1)
    return TrueValue(
        value=float(returns.mean()),
        standard_error=float(returns.std(ddof=1) / np.sqrt(n_episodes)),
        mortality=float(died.mean()),
        n_episodes=n_episodes,
    )


def clinician_probabilities(
    states: np.ndarray, record: dict[str, Any], action_grid: dict[str, Any]
) -> np.ndarray:
    """(n, 25) true behavior policy at (n, 62) states: it depends on the state alone."""
    return true_behavior(record, action_grid).probabilities(states)


def true_behavior(record: dict[str, Any], action_grid: dict[str, Any]) -> TrueBehavior:
    """The clinicians as a policy on a replay's action grid."""
    clinicians = Clinicians(read_record(record).clinicians, load_settings(Features, Path("features.yaml")))
    return TrueBehavior(clinicians, read_grid(action_grid))


def read_record(record: dict[str, Any]) -> SyntheticSettings:
    """The simulator's settings in the record of synthetic tables.

    Raises:
        EvaluationError: the record has none.
    """
    if not isinstance(record, dict) or "settings" not in record:
        raise EvaluationError(
            "The replay's provenance.json holds no simulator settings (expected `synthetic.settings`): only "
            "tables made by `sepsis-cql synthesize` have a true value."
        )
    return SyntheticSettings.model_validate(record["settings"], strict=False)


def read_grid(action_grid: dict[str, Any]) -> ActionGrid:
    """The dose bins in a replay's statistics.json."""
    return ActionGrid(tuple(action_grid["vasopressor_edges"]), tuple(action_grid["fluid_edges"]))


def _rollout(policy: Policy, icu: SimulatedICU, grid: ActionGrid) -> tuple[np.ndarray, np.ndarray]:
    """Death by day 90 and number of steps of each episode."""
    while icu.active.any():
        probabilities = np.asarray(policy.probabilities(icu.states), dtype=np.float64)
        actions = _draw_actions(probabilities, icu)
        icu.step(*icu.clinicians.doses_of(actions, icu.states, grid, icu.rng))
    return icu.died, icu.n_steps


def _draw_actions(probabilities: np.ndarray, icu: SimulatedICU) -> np.ndarray:
    if probabilities.shape != (icu.n, N_BINS**2) or not np.allclose(probabilities.sum(axis=1), 1, atol=1e-4):
        raise EvaluationError(
            f"The policy gave probabilities of shape {probabilities.shape}, expected ({icu.n}, {N_BINS**2}) "
            "with rows that sum to 1."
        )
    drawn = icu.rng.random(icu.n)[:, None] * probabilities.sum(axis=1, keepdims=True)
    actions = (probabilities.cumsum(axis=1) <= drawn).sum(axis=1)
    return np.minimum(actions, N_BINS**2 - 1)
