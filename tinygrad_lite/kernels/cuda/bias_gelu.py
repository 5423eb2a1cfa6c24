"""bias_gelu: gelu(x + bias), so that the bias of a linear layer costs no pass of its own."""

from ...dtypes import bfloat16, float16, float32
from .arrays import buffer, empty, fits_vectors
from .gelu import FORMULAS
from .launch import Source
from .row_kernels import matrix_shape, strip_launch, strip_sum_launch, sum_partials

DTYPES = (float32, bfloat16, float16)

_forward, _backward = (
    {
        (approximate, vectors): f"bias_gelu_{way}<T, {formula}, {str(vectors).lower()}>"
        for approximate, formula in FORMULAS.items()
        for vectors in (True, False)
    }
    for way in ("forward", "backward")
)
_kernels = Source("activations.cu", *_forward.values(), *_backward.values(), "sum_partials<T>")


def forward(x, bias, *, approximate):
    """x (..., C), bias (C,); approximate "none" or "tanh". Returns gelu(x + bias) and saves x, bias."""
    out, (n, c) = empty(x.shape, x.dtype), matrix_shape(x)
    if x.size:
        vectors = fits_vectors(x, out, bias)
        _kernels[x.dtype][_forward[approximate, vectors]](*strip_launch(n, x, vectors), out, x, bias, n, c)
    return out, (x, bias)


def backward(g, saved, needs, into, *, approximate):
    """gx = g gelu'(x + bias); gbias = sum of gx's rows, before they are rounded, taken in the same pass."""
    x, bias = saved
    kernels, (n, c) = _kernels[x.dtype], matrix_shape(x)
    gx = buffer(into[0], x) if needs[0] else None
    vectors = fits_vectors(x, g, gx, bias)
    grid, block = strip_sum_launch(n, x, vectors) if x.size else ((0, 0), (0,))
    partial = empty((grid[1], 1, c), float32) if needs[1] else None
    if x.size and any(needs):
        kernels[_backward[approximate, vectors]](grid, block, gx, partial, g, x, bias, n, c)
    return gx, *sum_partials(kernels, partial, bias, needs[1:], into[1:])
