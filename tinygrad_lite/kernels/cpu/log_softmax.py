"""log_softmax over the last axis."""

import numpy as np

from .arrays import buffer, grain, rows
from .compile import jit, vectorise
from .elementary import exp
from .row_formulas import log_sum_exp
from .threads import parallel_for


def forward(x):
    """x - log(sum(exp(x))) over the last axis. x (..., C); saves the result."""
    x2 = rows(x)
    out = np.empty_like(x2)
    parallel_for(_forward[x.dtype], x2.shape[0], grain(x2.shape[1]), x2, out)
    out = out.reshape(x.shape)
    return out, (out,)


def backward(g, saved, needs, into):
    """gx = g - exp(out) sum(g)."""
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
        row, target = x[i], out[i]
        lse = log_sum_exp(row)
        for j in range(row.size):
            target[j] = row[j] - lse


@jit("i i r2 r2 w2")
def _backward(start, stop, g, out, gx):
    vectorise()
    for i in range(start, stop):
        g_row, y, target = g[i], out[i], gx[i]
        total = out.dtype.type(0)
        for j in range(y.size):
            total += g_row[j]
        for j in range(y.size):
            target[j] = g_row[j] - exp(y[j]) * total
