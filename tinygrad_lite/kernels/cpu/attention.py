"""attention: scaled dot-product attention over separate queries, keys and values, with grouped key heads.

Vaswani et al. 2017, arXiv:1706.03762; grouped queries: Ainslie et al. 2023, arXiv:2305.13245.
"""

import numpy as np

from ...threads import parallel_for
from .arrays import buffer, grain
from .attention_core import backward_heads, forward_heads, reach
from .philox import dropout_parameters

# In generation heads are columns of a projection, and keys and values the first rows of a cache: neither is copied.
TAKES_STRIDES = True


def _layout(q, k):
    """Sizes, and where batch entries, heads and rows lie in q, in k and v, and in the result, which is C-contiguous."""
    _, heads, t, d = q.shape
    _, key_heads, s, _ = k.shape
    size = q.itemsize
    strides = [*(step // size for x in (q, k) for step in x.strides[:3]), heads * t * d, t * d, d]
    return key_heads, heads // key_heads, t, s, d, np.array(strides, np.int64)


def _lies_in_rows(x):
    """Whether rows are dense, and steps along the other axes are whole elements forward."""
    return x.strides[3] == x.itemsize and all(step >= 0 and step % x.itemsize == 0 for step in x.strides)


def _flat(x):
    """Elements from the first of x to its last, among which the kernel finds x's by its strides."""
    if x.flags.c_contiguous:
        return x.reshape(-1)
    span = sum((n - 1) * step for n, step in zip(x.shape, x.strides)) // x.itemsize + 1 if x.size else 0
    return np.lib.stride_tricks.as_strided(x, (span,), (x.itemsize,), writeable=False)


def forward(q, k, v, *, causal, window, scale, p=0.0, key=0, offset=0):
    """softmax(scale q k^T) v; causal: query i sees keys up to i + S - T, the last `window` of them unless that is None.

    q (B, H, T, D); k, v (B, K, S, D), each key head serving H / K query heads in a row. A query that sees no key gives
    zeros. Returns (B, H, T, D) and saves q, k, v, the output and what backward makes the probabilities from (B, H, T, 2).
    """
    in_place = k.strides == v.strides and _lies_in_rows(q) and _lies_in_rows(k)
    q, k, v = (q, k, v) if in_place else map(np.ascontiguousarray, (q, k, v))
    key_heads, group, t, s, d, strides = _layout(q, k)
    behind, ahead = reach(t, s, causal, window)
    out, stats = np.empty(q.shape, q.dtype), np.empty((*q.shape[:3], 2), q.dtype)
    parallel_for(
        forward_heads[q.dtype], q.shape[0] * key_heads, grain(group * t * min(s, behind) + 4 * s * d),
        _flat(q), _flat(k), _flat(v), 0, 0, 0, key_heads, group, t, s, d, behind, ahead, scale, strides,
        *dropout_parameters(p, key, offset), out.reshape(-1), stats.reshape(-1),
    )  # fmt: skip
    return out, (q, k, v, out, stats)


def backward(g, saved, needs, into, *, causal, window, scale, p=0.0, key=0, offset=0):
    """gq, gk, gv from one kernel, which computes all three: the scores made again are most of the work."""
    if not any(needs):
        return None, None, None
    q, k, v, out, stats = saved
    key_heads, group, t, s, d, strides = _layout(q, k)
    behind, ahead = reach(t, s, causal, window)
    grads = [buffer(place, x) for place, x in zip(into, (q, k, v))]
    parallel_for(
        backward_heads[q.dtype], q.shape[0] * key_heads, grain(2 * group * t * min(s, behind) + 8 * s * d),
        q.reshape(-1), k.reshape(-1), v.reshape(-1), 0, 0, 0, key_heads, group, t, s, d, behind, ahead, scale, strides,
        *dropout_parameters(p, key, offset), g.reshape(-1), out.reshape(-1), stats.reshape(-1),
        *(x.reshape(-1) for x in grads),
    )  # fmt: skip
    return tuple(x if need else None for x, need in zip(grads, needs))
