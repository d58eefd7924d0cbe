"""The nearest of many points by exact search: a bound from a sample lets most distances end as one comparison."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from threadpoolctl import threadpool_limits

SHARE = 16  # one in so many points is in the sample that the bounds are from
BLOCK, TILE = 256, 4096  # queries and points of one matrix product, whose result stays in the cache
ROUNDING = 2e-6  # of single precision, as a share of the squared norms; the products have few terms


def nearest(points: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """Return (m, k) positions of the k points nearest to each query, in any order; of equally near ones the first.

    Squared distances in single precision are compared with the distance within which a sample lets twice as many
    points be expected. Where rounding could exchange the last of those taken for the first of those left, the few
    that passed are measured in double precision; where too few passed, all points are.

    Args:
        points: (n, d) of few dimensions, n >= k.
        queries: (m, d).
        k: neighbors.
    """
    points, queries = (np.ascontiguousarray(values, np.float32) for values in (points, queries))
    norms = np.einsum("ij,ij->i", points, points)
    described = np.column_stack([points, norms])  # so that one product gives all of a distance that varies
    sample = np.random.default_rng(0).choice(len(points), len(points) // SHARE, replace=False)
    rank = 2 * k // SHARE + 2

    def search(block: np.ndarray) -> np.ndarray:
        if len(sample) <= rank:
            return np.stack([_measure(points, query, np.arange(len(points)), k) for query in block])
        factors = np.column_stack([-2 * block, np.ones(len(block), np.float32)])
        error = ROUNDING * (norms.max() + np.einsum("ij,ij->i", block, block))
        bound = np.partition(factors @ described[sample].T, rank, axis=1)[:, rank] + error
        rows, columns, values = [], [], []
        memory = np.empty(len(block) * TILE, np.float32)
        for start in range(0, len(points), TILE):
            tile = described[start : start + TILE]
            distances = np.matmul(
                factors, tile.T, out=memory[: len(block) * len(tile)].reshape(-1, len(tile))
            )
            passed = np.flatnonzero(distances <= bound[:, None])
            rows.append(passed // len(tile))
            columns.append(passed % len(tile) + start)
            values.append(distances.ravel()[passed])
        row, column, value = map(np.concatenate, (rows, columns, values))
        order = np.lexsort((value, row))
        column, value = column[order], value[order]
        ends = np.bincount(row, minlength=len(block)).cumsum()
        found = np.empty((len(block), k), np.int64)
        for index, (start, end) in enumerate(zip(np.r_[0, ends[:-1]], ends, strict=True)):
            if end - start <= k:
                found[index] = _measure(points, block[index], np.arange(len(points)), k)
            elif value[start + k] - value[start + k - 1] <= 2 * error[index]:
                found[index] = _measure(points, block[index], np.sort(column[start:end]), k)
            else:
                found[index] = column[start : start + k]
        return found

    # products this small take four times as long by several threads each
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return np.concatenate(list(pool.map(search, np.split(queries, range(BLOCK, len(queries), BLOCK)))))


def _measure(points: np.ndarray, query: np.ndarray, columns: np.ndarray, k: int) -> np.ndarray:
    """Return the (k,) nearest of some points to one query, measured in double precision."""
    distances = np.square(points[columns].astype(np.float64) - query).sum(axis=1)
    return columns[np.argsort(distances, kind="stable")[:k]]
