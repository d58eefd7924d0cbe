"""Laboratory results of the stays as specimens, filed after they were taken, with gases that are not arterial."""

import numpy as np

from sepsis_cql.synthetic.observations import Window
from sepsis_cql.synthetic.rendering.roster import NEVER, STEP, Roster
from sepsis_cql.synthetic.rendering.tables import Events
from sepsis_cql.synthetic.settings import SyntheticSettings
from sepsis_cql.synthetic.simulator import Episodes

ITEMS = {
    "creatinine": 50912, "bun": 51006, "bicarbonate": 50882, "sodium": 50983, "potassium": 50971, "glucose": 50931,
    "wbc": 51301, "haemoglobin": 51222, "haematocrit": 51221, "platelets": 51265, "inr": 51237, "ptt": 51275,
    "bilirubin_total": 50885, "albumin": 50862, "lactate": 50813,
    "pao2": 50821, "paco2": 50818, "arterial_ph": 50820, "base_excess": 50802,
}  # fmt: skip
SPECIMEN_TYPE, INSPIRED_OXYGEN = 52033, 50816
TAKEN = {"chemistry": 70, "blood_count": 70, "coagulation": 80, "liver": 90, "lactate": 120, "gas": 172}
QUICK = ("lactate", "gas")  # measured at the bedside, filed within minutes
ARRIVAL = 330  # minutes before the grid at which the emergency department draws blood


class Laboratory:
    """Collects `labevents` of all stays, window by window."""

    def __init__(
        self, roster: Roster, episodes: Episodes, settings: SyntheticSettings, rng: np.random.Generator
    ) -> None:
        self.roster, self.episodes, self.settings, self.rng = roster, episodes, settings, rng
        self.rows = Events()
        self.n_specimens = 0

    def add_arrival(self, window: Window) -> None:
        """Add the emergency department's tests, which carry no hospital admission."""
        taken = self.roster.start - ARRIVAL
        for panel in ("chemistry", "blood_count", "lactate"):
            self._add_panel(
                panel, np.arange(len(taken)), taken, taken + 60, window.values, in_admission=False
            )

    def add_window(self, index: int, window: Window) -> None:
        """Add results of the window that ends at step `index`; those filed late come in the next window."""
        stays = np.flatnonzero(self.roster.n_steps >= index)
        begin = self.roster.start + STEP * (index - 1)
        at_onset = self.episodes.icu.patients.onset_step == index
        n = len(begin)
        for panel, minute in TAKEN.items():
            test = self.settings.panels[panel].tests[0]
            drawn = stays[~np.isnan(window.values[test][stays])]
            taken = begin + np.where(at_onset, 205, minute)
            delay = self.rng.integers(3, 9, n) if panel in QUICK else self.rng.integers(30, 90, n)
            filed = taken + np.where(at_onset, self.rng.integers(5, 30, n), delay)
            filed = np.where(window.late[panel], begin + STEP + self.rng.integers(15, 150, n), filed)
            self._add_panel(panel, drawn, taken, filed, window.values, arterial=panel == "gas")
            if panel == "gas":
                self._add_oxygen_and_venous(drawn, taken, filed, window)

    def _add_panel(
        self, panel: str, stays: np.ndarray, taken: np.ndarray, filed: np.ndarray, values: dict[str, np.ndarray], *,
        arterial: bool = False, in_admission: bool = True,
    ) -> None:  # fmt: skip
        specimens = self._specimens(stays)
        missing = np.zeros(len(stays), bool) if in_admission else np.ones(len(stays), bool)
        for test in self.settings.panels[panel].tests:
            self._add(stays, specimens, ITEMS[test], values[test][stays], taken, filed, missing)
        if arterial:
            self._add(
                stays, specimens, SPECIMEN_TYPE, np.full(len(stays), np.nan), taken, filed, missing, "ART."
            )
            self.arterial = specimens

    def _add_oxygen_and_venous(
        self, stays: np.ndarray, taken: np.ndarray, filed: np.ndarray, window: Window
    ) -> None:
        """Room air is told by the gas itself; a venous gas taken beside it must not pass for arterial."""
        air = ~window.on_oxygen[stays]
        here = np.zeros(air.sum(), bool)
        self._add(
            stays[air], self.arterial[air], INSPIRED_OXYGEN, np.full(air.sum(), 21.0), taken, filed, here
        )
        venous = stays[self.rng.random(len(stays)) < self.settings.rendering.venous_gas]
        specimens, here = self._specimens(venous), np.zeros(len(venous), bool)
        numbers = {"pao2": 41.0, "paco2": 52.0, "arterial_ph": 7.29}
        for test, number in numbers.items():
            self._add(
                venous, specimens, ITEMS[test], np.full(len(venous), number), taken + 2, filed + 2, here
            )
        self._add(
            venous, specimens, SPECIMEN_TYPE, np.full(len(venous), np.nan), taken + 2, filed + 2, here, "VEN."
        )

    def _add(
        self, stays: np.ndarray, specimens: np.ndarray, itemid: int, numbers: np.ndarray, taken: np.ndarray,
        filed: np.ndarray, no_admission: np.ndarray, text: str | None = None,
    ) -> None:  # fmt: skip
        self.rows.add(
            stays,
            specimen_id=specimens,
            itemid=itemid,
            valuenum=numbers.astype(float),
            value=text,
            charttime=taken[stays],
            storetime=filed[stays],
            hadm_id=np.where(no_admission, NEVER, self.roster.hadm_id[stays]),
            priority="STAT" if itemid in (SPECIMEN_TYPE, ITEMS["lactate"]) else "ROUTINE",
        )

    def _specimens(self, stays: np.ndarray) -> np.ndarray:
        first = 1_000_000 + self.n_specimens
        self.n_specimens += len(stays)
        return first + np.arange(len(stays))
