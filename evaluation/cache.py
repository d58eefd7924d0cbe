"""Functions of large arrays that are asked for the same array again and again."""

from collections.abc import Callable

import numpy as np

ArrayFunction = Callable[[np.ndarray], np.ndarray]


def cache_last(function: ArrayFunction) -> ArrayFunction:
    """Return the function with a memory of the last two arrays it was called with.

    Arrays are known by identity: neither they nor the answers may be changed.
    """
    known: list[tuple[np.ndarray, np.ndarray]] = []

    def answer(array: np.ndarray) -> np.ndarray:
        for seen, values in known:
            if seen is array:
                return values
        values = function(array)
        known[:] = [*known[-1:], (array, values)]
        return values

    return answer
