"""bias_gelu: gelu(x + bias), so that the bias of a linear layer costs no pass of its own."""

import numpy as np

from ...native.compile import jit, vectorise
from ...threads import parallel_for
from .arrays import buffer, chunk_count, chunk_rows, grain, rows, sum_chunks
from .gelu_formulas import gelu_erf, gelu_tanh, write_biased_slopes, write_biased_values


def forward(x, bias, *, approximate):
    """x (..., C), bias (C,); approximate "none" or "tanh". Returns gelu(x + bias) and saves x, bias."""
    x2 = rows(x)
    out = np.empty_like(x2)
    kernel = _forward_tanh if approximate == "tanh" else _forward_erf
    parallel_for(kernel[x.dtype], x2.shape[0], grain(x2.shape[1]), x2, bias, out)
    return out.reshape(x.shape), (x, bias)


def backward(g, saved, needs, into, *, approximate):
    """gx = g gelu'(x + bias); gbias = sum of gx's rows, taken in the same pass by fixed chunks of rows."""
    if not (needs[0] or needs[1]):
        return None, None
    x, bias = saved
    x2 = rows(x)
    n, c = x2.shape
    gx = buffer(into[0], x)  # also when only the bias asks: gelu' dominates, a row buffer would save little
    partial = np.empty((chunk_count(n), c), x.dtype)
    kernel = _backward_tanh if approximate == "tanh" else _backward_erf
    size = chunk_rows(n)
    parallel_for(kernel[x.dtype], len(partial), grain(size * c), rows(g), x2, bias, size, rows(gx), partial)
    gbias = sum_chunks(partial, buffer(into[1], bias)) if needs[1] else None
    return (gx if needs[0] else None), gbias


@jit("i i r2 r1 w2")
def _forward_erf(start, stop, x, bias, out):
    vectorise()
    for i in range(start, stop):
        write_biased_values(gelu_erf, x[i], bias, out[i])


@jit("i i r2 r1 w2")
def _forward_tanh(start, stop, x, bias, out):
    vectorise()
    for i in range(start, stop):
        write_biased_values(gelu_tanh, x[i], bias, out[i])


@jit("i i r2 r2 r1 i w2 w2")
def _backward_erf(start, stop, g, x, bias, size, gx, partial):
    vectorise()
    write_biased_slopes(gelu_erf, start, stop, g, x, bias, size, gx, partial)


@jit("i i r2 r2 r1 i w2 w2")
def _backward_tanh(start, stop, g, x, bias, size, gx, partial):
    vectorise()
    write_biased_slopes(gelu_tanh, start, stop, g, x, bias, size, gx, partial)
