"""The nearest of many points by exact search: boxes around parts of the points and bounds from a sample leave few."""

import numpy as np
from threadpoolctl import threadpool_limits

from sepsis_cql.evaluation.side_by_side import side_by_side

SHARE = 16  # one in so many points is in the sample that the bounds are from
SLABS = 4  # of the sample, of which the nearest of each stands for all: a bound needs no more
PART = 1024  # points in a box, at most
QUERIES, ROWS = 2048, 128  # of one search, and of one matrix product, whose result stays in the cache
ROUNDING = 2e-7  # of single precision, as a share of the squared norms, for each term of a product


def nearest(points: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """Return (m, k) positions of the k points nearest to each query, in any order; of equally near ones the first.

    Squared distances in single precision are compared with the distance within which a sample lets twice as many
    points be expected, of those parts of the points whose box is not farther; where too few passed, with a larger one,
    and at last all points are measured in double precision. So are those that passed, where rounding could exchange
    the last of those taken for the first of those left.

    Args:
        points: (n, d), n >= k.
        queries: (m, d).
        k: neighbors.
    """
    points, queries = (np.ascontiguousarray(values, np.float32) for values in (points, queries))
    n, d = points.shape
    if k >= n:
        return np.tile(np.arange(n), (len(queries), 1))
    norms = np.einsum("ij,ij->i", points, points)
    described = np.column_stack([points, norms])  # so that one product gives all of a distance that varies
    size = n // SHARE // SLABS * SLABS
    sample = described[np.random.default_rng(0).choice(n, size, replace=False)]
    parts = _split(points)
    low, high = (np.stack([end(points[part], axis=0) for part in parts]) for end in (np.min, np.max))
    boxed = [described[part] for part in parts]

    def search(block: np.ndarray, rank: int) -> np.ndarray:
        if size // SLABS <= rank:
            return np.stack([_measure(points, query, np.arange(n), k) for query in block])
        squares = np.einsum("ij,ij->i", block, block)
        error = ROUNDING * (d + 2) * (norms.max() + squares)
        factors = np.column_stack([-2 * block, np.ones(len(block), np.float32)])
        bound = _bound(factors, sample, rank) + error
        is_near = _measure_boxes(block, low, high) <= (bound + squares + error)[:, None]
        row, column, value = _compare(factors, bound, is_near, boxed, parts)
        ends = np.bincount(row, minlength=len(block)).cumsum()
        found, last, following = _take_least(column, value, ends, k)
        is_bounded = bound - last > 2 * error  # else what did not pass could be as near
        for index in np.flatnonzero(is_bounded & (following <= last + 2 * error)):
            passed = np.sort(column[ends[index - 1] if index else 0 : ends[index]])
            found[index] = _measure(points, block[index], passed, k)
        if not is_bounded.all():
            found[~is_bounded] = search(block[~is_bounded], 4 * rank)
        return found

    # products this small take four times as long by several threads each
    with threadpool_limits(1, user_api="blas"):
        blocks = np.split(queries, range(QUERIES, len(queries), QUERIES))
        found = side_by_side(lambda block: search(block, 2 * k // SHARE + 2), blocks, most=len(blocks))
        return np.concatenate(found)


def _split(points: np.ndarray) -> list[np.ndarray]:
    """Positions of points that lie together, by halves along the coordinate that varies most."""
    parts, left = [], [np.arange(len(points))]
    while left:
        part = left.pop()
        if len(part) <= PART:
            parts.append(part)
            continue
        widest = points[part[:: len(part) // PART]].var(axis=0).argmax()
        order = np.argpartition(points[part, widest], len(part) // 2)
        left += np.split(part[order], [len(part) // 2])
    return parts


def _bound(factors: np.ndarray, sample: np.ndarray, rank: int) -> np.ndarray:
    """(m,) distances, less what is the query's alone, within which at least `rank` of a sample lie."""
    bounds = np.empty(len(factors), np.float32)
    for start in range(0, len(factors), ROWS):
        rows = slice(start, start + ROWS)
        least = (factors[rows] @ sample.T).reshape(-1, SLABS, len(sample) // SLABS).min(axis=1)
        bounds[rows] = np.partition(least, rank, axis=1)[:, rank]
    return bounds


def _measure_boxes(queries: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(m, n_boxes) squared distances of queries to boxes between (n_boxes, d) corners."""
    squares = np.zeros((len(queries), len(low)), np.float32)
    for column, below, above in zip(queries.T[:, :, None], low.T, high.T, strict=True):
        squares += np.square(np.maximum(0, np.maximum(below - column, column - above)))
    return squares


def _compare(
    factors: np.ndarray,
    bound: np.ndarray,
    is_near: np.ndarray,
    boxed: list[np.ndarray],
    parts: list[np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, sorted, with columns and distances of all points of near boxes that lie within the bounds."""
    rows, columns, values = [], [], []
    memory = np.empty(ROWS * max(map(len, parts)), np.float32)
    for points, part, near in zip(boxed, parts, is_near.T, strict=True):
        inside = np.flatnonzero(near)
        for some in np.split(inside, range(ROWS, len(inside), ROWS)):
            distances = memory[: len(some) * len(part)].reshape(len(some), len(part))
            np.matmul(factors[some], points.T, out=distances)
            passed = np.flatnonzero(distances <= bound[some, None])
            row, column = np.divmod(passed, len(part))
            rows.append(some[row])
            columns.append(part[column])
            values.append(distances.ravel()[passed])
    row, column, value = map(np.concatenate, (rows, columns, values))
    order = np.argsort(row.astype(np.uint16), kind="stable")
    return row, column[order], value[order]


def _take_least(
    column: np.ndarray, value: np.ndarray, ends: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(m, k) columns of the least values of each row, the last of these values and the next; infinity for none.

    Args:
        column: of each value, row after row.
        value: finite.
        ends: (m,) of the rows.
        k: columns of each.
    """
    begins = np.r_[0, ends[:-1]]
    counts = ends - begins
    found, edges = np.empty((len(ends), k), np.int64), np.empty((2, len(ends)), np.float32)
    for first in range(0, len(ends), ROWS):
        rows = slice(first, first + ROWS)
        inside = np.arange(max(counts[rows].max(), k + 1)) < counts[rows, None]
        table = np.full(inside.shape, np.inf, np.float32)
        table[inside] = value[begins[first] : ends[rows][-1]]
        order = np.argpartition(table, k, axis=1)[:, : k + 1]
        least = np.take_along_axis(table, order, axis=1)
        edges[:, rows] = least[:, :k].max(axis=1), least[:, k]
        found[rows] = column[np.minimum(begins[rows, None] + order[:, :k], len(column) - 1)]
    return found, *edges


def _measure(points: np.ndarray, query: np.ndarray, columns: np.ndarray, k: int) -> np.ndarray:
    """The (k,) nearest of some points to one query, measured in double precision."""
    distances = np.square(points[columns].astype(np.float64) - query).sum(axis=1)
    return columns[np.argsort(distances, kind="stable")[:k]]
