"""An update recorded once as a CUDA graph and replayed: the host launches one graph and not fifty kernels."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Update = Callable[[Tensor], Any]
WARM_UP = 3  # updates before recording: libraries choose their kernels and allocate in the first ones


def record_cuda_graph(update: Update, rows: Tensor) -> tuple[Callable[[], None], Any]:
    """Record `update(rows)` without running it; return what replays it, and the losses each replay rewrites."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        losses = update(rows)
    return graph.replay, losses


class GraphedUpdate:
    """An update that is recorded for each size of batch after a few ordinary calls, all of which train."""

    def __init__(
        self,
        update: Update,
        record: Callable[[Update, Tensor], tuple[Callable[[], None], Any]] = record_cuda_graph,
    ) -> None:
        self._update = update
        self._record = record
        self._calls: dict[torch.Size, int] = {}
        self._recorded: dict[torch.Size, tuple[Tensor, Callable[[], None], Any]] = {}

    def __call__(self, rows: Tensor) -> Any:
        """Do and return what `update(rows)` does; the losses are copies that later calls leave alone."""
        calls = self._calls[rows.shape] = self._calls.get(rows.shape, 0) + 1
        if calls <= WARM_UP:
            return self._update(rows)
        if rows.shape not in self._recorded:
            static_rows = rows.clone()
            self._recorded[rows.shape] = (static_rows, *self._record(self._update, static_rows))
        static_rows, replay, losses = self._recorded[rows.shape]
        static_rows.copy_(rows)
        replay()
        return {name: value.clone() for name, value in losses.items()}
