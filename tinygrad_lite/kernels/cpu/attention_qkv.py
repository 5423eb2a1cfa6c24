"""attention_qkv: multi-head attention straight from the packed output of one linear layer, without transposing copies.

Vaswani et al. 2017, arXiv:1706.03762. Splitting q, k, v into (B, H, T, D) arrays and joining them again moves 8 arrays
of (B, T, C) a step; here the kernels read and write the packed columns where they are.
"""

import numpy as np

from ...threads import parallel_for
from .arrays import buffer, grain
from .attention_core import backward_heads, forward_heads


def _layout(qkv, heads):
    b, t, packed = qkv.shape
    c = packed // 3
    strides = np.array([t * packed, c // heads, packed, t * packed, c // heads, packed, t * c, c // heads, c])
    return b, t, c, c // heads, strides


def forward(qkv, *, heads, causal, scale):
    """softmax(scale q k^T) v for each head. qkv (B, T, 3C), head h in columns h D to (h + 1) D of each third.

    Returns (B, T, C) and saves qkv, the output and each row's log-sum-exp (B, H, T).
    """
    b, t, c, d, strides = _layout(qkv, heads)
    out, lse = np.empty((b, t, c), qkv.dtype), np.empty((b, heads, t), qkv.dtype)
    x = qkv.reshape(-1)
    parallel_for(
        forward_heads[x.dtype], b * heads, grain(t * t + 4 * t * d),
        x, x, x, 0, c, 2 * c, heads, 1, t, t, d, causal, scale, strides, out.reshape(-1), lse.reshape(-1),
    )  # fmt: skip
    return out, (qkv, out, lse)


def backward(g, saved, needs, into, *, heads, causal, scale):
    """One (B, T, 3C) gradient: gq, gk, gv side by side, as the linear layer's backward wants it."""
    if not needs[0]:
        return (None,)
    qkv, out, lse = saved
    b, t, c, d, strides = _layout(qkv, heads)
    gqkv = buffer(into[0], qkv)
    x, gx = qkv.reshape(-1), gqkv.reshape(-1)
    parallel_for(
        backward_heads[x.dtype], b * heads, grain(2 * t * t + 8 * t * d),
        x, x, x, 0, c, 2 * c, heads, 1, t, t, d, causal, scale, strides,
        g.reshape(-1), out.reshape(-1), lse.reshape(-1), gx, gx, gx,
    )  # fmt: skip
    return (gqkv,)
