"""What the training split says about the scale of the inputs; the model carries it as its normaliser."""

import numpy as np

from sepsis_cql.replay.settings import Features


def fit_normaliser(states: np.ndarray, features: Features) -> tuple[dict[str, list], list[str]]:
    """Clip bounds, fill value, mean and scale of every state column.

    The input of the network is `(where(isnan(x), fill, clip(x)) - mean) / scale`; flags pass unchanged.

    Args:
        states: (n, n_states) float32 states of the training split in clinical units, NaN where unknown.
        features: gives clip bounds, and the normal value of a feature nobody in the split was measured for.

    Returns:
        The lists names, clip_low, clip_high, fill, mean and scale, and the features never measured.
    """
    names = features.state_names
    low, high, normal = (
        np.array(column) for column in zip(*(_bounds(name, features) for name in names), strict=True)
    )
    is_flag = np.array([name in features.flags for name in names])
    clipped = np.clip(states.astype(np.float64), low, high)  # (n, n_states)
    unmeasured = np.isnan(clipped).all(axis=0)
    fill = np.where(unmeasured, normal, np.nanmedian(np.where(unmeasured, normal, clipped), axis=0))
    filled = np.where(np.isnan(clipped), fill, clipped)
    scale = filled.std(axis=0)
    scale[scale < 1e-6] = 1.0  # a constant column becomes 0, not infinity
    normaliser = {
        "names": list(names),
        "clip_low": low.tolist(),
        "clip_high": high.tolist(),
        "fill": np.where(is_flag, 0.0, fill).tolist(),
        "mean": np.where(is_flag, 0.0, filled.mean(axis=0)).tolist(),
        "scale": np.where(is_flag, 1.0, scale).tolist(),
    }
    return normaliser, np.array(names)[unmeasured].tolist()


def normalise_states(states: np.ndarray, normaliser: dict[str, list]) -> np.ndarray:
    """(n, n_states) float32 inputs of the network from states in clinical units with NaN for "unknown"."""
    low, high, fill, mean, scale = (
        np.array(normaliser[name]) for name in ("clip_low", "clip_high", "fill", "mean", "scale")
    )
    known = np.where(np.isnan(states), fill, np.clip(states, low, high))
    return ((known - mean) / scale).astype(np.float32)


def _bounds(name: str, features: Features) -> tuple[float, float, float]:
    if name in features.flags:
        return 0.0, 1.0, 0.0
    feature = features.features[name]
    return float(feature.clip[0]), float(feature.clip[1]), float(feature.normal)
