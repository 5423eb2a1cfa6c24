"""log_softmax over the last axis."""

from ...native.compile import jit, vectorise
from .arrays import map_rows, map_rows_backward
from .elementary import exp
from .row_formulas import log_probability, log_sum_exp, row_sum


def forward(x):
    """x - log(sum(exp(x))) over the last axis. x (..., C); saves the result."""
    return map_rows(_forward, x)


def backward(g, saved, needs, into):
    """gx = g - exp(out) sum(g)."""
    return map_rows_backward(_backward, g, saved, needs, into)


@jit("i i r2 w2")
def _forward(start, stop, x, out):
    vectorise()
    for i in range(start, stop):
        row, target = x[i], out[i]
        top, rest = log_sum_exp(row)
        for j in range(row.size):
            target[j] = log_probability(row[j], top, rest)


@jit("i i r2 r2 w2")
def _backward(start, stop, g, out, gx):
    vectorise()
    for i in range(start, stop):
        g_row, y, target = g[i], out[i], gx[i]
        total = row_sum(g_row)
        for j in range(y.size):
            target[j] = g_row[j] - exp(y[j]) * total
