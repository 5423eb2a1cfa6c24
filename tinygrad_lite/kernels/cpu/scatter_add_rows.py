"""scatter_add_rows: the gradient of an embedding. np.add.at does the same one element at a time."""

import numpy as np

from ...native.compile import jit, vectorise
from ...threads import host, parallel_for
from .arrays import grain


def scatter_add_rows(out, indices, g):
    """out[indices[i]] += g[i] in place, the rows of one index in order of i. out (V, C), indices (N,) int64, g (N, C).

    Rows are sorted by index, so that one thread owns an index: no atomics, and the same sum on any number of threads.
    """
    if len(indices):
        host(_scatter_add_rows, out, indices, g)
    return out


def _scatter_add_rows(out, indices, g):
    n = len(indices)
    order = np.argsort(indices, kind="stable")
    by_index = indices[order]
    starts = np.concatenate(([0], np.flatnonzero(by_index[1:] != by_index[:-1]) + 1, [n]))
    rows_per_index = -(-n // (len(starts) - 1))
    parallel_for(
        _add_rows[out.dtype], len(starts) - 1, grain(rows_per_index * g.shape[1]), by_index, order, starts, g, out
    )


@jit("i i R1 R1 R1 r2 w2")
def _add_rows(start, stop, indices, order, starts, g, out):
    vectorise()
    for segment in range(start, stop):
        first = starts[segment]
        total = out[indices[first]]
        for k in range(first, starts[segment + 1]):
            row = g[order[k]]
            for j in range(row.size):
                total[j] += row[j]
