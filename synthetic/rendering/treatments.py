"""Doses of the simulated steps as infusions and boluses, written the several ways MIMIC-IV writes them."""

import numpy as np

from sepsis_cql.synthetic.rendering.roster import STEP, Roster
from sepsis_cql.synthetic.rendering.tables import Events
from sepsis_cql.synthetic.simulator import Episodes

NOREPINEPHRINE, EPINEPHRINE, PHENYLEPHRINE, DOPAMINE, VASOPRESSIN = 221906, 221289, 221749, 221662, 222315
SALINE, RINGER, HALF_SALINE, ALBUMIN_25, RED_CELLS, DEXTROSE, BEFORE_ICU = (
    225158, 225828, 225159, 220862, 225168, 220949, 226361,
)  # fmt: skip
BACKGROUND = 0.1  # norepinephrine equivalent of 2.4 units/hour of vasopressin, mcg/kg/min
CARRIED_ON = 0.3  # share of consecutive treated steps bridged by one infusion


class Treatments:
    """Collects `inputevents` of all stays; the doses of a step add up to what the simulator gave."""

    def __init__(self, roster: Roster, episodes: Episodes, rng: np.random.Generator) -> None:
        self.roster, self.episodes, self.rng = roster, episodes, rng
        self.rows = Events()
        self.weight = episodes.icu.patients.weight
        steps = np.arange(len(episodes.fluid))[:, None]
        self.happened = steps < roster.n_steps  # (steps, n)
        self.septic = steps >= episodes.icu.patients.onset_step

    def add_all(self) -> None:
        """Write every dose of every step."""
        self._before_icu()
        self._vasopressors()
        self._fluids()

    def _before_icu(self) -> None:
        volume = self.episodes.icu.patients.fluid_before_icu
        stays = np.flatnonzero(volume > 0)
        begin = self.roster.intime + 2
        self._add(stays, BEFORE_ICU, begin, begin + 1, volume, None, "ml")
        self._add(
            np.flatnonzero(volume == 0)[::3],
            DEXTROSE,
            begin,
            begin + 1,
            np.full(len(volume), 50.0),
            None,
            "ml",
        )

    def _vasopressors(self) -> None:
        dose = np.where(self.happened, self.episodes.vasopressor, 0)
        bridged = self._bridges((dose >= 0.12) & self.septic)
        for step in range(len(dose)):
            begin, end = self._bounds(step)
            if step + 1 < len(dose):
                both = np.flatnonzero(bridged[step])
                self._add(both, VASOPRESSIN, begin, end + STEP, None, np.full(len(begin), 2.4), "units/hour")
            covered = bridged[step] | (bridged[step - 1] if step else False)
            rest = np.round(np.where(covered, dose[step] - BACKGROUND, dose[step]), 4)
            self._pressor_step(step, rest, covered, begin, end)

    def _pressor_step(
        self, step: int, dose: np.ndarray, covered: np.ndarray, begin: np.ndarray, end: np.ndarray
    ) -> None:
        """One agent a stay and step. Before onset it is phenylephrine, which scores no SOFA points."""
        style = self.rng.random(len(dose))
        septic = self.septic[step]
        choices = {
            (PHENYLEPHRINE, "mcg/kg/min"): (~septic & (style < 0.7), 10.0),
            (PHENYLEPHRINE, "mcg/min"): (~septic & (style >= 0.7), 10 * self.weight),
            (NOREPINEPHRINE, "mcg/kg/min"): (septic & (style < 0.75), 1.0),
            (NOREPINEPHRINE, "mg/kg/min"): (septic & (style >= 0.75) & (style < 0.78), 1e-3),
            (EPINEPHRINE, "mcg/kg/min"): (septic & (style >= 0.78) & (style < 0.85), 1.0),
            (DOPAMINE, "mcg/kg/min"): (septic & (style >= 0.85) & (style < 0.90), 100.0),
            (VASOPRESSIN, "units/min"): (septic & (style >= 0.90) & (style < 0.95) & ~covered, 0.4),
        }
        written = np.zeros(len(dose), bool)
        for (itemid, unit), (chosen, factor) in choices.items():
            written |= chosen
            self._add(np.flatnonzero(chosen & (dose > 0)), itemid, begin, end, None, dose * factor, unit)
        self._add(np.flatnonzero(~written & (dose > 0)), NOREPINEPHRINE, begin, end, None, dose, "mcg/kg/min")

    def _fluids(self) -> None:
        volume = np.where(self.happened, self.episodes.fluid, 0)
        bridged = self._bridges(volume > 0)
        rest = volume.copy()
        for step in range(len(volume) - 1):
            begin, end = self._bounds(step)
            shared = np.where(bridged[step], np.minimum(volume[step], volume[step + 1]), 0)
            rest[step] -= shared
            rest[step + 1] -= shared
            self._add(np.flatnonzero(shared), RINGER, begin, end + STEP, 2 * shared, shared / 4, "mL/hour")
        for step in range(len(volume)):
            self._fluid_step(rest[step], *self._bounds(step))

    def _fluid_step(self, volume: np.ndarray, begin: np.ndarray, end: np.ndarray) -> None:
        """A bolus or an infusion within the step; hypotonic and concentrated fluids by their tonicity."""
        style = self.rng.random(len(volume))
        at = begin + self.rng.integers(0, 230, len(volume))
        given = volume > 0
        for itemid, low, high, amount in (
            (SALINE, 0.0, 0.45, volume), (ALBUMIN_25, 0.45, 0.50, volume / 5), (RED_CELLS, 0.50, 0.53, volume),
        ):  # fmt: skip
            stays = np.flatnonzero(given & (style >= low) & (style < high))
            self._add(stays, itemid, at, at + 1, amount, None, "ml")
        for itemid, low, high, amount in (
            (RINGER, 0.53, 0.93, volume),
            (HALF_SALINE, 0.93, 1.01, 2 * volume),
        ):
            stays = np.flatnonzero(given & (style >= low) & (style < high))
            self._add(stays, itemid, begin + 30, begin + 150, amount, amount / 2, "mL/hour")

    def _bridges(self, treated: np.ndarray) -> np.ndarray:
        """(steps, n) true where one infusion runs through a step and the next; no step is in two of them."""
        bridged = np.zeros_like(treated)
        for step in range(len(treated) - 1):
            free = treated[step] & treated[step + 1] & (self.rng.random(treated.shape[1]) < CARRIED_ON)
            bridged[step] = free & ~(bridged[step - 1] if step else np.False_)
        return bridged

    def _bounds(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        begin = self.roster.start + STEP * step
        return begin, begin + STEP

    def _add(
        self, stays: np.ndarray, itemid: int, begin: np.ndarray, end: np.ndarray, amount: np.ndarray | None,
        rate: np.ndarray | None, unit: str,
    ) -> None:  # fmt: skip
        """`amount` of a vasopressor is what its rate and time make; a bolus has no rate."""
        if amount is None:
            assert rate is not None
            amount = rate * (end - begin) / 60
        n = self.rows.n_rows
        self.rows.add(
            stays,
            itemid=itemid,
            starttime=begin[stays],
            endtime=end[stays],
            storetime=begin[stays] + 7,
            amount=amount[stays].astype(float),
            amountuom="ml" if unit in ("ml", "mL/hour") else "units" if "units" in unit else "mg",
            rate=np.nan if rate is None else rate[stays],
            rateuom=None if rate is None else unit,
            orderid=n + 1 + np.arange(len(stays)),
            linkorderid=n + 1 + np.arange(len(stays)),
            ordercategorydescription="Bolus" if rate is None else "Continuous Med",
            patientweight=self.weight[stays],
            statusdescription="FinishedRunning",
        )
