"""attention: scaled dot-product attention over separate queries, keys and values, with grouped key heads.

Vaswani et al. 2017, arXiv:1706.03762; grouped queries: Ainslie et al. 2023, arXiv:2305.13245.
"""

from ...dtypes import bfloat16, float16, float32
from . import attention_core as core
from .arrays import buffer, empty

DTYPES = (float32, bfloat16, float16)


def supports(q, k, v, **params):
    """Whether there is a kernel for these arrays."""
    return core.supports(q.shape[3])


def _layout(q, k):
    b, heads, t, d = q.shape
    key_heads, s = k.shape[1:3]
    strides = heads * t * d, t * d, d, key_heads * s * d, s * d, d, heads * t * d, t * d, d
    return core.Layout(b, heads, key_heads, t, s, d, strides)


def forward(q, k, v, *, causal, window, scale, p=0.0, key=0, offset=0):
    """softmax(scale q k^T) v; causal: query i sees keys up to i + S - T, the last `window` of them unless that is None.

    q (B, H, T, D); k, v (B, K, S, D), each key head serving H / K query heads in a row. A query that sees no key gives
    zeros. Returns (B, H, T, D) and saves q, k, v, the output and a float32 array with a number or two for each row.
    """
    out = empty(q.shape, q.dtype)
    stats = core.forward(_layout(q, k), q, k, v, out, causal, window, scale, (p, key, offset))
    return out, (q, k, v, out, stats)


def backward(g, saved, needs, into, *, causal, window, scale, p=0.0, key=0, offset=0):
    """gq from one kernel, gk and gv from another, which computes both where one is wanted."""
    if not any(needs):
        return None, None, None
    q, k, v, out, stats = saved
    wanted = needs[0], needs[1] or needs[2], needs[1] or needs[2]
    grads = [buffer(place, x) if want else None for place, x, want in zip(into, (q, k, v), wanted)]
    core.backward(_layout(q, k), g, q, k, v, out, stats, *grads, causal, window, scale, (p, key, offset))
    return tuple(x if need else None for x, need in zip(grads, needs))
