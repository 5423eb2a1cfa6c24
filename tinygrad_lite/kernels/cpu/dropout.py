"""dropout: zero elements with probability p and scale the rest. Srivastava et al. 2014, JMLR 15.

The mask is a function of key and offset (kernels/cpu/philox.py), so backward makes it again and nothing is saved.
"""

import numpy as np

from ...native.compile import jit, vectorise
from ...threads import parallel_for
from .arrays import GRAIN_ELEMENTS, buffer
from .philox import dropout_parameters, philox_block


def forward(x, *, p, key, offset):
    """x / (1 - p) where uniform i of (key, offset) >= p as float32, else 0; i counts in C order. x of any shape."""
    return _apply(x, p, key, offset, np.empty_like(x)), ()


def backward(g, saved, needs, into, *, p, key, offset):
    """forward: out = x mask, so gx = g mask."""
    return (_apply(g, p, key, offset, buffer(into[0], g)) if needs[0] else None,)


def _apply(x, p, key, offset, out):
    parallel_for(
        _mask[x.dtype], -(-x.size // 4), GRAIN_ELEMENTS // 4,
        x.reshape(-1), *dropout_parameters(p, key, offset), out.reshape(-1),
    )  # fmt: skip
    return out


@jit("i i r1 u u i d w1")
def _mask(start, stop, x, key, offset, threshold, scale, out):
    vectorise()
    real = x.dtype.type
    least, kept, dropped = np.uint32(threshold), real(scale), real(0)
    x, out = x[4 * start : 4 * stop], out[4 * start : 4 * stop]
    first, eight, whole = offset + np.uint64(start), np.uint32(8), x.size // 4
    for block in range(whole):
        a, b, c, d = philox_block(first + np.uint64(block), key)
        out[4 * block] = x[4 * block] * kept if np.uint32(a >> eight) >= least else dropped
        out[4 * block + 1] = x[4 * block + 1] * kept if np.uint32(b >> eight) >= least else dropped
        out[4 * block + 2] = x[4 * block + 2] * kept if np.uint32(c >> eight) >= least else dropped
        out[4 * block + 3] = x[4 * block + 3] * kept if np.uint32(d >> eight) >= least else dropped
    words = philox_block(first + np.uint64(whole), key)
    for i in range(4 * whole, x.size):
        out[i] = x[i] * kept if np.uint32(words[i - 4 * whole] >> eight) >= least else dropped
