"""Linear layers into losses: linear, cross entropies, attention. Fused ops with their readable twins."""

import math

from ._axes import ndim_of
from .registry import Case, Ints, Values, fused


@fused(Case((2, 3), (4, 3), (4,)), Case((2, 2, 3), (2, 3), (2,)))
def linear(xp, x, weight, bias):
    """x @ weight.T + bias: x (..., I), weight (O, I), bias (O,) or None."""
    y = xp.matmul(x, xp.transpose(weight, axes=(1, 0)))
    return y if bias is None else y + bias


@linear.validate
def _(x, weight, bias):
    if ndim_of(weight) != 2 or ndim_of(x) < 2 or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"linear: weight (O, I) must match the last axis of x (..., I), got x {tuple(x.shape)}, weight {tuple(weight.shape)}"
        )
    if bias is not None and tuple(bias.shape) != (weight.shape[0],):
        raise ValueError(f"linear: bias must be ({weight.shape[0]},), got {tuple(bias.shape)}")
    return {}


def _check_targets(op: str, rows, classes: int, targets, ignore_index: int):
    if getattr(targets, "dtype", None) is None or targets.dtype.kind not in "iu":
        raise TypeError(
            f"{op}: targets must be integer classes, got {getattr(targets, 'dtype', type(targets).__name__)}"
        )
    if tuple(targets.shape) != tuple(rows):
        raise ValueError(f"{op}: targets must be {tuple(rows)}, got {tuple(targets.shape)}: one class a row")
    data = getattr(targets, "data", targets) if hasattr(targets, "cell") else targets
    wrong = ((data < 0) | (data >= classes)) & (data != ignore_index)
    if data.size and bool(wrong.any()):
        bad = int(data[wrong].ravel()[0])
        raise IndexError(f"{op}: targets must be in [0, {classes}) or ignore_index={ignore_index}, got {bad}")


def mean_nll(xp, logits, targets, ignore_index, label_smoothing=0.0):
    """Mean over the valid targets of -log softmax(logits)[target]; logits (N, V), targets (N,)."""
    v = logits.shape[1]
    logits = logits - xp.stop_gradient(xp.max(logits, axis=(1,), keepdims=True))  # keeps the digits of large ones
    valid = xp.not_equal(targets, ignore_index)
    safe = xp.where(valid, targets, xp.zeros_like(targets))
    lse = xp.logsumexp(logits, axis=(1,), keepdims=False)
    chosen = xp.take_along_axis(logits, xp.reshape(safe, shape=(-1, 1)), axis=1)
    loss = lse - xp.reshape(chosen, shape=(-1,))
    if label_smoothing:
        uniform = lse - xp.sum(logits, axis=(1,), keepdims=False) * (1.0 / v)
        loss = loss * (1.0 - label_smoothing) + uniform * label_smoothing
    weights = xp.where(valid, xp.full_like(loss, 1.0), xp.zeros_like(loss))
    total = xp.sum(xp.where(valid, loss, xp.zeros_like(loss)), axis=(0,), keepdims=False)
    return total / xp.stop_gradient(xp.sum(weights, axis=(0,), keepdims=False))


@fused(
    Case((3, 4), Ints((3,), 4)),
    Case((2, 5), Ints((2,), 5), label_smoothing=0.1),
    Case((4, 3), Values((1, -100, 2, -100)), label_smoothing=0.2),
    integer_inputs=("targets",),
)
def cross_entropy(xp, logits, targets, *, ignore_index=-100, label_smoothing=0.0):
    """Mean of -log softmax(logits)[target]: logits (N, V), targets (N,) integer. Never alters the logits."""
    return mean_nll(xp, logits, targets, ignore_index, label_smoothing)


@cross_entropy.validate
def _(logits, targets, *, ignore_index, label_smoothing):
    if ndim_of(logits) != 2:
        raise ValueError(f"cross_entropy: logits must be (N, V), got {tuple(logits.shape)}")
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"cross_entropy: label_smoothing must be in [0, 1], got {label_smoothing}")
    _check_targets("cross_entropy", logits.shape[:1], logits.shape[1], targets, ignore_index)
    return {"ignore_index": int(ignore_index), "label_smoothing": float(label_smoothing)}


@fused(
    Case((3, 2), (4, 2), Ints((3,), 4)),
    Case((4, 3), (5, 3), Values((4, -100, 0, 3))),
    integer_inputs=("targets",),
)
def linear_cross_entropy(xp, h, weight, targets, *, ignore_index=-100):
    """cross_entropy(h @ weight.T, targets) whose logits exist in chunks of rows only: h (N, C), weight (V, C)."""
    return mean_nll(xp, xp.matmul(h, xp.transpose(weight, axes=(1, 0))), targets, ignore_index)


@linear_cross_entropy.validate
def _(h, weight, targets, *, ignore_index):
    if ndim_of(h) != 2 or ndim_of(weight) != 2 or h.shape[1] != weight.shape[1]:
        raise ValueError(
            f"linear_cross_entropy: expected h (N, C) and weight (V, C), got {tuple(h.shape)} and {tuple(weight.shape)}"
        )
    _check_targets("linear_cross_entropy", h.shape[:1], weight.shape[0], targets, ignore_index)
    return {"ignore_index": int(ignore_index)}


def attend(xp, q, k, v, causal, scale):
    """softmax(q k^T * scale) v, head by head: q (B, H, T, D), k and v (B, H, S, D)."""
    t, s = q.shape[2], k.shape[2]
    scores = xp.matmul(q, xp.transpose(k, axes=(0, 1, 3, 2))) * scale  # (B, H, T, S)
    if causal:
        # Query i sees keys up to i + (S - T): the last query sees them all.
        below = xp.tril(xp.full_like(xp.stop_gradient(scores), 1.0), k=s - t)
        scores = xp.where(xp.greater(below, 0.0), scores, xp.full_like(scores, -math.inf))
    return xp.matmul(xp.softmax(scores), v)  # (B, H, T, D)


@fused(
    Case((1, 2, 3, 2), (1, 2, 3, 2), (1, 2, 3, 2), causal=True, scale=0.5),
    Case((1, 2, 2, 2), (1, 1, 3, 2), (1, 1, 3, 2), causal=True, scale=0.7),
    Case((1, 1, 2, 2), (1, 1, 3, 2), (1, 1, 3, 2), causal=False, scale=0.7),
)
def attention(xp, q, k, v, *, causal, scale):
    """softmax(q k^T * scale) v: q (B, H, T, D), k and v (B, Hkv, S, D), H a multiple of Hkv.

    causal: query i sees keys up to i + (S - T). Vaswani et al. 2017, arXiv:1706.03762; shared key-value heads:
    Ainslie et al. 2023, arXiv:2305.13245.
    """
    (b, h, _, d), (hkv, s) = q.shape, k.shape[1:3]
    if hkv != h:
        k, v = (
            xp.reshape(xp.broadcast_to(xp.expand_dims(x, axis=2), shape=(b, hkv, h // hkv, s, d)), shape=(b, h, s, d))
            for x in (k, v)
        )
    return attend(xp, q, k, v, causal, scale)


@attention.validate
def _(q, k, v, *, causal, scale):
    ok = ndim_of(q) == ndim_of(k) == 4 and tuple(k.shape) == tuple(v.shape)
    ok = ok and q.shape[0] == k.shape[0] and q.shape[3] == k.shape[3] and k.shape[1] and q.shape[1] % k.shape[1] == 0
    if not ok:
        raise ValueError(
            "attention: expected q (B, H, T, D), k and v (B, Hkv, S, D) with H a multiple of Hkv, got "
            f"{tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)}"
        )
    if causal and q.shape[2] > k.shape[2]:
        raise ValueError(f"attention: causal with {q.shape[2]} queries needs as many keys, got {k.shape[2]}")
    return {"causal": bool(causal), "scale": float(scale)}


@fused(Case((2, 3, 12), heads=2, causal=True, scale=0.7))
def attention_qkv(xp, qkv, *, heads, causal, scale):
    """Attention straight from one projection: qkv (B, T, 3C), queries, keys and values side by side, to (B, T, C)."""
    b, t, c3 = qkv.shape
    c, d = c3 // 3, c3 // 3 // heads
    split = xp.transpose(xp.reshape(qkv, shape=(b, t, 3, heads, d)), axes=(2, 0, 3, 1, 4))  # (3, B, H, T, D)
    q, k, v = (xp.getitem(split, key=(i,)) for i in range(3))
    out = attend(xp, q, k, v, causal, scale)  # (B, H, T, D)
    return xp.reshape(xp.transpose(out, axes=(0, 2, 1, 3)), shape=(b, t, c))


@attention_qkv.validate
def _(qkv, *, heads, causal, scale):
    if ndim_of(qkv) != 3 or qkv.shape[2] % (3 * heads):
        raise ValueError(
            f"attention_qkv: expected (B, T, 3C) with C a multiple of heads={heads}, got {tuple(qkv.shape)}"
        )
    return {"heads": int(heads), "causal": bool(causal), "scale": float(scale)}
