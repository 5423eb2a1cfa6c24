"""linear: y = x @ weight.T + bias + residual. All of it goes to BLAS; the sum of g's rows is ours."""

import numpy as np

from ...xp.product import matmul
from .arrays import buffer, column_sums, copy_to, rows


def forward(x, weight, bias, residual):
    """x (..., I), weight (O, I), bias (O,) or None, residual (..., O) or None. Returns y (..., O), saves x, weight."""
    x2 = rows(x)
    out = np.empty((x2.shape[0], weight.shape[0]), x.dtype)
    matmul(x2, weight.T, out, bias, None if residual is None else rows(residual))
    return out.reshape(*x.shape[:-1], weight.shape[0]), (x, weight)


def backward(g, saved, needs, into):
    """forward: y = x @ weight.T + bias + residual, so gx = g @ weight, gw = g.T @ x, gb = sum of g's rows."""
    x, weight = saved
    g2 = rows(g)
    gx = gw = gb = gresidual = None
    if needs[0]:
        gx = buffer(into[0], x)
        matmul(g2, weight, out=rows(gx))
    if needs[1]:
        gw = buffer(into[1], weight)
        matmul(g2.T, rows(x), out=gw)
    if needs[2]:
        gb = column_sums(g2, np.empty(g2.shape[1], g.dtype) if into[2] is None else into[2])
    if needs[3]:
        gresidual = g
        if into[3] is not None:
            gresidual = into[3]
            copy_to(gresidual, g)
    return gx, gw, gb, gresidual
