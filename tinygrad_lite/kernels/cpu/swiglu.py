"""swiglu: silu of one half of the columns times the other half. Shazeer 2020, arXiv:2002.05202."""

import numpy as np

from ...native.compile import inline, jit, vectorise
from ...threads import parallel_for
from .arrays import buffer, grain, rows
from .elementary import exp


def forward(x):
    """silu(x[..., :F]) * x[..., F:]. x (..., 2F); returns (..., F) and saves x."""
    x2 = rows(x)
    n, width = x2.shape
    out = np.empty((n, width // 2), x.dtype)
    parallel_for(_forward[x.dtype], n, grain(width), x2, out)
    return out.reshape(*x.shape[:-1], width // 2), (x,)


def backward(g, saved, needs, into):
    """With a, b the halves and s = sigmoid(a): ga = g b s (1 + a (1 - s)), gb = g a s."""
    if not needs[0]:
        return (None,)
    (x,) = saved
    x2 = rows(x)
    gx = buffer(into[0], x)
    parallel_for(_backward[x.dtype], x2.shape[0], grain(x2.shape[1]), rows(g), x2, rows(gx))
    return (gx,)


@inline
def _sigmoid(a, real):
    return real(1) / (real(1) + exp(-a))


@inline
def _finite(a, real):
    """a, at least -1000: silu and its slope are 0 there, where -inf times 0 would be NaN. NaN stays."""
    return real(-1000) if a < real(-1000) else a


@jit("i i r2 w2")
def _forward(start, stop, x, out):
    vectorise()
    real, half = x.dtype.type, out.shape[1]
    for i in range(start, stop):
        a_row, b_row, y = x[i, :half], x[i, half:], out[i]
        for j in range(half):
            a = _finite(a_row[j], real)
            y[j] = a * _sigmoid(a, real) * b_row[j]


@jit("i i r2 r2 w2")
def _backward(start, stop, g, x, gx):
    vectorise()
    real, half = x.dtype.type, g.shape[1]
    for i in range(start, stop):
        a_row, b_row, g_row, ga, gb = x[i, :half], x[i, half:], g[i], gx[i, :half], gx[i, half:]
        for j in range(half):
            a = _finite(a_row[j], real)
            e = exp(-a)
            s = real(1) / (real(1) + e)
            # a (1 - s), whose difference has no digits where s is near 1; at +inf infinity times 0 would be NaN
            rest = a if e > real(1e18) else (real(0) if e == real(0) else a * e * s)
            ga[j] = g_row[j] * b_row[j] * s * (real(1) + rest)
            gb[j] = g_row[j] * a * s
