"""What a sepsis Q-network expects and means: its 62 inputs, its 25 doses, and how it was trained.

Research artefact on retrospective data; never use it for patient care.
"""

import math
from dataclasses import field
from typing import Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

BINS = 5  # dose bins of each drug: none, and four by the quartiles of the doses given
UNFLAGGED = [
    "age_years",
    "cum_iv_fluid_ml",
    "cum_vasopressor_dose_nor_equiv",
    "dbp",
    "haematocrit",
    "heart_rate",
    "hours_since_onset",
    "resp_rate",
    "sbp",
    "shock_index",
    "temperature",
    "weight_kg",
]
FLAGGED = [
    "albumin",
    "arterial_ph",
    "base_excess",
    "bicarbonate",
    "bilirubin_total",
    "bun",
    "creatinine",
    "fio2_vent",
    "gcs_total",
    "glucose",
    "haemoglobin",
    "inr",
    "lactate",
    "map",
    "paco2",
    "pao2",
    "peep",
    "pf_ratio",
    "platelets",
    "potassium",
    "ptt",
    "sodium",
    "spo2",
    "urine_output_4h",
    "wbc",
]


def missing_flag(feature: str) -> str:
    """Return the name of the input that is 1 where `feature` was not measured in the step's window."""
    return f"{feature}_missing"


def order_states(features: list[str], flagged: list[str]) -> list[str]:
    """Return the names of all inputs in the published order: features and flags sorted as strings."""
    return sorted([*features, *map(missing_flag, flagged)])


@strict
class SepsisCQLConfig(PreTrainedConfig):
    """Configuration of `SepsisCQLModel`; a bad value is refused with the name of its field.

    Attributes:
        state_names: the 62 inputs in order.
        missing_flags: those of them that are 0/1 flags, in the same order.
        n_actions: 25; action = 5 * vasopressor bin + fluid bin.
        vasopressor_edges: upper edges of vasopressor bins 1 to 3, `vasopressor_unit`; None if unpublished.
        vasopressor_unit: unit of norepinephrine-equivalent doses.
        fluid_edges: upper edges of fluid bins 1 to 3, `fluid_unit`; None if unpublished.
        fluid_unit: unit of the intravenous volume given in a step.
        hidden_sizes: widths of the hidden layers.
        algorithm: learner that trained the network, such as cql or behavior_cloning.
        outputs: what the 25 outputs are: "values" (returns of the doses), "logits" (of a policy's probabilities),
            "supported_values" (returns, beside a network of the clinicians' logits that says which doses may be
            chosen) or "actor_and_critic" (a policy's logits, beside a network of returns that chooses nothing).
        smallest_share: of supported values, the probability below which a dose is never chosen, as a share of the
            likeliest dose's; else None.
        factored: whether a network gives 5 numbers for the vasopressor bins and 5 for the fluid bins, whose sums are
            the 25.
        hidden_units: "rectified", or "nearest": the one hidden unit with the largest input is 1, the others 0, so
            that the network is a table of clusters.
        gamma: discount of the training target, per step; None if the learner has none.
        alpha: weight of the conservative loss; None if not recorded or if the learner has none.
        reward_variant: reward the network was trained on; None if not recorded.
        attainable_return: largest absolute return that this reward allows, which no true value exceeds; None if not
            known.
        decision_interval_hours: length of a step, hours.
        normalization: "identity" if inputs must come already normalized, else the source of the statistics.
        training_data: one sentence on what the weights were trained on.
    """

    model_type = "sepsis_cql"

    state_names: list[str] = field(default_factory=lambda: order_states(UNFLAGGED + FLAGGED, FLAGGED))
    missing_flags: list[str] = field(default_factory=lambda: [missing_flag(name) for name in FLAGGED])
    n_actions: int = BINS * BINS
    vasopressor_edges: list[float] | None = None
    vasopressor_unit: str = "mcg/kg/min"
    fluid_edges: list[float] | None = None
    fluid_unit: str = "mL"
    hidden_sizes: list[int] = field(default_factory=lambda: [256, 256])
    algorithm: str = "cql"
    outputs: Literal["values", "logits", "supported_values", "actor_and_critic"] = "values"
    smallest_share: float | None = None
    factored: bool = False
    hidden_units: Literal["rectified", "nearest"] = "rectified"
    gamma: float | None = 0.99
    alpha: float | None = 0.05
    reward_variant: Literal["sparse", "sofa_shaped"] | None = "sparse"
    attainable_return: float | None = None
    decision_interval_hours: int = 4
    normalization: str = "identity"
    training_data: str = "nothing: random initial weights"

    def validate_state_names(self) -> None:
        """Check that the inputs are named, once each."""
        if not self.state_names or not all(name.strip() for name in self.state_names):
            raise ValueError(
                f"state_names: found {len(self.state_names)} names, expected one for each input."
            )
        if repeated := sorted({name for name in self.state_names if self.state_names.count(name) > 1}):
            raise ValueError(f"state_names: {repeated} appear more than once, expected once.")

    def validate_missing_flags(self) -> None:
        """Check that flags are exactly the inputs named `<feature>_missing`, each beside its feature."""
        expected = [name for name in self.state_names if name.endswith("_missing")]
        if self.missing_flags != expected:
            odd = sorted(set(self.missing_flags) ^ set(expected)) or "a different order"
            raise ValueError(f"missing_flags: differ from the *_missing inputs of state_names by {odd}.")
        features = {name.removesuffix("_missing") for name in self.missing_flags}
        if unknown := sorted(features - set(self.state_names)):
            raise ValueError(f"missing_flags: flag states that state_names lacks: {unknown}.")

    def validate_action_grid(self) -> None:
        """Check that actions form the 5 x 5 grid, with three sorted positive edges for each drug or none known."""
        if self.n_actions != BINS * BINS:
            raise ValueError(f"n_actions: found {self.n_actions}, expected {BINS * BINS} ({BINS} x {BINS}).")
        for name in ("vasopressor_edges", "fluid_edges"):
            edges = getattr(self, name)
            if edges is None:
                continue
            if len(edges) != BINS - 2:
                raise ValueError(f"{name}: found {len(edges)} edges, expected {BINS - 2} or None.")
            if not all(math.isfinite(edge) and edge > 0 for edge in edges) or edges != sorted(edges):
                raise ValueError(f"{name}: found {edges}, expected positive finite edges in rising order.")
        for name in ("vasopressor_unit", "fluid_unit", "normalization", "training_data", "algorithm"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name}: found an empty text, expected a description.")

    def validate_sizes(self) -> None:
        """Check that layers and the decision interval have a positive size."""
        if not self.hidden_sizes or min(self.hidden_sizes) < 1:
            raise ValueError(f"hidden_sizes: found {self.hidden_sizes}, expected positive layer widths.")
        if self.decision_interval_hours < 1:
            raise ValueError(
                f"decision_interval_hours: found {self.decision_interval_hours}, expected at least 1."
            )

    def validate_outputs(self) -> None:
        """Check that supported values say what support is, and nothing else does."""
        is_supported, share = self.outputs == "supported_values", self.smallest_share
        if is_supported != (share is not None) or (share is not None and not 0 < share <= 1):
            expected = "a number above 0 and at most 1" if is_supported else "None"
            raise ValueError(
                f"smallest_share: found {self.smallest_share} beside outputs {self.outputs!r}, expected {expected}."
            )

    def validate_training_settings(self) -> None:
        """Check discount (0 to 1), conservative weight (not negative) and attainable return (positive)."""
        if self.gamma is not None and not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma: found {self.gamma}, expected a number from 0 to 1.")
        if self.alpha is not None and not 0 <= self.alpha < math.inf:
            raise ValueError(f"alpha: found {self.alpha}, expected a finite number of at least 0.")
        if self.attainable_return is not None and not 0 < self.attainable_return < math.inf:
            raise ValueError(
                f"attainable_return: found {self.attainable_return}, expected a positive finite number or None."
            )


SepsisCQLConfig.register_for_auto_class()
