"""Matrix products on the CPU: BLAS computes pieces of the result, our threads share them out.

OpenBLAS has threads of its own, which wait for each other by spinning, inside a product too: with another busy process
on the machine each product takes as long as the scheduler lets a spinning thread wait. Beside three busy processes on 2
cores, 768 x 128 by 128 x 512 took 16 ms on OpenBLAS's two threads and 1.3 ms on one (medians); 12 training steps of 0.8
million parameters took 90 s, and 29 s as here: BLAS runs on one thread, and a thread of ours that does not get a core
leaves its pieces to the others. On a quiet machine this costs some 5 to 8 % of a product.
"""

from __future__ import annotations

import numpy as np

from .. import threads

SMALL = 1 << 18  # multiplications; below it BLAS takes one thread, and some 20 microseconds, anyway
TINY = 4096  # elements of an operand
TILE = 32  # a piece's rows or columns are a multiple of it, so that BLAS's own tiles are full
_REAL = (np.dtype(np.float32), np.dtype(np.float64))


def matmul(x, y, out=None):
    """np.matmul, shared among the threads where that pays: two matrices, or stacks of as many matrices each.

    The pieces depend on the shapes alone: the same bits whatever the number of threads.
    """
    if x.dtype in _REAL and y.dtype == x.dtype and 1 < x.ndim == y.ndim:
        if x.ndim == 2:
            (rows, inner), columns = x.shape, y.shape[1]
            if rows * inner * columns > SMALL:
                return _matrix(x, y, out, rows, columns)
        elif x.shape[:-2] == y.shape[:-2] and x.shape[0] > 1 and x.size * y.shape[-1] > SMALL:
            return _stack(x, y, out)
    if x.size < TINY and y.size < TINY:  # too small for BLAS's threads
        return np.matmul(x, y, out=out)
    threads.get_num_threads()  # settles BLAS too
    return np.matmul(x, y, out=out)


def einsum(*xs, subscripts):
    """np.einsum, by way of BLAS where that can be."""
    threads.get_num_threads()
    return np.einsum(subscripts, *xs, optimize=len(xs) > 1)


def _matrix(x, y, out, rows, columns):
    if out is None:
        out = np.empty((rows, columns), x.dtype)
    elif out.shape != (rows, columns):
        raise ValueError(f"matmul: out must be {(rows, columns)}, got {out.shape}")
    wide = (
        columns > rows
    )  # cut the longer side of the result: the operand that each piece reads whole is the smaller one
    length, work = (columns if wide else rows), rows * columns * x.shape[1]
    # Each piece packs that operand again for BLAS: few pieces of a small product, more where many cores could help.
    pieces = 4 if work < 1 << 27 else 8 if work < 1 << 31 else 16
    step = -(-length // (pieces * TILE)) * TILE
    threads.parallel_for(_columns if wide else _rows, -(-length // step), 1, x, y, out, step)
    return out


def _rows(start, stop, x, y, out, step):
    for i in range(start * step, stop * step, step):
        np.matmul(x[i : i + step], y, out=out[i : i + step])


def _columns(start, stop, x, y, out, step):
    for i in range(start * step, stop * step, step):
        np.matmul(x, y[:, i : i + step], out=out[:, i : i + step])


def _stack(x, y, out):
    if out is None:
        out = np.empty((*x.shape[:-1], y.shape[-1]), x.dtype)
    threads.parallel_for(_matrices, len(x), 1, x, y, out)
    return out


def _matrices(start, stop, x, y, out):
    np.matmul(x[start:stop], y[start:stop], out=out[start:stop])
