"""An update compiled for a processor: everything between two matrix products in one pass, without Python."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sepsis_cql.errors import TrainingError
from sepsis_cql.training.products import PRODUCT

Update = Callable[[Tensor], Any]


class CompiledUpdate:
    """An update compiled for batches of one size; a shorter batch, the last of an epoch, runs as it is."""

    def __init__(self, update: Update, batch_size: int) -> None:
        self._update = update
        self._batch_size = batch_size
        _call_products_directly()
        self._compiled = torch.compile(update, fullgraph=True, dynamic=False, options={"cpp_wrapper": True})

    def __call__(self, rows: Tensor) -> Any:
        """What `update(rows)` does and returns, up to rounding.

        Raises:
            TrainingError: this machine cannot compile C++.
        """
        if rows.shape[-1] != self._batch_size:
            return self._update(rows)
        try:
            return self._compiled(rows)
        except torch._inductor.exc.InductorError as error:
            reason = str(error).strip().splitlines()[0]
            raise TrainingError(
                f"compiled: the update cannot be compiled here ({reason}). Install a C++ compiler and Python's "
                "headers, or train with --no-compiled."
            ) from error


def _call_products_directly() -> None:
    """Have the compiler call oneDNN's product by its C interface, and not our operation of it through Python.

    The compiler's cache knows a step by its operations alone: empty it after a change here.
    """
    from torch._inductor import ir, lowering, mkldnn_ir

    @lowering.register_lowering(PRODUCT, type_promotion_kind=None)
    def product(left: Any, right: Any, bias: Any, relu: bool) -> Any:
        left = ir.ExternKernel.require_contiguous(ir.ExternKernel.realize_input(left))
        operands = [left, ir.ExternKernel.realize_input(right)]
        constants: list[Any] = ["relu" if relu else "none", [-1], ""]
        if bias is None:
            constants.insert(0, None)
        else:
            operands.append(ir.ExternKernel.realize_input(bias))
        size = [left.get_size()[0], right.get_size()[0]]
        layout = ir.FixedLayout(device=left.get_device(), dtype=left.get_dtype(), size=size)
        call = mkldnn_ir.LinearUnary(layout=layout, inputs=operands, constant_args=constants)
        return ir.TensorBox.create(mkldnn_ir._create_output_node(call))
