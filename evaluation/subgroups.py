"""For whom a policy differs from the clinicians: differences by subgroup, each tested against all other patients.

The difference of a group is given by the recommended estimator and by the independent one. Where the former is a fitted
evaluator, it values the clinicians too: what happened by chance in a group, or what its first states cannot foretell,
would else count for the policy. Only the latter is tested: an evaluator sees of a group what the state tells of it, and
would find no harm to a group whose membership no state shows.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.stats import t as student

from sepsis_cql.common.privacy import hidden_groups
from sepsis_cql.evaluation.data import EvaluationData
from sepsis_cql.evaluation.estimate import PolicyEstimate
from sepsis_cql.evaluation.estimators import importance
from sepsis_cql.evaluation.estimators.fqe import FqeResult, cross_fit
from sepsis_cql.evaluation.estimators.fqe_basis import Decisions
from sepsis_cql.evaluation.estimators.importance import SumEstimator
from sepsis_cql.evaluation.estimators.intervals import compute_normal_interval, deviation
from sepsis_cql.evaluation.estimators.table import Statistic
from sepsis_cql.evaluation.estimators.weights import effective_sample_size
from sepsis_cql.evaluation.report.record import Interval, SubgroupDifference, SubgroupDifferences, rank_group
from sepsis_cql.evaluation.settings import DiagnosticSettings, EvaluationSettings
from sepsis_cql.replay.transitions import Transitions

Groups = list[tuple[str, str, np.ndarray]]  # characteristic, group, (n_episodes,) mask


def group_episodes(details: pd.DataFrame, scored: Transitions, rules: DiagnosticSettings) -> Groups:
    """Return the subgroups of the scored episodes that may be shown.

    A group of fewer patients than `smallest_cell` is left out and, where it is the only one of its characteristic, the
    next smallest with it: the total would give it away.

    Args:
        details: severity and demographics, one row a scored step.
        scored: the same steps.
        rules: strata and the smallest cell.
    """
    first = details.iloc[scored.episode_starts]
    patients = scored.subject_id[scored.episode_starts]
    ventilated = details.groupby("stay_id")["is_ventilated"].any().reindex(first["stay_id"]).to_numpy()
    columns = {
        "age": pd.cut(first["age"].astype(float), [*rules.age_strata, np.inf], right=False).astype(str),
        "sex": first["gender"].astype(str),
        "race": first["race"].astype(str),
        "SOFA at first step": pd.cut(first["sofa"], [*rules.sofa_strata, np.inf], right=False).astype(str),
        "ventilation": np.where(ventilated, "ventilated", "never ventilated"),
        "first care unit": first["first_careunit"].astype(str),
    }
    groups = []
    for characteristic, column in columns.items():
        labels = np.asarray(column)
        counts = {label: len(np.unique(patients[labels == label])) for label in np.unique(labels)}
        shown = sorted(set(labels) - hidden_groups(counts, rules.smallest_cell), key=rank_group)
        groups += [(characteristic, str(label), labels == label) for label in shown]
    return groups


def compare_subgroups(
    policy_estimate: PolicyEstimate, data: EvaluationData, groups: Groups, settings: EvaluationSettings
) -> SubgroupDifferences:
    """Estimate the difference to clinicians in each group, and test it against that of all other patients.

    Args:
        policy_estimate: of the policy.
        data: the scored episodes.
        groups: of `group_episodes`.
        settings: name the estimators; the weights of a group, and of all others, must be worth `subgroup_ess` episodes,
            or nothing is said of it.
    """
    weights, returns = policy_estimate.weights, data.episodes.returns
    counts = data.counts(settings.diagnostics.resamples, settings.seed)
    names = settings.gates.recommended, settings.gates.independent
    main, independent = (policy_estimate.statistics[name] for name in names)
    gain = _gain(main, data, settings) if isinstance(main, FqeResult) else None
    rows, departures = [], []
    for characteristic, group, inside in groups:
        size, of_others = (effective_sample_size(weights[part]) for part in (inside, ~inside))
        smaller = min(size, of_others)
        is_enough = smaller >= settings.diagnostics.subgroup_ess
        own, others = (_differ(independent, returns, part, counts) for part in (inside, ~inside))
        departures.append(_p_value(own, others, smaller) if is_enough else None)
        rows.append(
            SubgroupDifference(
                characteristic=characteristic,
                group=group,
                n_episodes=int(inside.sum()),
                ess=size,
                difference=_interval(
                    _differ(main, returns, inside, counts)
                    if gain is None
                    else (float(gain.initial_values[inside].mean()), gain.resampled(inside))
                ),
                independent=_interval(own if is_enough else None),
                p_adjusted=None,
            )
        )
    adjusted = adjust_by_holm(departures)
    return SubgroupDifferences(
        policy=policy_estimate.evaluated.name,
        recommended=names[0],
        independent=names[1],
        rows=[row.model_copy(update={"p_adjusted": p}) for row, p in zip(rows, adjusted, strict=True)],
    )


def adjust_by_holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p-values adjusted for their number by Holm's method (1979); None stays None and does not count."""
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        adjusted[index] = largest
    return adjusted


def _differ(
    statistic: Statistic, returns: np.ndarray, inside: np.ndarray, counts: np.ndarray
) -> tuple[float, np.ndarray] | None:
    """Value of the policy minus mean return in one part of the episodes, and the same in each resample."""
    if not isinstance(statistic, SumEstimator) or not inside.any():
        return None
    part = SumEstimator(statistic.rows[inside], statistic.combine)
    observed = importance.mean_estimator(returns[inside])
    drawn = counts[:, inside]
    return part.value - observed.value, part.resampled(drawn) - observed.resampled(drawn)


def _gain(fitted: FqeResult, data: EvaluationData, settings: EvaluationSettings) -> FqeResult:
    """The evaluator's values of a policy less those of the clinicians, refit by refit."""
    clinicians = Decisions(data.scored_inputs, data.behavior, data.behavior, data.device)
    own = cross_fit(data.scored, clinicians, fitted.refit_counts, settings)
    return replace(
        fitted,
        initial_values=fitted.initial_values - own.initial_values,
        refit_values=fitted.refit_values - own.refit_values,
    )


def _p_value(
    own: tuple[float, np.ndarray] | None, others: tuple[float, np.ndarray] | None, size: float
) -> float | None:
    """Two-sided p-value of equal differences, with as many degrees of freedom as the smaller part is worth episodes.

    None where it cannot be had. A normal reference names a group too often where weights are heavy.
    """
    if own is None or others is None:
        return None
    spread = deviation(own[1] - others[1])
    return float(2 * student.sf(abs(own[0] - others[0]) / spread, size - 1)) if spread > 0 else None


def _interval(found: tuple[float, np.ndarray] | None) -> Interval:
    ends = (np.nan,) * 3 if found is None else (found[0], *compute_normal_interval(*found))
    value, lower, upper = (float(end) if np.isfinite(end) else None for end in ends)
    return Interval(value=value, lower=lower, upper=upper)
