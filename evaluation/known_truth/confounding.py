"""The true strength of hidden confounding: how far what clinicians alone see changes the odds of what they do."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from sepsis_cql.common.strict import Record
from sepsis_cql.evaluation.estimators.episodes import select_rows
from sepsis_cql.evaluation.known_truth.icu_sepsis import TabularIcu
from sepsis_cql.evaluation.known_truth.sepsis_simulator import ACTIONS, HORIZON, STATES, SepsisSimulator
from sepsis_cql.evaluation.known_truth.varied_icu import VariedIcu
from sepsis_cql.replay.rows.actions import N_ACTIONS

SHARE = 0.9
EPISODES = 4000  # whose decisions and weights are looked at
SEED = 909
NO_CHANCE = 1e-12


class Confounding(Record):
    """Factors by which the hidden state changes what clinicians do, against what the charted state says.

    Attributes:
        odds: of any dose, at most, over all that can happen; what a marginal sensitivity model calls Gamma.
        usual_odds: of the dose given, in all but 10% of decisions.
        usual_weights: error of the weight of an episode, in all but 10% of episodes.
    """

    odds: float
    usual_odds: float
    usual_weights: float


class Seen(NamedTuple):
    """Decisions by who sees all: (n,) stays and actions, (n, 25) probabilities, and those by the charted state."""

    stay: np.ndarray
    actions: np.ndarray
    seeing: np.ndarray
    charted: np.ndarray


def measure_finite(process: VariedIcu | SepsisSimulator) -> Confounding:
    """Measure the strength in a finite process: the largest odds exactly, what is usual in simulated episodes."""
    return measure(*(_halves(process) if isinstance(process, VariedIcu) else _physicians(process)))


def measure(seen: Seen, largest: float | None = None) -> Confounding:
    """Measure the strength in simulated decisions.

    Args:
        seen: the decisions.
        largest: logarithm of the largest change of odds; that of these decisions without it.
    """
    changes = np.abs(_log_odds(seen.seeing) - _log_odds(seen.charted))
    ratio = select_rows(seen.charted, seen.actions) / select_rows(seen.seeing, seen.actions)
    weights = np.bincount(seen.stay, weights=np.log(ratio))
    return Confounding(
        odds=float(np.exp(changes.max() if largest is None else largest)),
        usual_odds=_usual(select_rows(changes, seen.actions)),
        usual_weights=_usual(weights),
    )


def _halves(process: VariedIcu) -> tuple[Seen, float]:
    """Decisions in ICU-Sepsis, where half of the patients have something that nobody charted."""
    visits = [_visits(half) for half in process.halves]
    mixed = _mix(visits, [half.clinicians for half in process.halves])
    largest = max(
        _largest(half.clinicians, mixed, often) for half, often in zip(process.halves, visits, strict=True)
    )
    parts = []
    for number, half in enumerate(process.halves):
        found = half.simulate(EPISODES // 2, SEED + number)
        index = half.state_index(found.states)
        stay = found.stay_id + number * EPISODES
        parts.append(Seen(stay, found.actions, half.clinicians[index], mixed[index]))
    return Seen(*(np.concatenate(columns) for columns in zip(*parts, strict=True))), largest


def _physicians(process: SepsisSimulator) -> tuple[Seen, float]:
    """Decisions in the sepsis simulator, whose physicians see glucose and diabetes."""
    visits, present = np.zeros(len(STATES)), process.initial
    for _ in range(HORIZON):
        visits = visits + present
        chosen = present[:, None] * process.physicians
        present = np.einsum("ij,ijk->k", chosen, process.transition) * ~process.terminal
    sums = np.zeros((process.visible.max() + 1, len(ACTIONS)))
    np.add.at(sums, process.visible, visits[:, None] * process.physicians)
    charted = (sums / np.maximum(sums.sum(axis=1, keepdims=True), NO_CHANCE))[process.visible]
    everything = replace(process, withheld=())
    found = everything.simulate(EPISODES, SEED)
    index, place = everything.state_index(found.states), np.zeros(N_ACTIONS, dtype=int)
    place[ACTIONS] = np.arange(len(ACTIONS))
    seen = Seen(found.stay_id, place[found.actions], process.physicians[index], charted[index])
    return seen, _largest(process.physicians, charted, visits)


def _visits(icu: TabularIcu) -> np.ndarray:
    """(S,) expected number of times that clinicians meet each state."""
    live = ~icu.terminal
    chain = np.einsum("ij,ijk->ik", icu.clinicians, icu.transition)[np.ix_(live, live)]
    found = np.zeros(len(live))
    found[live] = np.linalg.solve(np.eye(live.sum()) - chain.T, icu.initial[live])
    return found


def _mix(visits: list[np.ndarray], tables: list[np.ndarray]) -> np.ndarray:
    """(S, A) what is done in each state by whoever is met there."""
    together = sum(often[:, None] * table for often, table in zip(visits, tables, strict=True))
    return np.asarray(together / np.maximum(sum(visits), NO_CHANCE)[:, None])


def _largest(seeing: np.ndarray, charted: np.ndarray, visits: np.ndarray) -> float:
    """Largest change of log odds of what can happen."""
    happens = visits[:, None] * seeing > NO_CHANCE * visits.sum()
    return float(np.abs(_log_odds(seeing) - _log_odds(charted))[happens].max())


def _usual(logs: np.ndarray) -> float:
    """The factor, up or down, that all but 10% of (n,) log ratios stay within."""
    return float(np.exp(np.quantile(np.abs(logs), SHARE)))


def _log_odds(probabilities: np.ndarray) -> np.ndarray:
    inside = np.clip(probabilities, NO_CHANCE, 1 - NO_CHANCE)
    return np.asarray(np.log(inside) - np.log1p(-inside))
