"""Normalisations and softmax: fused ops, each with its readable twin."""

from ._axes import one_axis
from .registry import Case, fused


def mean_last(xp, x):
    """Mean over the last axis, kept."""
    return xp.sum(x, axis=(len(x.shape) - 1,), keepdims=True) * (1.0 / max(x.shape[-1], 1))


def _check_last(op: str, x, **vectors):
    if not x.shape:
        raise ValueError(f"{op}: x must have a last axis to normalise, got a 0-d tensor")
    for name, v in vectors.items():
        if tuple(v.shape) != (x.shape[-1],):
            raise ValueError(f"{op}: {name} must be ({x.shape[-1]},), got {tuple(v.shape)}: it matches x's last axis")


@fused(Case((2, 4), (4,), (4,)), Case((2, 3, 5), (5,), (5,), eps=1e-3))
def layer_norm(xp, x, weight, bias, *, eps=1e-5):
    """Normalise the last axis to zero mean and unit variance, then scale and shift.

        y = (x - mean) / sqrt(var + eps) * weight + bias

    x (..., C) float; weight, bias (C,); eps is added to the variance. Returns (..., C).
    Raises ValueError if weight is not (C,). Ba, Kiros & Hinton 2016, arXiv:1607.06450.
    """
    centred = x - mean_last(xp, x)
    rstd = xp.rsqrt(mean_last(xp, centred * centred) + eps)
    return centred * rstd * weight + bias


@layer_norm.validate
def _(x, weight, bias, *, eps):
    _check_last("layer_norm", x, weight=weight, bias=bias)
    return {"eps": float(eps)}


@fused(Case((2, 4), (4,)), Case((2, 3, 5), (5,), eps=1e-3))
def rms_norm(xp, x, weight, *, eps=1e-6):
    """x / sqrt(mean(x**2) + eps) * weight over the last axis. Zhang & Sennrich 2019, arXiv:1910.07467."""
    return x * xp.rsqrt(mean_last(xp, x * x) + eps) * weight


@rms_norm.validate
def _(x, weight, *, eps):
    _check_last("rms_norm", x, weight=weight)
    return {"eps": float(eps)}


@fused(Case((2, 4)), Case((3,)))
def softmax(xp, x):
    """exp(x) over its sum along the last axis; the maximum is subtracted first, which cancels."""
    last = (len(x.shape) - 1,)
    e = xp.exp(x - xp.stop_gradient(xp.max(x, axis=last, keepdims=True)))
    return e / xp.sum(e, axis=last, keepdims=True)


@fused(Case((2, 4)), Case((3,)))
def log_softmax(xp, x):
    """log(softmax(x)) along the last axis; the maximum is subtracted first, which keeps the digits of large x."""
    last = (len(x.shape) - 1,)
    x = x - xp.stop_gradient(xp.max(x, axis=last, keepdims=True))
    return x - xp.logsumexp(x, axis=last, keepdims=True)


for _op in (softmax, log_softmax):

    def _check(x, _name=_op.name):
        one_axis(_name, -1, len(x.shape))
        if not x.shape or not x.shape[-1]:
            raise ValueError(f"{_name}: needs a last axis with elements, got {tuple(x.shape)}")
        return {}

    _op.validate(_check)
