"""gelu: x times the normal distribution function at x, exactly or by its tanh approximation."""

import numpy as np

from ...native.compile import jit, vectorise
from ...threads import parallel_for
from .arrays import GRAIN_ELEMENTS, buffer
from .gelu_formulas import gelu_erf, gelu_tanh, write_slopes, write_values


def forward(x, *, approximate):
    """x of any shape; approximate "none" or "tanh". Returns gelu(x) and saves x."""
    out = np.empty_like(x)
    kernel = _forward_tanh if approximate == "tanh" else _forward_erf
    parallel_for(kernel[x.dtype], x.size, GRAIN_ELEMENTS, x.reshape(-1), out.reshape(-1))
    return out, (x,)


def backward(g, saved, needs, into, *, approximate):
    """gx = g gelu'(x)."""
    if not needs[0]:
        return (None,)
    (x,) = saved
    gx = buffer(into[0], x)
    kernel = _backward_tanh if approximate == "tanh" else _backward_erf
    parallel_for(kernel[x.dtype], x.size, GRAIN_ELEMENTS, g.reshape(-1), x.reshape(-1), gx.reshape(-1))
    return (gx,)


@jit("i i r1 w1")
def _forward_erf(start, stop, x, out):
    vectorise()
    write_values(gelu_erf, x[start:stop], out[start:stop])


@jit("i i r1 w1")
def _forward_tanh(start, stop, x, out):
    vectorise()
    write_values(gelu_tanh, x[start:stop], out[start:stop])


@jit("i i r1 r1 w1")
def _backward_erf(start, stop, g, x, gx):
    vectorise()
    write_slopes(gelu_erf, g[start:stop], x[start:stop], gx[start:stop])


@jit("i i r1 r1 w1")
def _backward_tanh(start, stop, g, x, gx):
    vectorise()
    write_slopes(gelu_tanh, g[start:stop], x[start:stop], gx[start:stop])
