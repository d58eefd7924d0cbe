"""Named clinical columns to the Q-network's 62 inputs.

Research artefact on retrospective data; never use it for patient care.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from transformers import BatchFeature, FeatureExtractionMixin

from .configuration_sepsis_cql import missing_flag, order_states

KEYS = ["stay_id", "step_index"]
FACTS = ["name", "unit", "low", "high", "flag", "carry", "hint"]


class SepsisCQLFeatureExtractor(FeatureExtractionMixin):
    """Checked states of 4-hour steps, in the order and units the network was trained on.

    A row holds one step: each feature's value measured in the 4 hours before it, NaN or None where nothing
    was measured. With stay_id and step_index, the last value measured in an earlier step of the same stay
    takes the place of NaN (except for features whose fact `carry` is false); without them, rows stand alone.
    The `<feature>_missing` input is 1 where the row itself holds no value, carried or not.

    Attributes:
        features: one mapping for each clinical column: name, unit, lowest and highest accepted value (low,
            high), whether it has a missing flag (flag), whether it is carried forward (carry), and what to do
            about a value out of bounds (hint, may be empty).
    """

    model_input_names = ("states",)

    def __init__(self, features: list[dict[str, Any]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.features = features
        _check_facts(features)

    @property
    def feature_names(self) -> list[str]:
        """Names of the clinical columns."""
        return [feature["name"] for feature in self.features]

    @property
    def state_names(self) -> list[str]:
        """Names of the network's inputs, in order."""
        return order_states(self.feature_names, self._flagged)

    @property
    def _flagged(self) -> list[str]:
        return [feature["name"] for feature in self.features if feature["flag"]]

    def __call__(
        self,
        rows: Mapping[str, Any] | pd.Series | pd.DataFrame | list[Mapping[str, Any]],
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """States in the order of the rows.

        Args:
            rows: one step (mapping or pandas row) or several (data frame, mapping of columns, list of
                mappings), with the 37 clinical columns in any order and optionally stay_id and step_index.
            return_tensors: "pt" for torch tensors; numpy arrays otherwise.

        Returns:
            BatchFeature with `states`, (n, 62) float32, clinical units, NaN where a value was never known.

        Raises:
            ValueError: a column is unknown, missing, not numeric, infinite or outside its bounds, or a step
                appears twice; the message names the column.
        """
        frame = _as_frame(rows)
        self._check_columns(frame)
        values = pd.DataFrame({fact["name"]: _numbers(frame, fact) for fact in self.features})
        states = values.copy()
        if "stay_id" in frame:
            carried = [feature["name"] for feature in self.features if feature["carry"]]
            states[carried] = _carry_forward(values[carried], frame[KEYS])
        for name in self._flagged:
            states[missing_flag(name)] = values[name].isna().astype(float)
        array = states[self.state_names].to_numpy(dtype=np.float32)
        return BatchFeature({"states": array}, tensor_type=return_tensors)

    def _check_columns(self, frame: pd.DataFrame) -> None:
        columns, names = list(frame.columns), self.feature_names
        if repeated := sorted({str(name) for name in columns if columns.count(name) > 1}):
            raise ValueError(f"columns {repeated} appear more than once. Keep one of each.")
        if missing := sorted(set(names) - set(columns)):
            raise ValueError(f"columns {missing} missing. Add them, with NaN where nothing was measured.")
        if unknown := sorted(map(str, set(columns) - set(names) - set(KEYS))):
            raise ValueError(
                f"columns {unknown} unknown; expected the {len(names)} clinical features and optionally "
                f"{KEYS}. Drop them (missing flags are computed here)."
            )
        if len(present := set(KEYS) & set(columns)) == 1:
            raise ValueError(f"found {present.pop()} alone. Give both {KEYS}, or neither.")


def _check_facts(features: list[dict[str, Any]]) -> None:
    for feature in features:
        name = feature.get("name")
        if sorted(feature) != sorted(FACTS):
            raise ValueError(f"features: {name} has the facts {sorted(feature)}, expected {FACTS}.")
        if not feature["low"] < feature["high"]:
            raise ValueError(f"features: {name} has low {feature['low']} not below high {feature['high']}.")
    names = [feature["name"] for feature in features]
    if len(set(names)) != len(names):
        raise ValueError("features: a name appears more than once.")


def _as_frame(rows: Any) -> pd.DataFrame:
    if isinstance(rows, pd.DataFrame):
        return rows.reset_index(drop=True)
    if isinstance(rows, pd.Series):
        return rows.to_frame().T.reset_index(drop=True)
    if isinstance(rows, Mapping):
        is_one_step = all(np.ndim(value) == 0 for value in rows.values())
        return pd.DataFrame([dict(rows)] if is_one_step else dict(rows))
    if isinstance(rows, list) and rows and all(isinstance(row, Mapping) for row in rows):
        if len({frozenset(row) for row in rows}) > 1:
            raise ValueError("rows: found mappings with different columns. Give every row all columns.")
        return pd.DataFrame(rows)
    raise ValueError(
        f"rows: found {type(rows).__name__}, expected a mapping, a pandas row or frame, or a list of "
        "mappings, with at least one row."
    )


def _numbers(frame: pd.DataFrame, fact: dict[str, Any]) -> np.ndarray:
    """(n,) float64 values of one feature, after checking type, finiteness and bounds."""
    name, column = fact["name"], frame[fact["name"]]
    column = column.where(column.notna(), np.nan).infer_objects()
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        raise ValueError(f"{name}: found {column.dtype} values, expected numbers in {fact['unit']} or NaN.")
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    if n_infinite := int(np.isinf(values).sum()):
        raise ValueError(f"{name}: found {n_infinite} infinite values. Use NaN where nothing was measured.")
    outside = values[(values < fact["low"]) | (values > fact["high"])]
    if len(outside):
        raise ValueError(
            f"{name}: {len(outside)} of {len(values)} values outside {fact['low']:g} to {fact['high']:g} "
            f"{fact['unit']} (found {outside.min():g} to {outside.max():g}). {fact['hint']}".rstrip()
        )
    return values


def _carry_forward(values: pd.DataFrame, keys: pd.DataFrame) -> pd.DataFrame:
    """Fill NaN with the newest earlier value of the same stay; rows keep their place."""
    if n_null := int(keys.isna().any(axis=1).sum()):
        raise ValueError(
            f"{' or '.join(KEYS)}: {n_null} rows without one. Name the stay and step of every row."
        )
    steps = pd.to_numeric(keys["step_index"], errors="coerce")
    if not (steps % 1 == 0).all():
        raise ValueError(f"step_index: found {keys['step_index'].dtype} values, expected whole numbers.")
    keys = keys.assign(step_index=steps)
    if n_repeated := int(keys.duplicated().sum()):
        raise ValueError(f"stay_id, step_index: {n_repeated} steps appear more than once. Keep one row each.")
    in_order = keys.sort_values(KEYS).index
    return values.loc[in_order].groupby(keys.loc[in_order, "stay_id"]).ffill().sort_index()


SepsisCQLFeatureExtractor.register_for_auto_class()
