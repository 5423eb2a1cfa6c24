"""Functions of each element, of one tensor or of two that broadcast."""

from __future__ import annotations

from ..tensor import as_tensor


def exp(x):
    """e ** x."""
    return as_tensor(x).exp()


def log(x):
    """Natural logarithm."""
    return as_tensor(x).log()


def log1p(x):
    """log(1 + x), exact near 0."""
    return as_tensor(x).log1p()


def expm1(x):
    """e ** x - 1, exact near 0."""
    return as_tensor(x).expm1()


def sqrt(x):
    """Square root."""
    return as_tensor(x).sqrt()


def rsqrt(x):
    """1 / sqrt(x)."""
    return as_tensor(x).rsqrt()


def square(x):
    """x * x."""
    return as_tensor(x).square()


def reciprocal(x):
    """1 / x."""
    return as_tensor(x).reciprocal()


def sin(x):
    """Sine."""
    return as_tensor(x).sin()


def cos(x):
    """Cosine."""
    return as_tensor(x).cos()


def tan(x):
    """Tangent."""
    return as_tensor(x).tan()


def tanh(x):
    """Hyperbolic tangent."""
    return as_tensor(x).tanh()


def sigmoid(x):
    """1 / (1 + exp(-x))."""
    return as_tensor(x).sigmoid()


def erf(x):
    """The error function."""
    return as_tensor(x).erf()


def neg(x):
    """-x."""
    return as_tensor(x).neg()


def abs(x):
    """The absolute value; its gradient at 0 is 0."""
    return as_tensor(x).abs()


def sign(x):
    """-1, 0 or 1."""
    return as_tensor(x).sign()


def floor(x):
    """The largest integer at most x."""
    return as_tensor(x).floor()


def ceil(x):
    """The smallest integer at least x."""
    return as_tensor(x).ceil()


def round(x):
    """The nearest integer, halves to even."""
    return as_tensor(x).round()


def isnan(x):
    """Where x is not a number."""
    return as_tensor(x).isnan()


def isinf(x):
    """Where x is infinite."""
    return as_tensor(x).isinf()


def isfinite(x):
    """Where x is neither NaN nor infinite."""
    return as_tensor(x).isfinite()


def relu(x):
    """max(x, 0); the gradient at 0 is 0."""
    return as_tensor(x).relu()


def silu(x):
    """x * sigmoid(x)."""
    return as_tensor(x).silu()


def softplus(x):
    """log(1 + exp(x))."""
    return as_tensor(x).softplus()


def gelu(x, approximate="none"):
    """x * Phi(x), by erf, or by tanh as GPT-2 has it."""
    return as_tensor(x).gelu(approximate)


def leaky_relu(x, negative_slope=0.01):
    """x where positive, else negative_slope * x."""
    return as_tensor(x).leaky_relu(negative_slope)


def elu(x, alpha=1.0):
    """x where positive, else alpha * (exp(x) - 1)."""
    return as_tensor(x).elu(alpha)


def clamp(x, min=None, max=None):
    """x limited to [min, max]."""
    return as_tensor(x).clamp(min, max)


def add(x, y):
    """x + y."""
    return as_tensor(x).add(y)


def sub(x, y):
    """x - y."""
    return as_tensor(x).sub(y)


def mul(x, y):
    """x * y."""
    return as_tensor(x).mul(y)


def div(x, y):
    """x / y."""
    return as_tensor(x).div(y)


def pow(x, y):
    """x ** y."""
    return as_tensor(x).pow(y)


def remainder(x, y):
    """x - floor(x / y) * y: the sign is y's."""
    return as_tensor(x).remainder(y)


def maximum(x, y):
    """The larger of x and y; a tie shares the gradient."""
    return as_tensor(x).maximum(y)


def minimum(x, y):
    """The smaller of x and y; a tie shares the gradient."""
    return as_tensor(x).minimum(y)


def eq(x, y):
    """x == y, elementwise."""
    return as_tensor(x).eq(y)


def ne(x, y):
    """x != y, elementwise."""
    return as_tensor(x).ne(y)


def lt(x, y):
    """x < y, elementwise."""
    return as_tensor(x).lt(y)


def le(x, y):
    """x <= y, elementwise."""
    return as_tensor(x).le(y)


def gt(x, y):
    """x > y, elementwise."""
    return as_tensor(x).gt(y)


def ge(x, y):
    """x >= y, elementwise."""
    return as_tensor(x).ge(y)
