"""Environments with known truth: data to evaluate from, and policies whose value is exact or known to 0.05.

ICU-Sepsis and the sepsis simulator are finite processes with exact values. The simulated ICU (`simulated_icu.py`) has
62 observed quantities, missing ones among them, and hidden states.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from sepsis_cql.evaluation.known_truth.confounding import Confounding, measure_finite
from sepsis_cql.evaluation.known_truth.icu_sepsis import load_icu_sepsis
from sepsis_cql.evaluation.known_truth.sepsis_simulator import SepsisSimulator
from sepsis_cql.evaluation.known_truth.settings import CaseSettings
from sepsis_cql.evaluation.known_truth.varied_icu import LEVELS, VariedIcu, vary
from sepsis_cql.evaluation.policies.base import FunctionPolicy, Policy, mix, tilt_behavior
from sepsis_cql.replay.rows.actions import N_ACTIONS
from sepsis_cql.replay.transitions import Transitions
from sepsis_cql.training.learners.ai_clinician import solve_counts

Clinicians = Callable[[np.ndarray], np.ndarray]
MIN_COUNT = 6  # decisions behind an action that the tabular learner considers, as the AI Clinician does
NO_CHANCE = 1e-12
RISKY_TEMPERATURE = 1.0  # of the policy that takes doses never given in a share of its decisions


@dataclass(frozen=True)
class Target:
    """A policy and its true value."""

    policy: Policy
    true_value: float


class FiniteEnvironment:
    """ICU-Sepsis or the sepsis simulator, with policies that are tables.

    Args:
        case: what is changed, and which policies there are.
        gamma: discount of one step.
        bound: plus for survival, minus for death.
    """

    def __init__(self, case: CaseSettings, gamma: float, bound: float) -> None:
        self._case, self._gamma = case, gamma
        self._process: VariedIcu | SepsisSimulator
        if case.environment == "icu-sepsis":
            self._process = vary(load_icu_sepsis(gamma, bound), case, bound)
            self._features = self._process.plain.features
            self._index, self._live = self._process.plain.state_index, ~self._process.plain.terminal
            self._optimal = self._process.plain.optimal_q
        else:
            self._process = SepsisSimulator(gamma, bound, tuple(case.withheld), case.blind)
            self._index = self._process.state_index
            self._optimal = self._process.optimal_q
        self.clinicians_value = self._process.clinicians_value

    def sample(self, n_episodes: int, seed: int) -> Transitions:
        """Draw episodes treated by the clinicians."""
        return self._process.simulate(n_episodes, seed)

    def inputs(self, states: np.ndarray) -> np.ndarray:
        """Return the (n, d) states as estimators see them."""
        return states if isinstance(self._process, VariedIcu) else self._process.inputs(states)

    def clinicians(self, states: np.ndarray) -> np.ndarray:
        """Return the (n, 25) true behavior policy, positive everywhere; the mean of those who see more."""
        return np.maximum(self._process.clinicians, NO_CHANCE)[self._index(states)]

    def targets(self, train: Transitions, clinicians: Clinicians) -> list[Target]:
        """Return the policies of the case with their exact values."""
        behavior = self._tabulate(clinicians)
        found = []
        for kind, parameters in self._case.policies.items():
            for parameter in parameters:
                name, table = self._make(kind, parameter, behavior, train)
                policy = FunctionPolicy(name, partial(self._look_up, table))
                found.append(Target(policy, self._process.true_value(table)))
        return found

    def confounding(self) -> Confounding:
        """Measure how far what clinicians alone see changes what they do."""
        return measure_finite(self._process)

    def _look_up(self, table: np.ndarray, states: np.ndarray) -> np.ndarray:
        return np.asarray(table[self._index(states)])

    def _make(
        self, kind: str, parameter: float, behavior: np.ndarray, train: Transitions
    ) -> tuple[str, np.ndarray]:
        """Name and (S, 25) table of one policy."""
        best = tilt_behavior(self._optimal, behavior, RISKY_TEMPERATURE)
        if kind in LEVELS:
            return f"clinicians x exp({parameter:g} x {kind})", tilt_behavior(
                np.tile(LEVELS[kind], (len(behavior), 1)), behavior, 1 / parameter
            )
        if kind == "never given":
            never = (self._process.clinicians <= 0).astype(float)
            total = never.sum(axis=1, keepdims=True)
            risky = np.where(total > 0, never / np.maximum(total, 1), best)
            return f"{parameter:.0%} of decisions on doses never given", mix(risky, best, 1 - parameter)
        q_values = self._optimal if kind == "optimal" else self._learn(train)
        if kind == "greedy":
            greedy = np.eye(N_ACTIONS)[q_values.argmax(axis=1)]
            return f"learned, greedy in {parameter:.0%} of decisions", mix(greedy, behavior, 1 - parameter)
        return f"{kind}, clinicians x exp(Q / {parameter:g})", tilt_behavior(q_values, behavior, parameter)

    def _tabulate(self, clinicians: Clinicians) -> np.ndarray:
        """(S, 25) what is held to be the clinicians' policy; uniform where nobody acts."""
        if isinstance(self._process, VariedIcu):
            table = np.full(self._process.clinicians.shape, 1 / N_ACTIONS)
            table[self._live] = clinicians(self._features[self._live])
            return table
        table = clinicians(self._process.charted_states)
        table = table * (self._process.clinicians.sum(axis=0) > 0) + NO_CHANCE
        return table / table.sum(axis=1, keepdims=True)

    def _learn(self, train: Transitions) -> np.ndarray:
        before = self._index(train.states)
        after = np.where(train.terminals, before, np.roll(before, -1))
        return solve_counts(
            before, train.actions, train.rewards, after, train.terminals,
            len(self._process.clinicians), MIN_COUNT, self._gamma,
        )  # fmt: skip
