"""An update compiled for a processor: everything between two matrix products in one pass, without Python."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sepsis_cql.common.errors import TrainingError

Update = Callable[[Tensor], Any]
DIFFERENT = (
    256  # updates a process may compile: a comparison has many learners and settings, and PyTorch allows 8
)


class CompiledUpdate:
    """An update compiled for batches of one size; a shorter batch, the last of an epoch, runs as it is."""

    def __init__(self, update: Update, batch_size: int) -> None:
        self._update = update
        self._batch_size = batch_size
        self._compiled = torch.compile(  # type: ignore[call-overload]  # the overloads lack recompile_limit
            update, fullgraph=True, dynamic=False, recompile_limit=DIFFERENT, options={"cpp_wrapper": True}
        )

    def __call__(self, rows: Tensor) -> Any:
        """Do and return what `update(rows)` does, up to rounding.

        Raises:
            TrainingError: this machine cannot compile C++.
        """
        if rows.shape[-1] != self._batch_size:
            return self._update(rows)
        try:
            return self._compiled(rows)
        except RuntimeError as error:  # of which the compiler's errors are kinds
            reason = str(error).strip().splitlines()[0]
            raise TrainingError(
                f"compiled: the update cannot be compiled here ({reason}). Install a C++ compiler and Python's "
                "headers, or train with --set runtime.compiled=false."
            ) from error
