"""Which ICU stays are studied: named criteria applied one after the other, each counting what it removes."""

from dataclasses import dataclass

import duckdb
import pandas as pd

from sepsis_cql.common.errors import CohortError
from sepsis_cql.common.strict import Record
from sepsis_cql.replay.rows.stages import run_stage
from sepsis_cql.replay.settings import ReplaySettings

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
    """The criteria in the order they apply; one stay per patient comes after sepsis, not before it."""
    first_septic_stay = Criterion(
        "first_septic_stay",
        "the patient's first septic stay by onset",
        "stay_id in (select first(stay_id order by onset_time, stay_id) from cohort group by subject_id)",
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
        *([first_septic_stay] if settings.one_stay_per_patient else []),
        Criterion(
            "complete_step",
            f"at least {settings.minimum_steps} whole {settings.step_hours}-hour step alive in the ICU from "
            f"{settings.hours_before} h before to {settings.hours_after} h after onset",
            "stay_id in (select stay_id from candidate_steps group by stay_id "
            f"having count(*) >= {settings.minimum_steps})",
        ),
    ]


def select_cohort(connection: duckdb.DuckDBPyConnection, settings: ReplaySettings) -> list[Attrition]:
    """Create the tables `candidate_stays`, `candidate_steps` and `cohort` from the concepts.

    Returns:
        One row for all ICU stays, then one a criterion, in order.

    Raises:
        CohortError: no stay satisfies every criterion.
    """
    run_stage(
        connection, "candidate_stays", onset_rule=settings.onset_rule, mortality_days=settings.mortality_days
    )
    run_stage(
        connection,
        "candidate_steps",
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
