"""Environments with known truth: data to evaluate from, and policies whose value is exact or known to 0.05.

ICU-Sepsis is tabular and Markov. The simulated ICU has 62 observed quantities, missing ones among them, and hidden
states; the policies there come from the network of this package.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np
import torch

from sepsis_cql.checkpoints.hub_package import load_package
from sepsis_cql.common.provenance import ROOT
from sepsis_cql.evaluation.known_truth.icu_sepsis import TabularIcu, load_icu_sepsis
from sepsis_cql.evaluation.policies.base import (
    NO_TREATMENT,
    FunctionPolicy,
    Policy,
    QPolicy,
    StatelessPolicy,
    tilt_behavior,
)
from sepsis_cql.evaluation.policies.load import policy_of_model
from sepsis_cql.replay.rows.actions import N_ACTIONS, ActionGrid
from sepsis_cql.replay.transitions import Transitions
from sepsis_cql.synthetic.settings import load_synthetic_settings
from sepsis_cql.synthetic.simulator import SimulatedICU, simulate
from sepsis_cql.synthetic.truth import TrueBehavior, Truth
from sepsis_cql.training.learners.ai_clinician import solve_counts

Clinicians = Callable[[np.ndarray], np.ndarray]
GREEDY_SHARE, SUPPORTED = 0.3, 0.05
MIN_COUNT = 6  # decisions behind an action that the tabular learner considers, as the AI Clinician does
NO_CHANCE = 1e-12
TRUTH_SEED = 777


@dataclass(frozen=True)
class Target:
    """A policy and its true value."""

    policy: Policy
    true_value: float


class Environment(Protocol):
    """What calibration needs of a process with known truth."""

    clinicians_value: float

    def sample(self, n_episodes: int, seed: int) -> Transitions:
        """Draw episodes treated by the clinicians."""

    def inputs(self, states: np.ndarray) -> np.ndarray:
        """Return (n, d) states without NaN, for estimators."""

    def clinicians(self, states: np.ndarray) -> np.ndarray:
        """Return the (n, 25) true behavior policy."""

    def targets(self, train: Transitions, clinicians: Clinicians) -> list[Target]:
        """Return the policies to evaluate, softened towards what is held to be the clinicians' policy."""


@dataclass
class IcuSepsis:
    """ICU-Sepsis with policies softened from the optimal values and from values learned by counting."""

    temperatures: list[float]
    gamma: float
    terminal_reward: float

    def __post_init__(self) -> None:
        self._icu: TabularIcu = load_icu_sepsis(self.gamma, self.terminal_reward)
        self.clinicians_value = self._icu.true_value(self._icu.clinicians)

    def sample(self, n_episodes: int, seed: int) -> Transitions:
        """Draw episodes treated by the clinicians."""
        return self._icu.simulate(n_episodes, seed)

    def inputs(self, states: np.ndarray) -> np.ndarray:
        """Return the states, which are z-scores already."""
        return states

    def clinicians(self, states: np.ndarray) -> np.ndarray:
        """Return the (n, 25) true behavior policy, positive everywhere."""
        return np.maximum(self._icu.clinicians, NO_CHANCE)[self._icu.state_index(states)]

    def targets(self, train: Transitions, clinicians: Clinicians) -> list[Target]:
        """Return softened optimal, softened and greedy learned, and partly greedy policies."""
        learned = self._learn(train)
        behavior = np.full(learned.shape, 1 / N_ACTIONS)  # in terminal states, where nobody acts
        live = ~self._icu.terminal
        behavior[live] = clinicians(self._icu.features[live])
        best = np.where(behavior > SUPPORTED, self._icu.optimal_q, -np.inf).argmax(axis=1)
        tables = {
            f"optimal, clinicians x exp(Q / {temperature:g})": tilt_behavior(
                self._icu.optimal_q, behavior, temperature
            )
            for temperature in self.temperatures
        }
        tables[f"learned, clinicians x exp(Q / {self.temperatures[0]:g})"] = tilt_behavior(
            learned, behavior, self.temperatures[0]
        )
        tables["learned, greedy"] = np.eye(learned.shape[1])[learned.argmax(axis=1)]
        tables[f"optimal in {GREEDY_SHARE:.0%} of decisions, else clinicians"] = (
            1 - GREEDY_SHARE
        ) * behavior + GREEDY_SHARE * np.eye(learned.shape[1])[best]
        return [
            Target(self._policy(name, table), self._icu.true_value(table)) for name, table in tables.items()
        ]

    def _policy(self, name: str, table: np.ndarray) -> Policy:
        return FunctionPolicy(name, lambda states: table[self._icu.state_index(states)])

    def _learn(self, train: Transitions) -> np.ndarray:
        before = self._icu.state_index(train.states)
        after = np.where(train.terminals, before, np.roll(before, -1))
        n_states = len(self._icu.initial)
        return solve_counts(
            before, train.actions, train.rewards, after, train.terminals, n_states, MIN_COUNT, self._icu.gamma
        )


@dataclass
class SimulatedIcu:
    """The simulated ICU with policies read off the network of this package.

    Attributes:
        temperatures: of the softened policies.
        truth_episodes: rollouts of a policy that stays the same.
        repeated_truth_episodes: rollouts of one that is softened anew in each repetition.
        gamma: discount of one step.
        terminal_reward: plus for survival, minus for death.
    """

    temperatures: list[float]
    truth_episodes: int
    repeated_truth_episodes: int
    gamma: float
    terminal_reward: float

    def __post_init__(self) -> None:
        model = load_package(ROOT)
        config = model.config
        self._settings = load_synthetic_settings()
        self._grid = ActionGrid(tuple(config.vasopressor_edges), tuple(config.fluid_edges))
        self._truth = Truth(self._settings, self._grid, self.terminal_reward)
        self._network = policy_of_model(model).network
        self._state_names = tuple(config.state_names)
        self._model = model
        self._values: dict[str, float] = {}
        self.clinicians_value = self._value(self._behavior, self.truth_episodes)

    def sample(self, n_episodes: int, seed: int) -> Transitions:
        """Draw episodes treated by the clinicians, as the build recovers them from the tables."""
        icu = SimulatedICU(self._settings, n_episodes, seed)
        episodes = simulate(icu)
        step = np.arange(len(episodes.states))[:, None]
        stay, index = np.nonzero((step < icu.n_steps).T)
        last = index == icu.n_steps[stay] - 1
        states = episodes.states[index, stay]
        return Transitions(
            states=states,
            actions=self._grid.bin_actions(episodes.vasopressor, episodes.fluid)[index, stay],
            rewards=np.where(
                last, np.where(icu.died, -self.terminal_reward, self.terminal_reward)[stay], 0.0
            ),
            next_states=np.where(last[:, None], states, np.roll(states, -1, axis=0)),
            terminals=last,
            stay_id=stay,
            subject_id=stay,
            step_index=index,
            state_names=self._state_names,
            normalized=False,
        )

    def inputs(self, states: np.ndarray) -> np.ndarray:
        """Return the states normalized as the network does."""
        return self._model.normalize(torch.tensor(states)).numpy()

    def clinicians(self, states: np.ndarray) -> np.ndarray:
        """Return the (n, 25) true behavior policy, positive everywhere."""
        return np.maximum(self._behavior.probabilities(states), NO_CHANCE)

    def targets(self, train: Transitions, clinicians: Clinicians) -> list[Target]:
        """Return the network softened and greedy, and no treatment."""
        q_values = self._network
        assert q_values is not None
        policies: list[Policy] = []
        for temperature in self.temperatures:
            soften = partial(_tilted, q_values, clinicians, temperature)
            policies.append(FunctionPolicy(f"network, clinicians x exp(Q / {temperature:g})", soften))
        softened_anew = clinicians != self.clinicians
        fixed: list[Policy] = [
            QPolicy("network, greedy", q_values),
            StatelessPolicy("no treatment", np.eye(N_ACTIONS)[NO_TREATMENT]),
        ]
        if softened_anew:
            found = [Target(policy, self._value(policy, self.repeated_truth_episodes)) for policy in policies]
        else:
            found, fixed = [], [*policies, *fixed]
        return found + [Target(policy, self._fixed_value(policy)) for policy in fixed]

    @cached_property
    def _behavior(self) -> TrueBehavior:
        return self._truth.behavior

    def _fixed_value(self, policy: Policy) -> float:
        if policy.name not in self._values:
            self._values[policy.name] = self._value(policy, self.truth_episodes)
        return self._values[policy.name]

    def _value(self, policy: Any, n_episodes: int) -> float:
        return self._truth.value(policy, n_episodes, TRUTH_SEED, gamma=self.gamma).value


def _tilted(
    q_values: Clinicians, clinicians: Clinicians, temperature: float, states: np.ndarray
) -> np.ndarray:
    return tilt_behavior(q_values(states), clinicians(states), temperature)
