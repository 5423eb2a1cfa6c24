"""Matrix products on the CPU: BLAS computes pieces of the result, our threads share them out.

OpenBLAS has threads of its own, which wait for each other by spinning, inside a product too: with another busy process
on the machine each product takes as long as the scheduler lets a spinning thread wait. Beside three busy processes on 2
cores, 768 x 128 by 128 x 512 took 16 ms on OpenBLAS's two threads and 1.3 ms on one (medians); 12 training steps of 0.8
million parameters took 90 s, and 29 s with BLAS on one thread in each of ours: one that does not get a core leaves its
pieces to the others.
"""

from __future__ import annotations

import numpy as np

from .. import threads

SMALL = 1 << 18  # multiplications; below it BLAS takes one thread, and some 20 microseconds, anyway
# A product is cut into a piece for each core: BLAS packs an operand anew for every piece. On 2 cores with AVX-512 the
# products of a training step of 11 million parameters take 281 ms in 2 pieces each, 292 in 4, 312 in 8. Twice as many
# where a piece takes milliseconds anyway, so that a core that others use too can leave some of them.
PIECE = 1 << 21  # multiplications worth a piece; two are made of less
LARGE = 1 << 31  # multiplications
FEW = 16  # rows: up to so many a product is bound by reading the other operand
TINY = 4096  # elements of an operand
LONG, WIDE = 8192, 192  # sums of so many products are worth pieces of at least so many rows or columns
TILE = 32  # a piece's rows or columns are a multiple of it, so that BLAS's own tiles are full
_REAL = (np.dtype(np.float32), np.dtype(np.float64))
_NOTHING = {(dtype, ndim): np.empty((0,) * ndim, dtype) for dtype in _REAL for ndim in (1, 2)}


def matmul(x, y, out=None, bias=None, residual=None):
    """np.matmul, shared among the threads where that pays: two matrices, or stacks of as many matrices each.

    bias (columns,) and residual, of the result's shape, are added to a product of two matrices on the way.

    The pieces depend on the shapes and on how many cores this process may use: the same bits whatever the number of
    threads.
    """
    if x.dtype in _REAL and y.dtype == x.dtype and 1 < x.ndim == y.ndim <= 3 and x.size * y.shape[-1] > SMALL:
        gemm = threads.gemm_address(x.dtype)
        if gemm and threads.has_compiler() and x.shape[-1] == y.shape[-2] and x.shape[:-2] == y.shape[:-2]:
            shape = (*x.shape[:-1], y.shape[-1])
            if out is None:
                out = np.empty(shape, x.dtype)
            elif out.shape != shape:
                raise ValueError(f"matmul: out must be {shape}, got {out.shape}")
            if _plain(x, y, out, bias, residual) and _share(gemm, x, y, out, bias, residual):
                return out
    if x.size >= TINY or y.size >= TINY:  # else too small for BLAS's threads
        threads.get_num_threads()  # settles BLAS too
    if bias is not None or residual is not None:
        out = np.empty((*x.shape[:-1], y.shape[-1]), np.result_type(x, y)) if out is None else out
        threads.host(_matmul_and_add, x, y, bias, residual, out)
        return out
    out = np.matmul(x, y, out=out)
    if threads.tape is not None:
        threads.tape.note(np.matmul, x, y, out)
    return out


def _matmul_and_add(x, y, bias, residual, out):
    # summed before out is written, which may be one of them
    addend = (0 if residual is None else residual) + (0 if bias is None else bias)
    np.matmul(x, y, out=out)
    out += addend


def einsum(*xs, subscripts):
    """np.einsum, by way of BLAS where that can be."""
    threads.get_num_threads()
    return np.einsum(subscripts, *xs, optimize=len(xs) > 1)


def _plain(x, y, out, bias, residual):
    """Whether out may be written while the others are read, and all are of one type and the shapes that are added."""
    if out.dtype != x.dtype or not out.flags.writeable:
        return False
    for addend, shape in ((bias, out.shape[-1:]), (residual, out.shape)):
        if addend is not None:
            if out.ndim != 2 or addend.shape != shape or addend.dtype != x.dtype or np.may_share_memory(addend, out):
                return False
    return (bias is None or bias.flags.c_contiguous) and not (
        np.may_share_memory(x, out) or np.may_share_memory(y, out)
    )


def _share(gemm, x, y, out, bias, residual):
    """Compute x @ y into out on all threads; False, and nothing done, where BLAS cannot take the arrays as they lie."""
    from ..native import gemm as native  # with it comes Numba, 0.4 s

    if not out.flags.c_contiguous and out.swapaxes(-1, -2).flags.c_contiguous and bias is None and residual is None:
        x, y, out = y.swapaxes(-1, -2), x.swapaxes(-1, -2), out.swapaxes(-1, -2)  # out.T = y.T @ x.T
    rows, columns = out.shape[-2:]
    if not (out.flags.c_contiguous and native.fits(x) and native.fits(y)):
        return False
    dtype = x.dtype
    if x.ndim == 3:
        threads.parallel_for(native.stack[dtype], len(x), 1, gemm, x, y, out)
    elif rows <= FEW and all(a is None or a.flags.c_contiguous for a in (x, y.T, residual)):  # a tape misses copies
        bias = _NOTHING[dtype, 1] if bias is None else bias
        residual = _NOTHING[dtype, 2] if residual is None else residual
        fours, grain = -(-columns // native.FOUR), max(1, SMALL // (native.FOUR * x.size))
        threads.parallel_for(native.few_rows[dtype], fours, grain, x, y.T, bias, residual, out)
    elif rows == 1:
        return False
    elif columns == 1:
        return False
    else:
        wide = columns > rows  # cut the longer side: the operand that each piece reads whole is the smaller one
        length, work = (columns if wide else rows), rows * columns * x.shape[1]
        cores = threads.CORES
        pieces = min(cores, max(2, work // PIECE)) if work < LARGE else 2 * cores
        if x.shape[1] >= LONG:  # 256 x 50304 by 50304 x 768: 126 GFLOP/s in 16 pieces, 149 in 4
            pieces = min(pieces, max(4, length // WIDE))
        step = -(-length // (pieces * TILE)) * TILE
        steps = (rows, step) if wide else (step, columns)
        bias = _NOTHING[dtype, 1] if bias is None else bias
        residual = _NOTHING[dtype, 2] if residual is None else residual
        threads.parallel_for(native.pieces[dtype], -(-length // step), 1, gemm, *steps, x, y, bias, residual, out)
    return True
