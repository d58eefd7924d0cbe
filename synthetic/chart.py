"""From charted windows to the 62-vector of a step, by the rules the replay applies to tables."""

import numpy as np

from sepsis_cql.replay.settings import Features
from sepsis_cql.synthetic.observations import Window
from sepsis_cql.synthetic.settings import SyntheticSettings

POUND = 0.45359237  # kg
WINDOW_HOURS = 4


class Chart:
    """Last known value of every feature, whether the last window measured it, and treatment so far.

    Args:
        settings: of the simulator; says which laboratory values are filed together.
        features: of the state.
        celsius: (n,) unit in which each stay charts temperature.
    """

    def __init__(self, settings: SyntheticSettings, features: Features, celsius: np.ndarray) -> None:
        n = len(celsius)
        self.features = features
        self.celsius = celsius
        self.panel_of = {test: panel for panel, facts in settings.panels.items() for test in facts.tests}
        self.panel_of["pf_ratio"] = "gas"
        self.names = [name for name, feature in features.features.items() if feature.is_measured]
        self.names.append("shock_index")
        self.last = {name: np.full(n, np.nan) for name in self.names}
        self.measured = {name: np.zeros(n, bool) for name in self.names}
        self.unseen = {name: np.zeros(n) for name in self.names}  # windows since it was measured
        self.ventilated = {name: np.zeros(n, bool) for name in self.names}  # when it was measured
        self.pending = {name: np.full(n, np.nan) for name in self.panel_of}

    def add(self, window: Window, partial: np.ndarray | None = None) -> None:
        """Take in what became known in a window; results filed late wait for the next one.

        Args:
            window: what was charted.
            partial: (n,) stays whose window lies partly before the ICU: its sums are not of a whole one.
        """
        known = self._reduce(window) | window.values
        if partial is not None:
            for name in self.names:
                if self.features.features[name].reduce == "sum":
                    known[name] = np.where(partial, np.nan, known[name])
        known["pf_ratio"] = 100 * known["pao2"] / np.round(100 * known["fio2_vent"])
        for name, panel in self.panel_of.items():
            late = window.late[panel]
            arriving = self.pending[name]
            self.pending[name] = np.where(late, known[name], np.nan)
            known[name] = np.where(late | np.isnan(known[name]), arriving, known[name])
        for name in self.names:
            value = known.get(name, np.full(len(self.celsius), np.nan))
            self.measured[name] = ~np.isnan(value)
            self.unseen[name] = np.where(self.measured[name], 0, self.unseen[name] + 1)
            carried = np.where(self._is_carried(name), self.last[name], np.nan)
            self.last[name] = np.where(self.measured[name], value, carried)
            self.ventilated[name] = np.where(self.measured[name], window.ventilated, self.ventilated[name])

    def _is_carried(self, name: str) -> np.ndarray:
        """(n,) whether the last value still stands in a window without one."""
        feature, hours = self.features.features[name], self.features.carry_hours(name)
        stands = np.full(len(self.celsius), feature.carry)
        if hours is not None:
            stands &= WINDOW_HOURS * self.unseen[name] <= hours
        return stands & ~(self.ventilated[name] & feature.ends_with_ventilation)

    def state(self, given: dict[str, np.ndarray]) -> np.ndarray:
        """Return the (n, 62) float32 state in clinical units.

        Args:
            given: the features that are not charted values: cum_iv_fluid_ml,
                cum_vasopressor_dose_nor_equiv, weight_kg, age_years, hours_since_onset; each (n,).
        """
        known = self.last | given
        columns = [
            ~self.measured[name.removesuffix("_missing")] if name.endswith("_missing") else known[name]
            for name in self.features.state_names
        ]
        return np.stack(columns, axis=1).astype(np.float32)

    def _reduce(self, window: Window) -> dict[str, np.ndarray]:
        """One value a vital sign and stay, NaN where no reading was charted, and the shock index."""
        reduced = {}
        for name, readings in window.readings.items():
            if name == "temperature":
                readings = np.where(self.celsius[:, None], readings, (readings - 32) / 1.8)
            charted = ~np.isnan(readings)
            count = charted.sum(axis=1)
            if self.features.features[name].reduce == "min":
                value = np.where(charted, readings, np.inf).min(axis=1)
            else:
                value = np.where(charted, readings, 0).sum(axis=1) / np.maximum(count, 1)
            reduced[name] = np.where(count > 0, value, np.nan)
        if reduced:
            reduced["shock_index"] = reduced["heart_rate"] / reduced["sbp"]
        return reduced
