"""What the behaviour model and the evaluator see: states normalised with training-split statistics."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sepsis_cql.storage import read_json


@dataclass(frozen=True)
class Normaliser:
    """Clip, fill with the training median, and z-score, as the Q-network does.

    Attributes:
        clip_low, clip_high, fill, mean, scale: (n_states,) each.
    """

    clip_low: np.ndarray
    clip_high: np.ndarray
    fill: np.ndarray
    mean: np.ndarray
    scale: np.ndarray

    def __call__(self, states: np.ndarray) -> np.ndarray:
        """(n, n_states) clinical units with NaN for "missing" to (n, n_states) float32 without NaN."""
        clipped = np.clip(states, self.clip_low, self.clip_high)
        return ((np.where(np.isnan(states), self.fill, clipped) - self.mean) / self.scale).astype(np.float32)


def load_normaliser(replay: Path) -> Normaliser:
    """The training-split statistics of a replay directory."""
    statistics: dict[str, Any] = read_json(
        replay / "statistics.json", expected="the statistics `build` writes"
    )
    columns = statistics["normaliser"]
    return Normaliser(
        **{name: np.array(columns[name]) for name in ("clip_low", "clip_high", "fill", "mean", "scale")}
    )
