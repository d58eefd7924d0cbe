"""Who the simulated stays belong to and when they happened: patients, admissions, ids and shifted dates."""

from dataclasses import dataclass

import numpy as np

from sepsis_cql.synthetic.settings import RenderingSettings
from sepsis_cql.synthetic.simulator import DIED, LEFT, Episodes

DAY, HOUR, STEP = 1440, 60, 240  # minutes
NEVER = np.iinfo(np.int64).min  # a time that is not there
HORIZON_DAYS = 90
LATER_DAYS = 200  # between stays of one patient
COHORT, EARLIER, LATER = "cohort", "earlier", "later_septic"


@dataclass(frozen=True)
class Roster:
    """One row a rendered stay, all arrays (m,); times are minutes since 1970 or `NEVER`.

    Attributes:
        kind: why the stay is there: cohort, earlier, later_septic, or a key of `rendering.others`.
        subject_id: patient.
        hadm_id: hospital admission.
        stay_id: ICU stay.
        start: of the first whole step.
        onset: of sepsis.
        intime: ICU admission.
        outtime: ICU discharge.
        admittime: hospital admission.
        dischtime: hospital discharge.
        deathtime: in hospital.
        dod: date of the patient's death, in days since 1970, or `NEVER`.
        age: years at hospital admission; 91 for the oldest.
        n_steps: steps charted.
        unit, era: index of the care unit and of the group of years, -1 where any will do.
    """

    kind: np.ndarray
    subject_id: np.ndarray
    hadm_id: np.ndarray
    stay_id: np.ndarray
    start: np.ndarray
    onset: np.ndarray
    intime: np.ndarray
    outtime: np.ndarray
    admittime: np.ndarray
    dischtime: np.ndarray
    deathtime: np.ndarray
    dod: np.ndarray
    age: np.ndarray
    n_steps: np.ndarray
    unit: np.ndarray
    era: np.ndarray

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def has_antibiotic(self) -> np.ndarray:
        """Return (m,) whether a systemic antibiotic is prescribed."""
        return ~np.isin(self.kind, ["no_antibiotic", "topical_only", EARLIER])

    @property
    def has_culture(self) -> np.ndarray:
        """Return (m,) whether a culture is taken."""
        return ~np.isin(self.kind, ["no_culture", EARLIER])


def count_stays(n_patients: int, settings: RenderingSettings) -> tuple[int, int, int]:
    """Return how many patients of the cohort, earlier stays and later stays `n_patients` patients have."""
    n_cohort = round(settings.cohort * n_patients)
    return n_cohort, round(settings.earlier_stay * n_cohort), round(settings.later_septic_stay * n_cohort)


def make_roster(
    episodes: Episodes, n_patients: int, settings: RenderingSettings, rng: np.random.Generator
) -> Roster:
    """Assign the simulated stays to patients: the cohort first, then the others, then further stays."""
    icu = episodes.icu
    kind, patient = _assign(episodes, n_patients, settings, rng)
    m = len(kind)
    is_full = np.isin(kind, [COHORT, LATER, "minor"])
    n_steps = np.where(is_full, icu.n_steps, np.minimum(icu.n_steps, settings.other_steps))
    n_steps = np.where(kind == "too_short", 0, n_steps)
    start = _starts(kind, patient, rng)
    onset = start + STEP * icu.patients.onset_step
    died_in_icu = is_full & (icu.ending == DIED)
    died_later = is_full & icu.died & ~died_in_icu
    outtime, deathtime = _leave(start + STEP * n_steps, is_full, died_in_icu, icu.ending == LEFT, rng)
    outtime = np.where(kind == "too_short", onset + rng.integers(190, 236, m), outtime)
    dod = np.where(died_later, onset // DAY + rng.integers(10, HORIZON_DAYS, m, endpoint=True), NEVER)
    in_hospital = died_later & (rng.random(m) < 0.5)
    deathtime = np.where(in_hospital, dod * DAY + rng.integers(0, DAY, m), deathtime)
    dod = np.where(died_in_icu, deathtime // DAY, dod)
    dod = _deaths_of_survivors(dod, onset, kind, patient, rng)
    left = outtime + rng.integers(6 * HOUR, 2 * DAY, m)
    intime = start - icu.patients.minutes_before_grid
    return Roster(
        kind=kind,
        subject_id=_ids(n_patients, 10_000_000, rng)[patient],
        hadm_id=_ids(m, 20_000_000, rng),
        stay_id=_ids(m, 30_000_000, rng),
        start=start,
        onset=onset,
        intime=intime,
        outtime=outtime,
        admittime=intime - rng.integers(1 * HOUR, 10 * HOUR, m),
        dischtime=np.where(deathtime != NEVER, deathtime, left),
        deathtime=deathtime,
        dod=_of_patient(dod, patient, n_patients),
        age=np.where(kind == "minor", rng.integers(15, 18, m), icu.patients.age).astype(np.int64),
        n_steps=n_steps,
        unit=icu.hidden.unit,
        era=icu.hidden.era,
    )


def _assign(
    episodes: Episodes, n_patients: int, settings: RenderingSettings, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Kind and patient of each simulated stay."""
    n_cohort, n_earlier, n_later = count_stays(n_patients, settings)
    names, shares = list(settings.others), np.array(list(settings.others.values()))
    others = rng.choice(names, n_patients - n_cohort, p=shares / shares.sum())
    kind = np.concatenate(
        [np.full(n_cohort, COHORT), others, np.full(n_earlier, EARLIER), np.full(n_later, LATER)]
    )
    kind = kind.astype(object)
    onset_step = episodes.icu.patients.onset_step
    kind[(kind == "too_short") & (onset_step > 0)] = "no_antibiotic"  # only one without a whole step is short
    patient = np.concatenate([np.arange(n_patients), rng.choice(n_cohort, n_earlier, replace=False)])
    survivors = np.flatnonzero(~episodes.icu.died[:n_cohort])
    return kind, np.concatenate([patient, rng.choice(survivors, n_later, replace=False)]).astype(np.int64)


def _starts(kind: np.ndarray, patient: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Full hours between 2112 and 2200; a patient's further stays lie before and after the first."""
    first = (rng.integers(142 * 8766, 230 * 8766, patient.max() + 1) * HOUR)[patient]
    shift = np.select([kind == EARLIER, kind == LATER], [-LATER_DAYS, LATER_DAYS], 0)
    return first + shift * DAY


def _leave(
    end: np.ndarray, is_full: np.ndarray, died: np.ndarray, discharged: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """ICU discharge and time of death in the ICU, so that no further step is whole unless the grid is over."""
    soon = end + rng.integers(5, 231, len(end))
    later = end + rng.integers(5 * HOUR, 5 * DAY, len(end))
    outtime = np.where(died | discharged | ~is_full, soon, later)
    return outtime + np.where(died, 20, 0), np.where(died, soon, NEVER)


def _deaths_of_survivors(
    dod: np.ndarray, onset: np.ndarray, kind: np.ndarray, patient: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Some who outlive day 90 die within the year the registry covers, from day 91 on."""
    again = np.isin(patient, patient[kind == LATER])
    dies = (dod == NEVER) & (kind == COHORT) & ~again & (rng.random(len(dod)) < 0.2)
    days = np.where(rng.random(len(dod)) < 0.1, HORIZON_DAYS + 1, rng.integers(100, 330, len(dod)))
    return np.where(dies, onset // DAY + days, dod)


def _of_patient(dod: np.ndarray, patient: np.ndarray, n_patients: int) -> np.ndarray:
    """The date of death of each row's patient."""
    latest = np.full(n_patients, NEVER)
    np.maximum.at(latest, patient, dod)
    return latest[patient]


def _ids(n: int, base: int, rng: np.random.Generator) -> np.ndarray:
    """Distinct numbers of eight digits, without order, as in MIMIC-IV."""
    return base + rng.choice(9_999_999, n, replace=False)
