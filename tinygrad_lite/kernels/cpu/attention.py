"""attention: scaled dot-product attention over separate queries, keys and values, with grouped key heads.

Vaswani et al. 2017, arXiv:1706.03762; grouped queries: Ainslie et al. 2023, arXiv:2305.13245.
"""

import numpy as np

from ...threads import parallel_for
from .arrays import buffer, grain
from .attention_core import backward_heads, forward_heads, reach


def _layout(q, k):
    _, heads, t, d = q.shape
    _, key_heads, s, _ = k.shape
    strides = np.array([heads * t * d, t * d, d, key_heads * s * d, s * d, d, heads * t * d, t * d, d])
    return key_heads, heads // key_heads, t, s, d, strides


def forward(q, k, v, *, causal, window, scale):
    """softmax(scale q k^T) v; causal: query i sees keys up to i + S - T, the last `window` of them unless that is None.

    q (B, H, T, D); k, v (B, K, S, D), each key head serving H / K query heads in a row. A query that sees no key gives
    zeros. Returns (B, H, T, D) and saves q, k, v, the output and each row's log-sum-exp (B, H, T).
    """
    key_heads, group, t, s, d, strides = _layout(q, k)
    behind, ahead = reach(t, s, causal, window)
    out, lse = np.empty(q.shape, q.dtype), np.empty(q.shape[:3], q.dtype)
    parallel_for(
        forward_heads[q.dtype], q.shape[0] * key_heads, grain(group * t * min(s, behind) + 4 * s * d),
        q.reshape(-1), k.reshape(-1), v.reshape(-1), 0, 0, 0, key_heads, group, t, s, d, behind, ahead, scale, strides,
        out.reshape(-1), lse.reshape(-1),
    )  # fmt: skip
    return out, (q, k, v, out, lse)


def backward(g, saved, needs, into, *, causal, window, scale):
    """gq, gk, gv from one kernel, which computes all three: the scores made again are most of the work."""
    if not any(needs):
        return None, None, None
    q, k, v, out, lse = saved
    key_heads, group, t, s, d, strides = _layout(q, k)
    behind, ahead = reach(t, s, causal, window)
    grads = [buffer(place, x) for place, x in zip(into, (q, k, v))]
    parallel_for(
        backward_heads[q.dtype], q.shape[0] * key_heads, grain(2 * group * t * min(s, behind) + 8 * s * d),
        q.reshape(-1), k.reshape(-1), v.reshape(-1), 0, 0, 0, key_heads, group, t, s, d, behind, ahead, scale, strides,
        g.reshape(-1), out.reshape(-1), lse.reshape(-1), *(x.reshape(-1) for x in grads),
    )  # fmt: skip
    return tuple(x if need else None for x, need in zip(grads, needs))
