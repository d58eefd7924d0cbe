"""Cohort to transitions: what was known before each step, what was given in it, what followed."""

from typing import Any

import duckdb
import pyarrow as pa

from sepsis_cql.replay.rows.stages import run_stage
from sepsis_cql.replay.settings import Features, Fluids, ReplaySettings


def build_trajectories(
    connection: duckdb.DuckDBPyConnection, settings: ReplaySettings, features: Features, fluids: Fluids
) -> pa.Table:
    """Transitions of the cohort, without actions, sorted by stay and step.

    Args:
        connection: holds the MIMIC-IV tables, the concepts, `cohort` and `candidate_steps`.
        settings: grid, availability, alignment, dose rule and rewards.
        features: the state's features.
        fluids: the items that count as intake.

    Returns:
        Columns subject_id, hadm_id, stay_id, step_index, step_start, state, reward_sparse,
        reward_sofa_shaped, terminal, next_state, norepinephrine_equivalent (mcg/kg/min), fluid_volume (mL),
        sofa, is_ventilated. State and next_state are lists of 62 in clinical units, NaN where nothing is
        known.
    """
    _register_facts(connection, features, fluids)
    _define_known_at(connection, settings)
    hours = {"step_hours": settings.step_hours, "lookback_hours": settings.lookback_hours}
    run_stage(connection, "steps", alignment=settings.alignment)
    run_stage(connection, "spans", lookback_hours=settings.lookback_hours)
    run_stage(connection, "arterial_specimens")
    run_stage(connection, "glasgow")
    run_stage(connection, "oxygenation")
    run_stage(connection, "measurements", **hours)
    run_stage(connection, "window_values")
    run_stage(connection, "measured_values", **hours)
    run_stage(connection, "weight_values")
    run_stage(connection, "fluid_inputs")
    run_stage(connection, "cumulative_values")
    run_stage(connection, "states")
    run_stage(connection, "doses", vasopressor_rule=settings.vasopressor_rule)
    run_stage(connection, "severity")
    run_stage(
        connection,
        "transitions",
        terminal_reward=settings.terminal_reward,
        sofa_weight=settings.sofa_weight,
    )
    return connection.sql("select * from transitions order by stay_id, step_index").to_arrow_table()


def _define_known_at(connection: duckdb.DuckDBPyConnection, settings: ReplaySettings) -> None:
    """Create the SQL function `known_at`: a value exists once filed, and never before it was charted."""
    rule = {"charttime": "charted", "storetime": "greatest(charted, coalesce(filed, charted))"}
    connection.execute(
        f"create or replace temp macro known_at(charted, filed) as {rule[settings.availability]}"
    )


def _register_facts(connection: duckdb.DuckDBPyConnection, features: Features, fluids: Fluids) -> None:
    """Create feature_items, feature_rules, state_columns and fluid_items as tables."""
    facts = {
        "feature_items": _feature_items(features),
        "feature_rules": _feature_rules(features),
        "state_columns": [
            {
                "position": position,
                "feature": name.removesuffix("_missing"),
                "is_flag": name.endswith("_missing"),
            }
            for position, name in enumerate(features.state_names)
        ],
        "fluid_items": [
            *(
                {"itemid": itemid, "factor": fluid.factor, "is_resuscitation": True}
                for itemid, fluid in fluids.resuscitation.items()
            ),
            *({"itemid": itemid, "factor": 1.0, "is_resuscitation": False} for itemid in fluids.before_icu),
        ],
    }
    for name, rows in facts.items():
        connection.register("facts", pa.Table.from_pylist(rows))
        connection.execute(f"create or replace temp table {name} as select * from facts")
        connection.unregister("facts")


def _feature_items(features: Features) -> list[dict[str, Any]]:
    """One row a feature and item id; preference 0 is the best, and shared by the items of a sum."""
    return [
        {
            "feature": name,
            "source": source,
            "itemid": itemid,
            "preference": 0 if feature.reduce == "sum" else rank,
            "specimen": feature.specimen,
        }
        for name, feature in features.features.items()
        if feature.concept is None
        for rank, (source, itemid) in enumerate(
            (source, itemid) for source, itemids in feature.items.items() for itemid in itemids
        )
    ]


def _feature_rules(features: Features) -> list[dict[str, Any]]:
    """One row a feature: how its values are converted, accepted, reduced and carried forward."""
    return [
        {
            "feature": name,
            "low": feature.valid[0] if feature.valid else None,
            "high": feature.valid[1] if feature.valid else None,
            **feature.model_dump(include={"conversion", "prefer", "reduce", "carry"}),
        }
        for name, feature in features.features.items()
    ]
