"""layer_norm: zero mean and unit variance for each row, scale, shift. Ba, Kiros & Hinton 2016, arXiv:1607.06450."""

from ...dtypes import bfloat16, float16, float32
from .norm import Norm

DTYPES = (float32, bfloat16, float16)
ADDS = (0,)

_norm = Norm(centre=True)


def forward(x, weight, bias, *, eps):
    """y = (x - mean) * rstd * weight + bias over the last axis.

    x (..., C); weight, bias (C,). Returns y (..., C) and saves x, weight, mean (N,) and rstd (N,), these in float32.
    """
    out, mean, rstd = _norm.forward(x, weight, bias, eps)
    return out, (x, weight, mean, rstd)


def backward(g, saved, needs, into, onto=(None,), *, eps):
    """With h = (x - mean) rstd, d = g weight: gx = rstd (d - average(d) - h average(d h)), gw = sum g h, gb = sum g."""
    return _norm.backward(g, *saved, needs, into, onto[0])
