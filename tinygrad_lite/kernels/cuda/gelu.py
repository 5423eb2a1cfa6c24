"""gelu: x times the normal distribution function at x, exactly or by its tanh approximation."""

import numpy as np

from ...dtypes import bfloat16, float16, float32
from .arrays import VECTOR_BYTES, blocks, buffer
from .launch import Source

DTYPES = (float32, bfloat16, float16)
THREADS, AT_ONCE = 256, 2  # as in activations.cu
FORMULAS = {"none": "GeluErf", "tanh": "GeluTanh"}

_forward = {a: f"gelu_forward<T, {formula}>" for a, formula in FORMULAS.items()}
_backward = {a: f"gelu_backward<T, {formula}>" for a, formula in FORMULAS.items()}
_kernels = Source("activations.cu", *_forward.values(), *_backward.values())


def forward(x, *, approximate, out=None):
    """x of any shape; approximate "none" or "tanh". Returns gelu(x), in `out` where that is given, and saves x."""
    out = buffer(out, x)
    _launch(_forward[approximate], out, x)
    return out, (x,)


def backward(g, saved, needs, into, *, approximate):
    """gx = g gelu'(x)."""
    if not needs[0]:
        return (None,)
    (x,) = saved
    gx = buffer(into[0], x)
    _launch(_backward[approximate], gx, g, x)
    return (gx,)


def _launch(name, *arrays):
    """name(*arrays, how many vectors they hold, their size), AT_ONCE vectors a thread; elements that begin anywhere, too."""
    n = arrays[0].size
    if n:
        width = VECTOR_BYTES // arrays[0].dtype.itemsize
        packs = n // width if all(a.data.ptr % VECTOR_BYTES == 0 for a in arrays) else 0
        grid = (blocks(max(packs, n - packs * width), THREADS * AT_ONCE),)
        _kernels[arrays[0].dtype][name](grid, (THREADS,), *arrays, np.int64(packs), np.int64(n))
