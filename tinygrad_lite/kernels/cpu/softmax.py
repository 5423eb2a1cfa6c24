"""softmax over the last axis."""

from ...native.compile import jit, vectorise
from .arrays import map_rows, map_rows_backward
from .row_formulas import softmax_row


def forward(x):
    """exp(x) / sum(exp(x)) over the last axis. x (..., C); saves the result."""
    return map_rows(_forward, x)


def backward(g, saved, needs, into):
    """gx = out (g - sum(g out))."""
    return map_rows_backward(_backward, g, saved, needs, into)


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
