"""What decides treatment and outcome of a simulated stay and stands in no state; all of it is off as shipped."""

from dataclasses import dataclass

import numpy as np

from sepsis_cql.synthetic.physiology import Latent
from sepsis_cql.synthetic.settings import HiddenSettings

NEUTRAL = 1.0  # summed organ dysfunction at which hidden severity changes no dose


@dataclass(frozen=True)
class Hidden:
    """The hidden side of `n` stays.

    Attributes:
        settings: how much of it there is.
        comfort: (n,) bool, stays whose goal is comfort.
        unit: (n,) index of the care unit, -1 where units are alike.
        era: (n,) index of the group of years, -1 where eras are alike.
    """

    settings: HiddenSettings
    comfort: np.ndarray
    unit: np.ndarray
    era: np.ndarray

    def shift(self, latent: Latent) -> np.ndarray:
        """Return (n,) what is added to the clinicians' log odds of either drug."""
        units, eras = (np.array([*shifts, 0.0]) for shifts in (self.settings.units, self.settings.eras))
        severity = self.settings.severity * (latent.organs - NEUTRAL)
        goals = self.settings.comfort.treatment * self.comfort
        total: np.ndarray = severity + goals + units[self.unit] + eras[self.era]
        return total

    @property
    def death(self) -> np.ndarray:
        """Return (n,) what is added to the log odds of death."""
        total: np.ndarray = self.settings.comfort.death * self.comfort
        return total


def draw_hidden(settings: HiddenSettings, n: int, rng: np.random.Generator) -> Hidden:
    """Draw the hidden side of `n` stays."""
    return Hidden(
        settings,
        comfort=rng.random(n) < settings.comfort.share,
        unit=_index(settings.units, n, rng),
        era=_index(settings.eras, n, rng),
    )


def _index(shifts: list[float], n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, len(shifts), n) if shifts else np.full(n, -1)
