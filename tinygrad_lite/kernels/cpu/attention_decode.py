"""Attention of one new row over a cache of keys and values, at a position that stands in an array.

The position is read where the kernel runs, so that a recorded token (tape.py) can be replayed for every later one.
"""

import numpy as np

from ...native.compile import inline, jit, vectorise
from ...threads import parallel_for
from .arrays import grain
from .row_formulas import softmax_row


def supports(head_size: int) -> bool:
    """Whether there is a kernel for heads of this size: of any."""
    return True


def attend(qkv, keys, values, position, *, heads, window, scale):
    """Append a row's key and value to a cache, and attend over the cache's last `window` rows (None: all).

    qkv (B, 1, (H + 2 Hkv) D); keys, values (B, Hkv, room, D), of which row `position`, an int64 array (1,), is written.
    Returns (B, 1, H D): NaN, and nothing is written, where position is not below room.
    """
    b, key_heads, room, d = keys.shape
    if qkv.shape != (b, 1, (heads + 2 * key_heads) * d) or not keys.dtype == values.dtype == qkv.dtype:
        raise ValueError(
            f"attention_decode: expected one row of {heads} + 2 x {key_heads} heads of {d} columns in {keys.dtype}, as the "
            f"cache is, got {qkv.shape} in {qkv.dtype}"
        )
    scores, out = np.empty((b * heads, room), qkv.dtype), np.empty((b, 1, heads * d), qkv.dtype)
    row = np.ascontiguousarray(qkv[:, 0])
    window = room if window is None else min(window, room)
    parallel_for(
        _heads[qkv.dtype], b * heads, grain(room * d), row, keys, values, position, window, float(scale), scores,
        out[:, 0],
    )  # fmt: skip
    return out


@inline
def _dot(x, y):
    total = x.dtype.type(0)
    for j in range(x.size):
        total += x[j] * y[j]
    return total


@jit("i i r2 w4 w4 R1 i d w2 w2")
def _heads(start, stop, qkv, keys, values, position, window, scale, scores, out):
    """Heads start to stop of all rows: out = softmax(scale q K^T) V; the first of a group writes its key and value."""
    vectorise()
    (_, key_heads, room, size), here, real = keys.shape, position[0], qkv.dtype.type
    heads = out.shape[1] // size
    group = heads // key_heads
    for i in range(start, stop):
        b, head = i // heads, i % heads
        of, target = head // group, out[b, head * size : (head + 1) * size]
        if here < 0 or here >= room:
            target[:] = np.nan
            continue
        query = qkv[b, head * size : (head + 1) * size]
        key = qkv[b, (heads + of) * size : (heads + of + 1) * size]
        value = qkv[b, (heads + key_heads + of) * size : (heads + key_heads + of + 1) * size]
        first = max(0, here + 1 - window)
        weights = scores[i, first : here + 1]
        for s in range(first, here):
            weights[s - first] = real(scale) * _dot(query, keys[b, of, s])
        weights[here - first] = real(scale) * _dot(query, key)
        softmax_row(weights)
        for j in range(size):
            target[j] = weights[here - first] * value[j]
        for s in range(first, here):
            weight, row = weights[s - first], values[b, of, s]
            for j in range(size):
                target[j] += weight * row[j]
        if head % group == 0:  # nobody reads this row of the cache meanwhile
            for j in range(size):
                keys[b, of, here, j], values[b, of, here, j] = key[j], value[j]
