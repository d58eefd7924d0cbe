from datetime import date

import pytest

from sepsis_cql.common.errors import CohortError
from sepsis_cql.replay.mimic.concepts import create_concepts
from sepsis_cql.replay.mimic.tables import open_mimic
from sepsis_cql.replay.rows.cohort import attrition_frame, select_cohort

from .made_up import MadeUpMimic, at, build_settings


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Thirteen patients, each with one thing that matters to the cohort."""
    mimic = MadeUpMimic()
    mimic.septic_stay(1)
    mimic.stay(2)  # not septic
    mimic.septic_stay(3, age=17)
    mimic.stay(4)  # first stay not septic, second and third are
    mimic.septic_stay(4, start=240)
    mimic.septic_stay(4, start=480)
    mimic.septic_stay(5, hours=4.5)  # onset after 1 h leaves 3.5 h, and less than 4 h before it
    mimic.septic_stay(6, deathtime=at(23), dod=date(2150, 1, 1))
    mimic.septic_stay(7, culture=10)  # SOFA of 2 nine hours before the culture
    mimic.septic_stay(8, dod=date(2150, 4, 1))  # 90 days after onset on 2150-01-01
    mimic.septic_stay(9, dod=date(2150, 4, 2))
    mimic.septic_stay(10, hours=4.5)  # no whole step in the first septic stay, but in the second
    mimic.septic_stay(10, start=240)
    mimic.lab(mimic.septic_stay(11), 50813, 4, 3)  # with norepinephrine from 6 h on
    mimic.chart(mimic.septic_stay(12), 223758, None, 10, value="Comfort measures only", filed=11)
    mimic.chart(mimic.septic_stay(13), 223758, None, 0.5, value="Comfort measures only")
    with open_mimic(mimic.write(tmp_path_factory.mktemp("cohort"))) as opened:
        create_concepts(opened.connection)
        yield opened.connection


def select(connection, **changes):
    settings = build_settings(**changes)
    return select_cohort(connection, settings.replay, settings.vasopressors)


def cohort(connection, query, **changes):
    attrition = select(connection, **changes)
    return attrition, connection.execute(query).fetchall()


def test_every_excluded_stay_is_counted_under_its_criterion(tables):
    attrition, _ = cohort(tables, "select 1")
    frame = attrition_frame(attrition).drop(columns="description").set_index("criterion")
    assert frame.to_dict("index") == {
        "icu_stays": count(0, 0, 16, 13),
        "sepsis3": count(2, 1, 14, 12),
        "adult": count(1, 1, 13, 11),
        "complete_step": count(2, 1, 11, 10),
        "first_septic_stay": count(1, 0, 10, 10),
    }


def count(stays_removed, patients_removed, stays_remaining, patients_remaining):
    return {
        "stays_removed": stays_removed,
        "patients_removed": patients_removed,
        "stays_remaining": stays_remaining,
        "patients_remaining": patients_remaining,
    }


def test_the_first_septic_stay_counts_even_after_a_stay_without_sepsis(tables):
    _, stays = cohort(tables, "select stay_id from cohort where subject_id = 4")
    assert stays == [(42,)]


def test_every_septic_stay_can_be_kept(tables):
    _, stays = cohort(
        tables, "select stay_id from cohort where subject_id = 4 order by 1", one_stay_per_patient=False
    )
    assert stays == [(42,), (43,)]


@pytest.mark.parametrize(
    ("rule", "hour"), [("sofa_time", 1), ("suspected_infection_time", 10), ("min", 1), ("max", 10)]
)
def test_onset_follows_the_rule(tables, rule, hour):
    _, onset = cohort(tables, "select onset_time from cohort where subject_id = 7", onset_rule=rule)
    assert onset == [(at(hour),)]


@pytest.mark.parametrize(
    ("subject_id", "days", "died"), [(1, 90, False), (6, 90, True), (8, 90, True), (8, 89, False)]
)
def test_death_is_counted_by_date_up_to_the_horizon(tables, subject_id, days, died):
    _, rows = cohort(tables, f"select died from cohort where subject_id = {subject_id}", mortality_days=days)
    assert rows == [(died,)]


def test_death_on_the_91st_day_is_survival(tables):
    _, rows = cohort(tables, "select died from cohort where subject_id = 9")
    assert rows == [(False,)]


def test_steps_are_whole_and_stay_within_the_icu_the_window_and_life(tables):
    query = """select c.subject_id, min(s.step_start), max(s.step_end), count(*)
        from candidate_steps s join cohort c on c.stay_id = s.stay_id group by 1 order by 1"""
    _, rows = cohort(tables, query)
    spans = {subject_id: (first, last, n) for subject_id, first, last, n in rows}
    assert spans[1] == (at(1), at(49), 12)  # onset at 1 h: 4 h earlier is before admission; 48 h after
    assert spans[6] == (at(1), at(21), 5)  # dead at 23 h: the step to 25 h is not begun
    assert spans[4] == (at(241), at(289), 12)
    _, rows = cohort(tables, query, onset_rule="suspected_infection_time", hours_before=8, hours_after=4)
    assert {row[0]: row[1:] for row in rows}[7] == (at(2), at(14), 3)


def test_a_cohort_emptied_by_a_criterion_says_by_which(tables):
    with pytest.raises(
        CohortError, match=r"`adult` \(at least 99 years old at hospital admission\) removed the last"
    ):
        select(tables, minimum_age=99)


def test_a_patient_whose_first_septic_stay_has_no_whole_step_is_kept_by_the_next(tables):
    query = "select stay_id from cohort where subject_id = 10"
    assert cohort(tables, query)[1] == [(102,)]
    attrition, stays = cohort(tables, query, first_stay="any")
    assert stays == []
    assert [row.criterion for row in attrition][-2:] == ["first_septic_stay", "complete_step"]


def test_septic_shock_needs_a_vasopressor_and_lactate(tables):
    assert cohort(tables, "select stay_id from cohort", septic_shock=True)[1] == [(111,)]


@pytest.mark.parametrize(
    ("rule", "steps"), [("keep", {12: 12, 13: 12}), ("exclude", {12: 12}), ("censor", {12: 3})]
)
def test_comfort_measures_are_kept_excluded_at_onset_or_end_the_episode(tables, rule, steps):
    query = """select c.subject_id, count(*) from candidate_steps s join cohort c on c.stay_id = s.stay_id
        where c.subject_id in (12, 13) group by 1"""
    assert dict(cohort(tables, query, comfort_measures=rule)[1]) == steps


def test_no_septic_stay_is_an_error(tmp_path):
    mimic = MadeUpMimic()
    stay_id = mimic.septic_stay(1)
    mimic.rows["labevents"].clear()
    mimic.rows["inputevents"] = [row for row in mimic.rows["inputevents"] if row["itemid"] != 221906]
    mimic.lab(stay_id, 51265, 300, 1)
    with open_mimic(mimic.write(tmp_path)) as opened:
        create_concepts(opened.connection)
        with pytest.raises(CohortError, match=r"`sepsis3` .* removed the last 1 stays"):
            select(opened.connection)
