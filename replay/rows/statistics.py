"""What the training split says about the scale of the inputs; the model carries it as its normalizer."""

import numpy as np

from sepsis_cql.replay.records import Normalizer
from sepsis_cql.replay.settings import Features


def fit_normalizer(states: np.ndarray, features: Features) -> tuple[Normalizer, list[str]]:
    """Fit clip bounds, fill value, mean and scale of every state column.

    The input of the network is `(where(isnan(x), fill, clip(x)) - mean) / scale`; flags pass unchanged.

    Args:
        states: (n, n_states) float32 states of the training split in clinical units, NaN where unknown.
        features: gives clip bounds, and the normal value of a feature nobody in the split was measured for.

    Returns:
        The normalizer, and the features never measured.
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
    normalizer = Normalizer(
        names=list(names),
        clip_low=low.tolist(),
        clip_high=high.tolist(),
        fill=np.where(is_flag, 0.0, fill).tolist(),
        mean=np.where(is_flag, 0.0, filled.mean(axis=0)).tolist(),
        scale=np.where(is_flag, 1.0, scale).tolist(),
    )
    return normalizer, np.array(names)[unmeasured].tolist()


def _bounds(name: str, features: Features) -> tuple[float, float, float]:
    if name in features.flags:
        return 0.0, 1.0, 0.0
    feature = features.features[name]
    return float(feature.clip[0]), float(feature.clip[1]), float(feature.normal)
