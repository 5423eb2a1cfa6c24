"""Sums of a matrix's columns, always in the same order: the gradient of a bias."""

from ...dtypes import float32
from .arrays import VECTOR_BYTES, blocks, empty, fits_vectors
from .launch import Source

THREADS, SUM_THREADS = 256, 1024  # as in column_sums.cu, columns.cuh
LEAST_ROWS = 64  # of a chunk, so that a block reads much more than it writes
BLOCKS = 528  # four for each of the 132 processors of an H100; fixed, so that sums have the same bits on any card

_kernels = Source("column_sums.cu", "sum_chunks<T, true>", "sum_chunks<T, false>", "sum_partials<T>")


def column_sums(x, out):
    """out (C,) = the sums of x (N, C) over its rows, C-contiguous both; zeros where there are no rows. Returns out."""
    n, c = x.shape
    if c == 0:
        return out
    vectors, kernels = fits_vectors(x), _kernels[x.dtype]
    tiles = blocks(c, 32 * (VECTOR_BYTES // x.dtype.itemsize if vectors else 1))
    chunks = min(blocks(n, LEAST_ROWS), max(1, BLOCKS // tiles))  # no block more, which would wait for all others
    partial = empty((chunks, c), float32)
    kernels[f"sum_chunks<T, {'true' if vectors else 'false'}>"](
        (tiles, chunks), (THREADS,), partial, x, n, c, blocks(n, chunks)
    )
    kernels["sum_partials<T>"]((blocks(c, 32),), (SUM_THREADS,), out, None, partial, chunks, c)
    return out
