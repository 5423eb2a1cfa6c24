"""linear: y = x @ weight.T + bias. The products go to BLAS as they are; only the bias is ours."""

import numpy as np

from ...threads import parallel_for
from ...xp.product import matmul
from .arrays import buffer, column_sums, grain, rows
from .compile import jit, vectorise


def forward(x, weight, bias):
    """x (..., I), weight (O, I), bias (O,) or None. Returns y (..., O) and saves x, weight."""
    x2 = rows(x)
    out = np.empty((x2.shape[0], weight.shape[0]), x.dtype)
    matmul(x2, weight.T, out=out)
    if bias is not None:
        parallel_for(_add_bias[x.dtype], out.shape[0], grain(out.shape[1]), bias, out)
    return out.reshape(*x.shape[:-1], weight.shape[0]), (x, weight)


def backward(g, saved, needs, into):
    """forward: y = x @ weight.T + bias, so gx = g @ weight, gw = g.T @ x, gb = sum of g's rows."""
    x, weight = saved
    g2 = rows(g)
    gx = gw = gb = None
    if needs[0]:
        gx = buffer(into[0], x)
        matmul(g2, weight, out=rows(gx))
    if needs[1]:
        gw = buffer(into[1], weight)
        matmul(g2.T, rows(x), out=gw)
    if needs[2]:
        gb = column_sums(g2, np.empty(g2.shape[1], g.dtype) if into[2] is None else into[2])
    return gx, gw, gb


@jit("i i r1 w2")
def _add_bias(start, stop, bias, out):
    vectorise()
    for i in range(start, stop):
        row = out[i]
        for j in range(row.size):
            row[j] += bias[j]
