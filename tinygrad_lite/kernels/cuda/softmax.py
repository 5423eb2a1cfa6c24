"""softmax over the last axis."""

from ...dtypes import bfloat16, float16, float32
from .launch import Source
from .row_kernels import SOFTMAX_WARPS, instances, map_rows, map_rows_backward

DTYPES = (float32, bfloat16, float16)

_forward = instances("softmax_forward<T, false, VECTORS, WARPS>", SOFTMAX_WARPS)
_backward = instances("softmax_backward<T, false, VECTORS, WARPS>", SOFTMAX_WARPS)
_kernels = Source("softmax.cu", *_forward.values(), *_backward.values())


def forward(x):
    """exp(x) / sum(exp(x)) over the last axis. x (..., C); saves the result."""
    return map_rows(_kernels, _forward, x)


def backward(g, saved, needs, into):
    """gx = out (g - sum(g out))."""
    return map_rows_backward(_kernels, _backward, g, saved, needs, into)
