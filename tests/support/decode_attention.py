"""Attention of one new row over a cache: what each device's kernel is held to."""

import numpy as np


def case(b, heads, key_heads, room, d, position, window, dtype):
    """qkv (B, 1, P), keys and values (B, Hkv, room, D) as dtype holds them, in float64: NaN where nobody may read."""
    r, cached = np.random.default_rng(7), (b, key_heads, room, d)
    qkv, keys, values = (
        r.standard_normal(shape).astype(dtype).astype(np.float64)
        for shape in ((b, 1, (heads + 2 * key_heads) * d), cached, cached)
    )
    unseen = np.ones(room, bool)
    unseen[0 if window is None else max(0, position + 1 - window) : position] = False
    keys[:, :, unseen] = values[:, :, unseen] = np.nan
    return qkv, keys, values


def formula(qkv, keys, values, position, heads, window, scale):
    """(out, keys, values) as they are to be afterwards."""
    (b, key_heads, _, d), keys, values = keys.shape, keys.copy(), values.copy()
    rows = qkv.reshape(b, heads + 2 * key_heads, d)
    keys[:, :, position], values[:, :, position] = rows[:, heads : heads + key_heads], rows[:, heads + key_heads :]
    seen = slice(0 if window is None else max(0, position + 1 - window), position + 1)
    k, v = (np.repeat(x[:, :, seen], heads // key_heads, axis=1) for x in (keys, values))
    scores = scale * np.einsum("bhd,bhsd->bhs", rows[:, :heads], k)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    out = np.einsum("bhs,bhsd->bhd", weights / weights.sum(axis=-1, keepdims=True), v)
    return out.reshape(b, 1, heads * d), keys, values
