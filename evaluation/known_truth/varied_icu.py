"""ICU-Sepsis with one thing changed: who acts, what kills, or what nobody sees. Values stay exact."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from sepsis_cql.evaluation.known_truth.icu_sepsis import DEATH, SURVIVAL, TabularIcu
from sepsis_cql.evaluation.known_truth.settings import CaseSettings
from sepsis_cql.replay.rows.actions import N_ACTIONS, N_BINS
from sepsis_cql.replay.transitions import Transitions

LEVELS = {  # (25,) from -1 for none to 1 for most
    "vasopressor": np.arange(N_ACTIONS) // N_BINS / 2 - 1,
    "fluid": np.arange(N_ACTIONS) % N_BINS / 2 - 1,
}
BURDEN = np.arange(N_ACTIONS) // N_BINS / 4  # (25,) what a step adds to the cumulated vasopressor


def change_practice(
    table: np.ndarray, sharpness: float, pull: float | np.ndarray, treatment: str
) -> np.ndarray:
    """Return (n, 25) probabilities sharpened to a power and pulled towards more of a treatment; zeros stay zero."""
    changed = table**sharpness * np.exp(np.multiply.outer(pull, LEVELS[treatment]))
    total = changed.sum(axis=-1, keepdims=True)
    return np.asarray(changed / np.where(total > 0, total, 1))


@dataclass(frozen=True)
class VariedIcu:
    """ICU-Sepsis as a case has it.

    Attributes:
        plain: as published.
        halves: the process of each half of the patients; one where both are alike.
        case: what is changed.
        bound: reward of survival, less for death.
    """

    plain: TabularIcu
    halves: tuple[TabularIcu, ...]
    case: CaseSettings
    bound: float

    @cached_property
    def clinicians(self) -> np.ndarray:
        """(S, 25) the clinicians' probabilities, the mean of both halves."""
        return np.asarray(np.mean([half.clinicians for half in self.halves], axis=0))

    @property
    def clinicians_value(self) -> float:
        """Exact value of what clinicians do, each half as it is treated."""
        return float(np.mean([self._value(half, half.clinicians) for half in self.halves]))

    def true_value(self, policy: np.ndarray) -> float:
        """Return the exact value of (S, 25) action probabilities from the initial states."""
        return float(np.mean([self._value(half, policy) for half in self.halves]))

    def _value(self, icu: TabularIcu, policy: np.ndarray) -> float:
        ended = icu.transition[:, :, DEATH] + icu.transition[:, :, SURVIVAL]
        ends = _discounted(icu, policy, ended)
        spared = policy * np.exp(-self.case.toxicity * BURDEN)
        survives = _discounted(icu, spared, icu.transition[:, :, SURVIVAL])
        return self.bound * (2 * survives - ends)

    def simulate(self, n_episodes: int, seed: int) -> Transitions:
        """Draw episodes, half of them of each kind of patient."""
        parts = [
            half.simulate(len(range(index, n_episodes, len(self.halves))), seed + 5_000_000 * index)
            for index, half in enumerate(self.halves)
        ]
        found = _join(parts)
        burden = np.bincount(found.stay_id, weights=BURDEN[found.actions])
        dies = np.random.default_rng([seed, 1]).random(len(burden)) > np.exp(-self.case.toxicity * burden)
        fatal = found.terminals & dies[found.stay_id]
        return replace(found, rewards=np.where(fatal, -self.bound, found.rewards))


def vary(plain: TabularIcu, case: CaseSettings, bound: float) -> VariedIcu:
    """Change ICU-Sepsis as a case says."""
    transition, live = plain.transition, ~plain.terminal
    if case.without_effect:
        mean = np.einsum("ij,ijk->ik", plain.clinicians, transition)
        transition = np.where(live[:, None, None], mean[:, None, :], transition)
    if case.harm:
        transition = _kill(transition, (plain.clinicians <= 0) & live[:, None], case.harm)
    pulls = (-case.hidden_pull, case.hidden_pull) if case.hidden_pull or case.hidden_hazard else (0.0,)
    hazards = (0.0, case.hidden_hazard)[: len(pulls)]
    everywhere = np.repeat(live[:, None], N_ACTIONS, axis=1)
    halves = tuple(
        replace(
            plain,
            transition=_kill(transition, everywhere, hazard) if hazard else transition,
            clinicians=change_practice(plain.clinicians, case.sharpness, pull, case.hidden_treatment),
        )
        for pull, hazard in zip(pulls, hazards, strict=True)
    )
    return VariedIcu(plain, halves, case, bound)


def _join(parts: list[Transitions]) -> Transitions:
    """All episodes of several simulations, numbered on."""
    if len(parts) == 1:
        return parts[0]
    stay = [
        part.stay_id + sum(other.n_episodes for other in parts[:index]) for index, part in enumerate(parts)
    ]
    names = ("states", "actions", "rewards", "next_states", "terminals", "step_index")
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in names
    }
    return replace(parts[0], **columns, stay_id=np.concatenate(stay), subject_id=np.concatenate(stay))


def _kill(transition: np.ndarray, where: np.ndarray, chance: float) -> np.ndarray:
    """(S, A, S) transition in which the doses `where` kill at once with a chance."""
    changed = transition.copy()
    changed[where] *= 1 - chance
    changed[where, DEATH] += chance
    return changed


def _discounted(icu: TabularIcu, weights: np.ndarray, arrives: np.ndarray) -> float:
    """Discounted chance of an arrival from the initial states, under (S, A) weights of the actions."""
    live = ~icu.terminal
    chain = np.einsum("ij,ijk->ik", weights, icu.transition)[np.ix_(live, live)]
    now = (weights * arrives).sum(axis=1)[live]
    return float(icu.initial[live] @ np.linalg.solve(np.eye(live.sum()) - icu.gamma * chain, now))
