"""The simulated ICU as an environment with known truth: values by rollouts, clinicians as a case has them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from sepsis_cql.checkpoints.hub_package import load_package
from sepsis_cql.common.errors import EvaluationError
from sepsis_cql.common.provenance import ROOT
from sepsis_cql.evaluation.known_truth.confounding import EPISODES, SEED, Confounding, Seen, measure
from sepsis_cql.evaluation.known_truth.environments import NO_CHANCE, Clinicians, Target
from sepsis_cql.evaluation.known_truth.settings import CalibrationSettings, CaseSettings
from sepsis_cql.evaluation.known_truth.varied_icu import LEVELS, change_practice
from sepsis_cql.evaluation.policies.base import FunctionPolicy, mix, tilt_behavior
from sepsis_cql.evaluation.policies.load import policy_of_model
from sepsis_cql.replay.rows.actions import N_ACTIONS, ActionGrid
from sepsis_cql.replay.transitions import Transitions
from sepsis_cql.synthetic.settings import load_synthetic_settings
from sepsis_cql.synthetic.simulator import SimulatedICU, simulate
from sepsis_cql.synthetic.truth import BATCH, Truth, draw_actions, value_of

ORGANS = (2.0, 2.0)  # mean and standard deviation by which hidden organ failure is measured
TRUTH_SEED = 777
REPEATED = "network, clinicians"  # softened anew where the clinicians are estimated


class SimulatedIcu:
    """The simulated ICU with policies read off the network of this package, or tilted towards vasopressor.

    Args:
        case: what is changed, and which policies there are.
        settings: how many rollouts give a true value.
        gamma: discount of one step.
        bound: plus for survival, minus for death.
    """

    def __init__(self, case: CaseSettings, settings: CalibrationSettings, gamma: float, bound: float) -> None:
        self._case, self._rollouts, self._gamma, self._bound = case, settings, gamma, bound
        self._model = load_package(ROOT)
        config = self._model.config
        self._settings = load_synthetic_settings()
        self._grid = ActionGrid(tuple(config.vasopressor_edges), tuple(config.fluid_edges))
        self._truth = Truth(self._settings, self._grid, bound)
        self._behavior = self._truth.behavior
        self._state_names = tuple(config.state_names)
        if unknown := sorted(set(case.withheld) - set(self._state_names)):
            raise EvaluationError(f"withheld: found {unknown}, expected names of state columns.")
        self._seen = [name not in case.withheld for name in self._state_names]
        self._values: dict[str, float] = {}
        self.clinicians_value = self._value_as_treated(settings.truth_episodes)
        for name, policy in self._policies(self.clinicians):  # once, before processes are forked
            if case.behavior == "known" or not name.startswith(REPEATED):
                self._values[name] = self._value(policy, settings.truth_episodes)

    def sample(self, n_episodes: int, seed: int) -> Transitions:
        """Draw episodes treated by the clinicians, as the build recovers them from the tables."""
        icu, states, actions = self._treated(n_episodes, seed)
        step = np.arange(len(states))[:, None]
        stay, index = np.nonzero((step < icu.n_steps).T)
        last = index == icu.n_steps[stay] - 1
        rows = states[index, stay]
        return Transitions(
            states=rows,
            actions=actions[index, stay],
            rewards=np.where(last, np.where(icu.died, -self._bound, self._bound)[stay], 0.0),
            next_states=np.where(last[:, None], rows, np.roll(rows, -1, axis=0)),
            terminals=last,
            stay_id=stay,
            subject_id=stay,
            step_index=index,
            state_names=self._state_names,
            normalized=False,
        )

    def inputs(self, states: np.ndarray) -> np.ndarray:
        """Return the states normalized as the network does, less what is withheld."""
        return np.asarray(self._model.normalize(torch.tensor(states)).numpy()[:, self._seen])

    def clinicians(self, states: np.ndarray) -> np.ndarray:
        """Return the (n, 25) true behavior policy, positive everywhere; without what clinicians alone see."""
        practice = change_practice(
            self._behavior.probabilities(states), self._case.sharpness, 0.0, self._case.hidden_treatment
        )
        return np.maximum(practice, NO_CHANCE)

    def targets(self, train: Transitions, clinicians: Clinicians) -> list[Target]:
        """Return the policies of the case; what is softened towards estimated clinicians is rolled out anew."""
        repeated = self._rollouts.repeated_truth_episodes
        return [
            Target(policy, self._values[name] if name in self._values else self._value(policy, repeated))
            for name, policy in self._policies(clinicians)
        ]

    def confounding(self) -> Confounding:
        """Measure how far hidden organ failure changes what clinicians do, against a patient in whom it is average."""
        icu, parts = SimulatedICU(self._settings, EPISODES, SEED), []

        def choose(now: SimulatedICU) -> tuple[np.ndarray, np.ndarray]:
            practice, rows = self._practice(now), np.flatnonzero(now.active)
            actions = draw_actions(practice, now)
            usual = self.clinicians(now.states)
            parts.append(Seen(rows, actions[rows], practice[rows], usual[rows]))
            return now.clinicians.doses_of(actions, now.states, self._grid, now.rng)

        simulate(icu, choose)
        return measure(Seen(*(np.concatenate(columns) for columns in zip(*parts, strict=True))))

    def _policies(self, clinicians: Clinicians) -> Iterator[tuple[str, FunctionPolicy]]:
        for kind, parameters in self._case.policies.items():
            for parameter in parameters:
                name, act = self._make(kind, parameter, clinicians)
                yield name, FunctionPolicy(name, act)

    def _make(self, kind: str, parameter: float, clinicians: Clinicians) -> tuple[str, Clinicians]:
        """Name and function of one policy. Only the network's are softened towards estimated clinicians."""
        network = policy_of_model(self._model).network
        assert network is not None
        if kind == "network":
            return f"{REPEATED} x exp(Q / {parameter:g})", lambda states: tilt_behavior(
                network(states), clinicians(states), parameter
            )
        if kind in LEVELS:
            return f"clinicians x exp({parameter:g} x {kind})", lambda states: tilt_behavior(
                LEVELS[kind][None], self.clinicians(states), 1 / parameter
            )
        return f"network, greedy in {parameter:.0%} of decisions", lambda states: mix(
            np.eye(N_ACTIONS)[network(states).argmax(axis=1)], self.clinicians(states), 1 - parameter
        )

    def _treated(self, n: int, seed: int) -> tuple[SimulatedICU, np.ndarray, np.ndarray]:
        """A finished simulation with (steps, n, 62) states and (steps, n) actions, under the case's clinicians."""
        icu = SimulatedICU(self._settings, n, seed)
        is_plain = self._case.hidden_pull == 0 and self._case.sharpness == 1
        episodes = simulate(icu, None if is_plain else self._choose)
        return icu, episodes.states, self._grid.bin_actions(episodes.vasopressor, episodes.fluid)

    def _value_as_treated(self, n_episodes: int) -> float:
        """Value of the case's clinicians, some thousand episodes at a time."""
        sizes = [min(BATCH, n_episodes - done) for done in range(0, n_episodes, BATCH)]
        parts = [self._treated(size, TRUTH_SEED + number)[0] for number, size in enumerate(sizes)]
        died, n_steps = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("died", "n_steps")
        )
        return value_of(died, n_steps, self._bound, self._gamma).value

    def _practice(self, icu: SimulatedICU) -> np.ndarray:
        """(n, 25) what clinicians do who see hidden organ failure."""
        mean, deviation = ORGANS
        severity = np.clip((icu.latent.organs - mean) / deviation, -2, 2)
        return change_practice(
            self._behavior.probabilities(icu.states),
            self._case.sharpness,
            self._case.hidden_pull * severity,
            self._case.hidden_treatment,
        )

    def _choose(self, icu: SimulatedICU) -> tuple[np.ndarray, np.ndarray]:
        actions = draw_actions(self._practice(icu), icu)
        return icu.clinicians.doses_of(actions, icu.states, self._grid, icu.rng)

    def _value(self, policy: Any, n_episodes: int) -> float:
        return self._truth.value(policy, n_episodes, TRUTH_SEED, gamma=self._gamma).value
