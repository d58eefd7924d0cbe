"""Made-up wards of a few lines each, in which a verdict can be deceived: patients, clinicians, harm and a policy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, softmax

from sepsis_cql.evaluation.data import EvaluationData, assemble_data, assemble_estimated
from sepsis_cql.evaluation.policies.base import FunctionPolicy
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.replay.rows.actions import N_ACTIONS
from sepsis_cql.replay.transitions import Transitions

Columns = dict[
    str, np.ndarray
]  # one (n,) each: x severity, u hidden, given mean dose so far, t of the stay, ...
Generator = np.random.Generator
Doses = Callable[[Columns], np.ndarray]  # (n, 25) probabilities
Policy = Callable[
    [Columns, np.ndarray], np.ndarray
]  # likewise, by what is seen and the clinicians' probabilities
Odds = Callable[[Columns, np.ndarray], np.ndarray]  # (n,) by columns and actions
Start = Callable[[int, Generator], Columns]
Move = Callable[[Columns, np.ndarray, Generator], Columns]
BOUND = 15.0
DOSE = (np.arange(N_ACTIONS) // 5 - 2) / 2  # -1 to 1, of vasopressor
SMALLEST = 1e-12


def prefer(strength: np.ndarray | float, doses: np.ndarray = DOSE) -> np.ndarray:
    """Return (n, 25) probabilities of clinicians who are drawn to higher doses with (n,) strengths."""
    return np.asarray(softmax(np.multiply.outer(np.atleast_1d(strength), doses), axis=1))


def tilt(strength: float, doses: np.ndarray = DOSE) -> Policy:
    """Return a policy that gives what clinicians give, tilted towards higher doses."""
    return lambda seen, clinicians: np.asarray(
        softmax(np.log(clinicians + 1e-300) + strength * doses, axis=1)
    )


def give(dose: int, share: np.ndarray | float, rest: np.ndarray) -> np.ndarray:
    """Return (n, 25) probabilities of one dose in a share of the decisions, and else of `rest` without it."""
    others, share = rest.copy(), np.broadcast_to(share, len(rest))[:, None]
    others[:, dose] = 0
    return (1 - share) * others / others.sum(axis=1, keepdims=True) + share * np.eye(N_ACTIONS)[dose]


def wander(help_: float) -> Move:
    """Return how severity goes on: most of it stays, a dose lowers it, and chance changes it."""

    def move(now: Columns, actions: np.ndarray, rng: Generator) -> Columns:
        noise = rng.normal(size=len(actions)) * 0.5
        return {"x": 0.8 * now["x"] - help_ * DOSE[actions] + noise}

    return move


@dataclass(frozen=True)
class Ward:
    """One ward, and policies that are truly no better than its clinicians.

    Attributes:
        clinicians: their probabilities, by all columns.
        policies: by what is seen and the clinicians' probabilities there; the k-th is the k-th that the same episodes
            judge.
        dies: (n,) log odds of death at the end of the stay, by columns and actions.
        dies_now: probability of death at this decision, likewise.
        leaves: probability that the stay ends after this decision, likewise; death is decided then.
        start: further columns of n new patients.
        move: how columns change, by columns, actions and chance.
        horizon: decisions of a stay at most.
        scored: stays.
        training: stays.
        seen: columns of the state.
        told: clinicians' probabilities as the evaluation is told them, by what is seen; None where it estimates them.
        stays: of one patient.
        is_null: whether policy and clinicians are equal by construction.
    """

    clinicians: Doses
    policies: tuple[Policy, ...]
    dies: Odds
    dies_now: Odds | None = None
    leaves: Odds | None = None
    start: Start | None = None
    move: Move | None = None
    horizon: int = 1
    scored: int = 1000
    training: int = 1000
    seen: tuple[str, ...] = ("x",)
    told: Doses | None = None
    stays: int = 1
    is_null: bool = False

    def simulate(self, n: int, seed: int, gamma: float, act: Any = None) -> tuple[np.ndarray, Transitions]:
        """Return (n,) returns and transitions of stays under the clinicians, or under a policy of (n, d) states."""
        rng = np.random.default_rng(seed)
        patient = rng.integers(0, max(2, n // self.stays), n) if self.stays > 1 else np.arange(n)
        now = {"x": rng.normal(size=n), "u": rng.normal(size=n)[patient], "given": np.zeros(n)}
        now |= self.start(n, rng) if self.start else {}
        stay, returns, rows = np.arange(n), np.zeros(n), []
        for step in range(self.horizon):
            now["t"] = np.full(len(stay), step / self.horizon)
            states = self.show(now)
            doses = (self.clinicians(now) if act is None else act(states)).cumsum(axis=1)
            actions = (doses <= rng.random(len(stay))[:, None] * doses[:, -1:]).sum(axis=1)
            now["given"] = now["given"] + DOSE[actions] / self.horizon
            now |= self.move(now, actions, rng) if self.move else {}
            killed, leaves = (
                np.zeros(len(stay), bool) if odds is None else rng.random(len(stay)) < odds(now, actions)
                for odds in (self.dies_now, self.leaves)
            )
            ends = killed | leaves | (step == self.horizon - 1)
            died = killed | (rng.random(len(stay)) < expit(self.dies(now, actions)))
            rewards = np.where(ends, np.where(died, -BOUND, BOUND), 0.0)
            returns[stay] += gamma**step * rewards
            rows.append((stay, np.full(len(stay), step), states, actions, rewards, ends))
            stay, now = stay[~ends], {key: column[~ends] for key, column in now.items()}
            if len(stay) == 0:
                break
        columns = [np.concatenate(column) for column in zip(*rows, strict=True)]
        order = np.lexsort((columns[1], columns[0]))
        stay, steps, states, actions, rewards, ends = (column[order] for column in columns)
        following = np.where(ends[:, None], states, np.roll(states, -1, axis=0))
        return returns, Transitions(
            states, actions, rewards, following, ends, stay, patient[stay], steps, self.seen, True
        )

    def show(self, now: Columns) -> np.ndarray:
        """Return (n, d) states of columns."""
        return np.stack([now[name] for name in self.seen], axis=1).astype(np.float32)

    def read(self, states: np.ndarray) -> Columns:
        """Return columns of (n, d) states."""
        return dict(zip(self.seen, states.T.astype(np.float64), strict=True))

    def act(self, which: int, data: EvaluationData) -> Callable[[np.ndarray], np.ndarray]:
        """Return a policy as a function of (n, d) states."""
        return lambda states: self.policies[which](self.read(states), data.clinicians(states))

    def assemble(self, seed: int, settings: EvaluationSettings) -> EvaluationData:
        """Draw training and scored stays, with the clinicians' probabilities as told, or estimated."""
        train, scored = (
            self.simulate(n, 2 * seed + part, settings.gamma)[1]
            for part, n in enumerate((self.training, self.scored))
        )
        if self.told is not None:
            known = FunctionPolicy("clinicians", self.say)
            return assemble_data(
                train, scored, lambda states: states, known, settings.gamma, known=known.probabilities
            )
        mean, spread = train.states.mean(axis=0), train.states.std(axis=0)
        spread = np.where(spread > 0, spread, 1)
        behavior = settings.behavior.model_copy(update={"models": ["multinomial logistic"]})
        told = settings.model_copy(update={"behavior": behavior})
        return assemble_estimated(train, scored, lambda states: (states - mean) / spread, told)

    def say(self, states: np.ndarray) -> np.ndarray:
        """Return (n, 25) the clinicians' probabilities as told at (n, d) states."""
        assert self.told is not None
        return np.maximum(self.told(self.read(states)), SMALLEST)
