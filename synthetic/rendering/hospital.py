"""Patients, admissions, ICU stays, transfers, prescriptions, cultures and procedures of the rendered stays."""

import numpy as np

from sepsis_cql.synthetic.rendering.roster import DAY, NEVER, STEP, Roster
from sepsis_cql.synthetic.rendering.tables import Events, fill
from sepsis_cql.synthetic.settings import RenderingSettings
from sepsis_cql.synthetic.simulator import Episodes

UNITS = np.array(
    ["Medical Intensive Care Unit (MICU)", "Surgical Intensive Care Unit (SICU)", "Coronary Care Unit (CCU)",
     "Medical/Surgical Intensive Care Unit (MICU/SICU)", "Trauma SICU (TSICU)"], object,
)  # fmt: skip
RACES = np.array(
    ["WHITE", "BLACK/AFRICAN AMERICAN", "HISPANIC/LATINO - PUERTO RICAN", "ASIAN", "UNKNOWN"], object
)
YEAR_GROUPS = np.array(["2008 - 2010", "2011 - 2013", "2014 - 2016", "2017 - 2019", "2020 - 2022"], object)
ANTIBIOTICS = np.array(
    ["Vancomycin", "CefePIME", "Piperacillin-Tazobactam", "MetRONIDAZOLE (FLagyl)"], object
)
TOPICAL = "Neomycin-Polymyxin-Bacitracin"
INVASIVE_VENTILATION, PERIPHERAL_LINE = 225792, 224275


def patients(roster: Roster, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return one row a patient; the age is that in an anchor year up to two years before the admission."""
    _, rows = np.unique(roster.subject_id, return_index=True)
    age, n = roster.age[rows], len(rows)
    earlier = np.where((age > 20) & (age < 91), rng.integers(0, 3, n), 0)
    return {
        "subject_id": roster.subject_id[rows],
        "gender": rng.choice(np.array(["F", "M"], object), n),
        "anchor_age": age - earlier,
        "anchor_year": _year(roster.admittime[rows]) - earlier,
        "anchor_year_group": _named(YEAR_GROUPS, roster.era[rows], rng.choice(YEAR_GROUPS, n)),
        "dod": roster.dod[rows],
    }


def admissions(roster: Roster, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return one row a hospital admission, each with one ICU stay."""
    died = roster.deathtime != NEVER
    n = len(roster)
    return {
        "subject_id": roster.subject_id,
        "hadm_id": roster.hadm_id,
        "admittime": roster.admittime,
        "dischtime": roster.dischtime,
        "deathtime": roster.deathtime,
        "admission_type": rng.choice(np.array(["EW EMER.", "URGENT", "OBSERVATION ADMIT"], object), n),
        "admission_location": fill("EMERGENCY ROOM", n),
        "discharge_location": np.where(died, "DIED", "HOME"),
        "insurance": rng.choice(np.array(["Medicare", "Medicaid", "Private"], object), n),
        "language": fill("English", n),
        "marital_status": rng.choice(np.array(["MARRIED", "SINGLE", "WIDOWED"], object), n),
        "race": rng.choice(RACES, n, p=[0.62, 0.14, 0.06, 0.06, 0.12]),
        "edregtime": roster.admittime - 200,
        "edouttime": roster.admittime + 20,
        "hospital_expire_flag": died.astype(np.int64),
    }


def icustays(roster: Roster, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return ICU stays, one in six transferred between units, and the transfers of their admissions."""
    n = len(roster)
    first = _named(UNITS, roster.unit, rng.choice(UNITS, n))
    moved = rng.random(n) < 1 / 6
    last = np.where(moved, rng.choice(UNITS, n), first)
    half = (roster.intime + roster.outtime) // 2
    stays = {
        "subject_id": roster.subject_id,
        "hadm_id": roster.hadm_id,
        "stay_id": roster.stay_id,
        "first_careunit": first,
        "last_careunit": last,
        "intime": roster.intime,
        "outtime": roster.outtime,
        "los": (roster.outtime - roster.intime) / DAY,
    }
    rows = Events()
    everyone = np.arange(n)
    for kind, stay, unit, begin, end in (
        ("ED", everyone, fill("Emergency Department", n), roster.admittime, roster.intime),
        ("transfer", everyone, first, roster.intime, np.where(moved, half, roster.outtime)),
        ("transfer", everyone[moved], last[moved], half[moved], roster.outtime[moved]),
        ("discharge", everyone, fill(None, n), roster.dischtime, np.full(n, NEVER)),
    ):
        rows.add(stay, eventtype=kind, careunit=unit, intime=begin, outtime=end)
    columns = rows.columns()
    transfer_id = 35_000_000 + np.arange(rows.n_rows)
    return stays, with_keys(columns, roster, stay_id=False) | {"transfer_id": transfer_id}


def infections(
    roster: Roster, settings: RenderingSettings, rng: np.random.Generator
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return prescriptions and cultures that put the suspicion of infection, and so the onset, where it was simulated.

    The antibiotic starts within 90 minutes before and 3 hours after onset; the culture is taken before it or up
    to five hours after, a third of them without an admission, some with a date only.
    """
    n = len(roster)
    date_only = rng.random(n) < settings.date_only_culture
    earliest = np.maximum(roster.intime + 1, roster.onset - 90)
    latest = np.minimum(roster.onset + 180, roster.outtime - 1)
    antibiotic = np.maximum(earliest, np.where(date_only, roster.onset, earliest))
    antibiotic = antibiotic + np.floor(rng.random(n) * (latest - antibiotic)).astype(np.int64)
    shift = np.where(rng.random(n) < 0.8, -rng.integers(20, 150, n), rng.integers(20, 300, n))
    culture = np.where(date_only, antibiotic // DAY * DAY, antibiotic + shift)
    return (_prescriptions(roster, antibiotic, rng), _cultures(roster, culture, date_only, rng))


def procedures(roster: Roster, episodes: Episodes) -> dict[str, np.ndarray]:
    """Return a peripheral line for everyone, and the windows with a ventilator."""
    rows = Events()
    n = len(roster)
    rows.add(np.arange(n), itemid=PERIPHERAL_LINE, starttime=roster.intime, endtime=roster.outtime, value=1.0)
    for index, window in enumerate(episodes.windows):
        stays = np.flatnonzero(window.ventilated & (roster.n_steps >= index))
        begin = roster.start[stays] + STEP * (index - 1)
        rows.add(stays, itemid=INVASIVE_VENTILATION, starttime=begin, endtime=begin + STEP, value=float(STEP))
    columns = rows.columns()
    filled = {"storetime": columns["endtime"], "valueuom": fill("min", rows.n_rows)}
    return with_keys(columns, roster) | filled | {"statusdescription": fill("FinishedRunning", rows.n_rows)}


def with_keys(
    columns: dict[str, np.ndarray], roster: Roster, *, stay_id: bool = True
) -> dict[str, np.ndarray]:
    """Return columns with the ids of their stays instead of positions in the roster, sorted by stay and time."""
    times = [name for name in ("charttime", "starttime", "intime") if name in columns]
    keys = [columns[name] for name in ("itemid",) if name in columns] + [columns[name] for name in times]
    order = np.lexsort([*keys, columns["stay"]])
    sorted_columns = {name: values[order] for name, values in columns.items()}
    stay = sorted_columns.pop("stay")
    ids = {"subject_id": roster.subject_id[stay], "hadm_id": roster.hadm_id[stay]}
    if stay_id:
        ids["stay_id"] = roster.stay_id[stay]
    return ids | sorted_columns


def _named(names: np.ndarray, index: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """Names by index, `otherwise` where it is -1."""
    return np.where(index < 0, otherwise, names[index])


def _prescriptions(roster: Roster, antibiotic: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Antibiotics, a topical one that does not count, and heparin for everyone."""
    rows = Events()
    everyone = np.arange(len(roster))
    treated = np.flatnonzero(roster.has_antibiotic)
    rows.add(
        treated, drug=rng.choice(ANTIBIOTICS, len(treated)), route="IV",
        starttime=antibiotic[treated], stoptime=antibiotic[treated] + 3 * DAY,
    )  # fmt: skip
    topical = np.flatnonzero((roster.kind == "topical_only") | (rng.random(len(roster)) < 0.05))
    begin = roster.intime + 5
    rows.add(topical, drug=TOPICAL, route="TP", starttime=begin[topical], stoptime=begin[topical] + DAY)
    rows.add(everyone, drug="Heparin", route="SC", starttime=begin, stoptime=begin + 2 * DAY)
    return with_keys(rows.columns(), roster, stay_id=False) | {"drug_type": fill("MAIN", rows.n_rows)}


def _cultures(
    roster: Roster, culture: np.ndarray, date_only: np.ndarray, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    rows = Events()
    taken = np.flatnonzero(roster.has_culture)
    moment = culture[taken]
    grew = rng.random(len(taken)) < 0.3
    organism = np.array([None, "ESCHERICHIA COLI"], object)[grew.astype(np.int64)]
    rows.add(
        taken, chartdate=moment // DAY * DAY, charttime=np.where(date_only[taken], NEVER, moment),
        storetime=moment + 2 * DAY, spec_type_desc="BLOOD CULTURE", org_name=organism,
        org_itemid=np.where(grew, 80002.0, np.nan), test_name="Blood Culture, Routine",
    )  # fmt: skip
    columns = with_keys(rows.columns(), roster, stay_id=False)
    numbers = 1 + np.arange(rows.n_rows)
    columns["hadm_id"] = np.where(rng.random(rows.n_rows) < 0.33, NEVER, columns["hadm_id"])
    return columns | {"microevent_id": numbers, "micro_specimen_id": numbers + 5_000_000}


def _year(minutes: np.ndarray) -> np.ndarray:
    return minutes.astype("datetime64[m]").astype("datetime64[Y]").astype(np.int64) + 1970
