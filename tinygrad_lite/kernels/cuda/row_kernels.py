"""Kernels over rows and down columns: which instance fits the arrays, how it is launched. Beside row.cuh, columns.cuh.

Nothing here asks which card it is: a sum is added up in the same order, to the same bits, on every one.
"""

import math

from .arrays import VECTOR_BYTES, blocks, buffer, empty, fits_vectors

WARPS = 8  # of a block that has a row to itself, and of one that sums columns
SOFTMAX_WARPS = 16  # of a block that has a row to itself in softmax.cu, which says why
KEPT = {True: 32, False: 16}  # elements of a row that each thread keeps, with VECTORS or without
SUM_BLOCKS = 264  # that sum rows into one partial sum each: two on each of an H100's 132 SMs, all at once


def instances(kernel: str, block_warps=WARPS) -> dict:
    """The C++ names of "kernel<T, VECTORS, WARPS>" by (VECTORS, WARPS)."""
    return {
        (vectors, warps): kernel.replace("VECTORS", str(vectors).lower()).replace("WARPS", str(warps))
        for vectors in (True, False)
        for warps in (1, block_warps)
    }


def instance_for(*arrays, block_warps=WARPS):
    """(VECTORS, WARPS) for rows of these arrays, which share their last axis: a warp for each row that it can keep."""
    vectors = fits_vectors(*arrays)
    return vectors, 1 if arrays[0].shape[-1] <= 32 * KEPT[vectors] else block_warps


def matrix_shape(x):
    """(N, C) of x (..., C)."""
    return math.prod(x.shape[:-1]), x.shape[-1]


def row_launch(n, instance):
    """(grid, block) where each row has its own warp or block."""
    return ((blocks(n, 4),), (128,)) if instance[1] == 1 else ((n,), (32 * instance[1],))


def sum_launch(n, instance):
    """(grid, block) where a block takes rows in turns and sums them."""
    return (min(blocks(n, WARPS // instance[1]), SUM_BLOCKS),), (32 * WARPS,)


def strip_launch(n, x, vectors):
    """(grid, block) where a block walks down a strip of 32 packs: 4 rows a warp, as long as the grid may be that high."""
    return (_strips(x, vectors), min(blocks(n, 4 * WARPS), 65535)), (32 * WARPS,)


def strip_sum_launch(n, x, vectors):
    """(grid, block) where a block walks down a strip and sums it: all of 4 blocks an SM together."""
    strips = _strips(x, vectors)
    return (strips, min(blocks(n, WARPS), max(1, 2 * SUM_BLOCKS // strips))), (32 * WARPS,)


def _strips(x, vectors):
    return blocks(x.shape[-1], 32 * (VECTOR_BYTES // x.dtype.itemsize if vectors else 1))


def sum_partials(kernels, partial, like, needs, into):
    """Column sums, where `needs` asks for them, of partial (blocks, K, C) float32: K vectors like `like`, (C,)."""
    outs = [buffer(i, like) if need else None for need, i in zip(needs, into)]
    if any(needs) and like.size:
        count, k, columns = partial.shape
        grid = blocks(columns, 32), k
        kernels["sum_partials<T>"](grid, (1024,), outs[0], outs[1] if k > 1 else None, partial, count, columns)
    return outs


def map_rows(kernels, names, x):
    """kernel(out, x, N, C) over the rows of x (..., C). Returns out, and out again as what to save."""
    out = empty(x.shape, x.dtype)
    _each_row(kernels, names, out, x)
    return out, (out,)


def map_rows_backward(kernels, names, g, saved, needs, into):
    """kernel(gx, g, out, N, C) over the rows of what map_rows saved. Returns (gx,)."""
    if not needs[0]:
        return (None,)
    (out,) = saved
    gx = buffer(into[0], out)
    _each_row(kernels, names, gx, g, out)
    return (gx,)


def _each_row(kernels, names, *arrays):
    x = arrays[0]
    if x.size:
        instance, (n, c) = instance_for(*arrays, block_warps=SOFTMAX_WARPS), matrix_shape(x)
        kernels[x.dtype][names[instance]](*row_launch(n, instance), *arrays, n, c)
