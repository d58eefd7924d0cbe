"""Cohort to transitions: what was known before each step, what was given in it, what followed."""

from typing import Any

import duckdb
import pyarrow as pa

from sepsis_cql.replay.rows.stages import register_facts, run_stage
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
        sofa, is_ventilated, and, beside what the policy sees and does, vasopressor_maximum and
        vasopressor_mean (mcg/kg/min), carrier_volume, maintenance_volume and elsewhere_volume (mL),
        window_hours (of the window before the state that lie in the ICU), code_status and value_age (h, a
        list in the order of `Features.aged_names`). State and
        next_state are lists of 62 in clinical units, NaN where nothing is known.
    """
    register_facts(connection, _facts(features, fluids))
    hours = {"step_hours": settings.step_hours, "lookback_hours": settings.lookback_hours}
    run_stage(connection, "steps", alignment=settings.alignment)
    run_stage(connection, "spans", lookback_hours=settings.lookback_hours)
    run_stage(connection, "arterial_specimens")
    run_stage(connection, "glasgow", intubated_gcs=settings.intubated_gcs)
    run_stage(connection, "oxygenation")
    run_stage(connection, "measurements", **hours)
    run_stage(connection, "window_values")
    run_stage(connection, "ventilator_ends")
    run_stage(
        connection,
        "measured_values",
        **hours,
        limited=settings.carry_forward == "limited",
        partial=settings.partial_window_urine,
    )
    run_stage(connection, "weight_values")
    run_stage(connection, "fluid_inputs")
    run_stage(connection, "vasopressor_segments")
    run_stage(connection, "cumulative_values")
    run_stage(connection, "states")
    run_stage(
        connection,
        "doses",
        vasopressor_rule=settings.vasopressor_rule,
        carriers_count=settings.carriers == "counted",
    )
    run_stage(connection, "ventilated", source=choose_ventilation(connection, settings))
    run_stage(connection, "severity")
    run_stage(
        connection,
        "transitions",
        terminal_reward=settings.terminal_reward,
        sofa_weight=settings.sofa_weight,
        step_hours=settings.step_hours,
    )
    return connection.sql("select * from transitions order by stay_id, step_index").to_arrow_table()


def choose_ventilation(connection: duckdb.DuckDBPyConnection, settings: ReplaySettings) -> str:
    """Return where times of ventilation come from: `charted`, or `procedures` where no mode or device is charted."""
    if settings.ventilation_source != "automatic":
        return settings.ventilation_source
    (row,) = connection.execute("select count(*) from ventilation").fetchall()
    return "charted" if row[0] else "procedures"


def _facts(features: Features, fluids: Fluids) -> dict[str, list[dict[str, Any]]]:
    """Rows of feature_items, feature_rules, state_columns and fluid_items."""
    return {
        "feature_items": _feature_items(features),
        "feature_rules": _feature_rules(features),
        "state_columns": [
            {
                "position": position,
                "feature": name.removesuffix("_missing"),
                "is_flag": name.endswith("_missing"),
                "has_age": name in features.aged_names,
            }
            for position, name in enumerate(features.state_names)
        ],
        "fluid_items": [
            *(
                {
                    "itemid": itemid,
                    "factor": fluid.factor,
                    "is_resuscitation": True,
                    "may_carry": fluid.may_carry,
                }
                for itemid, fluid in fluids.resuscitation.items()
            ),
            *(
                {"itemid": itemid, "factor": 1.0, "is_resuscitation": False, "may_carry": False}
                for itemid in fluids.before_icu
            ),
        ],
    }


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
            "carry_hours": features.carry_hours(name),
            **feature.model_dump(
                include={"conversion", "prefer", "reduce", "carry", "ends_with_ventilation"}
            ),
        }
        for name, feature in features.features.items()
    ]
