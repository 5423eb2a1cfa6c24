"""Layers without state: `from tinygrad_lite import functional as F`.

Names and arguments are PyTorch's. Where the meaning differs the docstring says so: classes are always the last
axis of logits, and a causal mask is aligned to the last key.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from .create import full
from .device import CPU
from .dtypes import is_float
from .errors import number
from .ops import activation, attention, elementwise, index, loss, normalise
from .random import given_or_default
from .tensor import Tensor, as_tensor, wrap
from .tensor.arguments import integer
from .tensor.reductions import UNDEFINED

__all__ = [
    "attention_qkv", "bias_gelu", "binary_cross_entropy_with_logits", "cross_entropy", "dropout", "elu", "embedding",
    "gelu", "gelu_mlp", "layer_norm", "leaky_relu", "linear", "linear_cross_entropy", "log_softmax", "mse_loss", "nll_loss",
    "one_hot", "relu", "rms_norm", "rotary", "scaled_dot_product_attention", "sigmoid", "silu", "softmax", "softplus", "swiglu",
    "tanh",
]  # fmt: skip


# -- activations -----------------------------------------------------------------------------------------------
def relu(x) -> Tensor:
    """max(x, 0), elementwise; the gradient at 0 is 0."""
    return activation.relu.call(x)


def leaky_relu(x, negative_slope: float = 0.01) -> Tensor:
    """x where positive, else negative_slope * x."""
    return activation.leaky_relu.call(x, negative_slope=negative_slope)


def elu(x, alpha: float = 1.0) -> Tensor:
    """x where positive, else alpha * (exp(x) - 1). Clevert et al. 2015, arXiv:1511.07289."""
    return activation.elu.call(x, alpha=alpha)


def gelu(x, approximate: str = "none") -> Tensor:
    """x * Phi(x), Phi the normal distribution: by erf ("none") or by tanh ("tanh"). arXiv:1606.08415."""
    return activation.gelu.call(x, approximate=approximate)


def bias_gelu(x, bias, approximate: str = "none") -> Tensor:
    """gelu(x + bias) in one pass: x (..., C), bias (C,)."""
    return activation.bias_gelu.call(x, bias, approximate=approximate)


def silu(x) -> Tensor:
    """x * sigmoid(x)."""
    return activation.silu.call(x)


def swiglu(x) -> Tensor:
    """silu(a) * b for the halves a, b of x's last axis: (..., 2C) to (..., C). Shazeer 2020, arXiv:2002.05202."""
    return activation.swiglu.call(x)


def softplus(x) -> Tensor:
    """log(1 + exp(x)), without overflow."""
    return elementwise.softplus.call(x)


def sigmoid(x) -> Tensor:
    """1 / (1 + exp(-x))."""
    return elementwise.sigmoid.call(x)


def tanh(x) -> Tensor:
    """Hyperbolic tangent."""
    return elementwise.tanh.call(x)


def softmax(x, dim: int = -1) -> Tensor:
    """exp(x) over its sum along axis `dim`."""
    return as_tensor(x).softmax(dim)


def log_softmax(x, dim: int = -1) -> Tensor:
    """log(softmax(x)) along axis `dim`, without underflow."""
    return as_tensor(x).log_softmax(dim)


# -- layers ----------------------------------------------------------------------------------------------------
def linear(x, weight, bias=None, residual=None) -> Tensor:
    """x @ weight.T + bias + residual: x (..., I) or (I,), weight (O, I), bias (O,) or None. Returns (..., O) or (O,).

    residual, of the result's shape or None, is added while the product is made, without a pass of its own.
    """
    if isinstance(x, Tensor) and x.ndim == 1:
        residual = residual.unsqueeze(0) if isinstance(residual, Tensor) else residual
        return loss.linear.call(x.unsqueeze(0), weight, bias, residual).squeeze(0)
    return loss.linear.call(x, weight, bias, residual)


def gelu_mlp(x, up, up_bias, down, down_bias=None, residual=None) -> Tensor:
    """linear(gelu(linear(x, up, up_bias)), down, down_bias, residual), gelu by tanh: x (..., C) to (..., O).

    up (F, C), down (O, F); up_bias (F,), down_bias (O,) and residual (..., O) may be None. x has two axes or more. On a
    GPU the products compute gelu and its gradient in passing.
    """
    return loss.gelu_mlp.call(x, up, up_bias, down, down_bias, residual)


def embedding(indices, weight) -> Tensor:
    """Rows of weight (V, C) by index: integers (...) to (..., C).

    Raises IndexError for an index outside [0, V): negative indices are not wrapped.
    """
    return index.embedding.call(weight, indices)


def one_hot(indices, num_classes: int = -1) -> Tensor:
    """int64 (..., num_classes), 1 at each index and 0 elsewhere; -1 means the largest index + 1."""
    indices = as_tensor(indices)
    if indices.dtype.kind not in "iu":
        raise TypeError(f"one_hot: indices must be integers, got {indices.dtype}: convert with .long()")
    if integer("one_hot", "num_classes", num_classes) < -1:
        raise ValueError(f"one_hot: num_classes must be from 0, or -1 to count them, got {num_classes}")
    if num_classes == -1:
        if not indices.size:
            raise ValueError("one_hot: no index to take the number of classes from: pass num_classes")
        num_classes = max(int(indices.data.max()), 0) + 1
    index.check_indices("one_hot", indices, num_classes)
    lib = indices.device.xp
    hot = lib.equal(indices.data[..., None], lib.asarray(np.arange(num_classes)))
    return wrap(lib.astype(hot, dtype="int64"), None, indices.device)


def dropout(x, p: float = 0.5, training: bool = True, generator=None) -> Tensor:
    """x with elements zeroed with probability p and the rest scaled by 1 / (1 - p); x itself when not training.

    The mask is a function of the generator's seed and place in its stream, so nothing is kept for backward.
    Raises ValueError unless 0 <= p <= 1. Srivastava et al. 2014; arXiv:1207.0580.
    """
    if not 0.0 <= number("dropout", "p", p) <= 1.0:
        raise ValueError(f"dropout: p must be in [0, 1], got {p}")
    x = as_tensor(x)
    if not training or p == 0.0:
        return x
    if p == 1.0:
        return x * 0.0
    key, offset = given_or_default("dropout", generator).reserve(x.size)
    return activation.dropout.call(x, p=p, key=key, offset=offset)


def _or_constant(vector, x, value: float) -> Tensor:
    """vector, or where it is None the same value for each element of x's last axis."""
    return vector if vector is not None else _constant(x.shape[-1:], value, x.dtype, x.device)


@functools.lru_cache(maxsize=64)
def _constant(shape, value: float, dtype, device) -> Tensor:
    """Made once: a norm without a bias would else fill a vector each time it is called."""
    constant = full(shape, value, dtype, device)
    if device is CPU:
        constant.data.setflags(write=False)
    return constant


def layer_norm(x, weight=None, bias=None, eps: float = 1e-5) -> Tensor:
    """Normalise the last axis to zero mean and unit variance, then scale and shift.

        y = (x - mean) / sqrt(var + eps) * weight + bias

    x (..., C); weight and bias (C,) or None. Raises ValueError if a vector is not (C,). arXiv:1607.06450.
    """
    x = as_tensor(x)
    return normalise.layer_norm.call(x, _or_constant(weight, x, 1.0), _or_constant(bias, x, 0.0), eps=eps)


def rms_norm(x, weight=None, eps: float = 1e-6) -> Tensor:
    """x / sqrt(mean(x**2) + eps) * weight over the last axis: x (..., C), weight (C,) or None. arXiv:1910.07467."""
    x = as_tensor(x)
    return normalise.rms_norm.call(x, _or_constant(weight, x, 1.0), eps=eps)


def scaled_dot_product_attention(
    q,
    k,
    v,
    is_causal: bool = False,
    scale: float | None = None,
    window: int | None = None,
    dropout_p: float = 0.0,
    generator=None,
) -> Tensor:
    """softmax(q k^T * scale) v: q (B, H, T, D), k and v (B, Hkv, S, D), H a multiple of Hkv. Returns (B, H, T, D).

    scale: 1 / sqrt(D) by default. is_causal: query i sees keys up to i + (S - T), so that one new query sees all
    cached keys; PyTorch aligns to the first key instead, the same for T == S. window W: only the last W of these keys,
    the query's own among them. Memory grows with T + S, not with T S. Vaswani et al. 2017, arXiv:1706.03762.
    dropout_p: weights, the result of softmax, are dropped as `dropout` would drop them; 0 in evaluation.
    """
    name = "scaled_dot_product_attention"
    q = as_tensor(q, op=name)
    if scale is None:
        scale = 1.0 / math.sqrt(max(q.shape[-1], 1)) if q.ndim else 1.0
    window = None if window is None else integer(name, "window", window)
    k, v = (as_tensor(x, q.device, op=name) for x in (k, v))
    weights = *q.shape[:-1], *k.shape[-2:-1]  # (B, H, T, S)
    params = dict(causal=is_causal, window=window, scale=scale)
    return _attend(name, attention.attention, (q, k, v), weights, dropout_p, generator, params)


def _attend(name: str, op, inputs: tuple, weights: tuple, p: float, generator, params: dict) -> Tensor:
    """The op, which drops a share p of its weights, an array of this shape. What it refuses draws nothing."""
    if not 0.0 <= number(name, "dropout_p", p) < 1.0:
        raise ValueError(f"{name}: dropout_p, the share of weights that are dropped, must be in [0, 1), got {p}")
    if p == 0.0:
        return op.call(*inputs, **params)
    op.check(*inputs, **params, p=p, key=0, offset=0)
    key, offset = given_or_default(name, generator).reserve(math.prod(weights))
    return op.call(*inputs, **params, p=p, key=key, offset=offset)


def attention_qkv(
    qkv,
    heads: int,
    kv_heads: int | None = None,
    is_causal: bool = True,
    scale: float | None = None,
    window: int | None = None,
    dropout_p: float = 0.0,
    generator=None,
) -> Tensor:
    """Self-attention from one projection: qkv (B, T, (H + 2 Hkv) D), queries, keys, values side by side.

    Returns (B, T, H D). kv_heads Hkv is heads by default; scale is 1 / sqrt(D) by default; window, dropout_p: see
    scaled_dot_product_attention.
    """
    qkv, heads = as_tensor(qkv, op="attention_qkv"), integer("attention_qkv", "heads", heads)
    kv_heads = heads if kv_heads is None else integer("attention_qkv", "kv_heads", kv_heads)
    if qkv.ndim != 3:
        raise ValueError(f"attention_qkv: qkv must be (batch, time, columns), got {qkv.shape}")
    scale = 1.0 / math.sqrt(max(qkv.shape[-1] // max(heads + 2 * kv_heads, 1), 1)) if scale is None else scale
    window = None if window is None else integer("attention_qkv", "window", window)
    b, t, _ = qkv.shape
    params = dict(heads=heads, kv_heads=kv_heads, causal=is_causal, window=window, scale=scale)
    return _attend("attention_qkv", attention.attention_qkv, (qkv,), (b, heads, t, t), dropout_p, generator, params)


def rotary(x, heads: int, head_size: int, start: int = 0, base: float = 10000.0) -> Tensor:
    """Rotary embedding of the first `heads` heads of x (B, T, P); row t is position start + t. Returns (B, T, P).

    Column i of a head and column i + head_size / 2 are turned by (start + t) * base ** (-2 i / head_size); other columns
    (values, say) stay. Su et al. 2021, arXiv:2104.09864. Raises ValueError if head_size is odd or x has no room.
    """
    return attention.rotary.call(x, heads=heads, size=head_size, start=start, base=base, turn=1)


# -- losses ----------------------------------------------------------------------------------------------------
def _reduce(name: str, losses, reduction: str) -> Tensor:
    if reduction == "mean":
        return losses.mean()
    if reduction == "sum":
        return losses.sum()
    if reduction == "none":
        return losses
    raise ValueError(f'{name}: reduction must be "mean", "sum" or "none", got {reduction!r}')


def cross_entropy(
    logits, targets, ignore_index: int = -100, label_smoothing: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """-log softmax(logits)[target], averaged over the targets that are not ignore_index.

    logits (..., V), with classes on the last axis whatever the rank. targets: integer classes (...), or
    probabilities, floats of logits' shape. label_smoothing mixes that share of the uniform distribution into the
    targets (Szegedy et al. 2016, arXiv:1512.00567). reduction: "mean", "sum" or "none". The mean over no valid
    target is NaN. Raises IndexError for a class outside [0, V), TypeError or ValueError for other mismatches.
    """
    logits = as_tensor(logits)
    targets = as_tensor(targets, logits.device)
    if not 0.0 <= number("cross_entropy", "label_smoothing", label_smoothing) <= 1.0:
        raise ValueError(f"cross_entropy: label_smoothing must be in [0, 1], got {label_smoothing}")
    if is_float(targets.dtype):
        return _cross_entropy_of_probabilities(logits, targets, label_smoothing, reduction)
    v = logits.shape[-1] if logits.ndim else 0
    if targets.shape != logits.shape[:-1] or not v:
        raise ValueError(
            f"cross_entropy: logits {logits.shape} need integer targets {logits.shape[:-1]}, one class a row, or float "
            f"targets {logits.shape}, got {targets.dtype} {targets.shape}"
        )
    if reduction == "mean":
        rows = logits if logits.ndim == 2 else logits.reshape(-1, v)  # (N, V)
        classes = targets if targets.ndim == 1 else targets.reshape(-1)  # (N,)
        return loss.cross_entropy.call(rows, classes, ignore_index=ignore_index, label_smoothing=label_smoothing)
    logs = logits.log_softmax(-1)
    losses = nll_loss(logs, targets, ignore_index, "none")
    if label_smoothing:
        uniform = logs.mean(-1) * -1.0
        uniform = uniform.masked_fill(targets == ignore_index, 0.0)
        losses = losses * (1.0 - label_smoothing) + uniform * label_smoothing
    return _reduce("cross_entropy", losses, reduction)


def _cross_entropy_of_probabilities(logits, targets, label_smoothing, reduction):
    if targets.shape != logits.shape or not logits.ndim:
        raise ValueError(
            f"cross_entropy: float targets are probabilities and must be {logits.shape} as the logits, got "
            f"{targets.shape}: for classes convert with .long()"
        )
    if label_smoothing:
        targets = targets * (1.0 - label_smoothing) + label_smoothing / logits.shape[-1]
    return _reduce("cross_entropy", -(targets * logits.log_softmax(-1)).sum(-1), reduction)


def linear_cross_entropy(h, weight, targets, ignore_index: int = -100) -> Tensor:
    """cross_entropy(h @ weight.T, targets) without ever holding all logits: for large vocabularies.

    h (..., C), weight (V, C), targets integer (...). Returns the mean over targets that are not ignore_index.
    """
    h = as_tensor(h)
    targets = as_tensor(targets, h.device)
    if not h.ndim or targets.shape != h.shape[:-1]:
        raise ValueError(f"linear_cross_entropy: h {h.shape} needs targets {h.shape[:-1]}, got {targets.shape}")
    rows = h if h.ndim == 2 else h.reshape(-1, h.shape[-1])  # (N, C)
    classes = targets if targets.ndim == 1 else targets.reshape(-1)  # (N,)
    return loss.linear_cross_entropy.call(rows, weight, classes, ignore_index=ignore_index)


def nll_loss(log_probabilities, targets, ignore_index: int = -100, reduction: str = "mean") -> Tensor:
    """-log_probabilities[target]: log_probabilities (..., V), targets integer (...).

    The mean is over the targets that are not ignore_index; with reduction="none" those are 0.
    """
    logs = as_tensor(log_probabilities)
    targets = as_tensor(targets, logs.device)
    if not logs.ndim or targets.shape != logs.shape[:-1]:
        raise ValueError(
            f"nll_loss: log_probabilities {logs.shape} need targets {logs.shape[:-1]}, got {targets.shape}"
        )
    if targets.dtype.kind not in "iu":
        raise TypeError(f"nll_loss: targets must be integer classes, got {targets.dtype}: convert with .long()")
    ignored = targets == integer("nll_loss", "ignore_index", ignore_index)
    safe = targets.masked_fill(ignored, 0)
    index.check_indices("nll_loss", safe, logs.shape[-1], f"classes count from 0, and only {ignore_index} is ignored")
    losses = -logs.gather(-1, safe.unsqueeze(-1)).squeeze(-1)  # (...)
    losses = losses.masked_fill(ignored, 0.0)
    if reduction == "mean":
        count = ignored.size - int(ignored.data.sum())
        return losses.sum() / float(count) if count else losses.sum() * UNDEFINED
    return _reduce("nll_loss", losses, reduction)


def mse_loss(x, target, reduction: str = "mean") -> Tensor:
    """(x - target)**2. Raises ValueError unless both have one shape."""
    x = as_tensor(x)
    target = as_tensor(target, x.device)
    if x.shape != target.shape:
        raise ValueError(f"mse_loss: target must be {x.shape} as x, got {target.shape}: reshape one of them")
    return _reduce("mse_loss", (x - target).square(), reduction)


def binary_cross_entropy_with_logits(logits, targets, reduction: str = "mean") -> Tensor:
    """-t log(sigmoid(x)) - (1 - t) log(1 - sigmoid(x)), as softplus(x) - x t, which never takes log(0).

    targets: floats in [0, 1] of logits' shape. Raises ValueError if the shapes differ.
    """
    logits = as_tensor(logits)
    targets = as_tensor(targets, logits.device)
    if logits.shape != targets.shape:
        raise ValueError(f"binary_cross_entropy_with_logits: targets must be {logits.shape}, got {targets.shape}")
    return _reduce("binary_cross_entropy_with_logits", softplus(logits) - logits * targets, reduction)
