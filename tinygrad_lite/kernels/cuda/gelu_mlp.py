"""gelu_mlp: two linear layers with gelu between, whose activation the products compute in passing.

The wide layer of a GPT-2 batch of 32,768 tokens is 200 MB. A kernel of its own reads it and writes it again each way;
cuBLASLt has each number in a register before it is written. On an H100 forward's first product takes 0.29 ms with gelu,
0.21 without, and a pass of its own 0.14; backward's 0.30, 0.21 and 0.21, of which 0.07 remain for the bias's gradient.
"""

from ...dtypes import bfloat16, float16, float32
from . import linear
from .arrays import empty, rows
from .product import matmul

DTYPES = (float32, bfloat16, float16)
ADDS = (0, 1, 3)


def forward(x, up, up_bias, down, down_bias, residual):
    """gelu(x @ up.T + up_bias) @ down.T + down_bias + residual, gelu by tanh.

    x (..., C), up (F, C), up_bias (F,) or None, down (O, F), down_bias (O,) or None, residual (..., O) or None.
    Returns y (..., O); saves x, up, down, and the wide layer before gelu and after.
    """
    shape = *x.shape[:-1], up.shape[0]
    before, hidden = empty(shape, x.dtype), empty(shape, x.dtype)
    matmul(rows(x), up.T, rows(hidden), bias=up_bias, before_gelu=rows(before))
    y, _ = linear.forward(hidden, down, down_bias, residual)
    return y, (x, up, down, before, hidden)


def backward(g, saved, needs, into, onto=(None,) * 6):
    """forward: y = linear(hidden, down ...), hidden = gelu(before), before = linear(x, up ...)."""
    x, up, down, before, hidden = saved
    _, gdown, gdown_bias, gresidual = linear.backward(
        g, (hidden, down), (False, *needs[3:]), (None, *into[3:]), (None, *onto[3:])
    )
    gx = gup = gup_bias = None
    if any(needs[:3]):  # not by the epilogue that sums the bias's gradient too: 0.91 ms
        gbefore = matmul(rows(g), down, slope_at=rows(before))
        gx, gup, gup_bias, _ = linear.backward(
            gbefore, (x, up), (*needs[:3], False), (*into[:3], None), (*onto[:3], None)
        )
    return gx, gup, gup_bias, gdown, gdown_bias, gresidual
