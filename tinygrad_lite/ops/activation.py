"""Activations: some are primitives, the hot ones are fused ops whose readable twin is the formula here."""

import math

from ..dtypes import HALF, float32
from ..kernels import kernel_for
from .registry import Case, fused, primitive

M = (2, 3)


@primitive(Case(M, distinct=True))
def relu(xp, x):
    """max(x, 0); the gradient at 0 is 0."""
    return xp.maximum(x, 0)


relu.vjp(x=lambda xp, g, out: xp.where(xp.less_equal(out, 0.0), xp.zeros_like(g), g))  # NaN lets g pass


@primitive(Case(M, distinct=True), Case(M, distinct=True, negative_slope=0.2), to_float=True)
def leaky_relu(xp, x, *, negative_slope=0.01):
    """x where positive, else negative_slope * x."""
    return xp.where(xp.greater(x, 0.0), x, x * negative_slope)


leaky_relu.vjp(x=lambda xp, g, x, negative_slope: xp.where(xp.greater(x, 0.0), g, g * negative_slope))


@primitive(Case(M, distinct=True), Case(M, distinct=True, alpha=0.7), to_float=True)
def elu(xp, x, *, alpha=1.0):
    """x where positive, else alpha * (exp(x) - 1). Clevert et al. 2015, arXiv:1511.07289."""
    return xp.where(xp.greater(x, 0.0), x, xp.expm1(xp.minimum(x, 0.0)) * alpha)


elu.vjp(x=lambda xp, g, x, alpha: xp.where(xp.greater(x, 0.0), g, g * xp.exp(xp.minimum(x, 0.0)) * alpha))


@leaky_relu.validate
def _(x, *, negative_slope):
    return {"negative_slope": float(negative_slope)}


@elu.validate
def _(x, *, alpha):
    return {"alpha": float(alpha)}


@primitive(Case(M), to_float=True)
def silu(xp, x):
    """x * sigmoid(x). Hendrycks & Gimpel 2016, arXiv:1606.08415."""
    return x * xp.sigmoid(x)


def _silu_x(xp, g, x):
    s = xp.sigmoid(x)
    return g * (s + x * s * (1.0 - s))


silu.vjp(x=_silu_x)


def gelu_formula(xp, x, approximate):
    """x times the normal distribution's Phi(x), exact or by tanh. arXiv:1606.08415."""
    if approximate == "none":
        return x * (xp.erf(x * math.sqrt(0.5)) + 1.0) * 0.5
    inner = (x + x * x * x * 0.044715) * math.sqrt(2.0 / math.pi)
    return x * (xp.tanh(inner) + 1.0) * 0.5


def _check_approximate(op):
    def check(*xs, approximate):
        if len(xs) == 2 and (not xs[0].shape or tuple(xs[1].shape) != tuple(xs[0].shape[-1:])):
            raise ValueError(
                f"{op.name}: bias must be (C,) for x (..., C), got {tuple(xs[1].shape)} beside {tuple(xs[0].shape)}"
            )
        if approximate not in ("none", "tanh"):
            raise ValueError(f'{op.name}: approximate must be "none" or "tanh", got {approximate!r}')
        return {"approximate": approximate}

    return op.validate(check)


@fused(Case(M), Case((3, 4), approximate="tanh"))
def gelu(xp, x, *, approximate="none"):
    """x * Phi(x), with Phi by erf, or by tanh as GPT-2 has it."""
    return gelu_formula(xp, x, approximate)


_check_approximate(gelu)


@fused(Case(M, (3,)), Case((3, 4), (4,), approximate="tanh"))
def bias_gelu(xp, x, bias, *, approximate="none"):
    """gelu(x + bias) in one pass: bias (C,) on the last axis of x (..., C)."""
    return gelu_formula(xp, x + bias, approximate)


_check_approximate(bias_gelu)


@fused(Case((2, 6)), Case((3, 2, 4)))
def swiglu(xp, x):
    """silu(a) * b for the halves a, b of x's last axis. Shazeer 2020, arXiv:2002.05202."""
    half = x.shape[-1] // 2
    a = xp.getitem(x, key=(Ellipsis, slice(0, half)))
    b = xp.getitem(x, key=(Ellipsis, slice(half, 2 * half)))
    return a * xp.sigmoid(a) * b


@swiglu.validate
def _(x):
    if not x.shape or x.shape[-1] % 2:
        raise ValueError(f"swiglu: the last axis holds two halves, so its size must be even, got {tuple(x.shape)}")
    return {}


@primitive(Case((2, 3), p=0.4, key=7, offset=3), Case((3, 5), p=0.3, key=11, offset=0), to_float=True, exact=True)
def dropout(xp, x, *, p, key, offset):
    """x with elements zeroed with probability p and the rest scaled by 1 / (1 - p).

    The mask is a function of the generator's key and offset, so nothing is kept for backward. arXiv:1207.0580.
    """
    kernel = kernel_for(xp, "dropout", x.dtype)
    if kernel is not None:
        return kernel.forward(xp.contiguous(x), p=p, key=key, offset=offset)[0]
    if x.dtype in HALF:  # 1 / (1 - p) in 8 bits would be off by a thousandth
        wide = dropout.forward(xp, xp.astype(x, dtype=float32), p=p, key=key, offset=offset)
        return xp.astype(wide, dtype=x.dtype)
    return xp.counter_dropout(x, p=p, key=key, offset=offset)


dropout.vjp(x=lambda xp, g, p, key, offset: xp.dropout(g, p=p, key=key, offset=offset))


@dropout.validate
def _(x, *, p, key, offset):
    if not 0.0 <= p < 1.0:
        raise ValueError(f"dropout: p must be in [0, 1), got {p}")
    return {"p": p, "key": key, "offset": offset}
