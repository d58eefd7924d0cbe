"""The simulated ICU: many stays at once, 4 hours a step, from admission to death, discharge or the last step."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sepsis_cql.common.strict import load_shipped
from sepsis_cql.replay.settings import Features
from sepsis_cql.synthetic.chart import POUND, Chart
from sepsis_cql.synthetic.clinicians import Clinicians
from sepsis_cql.synthetic.hidden import draw_hidden
from sepsis_cql.synthetic.observations import Charting, Window
from sepsis_cql.synthetic.physiology import Patients, admit, healthy, progress, strike
from sepsis_cql.synthetic.settings import Logit, SyntheticSettings

Dose = Callable[["SimulatedICU"], tuple[np.ndarray, np.ndarray]]
WEIGHED_EVERY = 6  # steps between daily weights
STAYED, DIED, LEFT = range(3)  # how an episode ended: still in the ICU, dead there, discharged


class SimulatedICU:
    """`n` stays that advance together; the state of a stay that has ended stays as it was."""

    def __init__(self, settings: SyntheticSettings, n: int, seed: int | np.random.SeedSequence) -> None:
        self.settings = settings
        self.n = n
        self.features = load_shipped(Features, "features.yaml")
        self.clinicians = Clinicians(settings.clinicians, self.features)
        self.rng = np.random.default_rng(seed)
        self.hidden = draw_hidden(
            settings.hidden, n, self.rng.spawn(1)[0]
        )  # whose chance is apart from all other
        facts = settings.physiology.infection
        self.patients: Patients = admit(
            n, settings.patients, facts.clearance, settings.minutes_before_grid,
            (facts.log_mean, facts.log_sd), self.rng,
        )  # fmt: skip
        self.celsius = self.rng.random(n) < settings.rendering.celsius
        self.in_pounds = self.rng.random(n) < settings.rendering.pounds
        self.active = np.ones(n, bool)
        self.ending = np.full(n, STAYED)
        self.n_steps = np.zeros(n, np.int64)
        self.died = np.zeros(n, bool)
        self.step_index = 0
        self.total_fluid = self.patients.fluid_before_icu.copy()
        self.total_vasopressor = np.zeros(n)
        self.weight = self._admission_weight()
        self.charting = Charting(settings, self.celsius, self.rng)
        self.chart = Chart(settings, self.features, self.celsius)
        self.latent = healthy(self.patients)
        self.arrival: Window = self.charting.arrival(self.patients, self.latent)
        self.chart.add(self.arrival)
        self.window: Window = self._chart_window(first=True)
        self.states: np.ndarray = self._state()

    def draw_clinicians(self) -> tuple[np.ndarray, np.ndarray]:
        """Draw the (n,) vasopressor and (n,) fluid doses that the clinicians give now, by all that they know."""
        return self.clinicians.draw(self.states, self.rng, self.hidden.shift(self.latent))

    @property
    def last_step(self) -> np.ndarray:
        """Return the (n,) index of the last step there can be, by the end of the grid after onset."""
        return self.patients.onset_step + self.settings.patients.steps_after_onset - 1

    def step(self, vasopressor: np.ndarray, fluid: np.ndarray) -> np.ndarray:
        """Treat every active stay for 4 hours.

        Args:
            vasopressor: (n,) norepinephrine equivalent, mcg/kg/min.
            fluid: (n,) mL.

        Returns:
            (n,) bool, the stays whose episode ends with this step.
        """
        before, was_active = self.states, self.active
        vasopressor, fluid = np.where(was_active, vasopressor, 0), np.where(was_active, fluid, 0)
        physiology = self.settings.physiology
        after = progress(self.latent, self.patients, vasopressor, fluid, physiology, self.rng)
        self.latent = after.where(was_active, self.latent)
        self.total_fluid = self.total_fluid + fluid
        self.total_vasopressor = self.total_vasopressor + 4 * vasopressor
        self.n_steps = self.n_steps + was_active
        self.step_index += 1
        self.window = self._chart_window()
        if self.step_index % WEIGHED_EVERY == 0:
            self.weight = np.round(self.patients.weight + self.latent.edema, 1)
        self.states = np.where(was_active[:, None], self._state(), before)
        return self._end(was_active)

    def _end(self, was_active: np.ndarray) -> np.ndarray:
        """Death in the ICU, discharge and the end of the grid; death after the ICU by day 90."""
        since_onset = self.step_index - 1 - self.patients.onset_step
        septic = since_onset >= 0
        outcome = self.settings.outcome
        dies = was_active & septic & self._happens(outcome.icu_death, self.hidden.death)
        can_leave = since_onset >= outcome.discharge.earliest
        leaves = was_active & ~dies & can_leave & self._happens(outcome.discharge)
        ends = dies | leaves | (was_active & (self.step_index - 1 >= self.last_step))
        self.ending = np.where(dies, DIED, np.where(leaves, LEFT, self.ending))
        self.died = self.died | dies | (ends & ~dies & self._happens(outcome.late_death, self.hidden.death))
        self.active = was_active & ~ends
        return ends

    def _happens(self, event: Logit, more: np.ndarray | float = 0.0) -> np.ndarray:
        decades = (self.patients.age - 65) / 10
        logit = event.base + event.organs * self.latent.organs + event.decade * decades + more
        return self.rng.random(self.n) < 1 / (1 + np.exp(-logit))

    def _chart_window(self, *, first: bool = False) -> Window:
        """Chart the window that ends at step `step_index`; sepsis strikes in its last hour."""
        at_onset = self.patients.onset_step == self.step_index
        quiet = self.patients.onset_step >= self.step_index
        before = self.latent
        if at_onset.any():
            struck = strike(before, self.patients, self.settings.physiology, self.rng)
            self.latent = struck.where(at_onset, before)
        window = self.charting.observe(
            self.patients, self.latent, before, quiet=quiet, at_onset=at_onset, first=first
        )
        self.chart.add(window, self.patients.minutes_before_grid < 240 if first else None)
        return window

    def _state(self) -> np.ndarray:
        return self.chart.state(
            {
                "cum_iv_fluid_ml": self.total_fluid,
                "cum_vasopressor_dose_nor_equiv": self.total_vasopressor,
                "weight_kg": self.weight,
                "age_years": self.patients.age,
                "hours_since_onset": 4.0 * (self.step_index - self.patients.onset_step),
            }
        )

    @cached_property
    def pounds(self) -> np.ndarray:
        """Return the (n,) admission weight in pounds, as charted where kilograms are not."""
        return np.round(self.patients.weight / POUND, 1)

    def _admission_weight(self) -> np.ndarray:
        return np.where(self.in_pounds, self.pounds.astype(np.float32) * POUND, self.patients.weight)


@dataclass(frozen=True)
class Episodes:
    """A finished simulation, its own record of what happened.

    Attributes:
        icu: the simulator at the end: patients, n_steps, ending, died.
        windows: what was charted; window 0 is that of ICU admission, window k + 1 that of step k.
        states: (steps, n, 62) float32 before each step.
        vasopressor: (steps, n) doses given, mcg/kg/min.
        fluid: (steps, n) doses given, mL.
        weights: (steps, n) weight in force at each step, kg.
    """

    icu: SimulatedICU
    windows: list[Window]
    states: np.ndarray
    vasopressor: np.ndarray
    fluid: np.ndarray
    weights: np.ndarray


def simulate(icu: SimulatedICU, choose: Dose | None = None) -> Episodes:
    """Run every stay to its end and keep the record.

    Args:
        icu: freshly made.
        choose: doses of all stays now; the clinicians' without it.
    """
    choose = choose or SimulatedICU.draw_clinicians
    windows, states, weights, doses = [icu.window], [], [], []
    while icu.active.any():
        states.append(icu.states)
        weights.append(icu.weight)
        active = icu.active
        doses.append([np.where(active, dose, 0) for dose in choose(icu)])
        icu.step(*doses[-1])
        windows.append(icu.window)
    vasopressor, fluid = (np.stack(parts) for parts in zip(*doses, strict=True))
    return Episodes(icu, windows, np.stack(states), vasopressor, fluid, np.stack(weights))
