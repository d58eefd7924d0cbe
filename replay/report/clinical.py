"""Who the patients of a replay are, how old what the policy sees is, and who gets which dose."""

from collections.abc import Collection
from functools import partial

import duckdb
import numpy as np
import pandas as pd
from pydantic import Field

from sepsis_cql.common.privacy import SMALLEST_CELL, Count, hidden_groups, hide_count, round_share
from sepsis_cql.common.strict import Record
from sepsis_cql.replay.report.severity import KIDNEY_INJURY, SCORES, read_severity
from sepsis_cql.replay.rows.actions import N_ACTIONS, N_BINS
from sepsis_cql.replay.rows.buffers import state_matrix
from sepsis_cql.replay.rows.make import Rows
from sepsis_cql.replay.settings import Features

SOFA_GROUPS = {"SOFA 0-5": (0, 5), "SOFA 6-10": (6, 10), "SOFA 11-24": (11, 24)}
Quartiles = tuple[float, float, float]


class Patients(Record):
    """One column of Table 1: shares in steps of ten episodes, quartiles as low, median, high; None below ten episodes.

    Attributes:
        episodes: their number, "<10" where it is small.
        died, female, in_septic_shock: shares of the episodes.
        ventilated, vasopressor: share with it in any step.
        limited, comfort: share whose care was limited to any degree, or to comfort, as charted at any time.
        age, sofa_at_onset, n_steps: quartiles.
        endings: share of the episodes by how they end.
        scores: quartiles of the scores asked for, by concept.
        kidney_injury: share of the episodes by the highest stage (KDIGO) charted in the ICU, where asked for.
    """

    episodes: Count
    died: float | None
    female: float | None
    in_septic_shock: float | None
    ventilated: float | None
    vasopressor: float | None
    limited: float | None
    comfort: float | None
    age: Quartiles | None
    sofa_at_onset: Quartiles | None
    n_steps: Quartiles | None
    endings: dict[str, float | None]
    scores: dict[str, Quartiles | None] = Field(default_factory=dict)
    kidney_injury: dict[str, float | None] = Field(default_factory=dict)


class ValueAge(Record):
    """Of the steps in which a feature is known: quantiles of its age in hours, share carried forward where flagged."""

    median: float
    high: float
    carried: float | None


class Missing(Record):
    """Shares of the steps in which a feature is unknown, and in whose window it was not measured; None where hidden."""

    unknown: float | None
    not_measured: float | None


class ClinicalTables(Record):
    """Table 1 by outcome and era, age of the values, and steps by vasopressor (rows) and fluid bin (columns).

    Attributes:
        patients: a column of Table 1 by group.
        value_ages: by feature; a feature that is never known is left out.
        partial_windows: share of the states whose window lies partly before the ICU.
        intake_elsewhere: share of the steps in which intake in operating or recovery rooms was charted.
        actions: by group of SOFA and by era, small counts hidden.
        missing: by outcome and era, and by feature.
    """

    patients: dict[str, Patients]
    value_ages: dict[str, ValueAge]
    partial_windows: float
    intake_elsewhere: float
    actions: dict[str, list[list[Count]]]
    missing: dict[str, dict[str, Missing]] = Field(default_factory=dict)


def clinical_tables(
    rows: Rows,
    features: Features,
    connection: duckdb.DuckDBPyConnection | None = None,
    concepts: Collection[str] = (),
) -> ClinicalTables:
    """Summarize the episodes and steps of a build, the patients also by `concepts` that lie on the connection."""
    columns = [
        "stay_id",
        "action",
        "sofa",
        "is_ventilated",
        "vasopressor_maximum",
        "window_hours",
        "elsewhere_volume",
    ]
    steps = pd.concat([buffer.select(columns).to_pandas() for buffer in rows.buffers.values()])
    stays = rows.stays.to_pandas().set_index("stay_id")
    of_stay = steps.groupby("stay_id")[["is_ventilated", "vasopressor_maximum"]].max()
    stays = stays.assign(ventilated=of_stay["is_ventilated"], vasopressor=of_stay["vasopressor_maximum"] > 0)
    stays = read_severity(connection, stays, concepts) if connection else stays
    steps = steps.reset_index(drop=True).join(stays[["era", "died_90d"]], on="stay_id")
    eras = sorted(stays["era"].dropna().unique())
    groups = {"all": stays, "survived": stays[~stays["died_90d"]], "died": stays[stays["died_90d"]]}
    groups |= {era: stays[stays["era"] == era] for era in eras}
    by_group = {name: steps[steps["sofa"].between(*bounds)] for name, bounds in SOFA_GROUPS.items()}
    by_group |= {era: steps[steps["era"] == era] for era in eras}
    whole = steps["window_hours"].max()
    return ClinicalTables(
        patients={name: _describe(group) for name, group in groups.items()},
        value_ages=_value_ages(rows, features),
        partial_windows=float((steps["window_hours"] < whole).mean()),
        intake_elsewhere=float((steps["elsewhere_volume"] > 0).mean()),
        actions={name: _count_actions(group["action"].to_numpy()) for name, group in by_group.items()},
        missing=_missing(rows, features, steps, groups),
    )


def _describe(stays: pd.DataFrame) -> Patients:
    episodes = hide_count(len(stays))
    share = partial(_share, episodes=episodes)

    def quartiles(name: str) -> Quartiles | None:
        known = stays[name].dropna().to_numpy(float)
        if len(known) < SMALLEST_CELL:
            return None
        low, median, high = np.quantile(known, [0.25, 0.5, 0.75])
        return float(low), float(median), float(high)

    return Patients(
        episodes=episodes,
        died=share(stays["died_90d"]),
        female=share(stays["gender"] == "F"),
        in_septic_shock=share(stays["in_septic_shock"]),
        ventilated=share(stays["ventilated"]),
        vasopressor=share(stays["vasopressor"]),
        limited=share(stays["limited_time"].notna()),
        comfort=share(stays["comfort_time"].notna()),
        age=quartiles("age"),
        sofa_at_onset=quartiles("sofa_at_onset"),
        n_steps=quartiles("n_steps"),
        endings={
            name: share(stays["ending"] == name) for name in ("horizon", "discharged", "died", "comfort")
        },
        scores={name: quartiles(name) for name in SCORES if name in stays},
        kidney_injury={str(stage): share(stays[KIDNEY_INJURY] == stage) for stage in range(1, 4)}
        if KIDNEY_INJURY in stays
        else {},
    )


def _missing(
    rows: Rows, features: Features, steps: pd.DataFrame, groups: dict[str, pd.DataFrame]
) -> dict[str, dict[str, Missing]]:
    columns = state_columns(rows, features)
    found = {}
    for group, stays in groups.items():
        chosen = steps["stay_id"].isin(stays.index).to_numpy()
        share = partial(_share, episodes=hide_count(len(stays)))
        found[group] = {
            name: Missing(
                unknown=share(np.isnan(columns[name][chosen])),
                not_measured=share(columns[f"{name}_missing"][chosen]) if feature.flag else None,
            )
            for name, feature in features.features.items()
        }
    return found


def _share(holds: pd.Series | np.ndarray, episodes: Count) -> float | None:
    return round_share(float(holds.mean()) if len(holds) else None, episodes)


def state_columns(rows: Rows, features: Features) -> dict[str, np.ndarray]:
    """Return the (n,) values of each column of the states of all splits, in clinical units."""
    states = np.concatenate([state_matrix(buffer["state"]) for buffer in rows.buffers.values()])
    return dict(zip(features.state_names, states.T, strict=True))


def _value_ages(rows: Rows, features: Features) -> dict[str, ValueAge]:
    ages = np.concatenate([state_matrix(buffer["value_age"]) for buffer in rows.buffers.values()])
    columns = state_columns(rows, features)
    found = {}
    for name, age in zip(features.aged_names, ages.T, strict=True):
        known = ~np.isnan(age)
        if known.any():
            missing = columns.get(f"{name}_missing")
            median, high = np.quantile(age[known], [0.5, 0.95])
            found[name] = ValueAge(
                median=round(float(median), 2),
                high=round(float(high), 2),
                carried=None if missing is None else float(missing[known].mean()),
            )
    return found


def _count_actions(actions: np.ndarray) -> list[list[Count]]:
    """Hide small cells and, beside a single one, the next smallest."""
    counts = np.bincount(actions, minlength=N_ACTIONS)
    hidden = hidden_groups({str(action): int(count) for action, count in enumerate(counts)})
    cells: list[Count] = [
        "<10" if str(action) in hidden else int(count) for action, count in enumerate(counts)
    ]
    return [cells[row * N_BINS : (row + 1) * N_BINS] for row in range(N_BINS)]
