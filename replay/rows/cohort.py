"""Which ICU stays are studied: named criteria applied one after the other, each counting what it removes."""

from dataclasses import dataclass
from typing import Any

import duckdb
import pandas as pd

from sepsis_cql.common.errors import CohortError
from sepsis_cql.common.strict import Record
from sepsis_cql.replay.rows.stages import define_known_at, register_facts, run_stage
from sepsis_cql.replay.settings import ReplaySettings, Vasopressors

SEPSIS = "sepsis3"  # criterion that leaves the septic stays


@dataclass(frozen=True)
class Criterion:
    """A filter on the table `cohort`.

    Attributes:
        name: its key in `attrition.csv`.
        description: what a stay must satisfy.
        condition: SQL that is true for the stays that stay.
    """

    name: str
    description: str
    condition: str


class Attrition(Record):
    """What one criterion removed and left."""

    criterion: str
    description: str
    stays_removed: int
    patients_removed: int
    stays_remaining: int
    patients_remaining: int


def cohort_criteria(settings: ReplaySettings) -> list[Criterion]:
    """The criteria in the order they apply.

    One stay per patient comes after sepsis, not before it, and after the whole steps too, so that no patient is lost
    whose first septic stay has none; `first_stay: any` asks for the very first.
    """
    first_septic_stay = Criterion(
        "first_septic_stay",
        "the patient's first septic stay by onset",
        "stay_id in (select first(stay_id order by onset_time, stay_id) from cohort group by subject_id)",
    )
    first = [first_septic_stay] if settings.one_stay_per_patient else []
    shock = Criterion(
        "septic_shock",
        f"a vasopressor and lactate above 2 mmol/L within {settings.shock_hours} h of onset",
        "stay_id in (select stay_id from septic_shock)",
    )
    comfort = Criterion(
        "no_comfort_measures",
        "no comfort measures only by onset",
        "stay_id not in (select stay_id from comfort where comfort_time <= onset_time)",
    )
    return [
        Criterion(
            SEPSIS,
            "Sepsis-3: suspected infection with SOFA of 2 or more",
            "is_septic and onset_time is not null",
        ),
        Criterion(
            "adult",
            f"at least {settings.minimum_age} years old at hospital admission",
            f"age >= {settings.minimum_age}",
        ),
        *([shock] if settings.septic_shock else []),
        *([comfort] if settings.comfort_measures == "exclude" else []),
        *(first if settings.first_stay == "any" else []),
        Criterion(
            "complete_step",
            f"at least {settings.minimum_steps} whole {settings.step_hours}-hour step alive in the ICU from "
            f"{settings.hours_before} h before to {settings.hours_after} h after onset",
            "stay_id in (select stay_id from candidate_steps group by stay_id "
            f"having count(*) >= {settings.minimum_steps})",
        ),
        *(first if settings.first_stay == "usable" else []),
    ]


def select_cohort(
    connection: duckdb.DuckDBPyConnection, settings: ReplaySettings, vasopressors: Vasopressors
) -> list[Attrition]:
    """Create the tables `candidate_stays`, `candidate_steps` and `cohort` from the concepts.

    Of the septic stays also `vasopressor_infusions`, `septic_shock`, `goals_of_care` and `comfort`.

    Returns:
        One row for all ICU stays, then one a criterion, in order.

    Raises:
        CohortError: no stay satisfies every criterion.
    """
    run_stage(
        connection, "candidate_stays", onset_rule=settings.onset_rule, mortality_days=settings.mortality_days
    )
    define_known_at(connection, settings)
    register_facts(connection, _vasopressor_facts(vasopressors))
    run_stage(connection, "vasopressor_infusions", vasopressor_items=settings.vasopressor_items)
    run_stage(connection, "septic_shock", shock_hours=settings.shock_hours)
    run_stage(connection, "goals_of_care")
    run_stage(connection, "comfort")
    run_stage(
        connection,
        "candidate_steps",
        censored=settings.comfort_measures == "censor",
        hours_before=settings.hours_before,
        hours_after=settings.hours_after,
        step_hours=settings.step_hours,
    )
    connection.execute("create or replace temp table cohort as select * from candidate_stays")
    stays, patients = _count(connection)
    attrition = [
        Attrition(
            criterion="icu_stays",
            description="every ICU stay",
            stays_removed=0,
            patients_removed=0,
            stays_remaining=stays,
            patients_remaining=patients,
        )
    ]
    for criterion in cohort_criteria(settings):
        connection.execute(f"delete from cohort where not coalesce({criterion.condition}, false)")
        before = attrition[-1]
        stays, patients = _count(connection)
        attrition.append(
            Attrition(
                criterion=criterion.name,
                description=criterion.description,
                stays_removed=before.stays_remaining - stays,
                patients_removed=before.patients_remaining - patients,
                stays_remaining=stays,
                patients_remaining=patients,
            )
        )
    if attrition[-1].stays_remaining == 0:
        raise CohortError(_explain_empty(attrition))
    return attrition


def attrition_frame(attrition: list[Attrition]) -> pd.DataFrame:
    """The counts as a table, one row a criterion."""
    return pd.DataFrame([row.model_dump() for row in attrition])


def _vasopressor_facts(vasopressors: Vasopressors) -> dict[str, list[dict[str, Any]]]:
    """Rows of vasopressor_agents and vasopressor_items."""
    return {
        "vasopressor_agents": [
            {"agent": agent, "equivalent": float(factor)}
            for agent, factor in vasopressors.equivalents.items()
        ],
        "vasopressor_items": [
            {"itemid": itemid, "agent": item.agent} for itemid, item in vasopressors.beyond_official.items()
        ],
    }


def _count(connection: duckdb.DuckDBPyConnection) -> tuple[int, int]:
    (row,) = connection.execute("select count(*), count(distinct subject_id) from cohort").fetchall()
    return row


def _explain_empty(attrition: list[Attrition]) -> str:
    emptied = next(row for row in attrition if row.stays_remaining == 0)
    counts = ", ".join(f"{row.criterion} {row.stays_remaining}" for row in attrition)
    return (
        f"The cohort is empty (expected at least one septic stay): `{emptied.criterion}` "
        f"({emptied.description}) removed the last {emptied.stays_removed} stays. Stays left after each "
        f"criterion: {counts}. Check the tables, or relax the criterion in replay.yaml."
    )
