"""BCQ in a factored action space (Tang et al. 2022): a value of each drug's dose, and their sum."""

from typing import Literal

from torch import Tensor

from sepsis_cql.modeling_sepsis_cql import add_parts
from sepsis_cql.training.learners.base import Losses
from sepsis_cql.training.learners.bcq import BatchConstrained, BCQSettings


class FactoredBCQSettings(BCQSettings):
    """Hyper-parameters of factored BCQ: `configs/factored_bcq.yaml`."""

    algorithm: Literal["factored_bcq"]  # type: ignore[assignment]


class FactoredBCQ(BatchConstrained):
    """BCQ whose values and logits are sums of a vasopressor and a fluid part, 10 numbers instead of 25."""

    settings = FactoredBCQSettings
    factored = True

    def losses(self, outputs: Tensor, rows: Tensor) -> Losses:
        """Return the losses of BCQ for the sums of the (..., parts, batch, 10) outputs."""
        return super().losses(add_parts(outputs), rows)

    def outputs_of(self, part: str, weights: Tensor, inputs: Tensor) -> Tensor:
        """Return the (..., batch, 25) sums of one part's outputs."""
        return add_parts(super().outputs_of(part, weights, inputs))
