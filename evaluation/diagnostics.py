"""Where a policy and the clinicians differ, and for whom: aggregates only, with small groups left out."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from sepsis_cql.evaluation import importance
from sepsis_cql.evaluation.audit import Audit
from sepsis_cql.evaluation.episodes import select_rows
from sepsis_cql.evaluation.intervals import interval
from sepsis_cql.evaluation.policies import N_ACTIONS
from sepsis_cql.evaluation.scene import Scene
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.evaluation.verdict import unsupported_share

STEP_COLUMNS = ["stay_id", "step_index", "sofa", "is_ventilated"]
STAY_COLUMNS = ["stay_id", "age", "gender", "race", "first_careunit"]
N_RESAMPLES = 200
WEIGHT_EDGES = np.arange(-4.0, 4.5, 0.5)  # of log10 weights


def diagnose(
    audit: Audit, scene: Scene, replay: Path, split: str, settings: EvaluationSettings
) -> dict[str, Any]:
    """Everything the figures of a policy show; nothing of fewer episodes than the smallest cell.

    Args:
        audit: of the policy as it acts.
        scene: the data.
        replay: directory of the replay, for severity and demographics.
        split: scored.
        settings: strata and thresholds.
    """
    rules = settings.diagnostics
    if scene.episodes.n_episodes < rules.smallest_cell:
        return {}
    details = _load_details(replay, split)
    sofa = details["sofa"].to_numpy()
    agreement = select_rows(audit.probabilities, scene.scored.actions)
    strata = np.asarray(pd.cut(sofa, [*rules.sofa_strata, np.inf], right=False).astype(str))
    weights = audit.weights
    return {
        "policy": audit.variant.name,
        "clinician_actions": (np.bincount(scene.scored.actions, minlength=N_ACTIONS) / len(sofa)).tolist(),
        "policy_actions": audit.probabilities.mean(axis=0).tolist(),
        "agreement": float(agreement.mean()),
        "agreement_by_sofa": _means_by(strata, agreement, scene.scored.subject_id, rules.smallest_cell),
        "unsupported_share": [
            {"threshold": limit, "share": unsupported_share(audit.probabilities, scene.behavior, limit)}
            for limit in rules.support_thresholds
        ],
        "weights": _describe_weights(weights),
        "subgroups": _subgroups(audit, scene, details, settings),
        "q_calibration": _q_calibration(audit, scene, rules.smallest_cell),
        "dose_difference": _dose_difference(audit, scene, rules.smallest_cell),
        "evaluator": None
        if audit.fqe is None
        else {"sweeps": audit.fqe.sweeps, "change": audit.fqe.change, "bounded": audit.fqe.bounded_value},
    }


def _load_details(replay: Path, split: str) -> pd.DataFrame:
    """One row a scored step, in the order of the transitions, with severity and demographics."""
    steps = pq.read_table(replay / f"{split}.parquet", columns=STEP_COLUMNS).to_pandas()
    stays = pq.read_table(replay / "stays.parquet", columns=STAY_COLUMNS).to_pandas()
    ordered = steps.sort_values(["stay_id", "step_index"], kind="stable")
    return ordered.merge(stays, on="stay_id", how="left", validate="many_to_one")


def _means_by(groups: np.ndarray, values: np.ndarray, patients: np.ndarray, smallest: int) -> list[dict]:
    table = pd.DataFrame({"group": groups, "value": values, "patient": patients})
    rows = table.groupby("group", sort=True).agg(value=("value", "mean"), n=("patient", "nunique"))
    return [
        {"group": str(group), "value": float(row["value"]), "n_patients": int(row["n"])}
        for group, row in rows.iterrows()
        if row["n"] >= smallest
    ]


def _describe_weights(weights: np.ndarray) -> dict[str, Any]:
    positive = np.log10(weights[weights > 0])
    counts, _ = np.histogram(np.clip(positive, WEIGHT_EDGES[0], WEIGHT_EDGES[-1]), WEIGHT_EDGES)
    largest = np.sort(weights)[::-1][:10]
    total = float(weights.sum())
    return {
        "log10_edges": WEIGHT_EDGES.tolist(),
        "shares": (counts / len(weights)).tolist(),
        "zero_share": float((weights == 0).mean()),
        "largest_shares": (largest / total).tolist() if total > 0 else [],
    }


def _subgroups(
    audit: Audit, scene: Scene, details: pd.DataFrame, settings: EvaluationSettings
) -> list[dict[str, Any]]:
    """Observed mean return and the policy's fitted value at the first state, by subgroup of patients.

    A group of fewer patients than `smallest_cell` is left out, and so is one whose complement within its
    characteristic is smaller: the total would give it away.
    """
    first = details.iloc[scene.scored.episode_starts]
    returns = scene.episodes.returns
    ventilated = details.groupby("stay_id")["is_ventilated"].any().reindex(first["stay_id"]).to_numpy()
    rules = settings.diagnostics
    columns = {
        "age": pd.cut(first["age"].astype(float), [*rules.age_strata, np.inf], right=False).astype(str),
        "sex": first["gender"].astype(str),
        "race": first["race"].astype(str),
        "SOFA at first step": pd.cut(first["sofa"], [*rules.sofa_strata, np.inf], right=False).astype(str),
        "ventilation": np.where(ventilated, "ventilated", "never ventilated"),
        "first care unit": first["first_careunit"].astype(str),
    }
    rows = []
    for characteristic, labels in columns.items():
        labels = np.asarray(labels)
        small = [label for label in np.unique(labels) if (labels == label).sum() < rules.smallest_cell]
        hidden = set(small)
        if len(small) == 1:  # pooled with the next smallest, which the total would otherwise give away
            others = [label for label in np.unique(labels) if label not in hidden]
            hidden |= {min(others, key=lambda label: (labels == label).sum())} if others else set()
        for label in sorted(set(labels) - hidden):
            inside = labels == label
            rows.append(
                {
                    "characteristic": characteristic,
                    "group": str(label),
                    "n_episodes": int(inside.sum()),
                    "clinicians": _mean_interval(returns[inside], settings.seed),
                    "policy_fqe": _fitted_interval(audit, inside),
                }
            )
    return rows


def _fitted_interval(audit: Audit, inside: np.ndarray) -> dict[str, float | None]:
    if audit.fqe is None:
        return {"value": None, "lower": None, "upper": None}
    lower, upper = audit.fqe.interval(inside)
    return {"value": float(audit.fqe.initial_values[inside].mean()), "lower": lower, "upper": upper}


def _mean_interval(values: np.ndarray, seed: int) -> dict[str, float]:
    drawn = np.random.default_rng(seed).multinomial(
        len(values), np.full(len(values), 1 / len(values)), N_RESAMPLES
    )
    lower, upper = interval(importance.mean_estimator(values), drawn.astype(float), method="percentile")
    return {"value": float(values.mean()), "lower": lower, "upper": upper}


def _q_calibration(audit: Audit, scene: Scene, smallest: int) -> list[dict[str, float]]:
    """Return that followed, by the evaluator's value of the clinicians' first action, in fifths."""
    if audit.fqe is None or scene.episodes.n_episodes < 5 * smallest:
        return []
    starts = scene.scored.episode_starts
    predicted = select_rows(audit.fqe.q_values[starts], scene.scored.actions[starts])
    fifths = np.array_split(np.argsort(predicted), 5)
    return [
        {"predicted": float(predicted[rows].mean()), "observed": float(scene.episodes.returns[rows].mean())}
        for rows in fifths
    ]


def _dose_difference(audit: Audit, scene: Scene, smallest: int) -> dict[str, list[dict[str, Any]]]:
    """Mortality by how many bins the clinicians gave more than the policy advises, mean over the stay."""
    died = scene.episodes.returns < 0
    advised = audit.probabilities.argmax(axis=1)
    stay = scene.episodes.rows
    answer = {}
    for drug, part in (("vasopressor", lambda action: action // 5), ("fluid", lambda action: action % 5)):
        gap = part(scene.scored.actions) - part(advised)
        mean_gap = np.bincount(stay, weights=gap) / np.bincount(stay)
        cells = [(low, (np.rint(mean_gap) == low)) for low in range(-4, 5)]
        answer[drug] = [
            {"difference": low, "mortality": float(died[inside].mean()), "n_episodes": int(inside.sum())}
            for low, inside in cells
            if inside.sum() >= smallest
        ]
    return answer
