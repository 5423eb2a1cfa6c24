"""attention_qkv: multi-head attention straight from the packed output of one linear layer, without transposing copies.

Vaswani et al. 2017, arXiv:1706.03762. The kernels read and write the packed columns where they are.
"""

from ...dtypes import bfloat16, float16, float32
from . import attention_core as core
from .arrays import buffer, empty

DTYPES = (float32, bfloat16, float16)


def supports(qkv, *, heads, kv_heads, **params):
    """Whether there is a kernel for these arrays."""
    return core.supports(qkv.shape[2] // (heads + 2 * kv_heads))


def _layout(qkv, heads, kv_heads):
    b, t, packed = qkv.shape
    d = packed // (heads + 2 * kv_heads)
    c = heads * d
    return core.Layout(b, heads, kv_heads, t, t, d, (t * packed, d, packed, t * packed, d, packed, t * c, d, c))


def _split(qkv, layout):
    """Queries, keys and values as views of the packed array: each begins where its first number is."""
    x, k_at = qkv.reshape(-1), layout.heads * layout.d
    return x, x[k_at:], x[k_at + layout.key_heads * layout.d :]


def forward(qkv, *, heads, kv_heads, causal, window, scale, p=0.0, key=0, offset=0):
    """softmax(scale q k^T) v for each head. qkv (B, T, (H + 2 Hkv) D): H heads of queries, Hkv of keys, Hkv of values.

    Returns (B, T, H D) and saves qkv, the output and a float32 array with a number or two for each row.
    """
    layout = _layout(qkv, heads, kv_heads)
    out = empty((*qkv.shape[:2], heads * layout.d), qkv.dtype)
    stats = core.forward(layout, *_split(qkv, layout), out, causal, window, scale, (p, key, offset))
    return out, (qkv, out, stats)


def backward(g, saved, needs, into, *, heads, kv_heads, causal, window, scale, p=0.0, key=0, offset=0):
    """One (B, T, (H + 2 Hkv) D) gradient: gq, gk, gv side by side, as the linear layer's backward wants it."""
    if not needs[0]:
        return (None,)
    qkv, out, stats = saved
    layout, gqkv = _layout(qkv, heads, kv_heads), buffer(into[0], qkv)
    q, k, v = _split(qkv, layout)
    core.backward(layout, g, q, k, v, out, stats, *_split(gqkv, layout), causal, window, scale, (p, key, offset))
    return (gqkv,)
