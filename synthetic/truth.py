"""True values of policies by rollouts in the simulated ICU: what every off-policy estimate can be held against."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from sepsis_cql.common.errors import EvaluationError
from sepsis_cql.common.strict import load_shipped
from sepsis_cql.replay.directory import Replay, ReplayDirectory
from sepsis_cql.replay.rows.actions import N_ACTIONS, ActionGrid
from sepsis_cql.replay.settings import Features, ReplaySettings
from sepsis_cql.synthetic.clinicians import Clinicians, draw_columns
from sepsis_cql.synthetic.settings import SyntheticSettings
from sepsis_cql.synthetic.simulator import Dose, SimulatedICU

BATCH = 5000  # episodes that advance together
# settings that change no state and no dose
NO_MATTER = {"seed", "split_by", "split_shares", "sofa_weight", "terminal_reward"}


class Policy(Protocol):
    """Anything that gives action probabilities for states in clinical units with NaN for "unknown"."""

    def probabilities(self, states: np.ndarray) -> np.ndarray:
        """Return the (n, 25) probabilities for (n, 62) states."""


@dataclass(frozen=True)
class TrueValue:
    """Mean discounted return of a policy.

    Attributes:
        value: from the first step of the episode.
        standard_error: of the rollouts; the only error there is.
        mortality: share of episodes followed by death by day 90.
        n_episodes: rollouts.
        returns: of each, where it was kept.
    """

    value: float
    standard_error: float
    mortality: float
    n_episodes: int
    returns: np.ndarray | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class TrueBehavior:
    """The clinicians' own probabilities for a replay's action grid: the behavior policy without estimation."""

    clinicians: Clinicians
    grid: ActionGrid

    def probabilities(self, states: np.ndarray) -> np.ndarray:
        """Return the (n, 25) probabilities for (n, 62) states in clinical units."""
        return self.clinicians.probabilities(states, self.grid)


@dataclass(frozen=True)
class Truth:
    """The simulated ICU a replay came from, on the replay's own dose bins.

    Attributes:
        settings: of the simulator.
        grid: dose bins of the actions.
        terminal_reward: plus for survival to day 90, minus for death; all other rewards are 0.
    """

    settings: SyntheticSettings
    grid: ActionGrid
    terminal_reward: float

    @property
    def behavior(self) -> TrueBehavior:
        """Return the clinicians as a policy on the grid."""
        clinicians = Clinicians(self.settings.clinicians, load_shipped(Features, "features.yaml"))
        return TrueBehavior(clinicians, self.grid)

    @property
    def is_confounded(self) -> bool:
        """Whether the clinicians' doses depend on what no state shows, so that `behavior` is only their habit."""
        return not self.settings.hidden.is_off

    def doses(self, policy: Policy) -> Dose:
        """Return how a policy doses the stays of a simulation; the clinicians know what no state shows."""
        if isinstance(policy, TrueBehavior) and self.is_confounded:
            return SimulatedICU.draw_clinicians

        def choose(icu: SimulatedICU) -> tuple[np.ndarray, np.ndarray]:
            probabilities = np.asarray(policy.probabilities(icu.states), dtype=np.float64)
            return icu.clinicians.doses_of(draw_actions(probabilities, icu), icu.states, self.grid, icu.rng)

        return choose

    def value(self, policy: Policy, n_episodes: int, seed: int, *, gamma: float) -> TrueValue:
        """Estimate the value of a policy by rollouts.

        Within an action's dose bins, doses fall as clinicians choose them in the same state, which is what the
        replay's actions mean; so the clinicians' own policy on the grid has the value of the clinicians.

        Args:
            policy: its `probabilities` get (n, 62) states in clinical units, NaN where nothing is known.
            n_episodes: rollouts.
            seed: of the rollouts; unlike the seed of the tables.
            gamma: discount a step.

        Raises:
            EvaluationError: the policy gives no probabilities.
        """
        sequence = np.random.SeedSequence([seed, 20_261_124])
        sizes = [min(BATCH, n_episodes - done) for done in range(0, n_episodes, BATCH)]
        batches = [
            _rollout(self.doses(policy), SimulatedICU(self.settings, size, child))
            for size, child in zip(sizes, sequence.spawn(len(sizes)), strict=True)
        ]
        died, n_steps = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        return value_of(died, n_steps, self.terminal_reward, gamma)


def open_truth(replay: Replay) -> Truth | None:
    """Return the simulated ICU a replay came from; None for patients.

    A simulated replay whose states or doses were built by other rules than the simulator's chart has none either: a
    policy would see other states there than in the replay.
    """
    made = replay.provenance
    if not isinstance(replay, ReplayDirectory) or made is None or made.synthetic is None:
        return None
    shipped = load_shipped(ReplaySettings, "replay.yaml").model_dump(exclude=NO_MATTER)
    if made.settings.model_dump(exclude=NO_MATTER) != shipped:
        return None
    if made.features != load_shipped(Features, "features.yaml"):
        return None
    return Truth(
        settings=SyntheticSettings.model_validate(made.synthetic.settings, strict=False),
        grid=replay.action_grid,
        terminal_reward=made.settings.terminal_reward,
    )


def value_of(died: np.ndarray, n_steps: np.ndarray, terminal_reward: float, gamma: float) -> TrueValue:
    """Return the value of finished rollouts.

    Args:
        died: (n,) by day 90.
        n_steps: (n,) of each episode.
        terminal_reward: plus for survival, minus for death.
        gamma: discount a step.
    """
    returns = np.where(died, -terminal_reward, terminal_reward) * gamma ** (n_steps - 1)
    return average(returns, float(died.mean()))


def average(returns: np.ndarray, mortality: float) -> TrueValue:
    """Return the mean of the (n,) returns of finished rollouts, with its standard error."""
    error = float(returns.std(ddof=1) / np.sqrt(len(returns)))
    return TrueValue(float(returns.mean()), error, mortality, len(returns), returns)


def _rollout(choose: Dose, icu: SimulatedICU) -> tuple[np.ndarray, np.ndarray]:
    """Death by day 90 and number of steps of each episode."""
    while icu.active.any():
        icu.step(*choose(icu))
    return icu.died, icu.n_steps


def draw_actions(probabilities: np.ndarray, icu: SimulatedICU) -> np.ndarray:
    """Draw the (n,) actions of a simulation's stays from (n, 25) probabilities.

    Raises:
        EvaluationError: they are not probabilities.
    """
    if probabilities.shape != (icu.n, N_ACTIONS) or not np.allclose(probabilities.sum(axis=1), 1, atol=1e-4):
        raise EvaluationError(
            f"The policy gave probabilities of shape {probabilities.shape}, expected ({icu.n}, {N_ACTIONS}) "
            "with rows that sum to 1."
        )
    return draw_columns(probabilities, icu.rng)
