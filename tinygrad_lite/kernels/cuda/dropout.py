"""dropout: zero elements with probability p and scale the rest. Srivastava et al. 2014, JMLR 15.

The mask is a function of key and offset (philox.cuh): the CPU's, bit for bit. Backward makes it again.
"""

import numpy as np

from ...dtypes import bfloat16, float16, float32
from . import draws
from .arrays import VECTOR_BYTES, blocks, buffer, empty
from .launch import Source

DTYPES = (float32, bfloat16, float16)
THREADS, VECTORS = 256, 2  # as in dropout.cu

_kernels = Source("dropout.cu", "dropout<T>")


def forward(x, *, p, key, offset):
    """x / (1 - p) where uniform i of (key, offset) >= p as float32, else 0; i counts in C order. x of any shape."""
    return _apply(x, p, key, offset, empty(x.shape, x.dtype)), ()


def backward(g, saved, needs, into, *, p, key, offset):
    """forward: out = x mask, so gx = g mask."""
    return (_apply(g, p, key, offset, buffer(into[0], g)) if needs[0] else None,)


def _apply(x, p, key, offset, out):
    if x.size:
        # Seen as flat, x has no rows that could end anywhere: only its beginning counts.
        aligned = (x.data.ptr | out.data.ptr) % VECTOR_BYTES == 0
        grid = blocks(x.size, THREADS * VECTORS * VECTOR_BYTES // x.dtype.itemsize)
        _kernels[x.dtype]["dropout<T>"](
            (grid,), (THREADS,),
            out, x, np.int64(x.size), *draws.dropout_parameters(p, key, offset), int(aligned),
        )  # fmt: skip
    return out
