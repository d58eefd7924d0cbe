"""Cohort to transitions: what was known before each step, what was given in it, what followed."""

import duckdb
import pyarrow as pa
from sepsis_cql.replay.settings import Features, Fluids, ReplaySettings
from sepsis_cql.replay.stages import run_stage


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
        sofa, is_ventilated; state and next_state are lists of 62 in clinical units, NaN where nothing is known.
    """
    _register_facts(connection, features, fluids)
    hours = {"step_hours": settings.step_hours, "lookback_hours": settings.lookback_hours}
    availability = {"availability": settings.availability}
    run_stage(connection, "steps", alignment=settings.alignment)
    run_stage(connection, "spans", lookback_hours=settings.lookback_hours)
    run_stage(connection, "measurements", **hours, **availability)
    run_stage(connection, "window_values")
    run_stage(connection, "measured_values", **hours)
    run_stage(connection, "weight_values", **availability)
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


def _register_facts(connection: duckdb.DuckDBPyConnection, features: Features, fluids: Fluids) -> None:
    """Create feature_items, feature_ranges, carried_features, state_columns and fluid_items as tables."""
    facts = {
        "feature_items": _feature_items(features),
        "feature_ranges": [
            {"feature": name, "low": feature.valid[0], "high": feature.valid[1]}
            for name, feature in features.features.items()
            if feature.valid
        ],
        "carried_features": [
            {"feature": name, "carry": feature.carry}
            for name, feature in features.features.items()
            if feature.is_measured or name == "shock_index"
        ],
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


def _feature_items(features: Features) -> list[dict[str, object]]:
    """One row a feature and item id (null for a concept); preference 0 is the best, and shared in a sum."""
    rows = []
    for name, feature in features.features.items():
        origins: list[tuple[str, int | None]] = [
            (source, itemid) for source, itemids in feature.items.items() for itemid in itemids
        ]
        if feature.concept:
            origins = [(feature.concept.table, None)]
        for rank, (source, itemid) in enumerate(origins):
            rows.append(
                {
                    "feature": name,
                    "source": source,
                    "itemid": itemid,
                    "preference": 0 if feature.reduce == "sum" else rank,
                    "prefer": feature.prefer,
                    "conversion": feature.conversion,
                    "specimen": feature.specimen,
                    "reduce": feature.reduce,
                    "low": feature.valid[0] if feature.valid else None,
                    "high": feature.valid[1] if feature.valid else None,
                }
            )
    return rows
