"""Concepts to the rows of a replay: the methods section, of which every line is part of the fingerprint."""

from collections.abc import Callable
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from sepsis_cql.replay.records import Normalizer
from sepsis_cql.replay.rows.actions import ActionGrid, fit_action_grid
from sepsis_cql.replay.rows.buffers import DOSES, make_buffers, select_split, state_matrix
from sepsis_cql.replay.rows.cohort import Attrition, select_cohort
from sepsis_cql.replay.rows.splits import SPLITS, assign_splits, assign_splits_by_time
from sepsis_cql.replay.rows.stages import run_stage
from sepsis_cql.replay.rows.statistics import fit_normalizer
from sepsis_cql.replay.rows.trajectories import build_trajectories
from sepsis_cql.replay.settings import BuildSettings, ReplaySettings

Announce = Callable[[str, str], None]


@dataclass(frozen=True)
class Rows:
    """The rows of a replay and what was counted and fitted on the way.

    Attributes:
        buffers: replay buffer of each split.
        stays: one row an episode.
        attrition: stays removed by each criterion.
        grid: dose bins of the training split.
        normalizer: of the training split.
        n_train_transitions, n_train_stays: size of the training split.
        unmeasured: features never measured in the training split.
    """

    buffers: dict[str, pa.Table]
    stays: pa.Table
    attrition: list[Attrition]
    grid: ActionGrid
    normalizer: Normalizer
    n_train_transitions: int
    n_train_stays: int
    unmeasured: list[str]


def make_rows(
    connection: duckdb.DuckDBPyConnection,
    told: BuildSettings,
    announce: Announce = lambda stage, line: None,
) -> Rows:
    """Select the cohort, build its trajectories, split them by patient and bin the doses.

    Args:
        connection: holds the MIMIC-IV tables and the concepts.
        told: cohort, trajectories, rewards and splits, features of a state, fluids and vasopressors of an action.
        announce: gets a stage's name and an empty line when it begins, its name and result when it ends.

    Raises:
        CohortError: the tables hold no usable septic stay, or a split would be empty.
    """
    settings, features = told.replay, told.features
    announce("cohort", "")
    attrition = select_cohort(connection, settings, told.vasopressors)
    announce("cohort", _describe_attrition(attrition))

    announce("trajectories", "")
    transitions = build_trajectories(connection, settings, features, told.fluids)
    splits = _split_patients(connection, settings)
    run_stage(
        connection, "stays", hours_after=settings.hours_after, censored=settings.comfort_measures == "censor"
    )
    stays = connection.sql("select * from stays order by stay_id").to_arrow_table()
    announce("trajectories", f"{len(stays):,} episodes, {len(transitions):,} transitions")

    announce("statistics", "")
    training = select_split(transitions, splits, "train")
    grid = fit_action_grid(*(training[dose].to_numpy() for dose in DOSES))
    normalizer, unmeasured = fit_normalizer(state_matrix(training["state"]), features)
    buffers = make_buffers(transitions, splits, grid, features)
    announce("statistics", ", ".join(f"{split} {len(buffers[split]):,} transitions" for split in SPLITS))
    return Rows(
        buffers=buffers,
        stays=stays,
        attrition=attrition,
        grid=grid,
        normalizer=normalizer,
        n_train_transitions=len(training),
        n_train_stays=len(training["stay_id"].unique()),
        unmeasured=unmeasured,
    )


def _describe_attrition(attrition: list[Attrition]) -> str:
    """One line: stays, then what each criterion removed."""
    removed = ", ".join(f"{row.criterion} removed {row.stays_removed:,}" for row in attrition[1:])
    return f"{attrition[-1].stays_remaining:,} of {attrition[0].stays_remaining:,} ICU stays: {removed}"


def _split_patients(connection: duckdb.DuckDBPyConnection, settings: ReplaySettings) -> dict[int, str]:
    """Split of each patient of the cohort, at random or by time; also as the table `splits`."""
    found = connection.execute(
        "select subject_id, anchor_year_group from patients where subject_id in (select subject_id from cohort) "
        "order by subject_id"
    ).fetchall()
    told = settings.split_shares, settings.seed
    if settings.split_by == "time":
        splits = assign_splits_by_time(dict(found), *told)
    else:
        splits = assign_splits(np.array([subject_id for subject_id, _ in found]), *told)
    connection.register("assigned", pa.table({"subject_id": list(splits), "split": list(splits.values())}))
    connection.execute("create or replace temp table splits as select * from assigned")
    return splits
