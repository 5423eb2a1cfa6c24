"""swiglu: silu of one half of the columns times the other half. Shazeer 2020, arXiv:2002.05202."""

from ...dtypes import bfloat16, float16, float32
from .arrays import buffer, empty, fits_vectors
from .launch import Source
from .row_kernels import matrix_shape, strip_launch

DTYPES = (float32, bfloat16, float16)

_forward = {True: "swiglu_forward<T, true>", False: "swiglu_forward<T, false>"}
_backward = {True: "swiglu_backward<T, true>", False: "swiglu_backward<T, false>"}
_kernels = Source("activations.cu", *_forward.values(), *_backward.values())


def forward(x):
    """silu(x[..., :F]) * x[..., F:]. x (..., 2F); returns (..., F) and saves x."""
    out = empty((*x.shape[:-1], x.shape[-1] // 2), x.dtype)
    _launch(_forward, out, out, x)
    return out, (x,)


def backward(g, saved, needs, into):
    """With a, b the halves and s = sigmoid(a): ga = g b s (1 + a (1 - s)), gb = g a s."""
    if not needs[0]:
        return (None,)
    (x,) = saved
    gx = buffer(into[0], x)
    _launch(_backward, g, gx, g, x)
    return (gx,)


def _launch(names, half, *arrays):
    """half (..., F) is the array whose rows the kernel walks down."""
    if half.size:
        vectors, (n, c) = fits_vectors(half, *arrays), matrix_shape(half)
        _kernels[half.dtype][names[vectors]](*strip_launch(n, half, vectors), *arrays, n, c)
