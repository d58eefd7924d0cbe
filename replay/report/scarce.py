"""What a fitted number says about few patients: features and drugs whose normalizer or dose bins rest on them.

Weights carry, of every feature, the fill value, mean and scale that were fitted on the training split, and a grid the
quartiles of the doses. Where one patient alone has a value, or another one than all the rest, these numbers are that
patient's.
"""

import numpy as np

from sepsis_cql.common.privacy import SMALLEST_CELL
from sepsis_cql.replay.records import Normalizer

DRUGS = ("vasopressor dose", "fluid dose")


def find_scarce(
    subject_id: np.ndarray, states: np.ndarray, normalizer: Normalizer, doses: tuple[np.ndarray, np.ndarray]
) -> list[str]:
    """Return the features and drugs that fewer than ten patients, but some, had in the training split.

    A feature also counts where fewer than ten, but some, ever had another value than the one that fills gaps: mean and
    scale are then theirs.

    Args:
        subject_id: (n,) patient of each step.
        states: (n, n_states) in clinical units, NaN where unknown.
        normalizer: fitted on them.
        doses: two (n,) arrays, vasopressors and fluids.
    """
    fill, low, high = (np.array(getattr(normalizer, name)) for name in ("fill", "clip_low", "clip_high"))
    is_known = ~np.isnan(states)
    differs = is_known & (np.clip(states.astype(np.float64), low, high) != fill)
    found = [
        name
        for column, name in enumerate(normalizer.names)
        if not name.endswith("_missing")  # nothing is fitted on a flag
        and any(_is_few(subject_id[kind[:, column]]) for kind in (is_known, differs))
    ]
    return found + [name for name, dose in zip(DRUGS, doses, strict=True) if _is_few(subject_id[dose > 0])]


def _is_few(subject_id: np.ndarray) -> bool:
    return 0 < len(np.unique(subject_id)) < SMALLEST_CELL
