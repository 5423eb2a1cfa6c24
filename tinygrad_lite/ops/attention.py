"""Attention, and the rotary embedding of its queries and keys."""

import math

from ..dtypes import HALF, float32, float64
from ..kernels import kernel_for
from ._axes import ndim_of
from .registry import Case, fused, primitive


def attend(xp, q, k, v, causal, window, scale, p, key, offset):
    """dropout(softmax(q k^T * scale)) v, head by head: q (B, H, T, D), k and v (B, H, S, D)."""
    t, s = q.shape[2], k.shape[2]
    scores = xp.matmul(q, xp.transpose(k, axes=(0, 1, 3, 2))) * scale  # (B, H, T, S)
    if causal:
        # Query i sees keys up to i + (S - T): the last query sees them all.
        ones = xp.full_like(xp.stop_gradient(scores), 1.0)
        seen = xp.tril(ones, k=s - t)
        if window is not None:
            seen = seen - xp.tril(ones, k=s - t - window)
        scores = xp.where(xp.greater(seen, 0.0), scores, xp.full_like(scores, -math.inf))
    weights = xp.softmax(scores)
    if p:
        weights = xp.dropout(weights, p=p, key=key, offset=offset)
    return xp.matmul(weights, v)  # (B, H, T, D)


@fused(
    Case((1, 2, 3, 2), (1, 2, 3, 2), (1, 2, 3, 2), causal=True, window=None, scale=0.5),
    Case((1, 2, 2, 2), (1, 1, 3, 2), (1, 1, 3, 2), causal=True, window=None, scale=0.7),
    Case((1, 1, 2, 2), (1, 1, 3, 2), (1, 1, 3, 2), causal=False, window=None, scale=0.7),
    Case((1, 2, 3, 2), (1, 1, 4, 2), (1, 1, 4, 2), causal=True, window=2, scale=0.7),
    Case((1, 2, 3, 2), (1, 1, 4, 2), (1, 1, 4, 2), causal=True, window=None, scale=0.7, p=0.4, key=7, offset=3),
)
def attention(xp, q, k, v, *, causal, window, scale, p=0.0, key=0, offset=0):
    """dropout(softmax(q k^T * scale)) v: q (B, H, T, D), k and v (B, Hkv, S, D), H a multiple of Hkv.

    causal: query i sees keys up to i + (S - T), and with a window W only the last W of them. Vaswani et al. 2017,
    arXiv:1706.03762; shared key-value heads: Ainslie et al. 2023, arXiv:2305.13245; window: Beltagy et al. 2020,
    arXiv:2004.05150. p, key, offset: what the op `dropout` is told, of the weights as an array (B, H, T, S).
    """
    (b, h, _, d), (hkv, s) = q.shape, k.shape[1:3]
    if hkv != h:
        k, v = (
            xp.reshape(xp.broadcast_to(xp.expand_dims(x, axis=2), shape=(b, hkv, h // hkv, s, d)), shape=(b, h, s, d))
            for x in (k, v)
        )
    return attend(xp, q, k, v, causal, window, scale, p, key, offset)


def _window(name, window, causal):
    """The window as an int or None, or an error that names `name`."""
    if window is None:
        return None
    if isinstance(window, bool) or not isinstance(window, int) or window < 1:
        raise ValueError(
            f"{name}: the window is how many keys a query sees, at least 1, or None for all, got {window!r}"
        )
    if not causal:
        raise ValueError(f"{name}: a window of {window} keys ends at the query's own, so attention must be causal")
    return window


def _dropout(name, p, key, offset):
    """The parameters of dropout, or an error that names `name`."""
    if not 0.0 <= p < 1.0:
        raise ValueError(f"{name}: the share of weights to drop must be in [0, 1), got {p}")
    return {"p": float(p), "key": key, "offset": offset}


@attention.validate
def _(q, k, v, *, causal, window, scale, p, key, offset):
    ok = ndim_of(q) == ndim_of(k) == 4 and tuple(k.shape) == tuple(v.shape)
    ok = ok and q.shape[0] == k.shape[0] and q.shape[3] == k.shape[3] and k.shape[1] and q.shape[1] % k.shape[1] == 0
    if not ok:
        raise ValueError(
            "attention: expected q (B, H, T, D), k and v (B, Hkv, S, D) with H a multiple of Hkv, got "
            f"{tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)}"
        )
    if causal and q.shape[2] > k.shape[2]:
        raise ValueError(f"attention: causal with {q.shape[2]} queries needs as many keys, got {k.shape[2]}")
    window = _window("attention", window, causal)
    drawn = _dropout("attention", p, key, offset)
    return {"causal": bool(causal), "window": window, "scale": float(scale), **drawn}


@fused(
    Case((2, 3, 12), heads=2, kv_heads=2, causal=True, window=None, scale=0.7),
    Case((1, 3, 12), heads=4, kv_heads=1, causal=True, window=None, scale=0.7),
    Case((1, 4, 6), heads=1, kv_heads=1, causal=True, window=2, scale=0.7),
    Case((2, 3, 8), heads=2, kv_heads=1, causal=True, window=None, scale=0.7, p=0.4, key=7, offset=3),
)
def attention_qkv(xp, qkv, *, heads, kv_heads, causal, window, scale, p=0.0, key=0, offset=0):
    """Attention straight from one projection: qkv (B, T, (H + 2 Hkv) D), queries, keys and values side by side.

    Returns (B, T, H D). p, key, offset: as in `attention`.
    """
    b, t, packed = qkv.shape
    d = packed // (heads + 2 * kv_heads)
    split = xp.transpose(
        xp.reshape(qkv, shape=(b, t, heads + 2 * kv_heads, d)), axes=(0, 2, 1, 3)
    )  # (B, H + 2 Hkv, T, D)
    ends = 0, heads, heads + kv_heads, heads + 2 * kv_heads
    q, k, v = (xp.getitem(split, key=(slice(None), slice(i, j))) for i, j in zip(ends, ends[1:]))
    out = xp.attention(q, k, v, causal=causal, window=window, scale=scale, p=p, key=key, offset=offset)  # (B, H, T, D)
    return xp.reshape(xp.transpose(out, axes=(0, 2, 1, 3)), shape=(b, t, heads * d))


@attention_qkv.validate
def _(qkv, *, heads, kv_heads, causal, window, scale, p, key, offset):
    if heads < 1 or kv_heads < 1 or heads % kv_heads:
        raise ValueError(f"attention_qkv: heads must be a multiple of kv_heads, got {heads} and {kv_heads}")
    if ndim_of(qkv) != 3 or not qkv.shape[2] or qkv.shape[2] % (heads + 2 * kv_heads):
        raise ValueError(
            f"attention_qkv: expected (B, T, P) with P a positive multiple of heads + 2 kv_heads = {heads + 2 * kv_heads}, "
            f"got {tuple(qkv.shape)}"
        )
    window = _window("attention_qkv", window, causal)
    return {
        "heads": int(heads), "kv_heads": int(kv_heads), "causal": bool(causal), "window": window, "scale": float(scale),
        **_dropout("attention_qkv", p, key, offset),
    }  # fmt: skip


@primitive(
    Case((2, 3, 10), heads=2, size=4, start=1, base=100.0, turn=1),
    Case((1, 2, 2), heads=1, size=2, start=0, base=100.0, turn=-1),
    to_float=True, exact=True,
)  # fmt: skip
def rotary(xp, x, *, heads, size, start, base, turn):
    """Rotary embedding, arXiv:2104.09864: columns of x (B, T, P) turned by an angle that grows with the position.

    In each of the first `heads` heads of `size` columns, column i and column i + size / 2 are a pair, turned by
    turn * (start + t) * base ** (-2 i / size); other columns stay. A turn back is the gradient, so nothing is kept.
    """
    kernel = kernel_for(xp, "rotary", x.dtype)
    if kernel is not None:
        return kernel.forward(xp.contiguous(x), heads=heads, size=size, start=start, base=base, turn=turn)[0]
    if x.dtype in HALF:  # each sum is rounded once
        wide = xp.astype(x, dtype=float32)
        return xp.astype(
            rotary.forward(xp, wide, heads=heads, size=size, start=start, base=base, turn=turn), dtype=x.dtype
        )
    (b, t, width), half, end = x.shape, size // 2, heads * size
    everything = slice(None)
    pairs = xp.reshape(xp.getitem(x, key=(everything, everything, slice(0, end))), shape=(b, t, heads, 2, half))
    first, second = (xp.getitem(pairs, key=(everything, everything, everything, i)) for i in (0, 1))  # (B, T, H, D/2)
    # float64: at position 10,000 an angle in float32 is off by 0.001
    position = xp.astype(xp.positions(x, axis=1), dtype=float64) + float(start)  # (T,)
    rate = xp.exp(xp.astype(xp.positions(first, axis=3), dtype=float64) * (-math.log(base) / half))  # (D/2,)
    angle = xp.reshape(position, shape=(t, 1, 1)) * rate * float(turn)  # (T, 1, D/2)
    cos, sin = xp.astype(xp.cos(angle), dtype=x.dtype), xp.astype(xp.sin(angle), dtype=x.dtype)
    turned = xp.stack(first * cos - second * sin, first * sin + second * cos, axis=3)  # (B, T, H, 2, D/2)
    turned = xp.reshape(turned, shape=(b, t, end))
    rest = xp.getitem(x, key=(everything, everything, slice(end, width)))
    return xp.concatenate(turned, rest, axis=2)


rotary.vjp(
    x=lambda xp, g, heads, size, start, base, turn: xp.rotary(
        g, heads=heads, size=size, start=start, base=base, turn=-turn
    )
)


@rotary.validate
def _(x, *, heads, size, start, base, turn):
    if ndim_of(x) != 3 or heads < 0 or heads * size > x.shape[2]:
        raise ValueError(
            f"rotary: expected (B, T, P) with room for {heads} heads of {size} columns, got {tuple(x.shape)}"
        )
    if size < 2 or size % 2:
        raise ValueError(f"rotary: the head size must be even, since columns are turned in pairs, got {size}")
    if turn not in (1, -1) or start < 0 or not base > 1:
        raise ValueError(f"rotary: expected start >= 0, base > 1, turn 1 or -1, got {start}, {base}, {turn}")
    return {"heads": heads, "size": size, "start": start, "base": base, "turn": turn}
