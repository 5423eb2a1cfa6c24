"""rms_norm: scale rows to unit root mean square. Zhang & Sennrich 2019, arXiv:1910.07467."""

from ...dtypes import bfloat16, float16, float32
from .norm import Norm

DTYPES = (float32, bfloat16, float16)
ADDS = (0,)

_norm = Norm(centre=False)


def forward(x, weight, *, eps):
    """y = x / sqrt(mean(x^2) + eps) * weight over the last axis.

    x (..., C), weight (C,). Returns y (..., C) and saves x, weight and rstd (N,), this in float32.
    """
    out, _, rstd = _norm.forward(x, weight, None, eps)
    return out, (x, weight, rstd)


def backward(g, saved, needs, into, onto=(None,), *, eps):
    """With h = x rstd and d = g weight: gx = rstd (d - h mean(d h)), gw = sum over rows of g h."""
    x, weight, rstd = saved
    return _norm.backward(g, x, weight, None, rstd, needs, into, onto[0])
