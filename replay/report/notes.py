"""What of the tables a build could not use, or used another way: warnings that need the tables themselves."""

from collections.abc import Iterator

import duckdb

from sepsis_cql.common.privacy import hide_count
from sepsis_cql.replay.rows.trajectories import choose_ventilation
from sepsis_cql.replay.settings import BuildSettings

NAMES = (
    "norepinephrine|levophed|epinephrine|phenylephrine|vasopressin|dopamine|angiotensin|giapreza|metaraminol"
)
CONVERTED = """
    ('norepinephrine', 'mcg/kg/min'), ('norepinephrine', 'mg/kg/min'), ('epinephrine', 'mcg/kg/min'),
    ('phenylephrine', 'mcg/kg/min'), ('phenylephrine', 'mcg/min'), ('dopamine', 'mcg/kg/min'),
    ('vasopressin', 'units/hour'), ('vasopressin', 'units/min')
"""
OFFICIAL = {221906: "norepinephrine", 221289: "epinephrine", 221749: "phenylephrine", 221662: "dopamine"}
OFFICIAL |= {222315: "vasopressin"}


def find_notes(connection: duckdb.DuckDBPyConnection, settings: BuildSettings) -> Iterator[str]:
    """Yield a warning for unmapped vasopressors, other units, missing chart text, late stays, unknown goals of care."""
    yield from _unmapped_vasopressors(connection, settings)
    yield from _ventilation(connection, settings)
    if settings.replay.split_by == "time":
        yield from _later_stays(connection)
    if not _count(connection, "goals_of_care"):
        yield "no code status is charted as text: goals of care are unknown, and comfort measures cannot be found"


def _unmapped_vasopressors(connection: duckdb.DuckDBPyConnection, settings: BuildSettings) -> Iterator[str]:
    beyond = settings.vasopressors.beyond_official
    listed = ", ".join(map(str, beyond))
    if settings.replay.vasopressor_items == "official":
        rows = _count(connection, f"inputevents where itemid in ({listed})")
        if rows:
            yield (
                f"{hide_count(rows)} infusions of vasopressors that the official concept leaves out count as none; "
                "vasopressor_items: complete counts them"
            )
    known = ", ".join(map(str, [*beyond, *OFFICIAL]))
    unknown = connection.execute(
        "select itemid, label from d_items where linksto = 'inputevents' "
        f"and regexp_matches(label, '{NAMES}', 'i') and itemid not in ({known}) order by itemid"
    ).fetchall()
    for itemid, label in unknown:
        yield f"d_items names a vasopressor that is not read: {itemid}, {label}"
    agents = " ".join(f"when {itemid} then '{agent}'" for itemid, agent in OFFICIAL.items())
    rows = _count(
        connection,
        f"(select case itemid {agents} end as agent, rateuom, rate from inputevents) "
        f"where agent is not null and rate > 0 and (agent, rateuom) not in ({CONVERTED})",
    )
    if rows:
        yield f"{hide_count(rows)} infusions of vasopressors are charted in another unit and are taken as they are"


def _ventilation(connection: duckdb.DuckDBPyConnection, settings: BuildSettings) -> Iterator[str]:
    procedures = _count(connection, "procedureevents where itemid = 225792")
    if procedures and not _count(connection, "ventilation"):
        used = choose_ventilation(connection, settings.replay) == "procedures"
        instead = "its procedures (225792) are used" if used else "is_ventilated is never true"
        yield f"no ventilator mode or oxygen device is charted as text: {instead}, and SOFA sees no ventilation"


def _later_stays(connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    """The years are those of a patient's anchor year, after which a stay can begin by many more."""
    later = _count(
        connection,
        "(select s.split, cast(left(p.anchor_year_group, 4) as integer) + year(c.intime) - p.anchor_year as earliest "
        "from cohort as c join patients as p using (subject_id) join splits as s using (subject_id)) "
        "where split <> 'test' and earliest >= (select min(cast(left(p.anchor_year_group, 4) as integer)) "
        "from patients as p join splits as s using (subject_id) where s.split = 'test')",
    )
    if later:
        yield (
            f"split_by: time goes by the years a patient is anchored in (anchor_year_group): {hide_count(later)} stays "
            "of training or validation began so much later that they fall into the years of the test split"
        )


def _count(connection: duckdb.DuckDBPyConnection, rows: str) -> int:
    ((count,),) = connection.execute(f"select count(*) from {rows}").fetchall()
    return int(count)
