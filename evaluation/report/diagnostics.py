"""Where a policy and the clinicians differ, and for whom: aggregates only, with small groups left out."""

import numpy as np
import pandas as pd

from sepsis_cql.evaluation.data import EvaluationData
from sepsis_cql.evaluation.estimate import PolicyEstimate
from sepsis_cql.evaluation.estimators import importance
from sepsis_cql.evaluation.estimators.episodes import select_rows
from sepsis_cql.evaluation.estimators.intervals import compute_interval
from sepsis_cql.evaluation.report import record as shown
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.evaluation.subgroups import Groups, compare_subgroups, group_episodes
from sepsis_cql.evaluation.verdict import unsupported_share
from sepsis_cql.replay.rows.actions import N_ACTIONS, N_BINS

WEIGHT_EDGES = np.arange(-4.0, 4.5, 0.5)  # of log10 weights


def diagnose(
    policy_estimate: PolicyEstimate,
    judged: PolicyEstimate,
    data: EvaluationData,
    details: pd.DataFrame,
    settings: EvaluationSettings,
) -> shown.Diagnostics | None:
    """Compute what the figures of a policy show; None of fewer patients than the smallest cell.

    Args:
        policy_estimate: of the policy as it acts.
        judged: of the version that the verdict is about, whose differences by subgroup are tested.
        data: the scored episodes.
        details: severity and demographics, one row a scored step.
        settings: strata and thresholds.
    """
    rules = settings.diagnostics
    if data.scored.n_patients < rules.smallest_cell:
        return None
    sofa = details["sofa"].to_numpy()
    agreement = select_rows(policy_estimate.probabilities, data.scored.actions)
    strata = np.asarray(pd.cut(sofa, [*rules.sofa_strata, np.inf], right=False).astype(str))
    fqe = policy_estimate.fqe
    groups = group_episodes(details, data.scored, rules)
    return shown.Diagnostics(
        policy=policy_estimate.evaluated.name,
        clinician_actions=(np.bincount(data.scored.actions, minlength=N_ACTIONS) / len(sofa)).tolist(),
        policy_actions=policy_estimate.probabilities.mean(axis=0).tolist(),
        agreement=float(agreement.mean()),
        agreement_by_sofa=_means_by(strata, agreement, data.scored.subject_id, rules.smallest_cell),
        unsupported_share=[
            shown.SupportShare(
                threshold=limit, share=unsupported_share(policy_estimate.probabilities, data.behavior, limit)
            )
            for limit in rules.support_thresholds
        ],
        weights=_describe_weights(policy_estimate.weights),
        subgroups=_subgroups(policy_estimate, data, groups, settings),
        q_calibration=_q_calibration(policy_estimate, data, rules.smallest_cell),
        dose_difference=_dose_difference(policy_estimate, data, rules.smallest_cell),
        evaluator=None
        if fqe is None
        else shown.Evaluator(sweeps=fqe.sweeps, change=fqe.change, bounded=fqe.bounded_value),
        differences=compare_subgroups(judged, data, groups, settings),
        behavior_by_sofa=_doses_by(strata, data, rules.smallest_cell),
    )


def _doses_by(strata: np.ndarray, data: EvaluationData, smallest: int) -> list[shown.GroupDoses]:
    """How often each drug was given in each stratum of decisions, and how often the behavior policy says."""
    actions, patients = np.arange(N_ACTIONS), data.scored.subject_id

    def compare(has_any: np.ndarray) -> list[tuple[shown.GroupMean, shown.DrugShare]]:
        predicted, observed = data.behavior[:, has_any].sum(axis=1), has_any[data.scored.actions]
        parts = [_means_by(strata, values, patients, smallest) for values in (predicted, observed)]
        return [
            (one, shown.DrugShare(predicted=one.value, observed=other.value))
            for one, other in zip(*parts, strict=True)
        ]

    return [
        shown.GroupDoses(group=row.group, n_patients=row.n_patients, vasopressor=vasopressor, fluid=fluid)
        for (row, vasopressor), (_, fluid) in zip(
            compare(actions >= N_BINS), compare(actions % N_BINS > 0), strict=True
        )
    ]


def _means_by(
    groups: np.ndarray, values: np.ndarray, patients: np.ndarray, smallest: int
) -> list[shown.GroupMean]:
    table = pd.DataFrame({"group": groups, "value": values, "patient": patients})
    rows = table.groupby("group", sort=False).agg(value=("value", "mean"), n=("patient", "nunique"))
    return [
        shown.GroupMean(group=str(group), value=float(row["value"]), n_patients=int(row["n"]))
        for group, row in sorted(rows.iterrows(), key=lambda item: shown.rank_group(str(item[0])))
        if row["n"] >= smallest
    ]


def _describe_weights(weights: np.ndarray) -> shown.WeightHistogram:
    positive = np.log10(weights[weights > 0])
    counts, _ = np.histogram(np.clip(positive, WEIGHT_EDGES[0], WEIGHT_EDGES[-1]), WEIGHT_EDGES)
    largest = np.sort(weights)[::-1][:10]
    total = float(weights.sum())
    return shown.WeightHistogram(
        log10_edges=WEIGHT_EDGES.tolist(),
        shares=(counts / len(weights)).tolist(),
        zero_share=float((weights == 0).mean()),
        largest_shares=(largest / total).tolist() if total > 0 else [],
    )


def _subgroups(
    policy_estimate: PolicyEstimate, data: EvaluationData, groups: Groups, settings: EvaluationSettings
) -> list[shown.Subgroup]:
    """Observed mean return and the policy's fitted value at the first state, by subgroup of patients."""
    returns, resamples = data.episodes.returns, settings.diagnostics.resamples
    return [
        shown.Subgroup(
            characteristic=characteristic,
            group=group,
            n_episodes=int(inside.sum()),
            clinicians=_mean_interval(returns[inside], resamples, settings.seed),
            policy_fqe=_fitted_interval(policy_estimate, inside),
        )
        for characteristic, group, inside in groups
    ]


def _fitted_interval(policy_estimate: PolicyEstimate, inside: np.ndarray) -> shown.Interval:
    if policy_estimate.fqe is None:
        return shown.Interval(value=None, lower=None, upper=None)
    lower, upper = policy_estimate.fqe.interval(inside)
    value = float(policy_estimate.fqe.initial_values[inside].mean())
    return shown.Interval(value=value, lower=lower, upper=upper)


def _mean_interval(values: np.ndarray, n_resamples: int, seed: int) -> shown.Interval:
    drawn = np.random.default_rng(seed).multinomial(
        len(values), np.full(len(values), 1 / len(values)), n_resamples
    )
    lower, upper = compute_interval(
        importance.mean_estimator(values), drawn.astype(float), method="percentile"
    )
    return shown.Interval(value=float(values.mean()), lower=lower, upper=upper)


def _q_calibration(
    policy_estimate: PolicyEstimate, data: EvaluationData, smallest: int
) -> list[shown.ValueCalibration]:
    """Return that followed, by the evaluator's value of the clinicians' first action, in fifths."""
    if policy_estimate.fqe is None or data.episodes.n_episodes < 5 * smallest:
        return []
    starts = data.scored.episode_starts
    predicted = select_rows(policy_estimate.fqe.q_values[starts], data.scored.actions[starts])
    fifths = np.array_split(np.argsort(predicted), 5)
    return [
        shown.ValueCalibration(
            predicted=float(predicted[rows].mean()), observed=float(data.episodes.returns[rows].mean())
        )
        for rows in fifths
    ]


def _dose_difference(
    policy_estimate: PolicyEstimate, data: EvaluationData, smallest: int
) -> shown.DoseDifference:
    """Mortality by how many bins the clinicians gave more than the policy advises, mean over the stay."""
    died = data.episodes.returns < 0
    advised = policy_estimate.probabilities.argmax(axis=1)
    stay, patients = data.episodes.rows, data.scored.subject_id[data.scored.episode_starts]
    answer = {}
    for drug, part in (
        ("vasopressor", lambda action: action // N_BINS),
        ("fluid", lambda action: action % N_BINS),
    ):
        gap = part(data.scored.actions) - part(advised)
        mean_gap = np.bincount(stay, weights=gap) / np.bincount(stay)
        cells = [(low, (np.rint(mean_gap) == low)) for low in range(1 - N_BINS, N_BINS)]
        answer[drug] = [
            shown.DoseCell(difference=low, mortality=float(died[inside].mean()), n_episodes=int(inside.sum()))
            for low, inside in cells
            if len(np.unique(patients[inside])) >= smallest
        ]
    return shown.DoseDifference(**answer)
