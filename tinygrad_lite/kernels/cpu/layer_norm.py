"""layer_norm: zero mean and unit variance for each row, scale, shift. Ba, Kiros & Hinton 2016, arXiv:1607.06450."""

import numpy as np

from ...native.compile import jit, vectorise
from ...threads import parallel_for
from .arrays import buffer, chunk_count, chunk_rows, grain, rows, sum_chunks
from .row_formulas import inverse_deviation, row_sum

ADDS = (0,)


def forward(x, weight, bias, *, eps):
    """y = (x - mean) * rstd * weight + bias over the last axis.

    x (..., C); weight, bias (C,). Returns y (..., C) and saves x, weight, mean (N,) and rstd (N,).
    """
    x2 = rows(x)
    n, c = x2.shape
    out = np.empty_like(x2)
    mean, rstd = np.empty(n, x.dtype), np.empty(n, x.dtype)
    parallel_for(_forward[x.dtype], n, grain(c), x2, weight, bias, eps, out, mean, rstd)
    return out.reshape(x.shape), (x, weight, mean, rstd)


def backward(g, saved, needs, into, onto=(None,), *, eps):
    """With h = (x - mean) rstd, d = g weight: gx = rstd (d - average(d) - h average(d h)), gw = sum g h, gb = sum g."""
    x, weight, mean, rstd = saved
    x2, g2 = rows(x), rows(g)
    n, c = x2.shape
    gx = buffer(into[0], x) if needs[0] else None
    size = chunk_rows(n)
    partial = np.empty((chunk_count(n), 2, c), x.dtype)
    gx2 = rows(gx) if needs[0] else np.empty((0, c), x.dtype)
    base = np.zeros((1, c), x.dtype) if onto[0] is None else rows(onto[0])
    parallel_for(
        _backward[x.dtype], len(partial), grain(size * c), g2, x2, weight, mean, rstd, size, base, gx2, partial
    )
    gw = sum_chunks(partial[:, 0], buffer(into[1], weight)) if needs[1] else None
    gb = sum_chunks(partial[:, 1], buffer(into[2], weight)) if needs[2] else None
    return gx, gw, gb


@jit("i i r2 r1 r1 d w2 w1 w1")
def _forward(start, stop, x, weight, bias, eps, out, mean, rstd):
    vectorise()
    real = x.dtype.type
    for i in range(start, stop):
        row, y = x[i], out[i]
        m = row_sum(row) / real(row.size)
        r = inverse_deviation(row, m, eps)  # a second pass: E[x^2] - E[x]^2 cancels when the mean is large
        for j in range(row.size):
            y[j] = (row[j] - m) * r * weight[j] + bias[j]
        mean[i] = m
        rstd[i] = r


@jit("i i r2 r2 r1 r1 r1 i r2 w2 w3")
def _backward(start, stop, g, x, weight, mean, rstd, size, base, gx, partial):
    """Items are chunks of `size` rows; partial (chunks, 2, C) takes gw and gb. Empty gx: not wanted.

    base: what gx is added to, an array like it or one row for all of its rows.
    """
    vectorise()
    real = x.dtype.type
    for chunk in range(start, stop):
        gw, gb = partial[chunk, 0], partial[chunk, 1]
        gw[:] = 0
        gb[:] = 0
        for i in range(chunk * size, min((chunk + 1) * size, x.shape[0])):
            g_row, x_row = g[i], x[i]
            m, r = mean[i], rstd[i]
            sum_d, sum_dh = real(0), real(0)
            for j in range(x_row.size):  # one pass for all four sums: they read the same two rows
                h = (x_row[j] - m) * r
                gw[j] += g_row[j] * h
                gb[j] += g_row[j]
                d = g_row[j] * weight[j]
                sum_d += d
                sum_dh += d * h
            if gx.shape[0]:
                before, out = base[i % base.shape[0]], gx[i]
                sum_d /= real(x_row.size)
                sum_dh /= real(x_row.size)
                for j in range(x_row.size):
                    out[j] = before[j] + r * (g_row[j] * weight[j] - sum_d - (x_row[j] - m) * r * sum_dh)
