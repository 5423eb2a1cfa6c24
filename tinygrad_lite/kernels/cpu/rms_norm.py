"""rms_norm: scale rows to unit root mean square. Zhang & Sennrich 2019, arXiv:1910.07467."""

import numpy as np

from ...native.compile import jit, vectorise
from ...threads import parallel_for
from .arrays import buffer, chunk_count, chunk_rows, grain, rows, sum_chunks
from .row_formulas import inverse_deviation

ADDS = (0,)


def forward(x, weight, *, eps):
    """y = x / sqrt(mean(x^2) + eps) * weight over the last axis. x (..., C), weight (C,); saves x, weight, rstd (N,)."""
    x2 = rows(x)
    n, c = x2.shape
    out, rstd = np.empty_like(x2), np.empty(n, x.dtype)
    parallel_for(_forward[x.dtype], n, grain(c), x2, weight, eps, out, rstd)
    return out.reshape(x.shape), (x, weight, rstd)


def backward(g, saved, needs, into, onto=(None,), *, eps):
    """With h = x rstd and d = g weight: gx = rstd (d - h mean(d h)), gw = sum over rows of g h."""
    x, weight, rstd = saved
    x2 = rows(x)
    n, c = x2.shape
    gx = buffer(into[0], x) if needs[0] else None
    size = chunk_rows(n)
    partial = np.empty((chunk_count(n), c), x.dtype)
    gx2 = rows(gx) if needs[0] else np.empty((0, c), x.dtype)
    base = np.zeros((1, c), x.dtype) if onto[0] is None else rows(onto[0])
    parallel_for(_backward[x.dtype], len(partial), grain(size * c), rows(g), x2, weight, rstd, size, base, gx2, partial)
    return gx, sum_chunks(partial, buffer(into[1], weight)) if needs[1] else None


@jit("i i r2 r1 d w2 w1")
def _forward(start, stop, x, weight, eps, out, rstd):
    vectorise()
    for i in range(start, stop):
        row, y = x[i], out[i]
        r = inverse_deviation(row, x.dtype.type(0), eps)
        for j in range(row.size):
            y[j] = row[j] * r * weight[j]
        rstd[i] = r


@jit("i i r2 r2 r1 r1 i r2 w2 w2")
def _backward(start, stop, g, x, weight, rstd, size, base, gx, partial):
    """Items are chunks of `size` rows; partial (chunks, C) takes gw. Empty gx: not wanted.

    base: what gx is added to, an array like it or one row for all of its rows.
    """
    vectorise()
    real = x.dtype.type
    for chunk in range(start, stop):
        gw = partial[chunk]
        gw[:] = 0
        for i in range(chunk * size, min((chunk + 1) * size, x.shape[0])):
            g_row, x_row, r = g[i], x[i], rstd[i]
            total = real(0)
            for j in range(x_row.size):
                h = x_row[j] * r
                gw[j] += g_row[j] * h
                total += g_row[j] * weight[j] * h
            if gx.shape[0]:
                before, out, mean = base[i % base.shape[0]], gx[i], total / real(x_row.size)
                for j in range(x_row.size):
                    out[j] = before[j] + r * (g_row[j] * weight[j] - x_row[j] * r * mean)
