"""The known behavior policy: how simulated clinicians dose, given the state they see."""

from dataclasses import dataclass

import numpy as np

from sepsis_cql.replay.rows.actions import N_BINS, ActionGrid, bin_doses
from sepsis_cql.replay.settings import Features
from sepsis_cql.synthetic.settings import ClinicianSettings, DrugHabit

KNOWN = ("map", "lactate", "urine_output_4h", "cum_vasopressor_dose_nor_equiv")


@dataclass(frozen=True)
class DoseLaw:
    """A distribution over the doses of one drug, for each of n states.

    Attributes:
        given: (n,) probability of any dose.
        doses: (m,) the doses there are, as the replay stores them.
        shares: (n, m) probability of each, given that there is one.
    """

    given: np.ndarray
    doses: np.ndarray
    shares: np.ndarray

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Return the (n,) doses, 0 where none is given."""
        chosen = self._choose(self.shares, rng)
        return np.where(rng.random(len(self.given)) < self.given, chosen, 0.0)

    def bin_probabilities(self, edges: tuple[float, ...]) -> np.ndarray:
        """Return the (n, 5) probability of each dose bin."""
        membership = np.eye(N_BINS)[bin_doses(self.doses, edges)]  # (m, 5)
        probabilities = self.given[:, None] * (self.shares @ membership)
        probabilities[:, 0] = 1 - self.given
        return probabilities

    def draw_within(self, bins: np.ndarray, edges: tuple[float, ...], rng: np.random.Generator) -> np.ndarray:
        """Draw (n,) doses as clinicians choose them within the given bins; an empty bin gives its upper edge."""
        inside = bin_doses(self.doses, edges)[None, :] == bins[:, None]  # (n, m)
        shares = self.shares * inside
        total = shares.sum(axis=1)
        upper = np.array([0.0, *edges, self.doses[-1]])[bins]
        chosen = self._choose(shares / np.where(total > 0, total, 1)[:, None], rng)
        return np.where(bins == 0, 0.0, np.where(total > 0, chosen, upper))

    def _choose(self, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return self.doses[draw_columns(shares, rng)]


def draw_columns(shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw the (n,) index of a column of each row, with probabilities in proportion to (n, m) shares."""
    drawn = rng.random(len(shares))[:, None] * shares.sum(axis=1, keepdims=True)
    return np.minimum((shares.cumsum(axis=1) <= drawn).sum(axis=1), shares.shape[1] - 1)


class Clinicians:
    """What every dose depends on: last known pressure, lactate and urine, and the vasopressor given so far.

    Args:
        settings: habits for both drugs.
        features: names the state's columns and the value assumed where nothing is known.
    """

    def __init__(self, settings: ClinicianSettings, features: Features) -> None:
        self.settings = settings
        self.columns = {name: features.state_names.index(name) for name in KNOWN}
        self.normal = {name: features.features[name].normal for name in self.columns}

    def laws(self, states: np.ndarray, shift: np.ndarray | float = 0.0) -> tuple[DoseLaw, DoseLaw]:
        """Return the distributions of vasopressor (mcg/kg/min) and fluid (mL) doses, independent given the state.

        Args:
            states: (n, 62) in clinical units, NaN where nothing is known.
            shift: (n,) what hidden causes add to the log odds of giving either drug.
        """
        settings = self.settings
        return self._law(settings.vasopressor, states, shift), self._law(settings.fluid, states, shift)

    def draw(
        self, states: np.ndarray, rng: np.random.Generator, shift: np.ndarray | float = 0.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the (n,) vasopressor and (n,) fluid doses."""
        vasopressor, fluid = self.laws(states, shift)
        return vasopressor.draw(rng), fluid.draw(rng)

    def probabilities(self, states: np.ndarray, grid: ActionGrid) -> np.ndarray:
        """Return the (n, 25) probability of each action of `grid`: the behavior policy itself, not an estimate."""
        vasopressor, fluid = self.laws(states)
        joint = (
            vasopressor.bin_probabilities(grid.vasopressor_edges)[:, :, None]
            * fluid.bin_probabilities(grid.fluid_edges)[:, None, :]
        )
        return joint.reshape(len(states), N_BINS**2)

    def doses_of(
        self, actions: np.ndarray, states: np.ndarray, grid: ActionGrid, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw doses of given actions: within a bin they fall as clinicians choose them in the same state."""
        vasopressor, fluid = self.laws(states)
        return (
            vasopressor.draw_within(actions // N_BINS, grid.vasopressor_edges, rng),
            fluid.draw_within(actions % N_BINS, grid.fluid_edges, rng),
        )

    def _law(self, habit: DrugHabit, states: np.ndarray, shift: np.ndarray | float) -> DoseLaw:
        reference = self.settings.references
        pressure = np.clip(reference.pressure - self._known("map", states), -25, 25)
        lactate = np.clip(self._known("lactate", states) - reference.lactate, -2, 8)
        urine = np.clip(1 - self._known("urine_output_4h", states) / reference.urine, -1, 1)
        logit = habit.base + habit.pressure * pressure + habit.lactate * lactate + habit.urine * urine
        earlier = self._known("cum_vasopressor_dose_nor_equiv", states)
        logit = logit + habit.continued * earlier / (earlier + reference.earlier_vasopressor) + shift
        given = np.clip(1 / (1 + np.exp(-logit)), habit.at_least, 1 - habit.at_least)
        doses = dose_menu(habit)
        center = np.log(habit.dose) + habit.dose_pressure * pressure + habit.dose_lactate * lactate
        kernel = np.exp(-0.5 * ((np.log(doses)[None, :] - center[:, None]) / habit.spread) ** 2) / doses
        usual = kernel / kernel.sum(axis=1, keepdims=True)
        return DoseLaw(given, doses, (1 - habit.random) * usual + habit.random / len(doses))

    def _known(self, name: str, states: np.ndarray) -> np.ndarray:
        values = states[:, self.columns[name]].astype(np.float64)
        return np.where(np.isnan(values), self.normal[name], values)


def dose_menu(habit: DrugHabit) -> np.ndarray:
    """Return the (m,) doses of a drug in single precision, as the replay stores them, so that bins agree to the bit."""
    first, last, spacing = habit.doses
    steps = np.round(np.arange(first, last + spacing / 2, spacing), 4)
    return steps.astype(np.float32).astype(np.float64)
