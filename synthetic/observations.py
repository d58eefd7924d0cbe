"""What is charted of a latent state: vital signs, laboratory panels, oxygen, coma score and urine of a window."""

from dataclasses import dataclass, field

import numpy as np

from sepsis_cql.synthetic.physiology import QUALIFYING, Latent, Patients
from sepsis_cql.synthetic.settings import Reading, SyntheticSettings

READINGS = 4  # one an hour


@dataclass
class Window:
    """Everything charted in one 4-hour window; NaN where nothing is.

    Attributes:
        readings: (n, 4) hourly vital signs as charted; temperature in the unit of the stay.
        values: (n,) other measured features: laboratory values, fio2_vent, peep, gcs_total, urine_output_4h.
        late: (n,) by panel, whether its results are filed only in the next window.
        on_oxygen: (n,) whether an oxygen fraction is charted.
        ventilated: (n,) whether a ventilator is charted; speech is then not judged and the coma score is 15.
    """

    readings: dict[str, np.ndarray]
    values: dict[str, np.ndarray]
    late: dict[str, np.ndarray]
    on_oxygen: np.ndarray
    ventilated: np.ndarray


@dataclass
class Charting:
    """How the stays of one simulation are charted: personal levels, temperature unit, results on their way.

    Attributes:
        settings: of the simulator.
        celsius: (n,) whether the stay charts Celsius rather than Fahrenheit.
        rng: source of the noise.
    """

    settings: SyntheticSettings
    celsius: np.ndarray
    rng: np.random.Generator
    personal: dict[str, np.ndarray] = field(init=False)
    pending: dict[str, np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        n = len(self.celsius)
        facts = self.settings.vital_signs | self.settings.laboratory
        self.personal = {name: fact.personal * self.rng.standard_normal(n) for name, fact in facts.items()}
        self.pending = {name: np.zeros(n, bool) for name in self.settings.panels}

    def arrival(self, patients: Patients, latent: Latent) -> Window:
        """Chart the emergency department's panel, known before the first window: chemistry, blood count, lactate."""
        drawn = {
            name: np.full(len(patients.age), name in ("chemistry", "blood_count", "lactate"))
            for name in self.settings.panels
        }
        values = self._laboratory(latent, drawn, quiet=np.ones(len(patients.age), bool))
        values["fio2_vent"] = np.full(len(patients.age), np.nan)
        nothing = np.zeros(len(patients.age), bool)
        return Window({}, values, dict.fromkeys(self.settings.panels, nothing), nothing, nothing)

    def observe(
        self, patients: Patients, latent: Latent, before: Latent, *, quiet: np.ndarray, at_onset: np.ndarray,
        first: bool = False,
    ) -> Window:  # fmt: skip
        """Chart one window.

        Args:
            patients: whose it is.
            latent: during the window, after its treatment took effect.
            before: before onset, for the first three hours of a window that ends at onset.
            quiet: (n,) whether the window lies before onset: no organ dysfunction may show.
            at_onset: (n,) whether onset falls into the last hour of the window.
            first: the window of ICU admission, charted only from then on.
        """
        since = patients.minutes_before_grid if first else np.full(len(quiet), 240)
        ventilated = ~quiet & (latent.lung > self.settings.oxygen.ventilated_from)
        on_oxygen = ~quiet & (latent.lung > self.settings.oxygen.from_lung) & (since == 240)
        drawn, late = self._draw_panels(latent, quiet & ~at_onset, at_onset, on_oxygen, since)
        values = self._laboratory(latent, drawn, quiet & ~at_onset)
        self._show_onset(values, patients, at_onset)
        values |= self._support(latent, drawn["gas"], on_oxygen, ventilated & on_oxygen)
        values |= self._nursing(latent, quiet, ventilated & on_oxygen, since)
        readings = self._vital_signs(latent, before, at_onset, since)
        return Window(readings, values, late, on_oxygen, ventilated & on_oxygen)

    def _draw_panels(
        self,
        latent: Latent,
        quiet: np.ndarray,
        at_onset: np.ndarray,
        on_oxygen: np.ndarray,
        since: np.ndarray,
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Sicker patients are tested more often, at onset everyone; after it some results are filed late."""
        severity = np.tanh(latent.organs / 3 + 0.2 * latent.perfusion)
        drawn, late = {}, {}
        for name, panel in self.settings.panels.items():
            chance = panel.usual + panel.severity * severity
            drawn[name] = (self.rng.random(len(quiet)) < chance) & ~self.pending[name]
            if name == "gas":  # arterial lines come with sepsis
                drawn[name] &= ~quiet & ~at_onset & (since == 240)
            else:
                drawn[name] |= at_onset
            late[name] = drawn[name] & ~quiet & ~at_onset & (self.rng.random(len(quiet)) < panel.late)
            self.pending[name] = late[name]
        return drawn, late

    def _laboratory(
        self, latent: Latent, drawn: dict[str, np.ndarray], quiet: np.ndarray
    ) -> dict[str, np.ndarray]:
        values = {}
        for panel, settings in self.settings.panels.items():
            for name in settings.tests:
                fact = self.settings.laboratory[name]
                value = self._level(name, fact, latent)
                if fact.quiet:
                    value = np.where(quiet, np.clip(value, *fact.quiet), value)
                values[name] = np.where(drawn[panel], np.round(value, fact.digits), np.nan)
        return values

    def _level(self, name: str, fact: Reading, latent: Latent) -> np.ndarray:
        n = len(latent.infection)
        change = self.personal[name] + fact.noise * self.rng.standard_normal(n)
        for cause, weight in fact.weights.items():
            change = change + weight * getattr(latent, cause)
        value = fact.base + change if fact.additive else fact.base * np.exp(np.minimum(change, 6))
        return np.clip(value, *fact.bounds)

    def _show_onset(self, values: dict[str, np.ndarray], patients: Patients, at_onset: np.ndarray) -> None:
        """One organ's laboratory value gives 2 SOFA points at onset, as Sepsis-3 asks."""
        for index, name in enumerate(QUALIFYING):
            bounds = self.settings.laboratory[name].onset
            assert bounds is not None
            shows = at_onset & (patients.qualifying == index)
            values[name] = np.where(shows, np.clip(values[name], *bounds), values[name])

    def _support(
        self, latent: Latent, gas: np.ndarray, on_oxygen: np.ndarray, ventilated: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Oxygen fraction (0.21 is known from a gas only), PEEP."""
        oxygen = self.settings.oxygen
        percent = np.clip(5 * np.round(20 * (oxygen.fraction + oxygen.lung * latent.lung)), 30, 100)
        peep = np.clip(np.round(oxygen.peep + oxygen.peep_lung * (latent.lung - 1)), 5, 20)
        fraction = np.where(on_oxygen, percent / 100, np.where(gas, 0.21, np.nan))
        return {"fio2_vent": fraction, "peep": np.where(ventilated, peep, np.nan)}

    def _nursing(
        self, latent: Latent, quiet: np.ndarray, ventilated: np.ndarray, since: np.ndarray
    ) -> dict[str, np.ndarray]:
        n = len(quiet)
        lost = np.round(self.settings.coma.brain * latent.brain + 0.4 * self.rng.standard_normal(n))
        score = np.where(quiet | ventilated, 15, np.clip(15 - lost, 3, 15))
        fact = self.settings.urine
        change = fact.noise * self.rng.standard_normal(n)
        for cause, weight in fact.weights.items():
            change = change + weight * getattr(latent, cause)
        volume = 5 * np.round(fact.base * np.exp(change) * since / 240 / 5)
        charted = self.rng.random(n) < fact.charted
        return {"gcs_total": score, "urine_output_4h": np.where(charted, np.minimum(volume, 3000), np.nan)}

    def _vital_signs(
        self, latent: Latent, before: Latent, at_onset: np.ndarray, since: np.ndarray
    ) -> dict[str, np.ndarray]:
        """(n, 4) readings; sepsis shows in the last hour before onset only, hours before admission are empty."""
        n = len(at_onset)
        struck = ~at_onset[:, None] | (np.arange(READINGS) == READINGS - 1)  # (n, 4)
        inside = 60 * np.arange(READINGS) + 15 >= 240 - since[:, None]
        readings = {}
        for name, fact in self.settings.vital_signs.items():
            center = np.where(
                struck, self._mean(name, fact, latent)[:, None], self._mean(name, fact, before)[:, None]
            )
            value = np.clip(center + fact.noise * self.rng.standard_normal((n, READINGS)), *fact.bounds)
            is_fahrenheit = (name == "temperature") & ~self.celsius[:, None]
            value = np.where(is_fahrenheit, value * 1.8 + 32, value)
            value = np.round(value, 1 if name == "temperature" else 0)
            missing = self.rng.random((n, READINGS)) < (
                0 if name == "heart_rate" else self.settings.reading_missing
            )
            readings[name] = np.where(inside & ~missing, value, np.nan)
        return readings

    def _mean(self, name: str, fact: Reading, latent: Latent) -> np.ndarray:
        value: np.ndarray = fact.base + self.personal[name]
        for cause, weight in fact.weights.items():
            value = value + weight * getattr(latent, cause)
        return value
