"""The 5 x 5 grid of doses: none, then quartiles of the non-zero doses of the training split."""

from dataclasses import dataclass

import numpy as np

from sepsis_cql.common.errors import CohortError

N_BINS = 5
N_ACTIONS = N_BINS * N_BINS
ACTION_NAMES = tuple(f"vasopressor {v}, fluid {f}" for v in range(N_BINS) for f in range(N_BINS))


@dataclass(frozen=True)
class ActionGrid:
    """Upper edges of the dose bins 1-3; bin 4 is open, bin 0 is no dose.

    Attributes:
        vasopressor_edges: three norepinephrine equivalents, mcg/kg/min.
        fluid_edges: three tonicity-adjusted volumes of a step, mL.
    """

    vasopressor_edges: tuple[float, ...]
    fluid_edges: tuple[float, ...]

    def bin_actions(self, norepinephrine_equivalent: np.ndarray, fluid_volume: np.ndarray) -> np.ndarray:
        """(n,) int64 actions, 5 * vasopressor bin + fluid bin, of two (n,) arrays of doses."""
        vasopressor_bin = bin_doses(norepinephrine_equivalent, self.vasopressor_edges)
        return N_BINS * vasopressor_bin + bin_doses(fluid_volume, self.fluid_edges)


def fit_action_grid(norepinephrine_equivalent: np.ndarray, fluid_volume: np.ndarray) -> ActionGrid:
    """Quartiles of the non-zero doses of the training split.

    Raises:
        CohortError: one of the drugs was never given in the training split.
    """
    return ActionGrid(
        _quartiles(norepinephrine_equivalent, "vasopressor"), _quartiles(fluid_volume, "intravenous fluid")
    )


def bin_doses(doses: np.ndarray, edges: tuple[float, ...]) -> np.ndarray:
    """(n,) int64 bins: 0 where nothing was given, else 1 + the number of edges below the dose."""
    return np.where(doses > 0, 1 + np.searchsorted(np.asarray(edges), doses, side="left"), 0).astype(np.int64)


def _quartiles(doses: np.ndarray, drug: str) -> tuple[float, ...]:
    given = doses[doses > 0].astype(np.float64)
    if len(given) == 0:
        raise CohortError(
            f"0 of {len(doses)} training steps have any {drug} (expected some): dose bins cannot be set. "
            "Check `inputevents`, or use more patients."
        )
    return tuple(float(edge) for edge in np.quantile(given, [0.25, 0.5, 0.75]))
