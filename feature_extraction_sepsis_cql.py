"""Named clinical columns to the Q-network's 62 inputs.

Research artefact on retrospective data; never use it for patient care.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from transformers import BatchFeature, FeatureExtractionMixin

from .configuration_sepsis_cql import missing_flag, order_states

KEYS = ["stay_id", "step_index"]
# Columns that may be left out, because two others give them: numerator over denominator of the same row.
RATIOS = {"pf_ratio": ("pao2", "fio2_vent"), "shock_index": ("heart_rate", "sbp")}
VITAL_SIGNS = ["heart_rate", "map", "sbp", "dbp", "resp_rate", "spo2", "temperature"]
NEVER_ABOVE = [("map", "sbp"), ("dbp", "sbp")]
# Values that do not occur together in the units expected, but do in SI units: each below or above its limit.
SI_UNITS = [
    ({"creatinine": (">", 30), "bun": ("<", 60)}, "In SI units? Divide creatinine by 88.4, multiply urea by 2.8."),
    ({"creatinine": (">", 30), "glucose": ("<", 25)}, "In SI units? Creatinine / 88.4, glucose x 18."),
    ({"pao2": ("<", 20), "spo2": (">", 80)}, "In kPa? Multiply pao2 by 7.5."),
    ({"pao2": ("<", 20), "paco2": ("<", 10)}, "In kPa? Multiply both by 7.5."),
]  # fmt: skip
FACTS = ["name", "unit", "low", "high", "flag", "carry", "hint"]


class SepsisCQLFeatureExtractor(FeatureExtractionMixin):
    """Checked states of steps, in the order and units the network was trained on.

    A row holds one step: each feature's value measured in the hours before it, as many as a step has (4, unless the
    configuration's `decision_interval_hours` says otherwise), NaN or None where nothing was measured. With stay_id and
    step_index, the last value measured in an earlier step of the same stay takes the place of NaN (except for features
    whose fact `carry` is false); without them, rows stand alone. The `<feature>_missing` input is 1 where the row
    itself holds no value, carried or not.

    The columns pf_ratio (pao2 / fio2_vent, mmHg) and shock_index (heart_rate / sbp) may be left out: they are computed,
    and NaN where a part is, or where the ratio is out of bounds.

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
        """Return the names of the clinical columns."""
        return [feature["name"] for feature in self.features]

    @property
    def state_names(self) -> list[str]:
        """Return the names of the network's inputs, in order."""
        return order_states(self.feature_names, self._flagged)

    @property
    def _flagged(self) -> list[str]:
        return [feature["name"] for feature in self.features if feature["flag"]]

    def __call__(
        self,
        rows: Mapping[str, Any] | pd.Series | pd.DataFrame | list[Mapping[str, Any]],
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """Return states in the order of the rows.

        Args:
            rows: one step (mapping or pandas row) or several (data frame, mapping of columns, list of
                mappings), with the 37 clinical columns in any order (pf_ratio and shock_index may be absent) and
                optionally stay_id and step_index.
            return_tensors: "pt" for torch tensors; numpy arrays otherwise.

        Returns:
            BatchFeature with `states`, (n, 62) float32, clinical units, NaN where a value was never known.

        Raises:
            ValueError: a column is unknown, missing, not numeric, infinite or outside its bounds, a step
                appears twice, values of a row contradict each other, or nothing at all is known in a row; the
                message names the column.

        Warns:
            UserWarning: no vital sign is known in a row.
        """
        frame = _as_frame(rows)
        self._check_columns(frame)
        values = pd.DataFrame(
            {fact["name"]: _numbers(frame, fact) for fact in self.features if fact["name"] in frame}
        )
        for fact in self.features:
            if fact["name"] not in frame:
                values[fact["name"]] = _ratio(values, fact)
        _check_together(values)
        states = values.copy()
        if "stay_id" in frame:
            carried = [feature["name"] for feature in self.features if feature["carry"]]
            states[carried] = _carry_forward(values[carried], frame[KEYS])
        _check_known(states)
        for name in self._flagged:
            states[missing_flag(name)] = values[name].isna().astype(float)
        array = states[self.state_names].to_numpy(dtype=np.float32)
        return BatchFeature({"states": array}, tensor_type=return_tensors)

    def _check_columns(self, frame: pd.DataFrame) -> None:
        columns, names = list(frame.columns), self.feature_names
        if repeated := sorted({str(name) for name in columns if columns.count(name) > 1}):
            raise ValueError(f"columns {repeated} appear more than once. Keep one of each.")
        given = {name for name, parts in RATIOS.items() if set(parts) <= set(columns)}
        if missing := sorted(set(names) - set(columns) - given):
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


def _ratio(values: pd.DataFrame, fact: dict[str, Any]) -> pd.Series:
    """(n,) quotient of two measured values, NaN out of bounds, as in a replay."""
    above, below = RATIOS[fact["name"]]
    ratio = values[above] / values[below]
    return ratio.where(ratio.between(fact["low"], fact["high"]))


def _check_together(values: pd.DataFrame) -> None:
    """Refuse rows whose measured values cannot be those of one patient."""
    for lower, upper in NEVER_ABOVE:
        if {lower, upper} <= set(values) and (n := int((values[lower] > values[upper]).sum())):
            raise ValueError(
                f"{lower}, {upper}: in {n} of {len(values)} rows {lower} is above {upper}, expected at most equal. "
                "Correct them, or give NaN for the one that is wrong."
            )
    for limits, hint in SI_UNITS:
        if not set(limits) <= set(values):
            continue
        odd = pd.Series(True, index=values.index)
        for name, (side, limit) in limits.items():
            odd &= values[name] > limit if side == ">" else values[name] < limit
        if n := int(odd.sum()):
            text = " with ".join(f"{name} {side} {limit}" for name, (side, limit) in limits.items())
            raise ValueError(
                f"{', '.join(limits)}: in {n} of {len(values)} rows {text}, which do not occur together. {hint}"
            )


def _check_known(states: pd.DataFrame) -> None:
    """Refuse rows in which no feature is known, carried values included; warn where no vital sign is."""
    if n_empty := int(states.isna().all(axis=1).sum()):
        raise ValueError(
            f"rows: in {n_empty} of {len(states)} nothing at all is known. Give what was measured, or leave "
            "these rows out."
        )
    vital_signs = [name for name in VITAL_SIGNS if name in states]
    if n_blind := int(states[vital_signs].isna().all(axis=1).sum()) if vital_signs else 0:
        warnings.warn(
            f"rows: in {n_blind} of {len(states)} no vital sign is known; the network then answers for a typical "
            "patient of its training data.",
            stacklevel=3,
        )


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
