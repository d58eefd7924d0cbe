"""Measured covariates as yardsticks for what nobody measured.

A factor that clinicians saw and no table holds changes the odds of a dose as a recorded one does: the behavior policy
is fitted again without it, as if it had not been measured, and the odds of what was given are compared. How much a
verdict survives (`estimators.sensitivity`) can then be read in units of lactate.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sepsis_cql.evaluation.estimators.episodes import Episodes, select_rows
from sepsis_cql.evaluation.policies.behavior import (
    BehaviorPolicy,
    Covariate,
    fit_behavior,
    ignore_convergence,
)
from sepsis_cql.evaluation.settings import CovariateSettings, EvaluationSettings
from sepsis_cql.evaluation.side_by_side import side_by_side
from sepsis_cql.replay.transitions import Transitions

SMALLEST = 1e-9  # chance of a dose, and of any other, in odds
Part = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class FittedOn:
    """A behavior policy fitted here, with the decisions that it was fitted and calibrated on.

    Attributes:
        fitted: (n, d) states as the replay holds them and (n,) actions.
        held: the same of other patients.
        model: fitted on them; covariates are measured by it, also where somebody else's estimate weighs the episodes.
        normalizer: clinical units to its inputs.
        fitted_patients, held_patients: (n,) whose each decision is.
    """

    fitted: Part
    held: Part
    model: BehaviorPolicy
    normalizer: Callable[[np.ndarray], np.ndarray]
    fitted_patients: np.ndarray
    held_patients: np.ndarray


def measure_covariates(
    on: FittedOn, scored: Transitions, episodes: Episodes, settings: EvaluationSettings
) -> list[Covariate]:
    """Measure what leaving out the strongest covariates changes, the strongest first.

    Args:
        on: the behavior policy and what it was fitted on.
        scored: transitions at which its odds are compared.
        episodes: of `scored`.
        settings: which covariates, and the behavior policy's.
    """
    rules = settings.behavior.model_copy(update={"models": [on.model.name]})
    parts = [_thin(part, rules.selection_rows, settings.seed) for part in (on.fitted, on.held)]
    typical = np.array([_median(column) for column in parts[0][0].T])

    def probabilities(column: int | None) -> np.ndarray:
        """(n,) of the doses given at the scored states, by a policy fitted without a column."""
        fitted, held = (
            (on.normalizer(_blank(states, column, typical)), actions) for states, actions in parts
        )
        model = fit_behavior(*fitted, *held, rules, settings.seed)
        return given(model, column)

    def given(model: BehaviorPolicy, column: int | None) -> np.ndarray:
        inputs = on.normalizer(_blank(scored.states, column, typical))
        return select_rows(model.probabilities(inputs), scored.actions)

    is_whole = len(parts[0][1]) == len(on.fitted[1])
    full = given(on.model, None) if is_whole else probabilities(None)
    names = scored.state_names
    columns = _strongest(on, names, parts[1], typical, settings.covariates)
    with ignore_convergence():
        reduced = side_by_side(probabilities, columns)
    found = [
        _compare(names[column], full, part, episodes, settings.covariates)
        for column, part in zip(columns, reduced, strict=True)
    ]
    return sorted(found, key=lambda one: one.odds, reverse=True)


def _strongest(
    on: FittedOn, names: tuple[str, ...], held: Part, typical: np.ndarray, rules: CovariateSettings
) -> list[int]:
    """Columns without which the behavior policy loses most likelihood on held-out decisions, and those named."""
    states, actions = held[0][: rules.ranking_decisions], held[1][: rules.ranking_decisions]

    def likelihood(column: int) -> float:
        inputs = on.normalizer(_blank(states, column, typical))
        return float(np.log(select_rows(on.model.probabilities(inputs), actions)).mean())

    order = np.argsort([likelihood(column) for column in range(len(names))], kind="stable")
    named = [names.index(name) for name in rules.named if name in names]
    return list(dict.fromkeys([*map(int, order[: rules.strongest]), *named]))


def _compare(
    name: str, full: np.ndarray, reduced: np.ndarray, episodes: Episodes, rules: CovariateSettings
) -> Covariate:
    """How far (n,) probabilities of what was given lie apart, in odds and over whole stays."""
    full, reduced = (np.clip(part, SMALLEST, 1 - SMALLEST) for part in (full, reduced))
    odds = np.log(reduced / (1 - reduced)) - np.log(full / (1 - full))
    stays = episodes.pad(np.log(reduced / full)).sum(axis=1)
    factors = [float(np.exp(np.quantile(np.abs(logs), rules.decisions))) for logs in (odds, stays)]
    return Covariate(name=name, odds=factors[0], weights=factors[1])


def _median(values: np.ndarray) -> float:
    """Of what is known; 0 if nothing is."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else 0.0


def _blank(states: np.ndarray, column: int | None, typical: np.ndarray) -> np.ndarray:
    """States with one column set to a single value, which tells nothing."""
    if column is None:
        return states
    changed = states.copy()
    changed[:, column] = typical[column]
    return changed


def _thin(part: Part, most: int, seed: int) -> Part:
    """At most so many decisions, drawn at random."""
    states, actions = part
    if len(actions) <= most:
        return part
    rows = np.random.default_rng(seed).choice(len(actions), most, replace=False)
    return states[rows], actions[rows]
