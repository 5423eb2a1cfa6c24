"""attention_qkv: multi-head attention straight from the packed output of one linear layer, without transposing copies.

Vaswani et al. 2017, arXiv:1706.03762. Splitting q, k, v into (B, H, T, D) arrays and joining them again moves 8 arrays
of (B, T, C) a step; here the kernels read and write the packed columns where they are.
"""

import numpy as np

from ...threads import parallel_for
from .arrays import buffer, grain
from .attention_core import backward_heads, forward_heads, reach
from .philox import dropout_parameters


def _layout(qkv, heads, kv_heads):
    b, t, packed = qkv.shape
    d = packed // (heads + 2 * kv_heads)
    c = heads * d
    strides = np.array([t * packed, d, packed, t * packed, d, packed, t * c, d, c])
    return b, t, d, c, c + kv_heads * d, strides  # keys begin at column c, values at the next


def forward(qkv, *, heads, kv_heads, causal, window, scale, p=0.0, key=0, offset=0):
    """softmax(scale q k^T) v for each head. qkv (B, T, (H + 2 Hkv) D): H heads of queries, Hkv of keys, Hkv of values.

    Returns (B, T, H D) and saves qkv, the output and what backward makes the probabilities from (B, H, T, 2).
    """
    b, t, d, k_at, v_at, strides = _layout(qkv, heads, kv_heads)
    behind, ahead = reach(t, t, causal, window)
    out, stats = np.empty((b, t, heads * d), qkv.dtype), np.empty((b, heads, t, 2), qkv.dtype)
    x, group = qkv.reshape(-1), heads // kv_heads
    parallel_for(
        forward_heads[x.dtype], b * kv_heads, grain(group * t * min(t, behind) + 4 * t * d),
        x, x, x, 0, k_at, v_at, kv_heads, group, t, t, d, behind, ahead, scale, strides,
        *dropout_parameters(p, key, offset), out.reshape(-1), stats.reshape(-1),
    )  # fmt: skip
    return out, (qkv, out, stats)


def backward(g, saved, needs, into, *, heads, kv_heads, causal, window, scale, p=0.0, key=0, offset=0):
    """One (B, T, (H + 2 Hkv) D) gradient: gq, gk, gv side by side, as the linear layer's backward wants it."""
    if not needs[0]:
        return (None,)
    qkv, out, stats = saved
    b, t, d, k_at, v_at, strides = _layout(qkv, heads, kv_heads)
    behind, ahead = reach(t, t, causal, window)
    gqkv = buffer(into[0], qkv)
    x, gx, group = qkv.reshape(-1), gqkv.reshape(-1), heads // kv_heads
    parallel_for(
        backward_heads[x.dtype], b * kv_heads, grain(2 * group * t * min(t, behind) + 8 * t * d),
        x, x, x, 0, k_at, v_at, kv_heads, group, t, t, d, behind, ahead, scale, strides,
        *dropout_parameters(p, key, offset), g.reshape(-1), out.reshape(-1), stats.reshape(-1), gx, gx, gx,
    )  # fmt: skip
    return (gqkv,)
