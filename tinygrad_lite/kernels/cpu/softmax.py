"""softmax over the last axis."""

import numpy as np

from .arrays import buffer, grain, rows
from .compile import jit, vectorise
from .row_formulas import softmax_row
from .threads import parallel_for


def forward(x):
    """exp(x) / sum(exp(x)) over the last axis. x (..., C); saves the result."""
    x2 = rows(x)
    out = np.empty_like(x2)
    parallel_for(_forward[x.dtype], x2.shape[0], grain(x2.shape[1]), x2, out)
    out = out.reshape(x.shape)
    return out, (out,)


def backward(g, saved, needs, into):
    """gx = out (g - sum(g out))."""
    if not needs[0]:
        return (None,)
    (out,) = saved
    gx = buffer(into[0], out)
    out2 = rows(out)
    parallel_for(_backward[out.dtype], out2.shape[0], grain(out2.shape[1]), rows(g), out2, rows(gx))
    return (gx,)


@jit("i i r2 w2")
def _forward(start, stop, x, out):
    vectorise()
    for i in range(start, stop):
        row, source = out[i], x[i]
        for j in range(row.size):
            row[j] = source[j]
        softmax_row(row)


@jit("i i r2 r2 w2")
def _backward(start, stop, g, out, gx):
    vectorise()
    for i in range(start, stop):
        g_row, p, target = g[i], out[i], gx[i]
        total = out.dtype.type(0)
        for j in range(p.size):
            total += g_row[j] * p[j]
        for j in range(p.size):
            target[j] = p[j] * (g_row[j] - total)
