"""Linear layers into losses: linear, gelu_mlp, cross entropies. Fused ops with their readable twins."""

from ..dtypes import HALF, float32
from ._axes import ndim_of
from .registry import Case, Ints, Values, fused


@fused(Case((2, 3), (4, 3), (4,), (2, 4)), Case((2, 2, 3), (2, 3), (2,), (2, 2, 2)))
def linear(xp, x, weight, bias, residual):
    """x @ weight.T + bias + residual: x (..., I), weight (O, I), bias (O,) or None, residual (..., O) or None."""
    y = xp.matmul(x, xp.transpose(weight, axes=(1, 0)))
    y = y if bias is None else y + bias
    return y if residual is None else y + residual


@linear.validate
def _(x, weight, bias, residual):
    if ndim_of(weight) != 2 or ndim_of(x) < 2 or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"linear: weight (O, I) must match the last axis of x (..., I), got x {tuple(x.shape)}, weight {tuple(weight.shape)}"
        )
    if bias is not None and tuple(bias.shape) != (weight.shape[0],):
        raise ValueError(f"linear: bias must be ({weight.shape[0]},), got {tuple(bias.shape)}")
    shape = (*x.shape[:-1], weight.shape[0])
    if residual is not None and tuple(getattr(residual, "shape", ())) != shape:
        raise ValueError(
            f"linear: residual must have the result's shape {shape}, got {getattr(residual, 'shape', residual)}"
        )
    return {}


@fused(Case((2, 2), (3, 2), (3,), (2, 3), (2,), (2, 2)), Case((2, 1, 2), (2, 2), (2,), (1, 2), (1,), (2, 1, 1)))
def gelu_mlp(xp, x, up, up_bias, down, down_bias, residual):
    """gelu(x @ up.T + up_bias) @ down.T + down_bias + residual, gelu by tanh: the MLP of a GPT-2 block.

    x (..., C), up (F, C), down (O, F); up_bias (F,), down_bias (O,), residual (..., O) or None.
    """
    if up_bias is None:
        hidden = xp.gelu(xp.linear(x, up, None, None), approximate="tanh")
    else:  # whose gradient comes with gelu's
        hidden = xp.bias_gelu(xp.linear(x, up, None, None), up_bias, approximate="tanh")
    return xp.linear(hidden, down, down_bias, residual)


@gelu_mlp.validate
def _(x, up, up_bias, down, down_bias, residual):
    n, f, o = (tuple(getattr(a, "shape", ())) for a in (x, up, down))
    if len(n) < 2 or len(f) != 2 or len(o) != 2 or (n[-1], f[0]) != (f[1], o[1]):
        raise ValueError(
            f"gelu_mlp: expected x (..., C) of two axes or more, up (F, C) and down (O, F), got {n}, {f}, {o}"
        )
    wanted = dict(up_bias=(up_bias, f[:1]), down_bias=(down_bias, o[:1]), residual=(residual, (*n[:-1], o[0])))
    for name, (a, shape) in wanted.items():
        if a is not None and tuple(getattr(a, "shape", ())) != shape:
            raise ValueError(f"gelu_mlp: {name} must be {shape}, got {getattr(a, 'shape', a)}")
    return {}


def _check_targets(op: str, rows, classes: int, targets, ignore_index: int):
    if getattr(targets, "dtype", None) is None or targets.dtype.kind not in "iu":
        raise TypeError(
            f"{op}: targets must be integer classes, got {getattr(targets, 'dtype', type(targets).__name__)}"
        )
    if tuple(targets.shape) != tuple(rows):
        raise ValueError(f"{op}: targets must be {tuple(rows)}, got {tuple(targets.shape)}: one class a row")
    if hasattr(targets, "cell") and not targets.device.xp.checks_values:
        return
    data = getattr(targets, "data", targets) if hasattr(targets, "cell") else targets
    wrong = ((data < 0) | (data >= classes)) & (data != ignore_index)
    if data.size and bool(wrong.any()):
        bad = int(data[wrong].ravel()[0])
        raise IndexError(f"{op}: targets must be in [0, {classes}) or ignore_index={ignore_index}, got {bad}")


def _wide(xp, x):
    """x in float32 where it is in half precision: a sum of losses in three digits would not move."""
    return xp.astype(x, dtype=float32) if x.dtype in HALF else x


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
    integer_inputs=("targets",), wide_result=True,
)  # fmt: skip
def cross_entropy(xp, logits, targets, *, ignore_index=-100, label_smoothing=0.0):
    """Mean of -log softmax(logits)[target]: logits (N, V), targets (N,) integer. Never alters the logits.

    Of half-precision logits the loss is float32.
    """
    return mean_nll(xp, _wide(xp, logits), targets, ignore_index, label_smoothing)


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
    integer_inputs=("targets",), wide_result=True,
)  # fmt: skip
def linear_cross_entropy(xp, h, weight, targets, *, ignore_index=-100):
    """cross_entropy(h @ weight.T, targets) whose logits exist in chunks of rows only: h (N, C), weight (V, C)."""
    logits = xp.matmul(_wide(xp, h), xp.transpose(_wide(xp, weight), axes=(1, 0)))
    return mean_nll(xp, logits, targets, ignore_index)


@linear_cross_entropy.validate
def _(h, weight, targets, *, ignore_index):
    if ndim_of(h) != 2 or ndim_of(weight) != 2 or h.shape[1] != weight.shape[1]:
        raise ValueError(
            f"linear_cross_entropy: expected h (N, C) and weight (V, C), got {tuple(h.shape)} and {tuple(weight.shape)}"
        )
    _check_targets("linear_cross_entropy", h.shape[:1], weight.shape[0], targets, ignore_index)
    return {"ignore_index": int(ignore_index)}
