"""Elementwise ops: arithmetic, powers, exponentials, trigonometry, choices, comparisons."""

import math

from .registry import Bools, Case, Values, primitive

M, V = (2, 3), (3,)


@primitive(Case(M, M), Case(M, V), Case((2, 1), ()), exact=True)
def add(xp, x, y):
    """x + y, broadcasting."""
    return xp.add(x, y)


add.vjp(x=lambda xp, g: g, y=lambda xp, g: g)


@primitive(Case(M, V), Case(V, M), Case(1.5, M), exact=True)
def subtract(xp, x, y):
    """x - y, broadcasting."""
    return xp.subtract(x, y)


subtract.vjp(x=lambda xp, g: g, y=lambda xp, g: xp.negative(g))


@primitive(Case(M, V), Case((), (4,)), Case(M, -0.7))
def multiply(xp, x, y):
    """x * y, broadcasting."""
    return xp.multiply(x, y)


multiply.vjp(x=lambda xp, g, y: g * y, y=lambda xp, g, x: g * x)


@primitive(Case(M, V, low=0.5), Case(V, M, low=-2.0, high=-0.5), Case(2.0, M, low=0.4), Case(M, -0.8), to_float=True)
def divide(xp, x, y):
    """x / y, broadcasting; integers divide as floats."""
    return xp.divide(x, y)


divide.vjp(x=lambda xp, g, y: g / y, y=lambda xp, g, y, out: xp.negative(g * out / y))


@primitive(
    Case(M, V, low=0.5),
    Case(M, (), low=0.3),
    Case(Values(((0.6, 1.3, 0.4), (1.7, 0.8, 2.1))), M),
    Case(M, Values((2.0, 0.0, 3.0)), low=0.4),
    Case(M, 3),
    Case(M, 2),
    Case(M, -1.5, low=0.4),
    Case(1.7, M),
)  # fmt: skip
def power(xp, x, y):
    """x ** y, broadcasting."""
    return xp.power(x, y)


def _power_x(xp, g, x, y):
    # forward: x**y, so gx = g * y * x**(y-1); at y = 0 and x = 0 that is 0 * inf, and the result is constant
    if isinstance(y, (int, float)):
        if y == 0:
            return xp.zeros_like(g)
        return g * (x * 2.0) if y == 2 else g * (xp.power(x, y - 1) * y)
    still = xp.logical_and(xp.equal(y, 0.0), xp.equal(x, 0.0))  # elsewhere y = 0 makes gx 0, but not its slope in y
    return xp.where(still, xp.zeros_like(g), g * y * xp.power(x, xp.where(still, xp.full_like(y, 1.0), y) - 1.0))


# Finite, so that its products with 0 stay 0 at second order; where y is negative 0**y is infinite already.
_LOG_OF_ZERO = -745.0


def _power_y(xp, g, x, y, out):
    # out * log(x); at x = 0 with y >= 0 the power is flat in y
    if isinstance(x, (int, float)):
        if x == 0:
            return xp.where(xp.greater_equal(y, 0.0), xp.zeros_like(g), g * out * _LOG_OF_ZERO)
        return g * out * (math.log(x) if x > 0 else math.nan)
    flat = xp.logical_and(xp.equal(x, 0.0), xp.greater_equal(y, 0.0))
    safe = xp.where(xp.equal(x, 0.0), xp.full_like(x, 1.0), x)
    return xp.where(flat, xp.zeros_like(g), g * out * xp.log(safe))


power.vjp(x=_power_x, y=_power_y)


@primitive(Case(M), exact=True)
def negative(xp, x):
    """-x."""
    return xp.negative(x)


negative.vjp(x=lambda xp, g: xp.negative(g))


@primitive(Case(M), views=True, exact=True)
def identity(xp, x):
    """x itself, as a new place in the graph."""
    return x


identity.vjp(x=lambda xp, g: g)


@primitive(views=True, exact=True)
def stop_gradient(xp, x):
    """x itself, seen by backward as a constant."""
    return x


@primitive(Case(M, dtype="float64"), exact=True)
def astype(xp, x, *, dtype):
    """x converted to another element type."""
    return xp.astype(x, dtype=dtype)


astype.vjp(x=lambda xp, g, x_dtype: xp.astype(g, dtype=x_dtype))


@primitive(Case(M, low=0.2), Case(M, high=-0.2), exact=True)
def absolute(xp, x):
    """|x|; the gradient at 0 is 0."""
    return xp.absolute(x)


absolute.vjp(x=lambda xp, g, x: g * xp.sign(x))


@primitive(exact=True)
def sign(xp, x):
    """-1, 0 or 1."""
    return xp.sign(x)


@primitive(Case(M), to_float=True)
def exp(xp, x):
    """e ** x."""
    return xp.exp(x)


exp.vjp(x=lambda xp, g, out: g * out)


@primitive(Case(M), to_float=True)
def expm1(xp, x):
    """e ** x - 1, exact near 0."""
    return xp.expm1(x)


expm1.vjp(x=lambda xp, g, out: g * (out + 1.0))


@primitive(Case(M, low=0.3), to_float=True)
def log(xp, x):
    """Natural logarithm."""
    return xp.log(x)


log.vjp(x=lambda xp, g, x: g / x)


@primitive(Case(M, low=-0.5), to_float=True)
def log1p(xp, x):
    """log(1 + x), exact near 0."""
    return xp.log1p(x)


log1p.vjp(x=lambda xp, g, x: g / (x + 1.0))


@primitive(Case(M, low=0.3), to_float=True)
def sqrt(xp, x):
    """Square root."""
    return xp.sqrt(x)


sqrt.vjp(x=lambda xp, g, out: g * 0.5 / out)


@primitive(Case(M, low=0.3), to_float=True)
def rsqrt(xp, x):
    """1 / sqrt(x)."""
    return xp.reciprocal(xp.sqrt(x))


rsqrt.vjp(x=lambda xp, g, out: g * out * out * out * -0.5)


@primitive(Case(M))
def square(xp, x):
    """x * x."""
    return xp.square(x) if x.dtype.kind != "b" else xp.astype(x, dtype="int64")


square.vjp(x=lambda xp, g, x: g * x * 2.0)


@primitive(Case(M, low=0.4), Case(M, high=-0.4), to_float=True)
def reciprocal(xp, x):
    """1 / x."""
    return xp.reciprocal(x)


reciprocal.vjp(x=lambda xp, g, out: xp.negative(g * out * out))


@primitive(Case(M), to_float=True)
def sin(xp, x):
    """Sine."""
    return xp.sin(x)


sin.vjp(x=lambda xp, g, x: g * xp.cos(x))


@primitive(Case(M), to_float=True)
def cos(xp, x):
    """Cosine."""
    return xp.cos(x)


cos.vjp(x=lambda xp, g, x: xp.negative(g * xp.sin(x)))


@primitive(Case(M, low=-1.2, high=1.2), to_float=True)
def tan(xp, x):
    """Tangent."""
    return xp.tan(x)


tan.vjp(x=lambda xp, g, out: g * (out * out + 1.0))


@primitive(Case(M), to_float=True)
def tanh(xp, x):
    """Hyperbolic tangent."""
    return xp.tanh(x)


tanh.vjp(x=lambda xp, g, out: g * (1.0 - out * out))


@primitive(Case(M), to_float=True)
def sigmoid(xp, x):
    """1 / (1 + exp(-x)), through exp(-|x|): no x overflows, and a small result keeps all its digits."""
    e = xp.exp(xp.negative(xp.absolute(x)))
    return xp.where(xp.greater_equal(x, 0.0), xp.full_like(e, 1.0), e) / (e + 1.0)


sigmoid.vjp(x=lambda xp, g, out: g * out * (1.0 - out))


@primitive(Case(M), to_float=True)
def erf(xp, x):
    """The error function."""
    return xp.erf(x)


erf.vjp(x=lambda xp, g, x: g * xp.exp(xp.negative(x * x)) * (2.0 / math.sqrt(math.pi)))


@primitive(Case(M), to_float=True)
def softplus(xp, x):
    """log(1 + exp(x)), without overflow."""
    return xp.maximum(x, 0.0) + xp.log1p(xp.exp(xp.negative(xp.absolute(x))))


softplus.vjp(x=lambda xp, g, x: g * xp.sigmoid(x))


def _half_at_ties(xp, g, x, y, loses):
    # Ties share the gradient; beside NaN neither loses: both are sent it, as in PyTorch.
    return xp.where(loses(x, y), xp.zeros_like(g), xp.where(xp.equal(x, y), g * 0.5, g))


@primitive(Case(M, V, distinct=True), Case((4,), (3, 4), distinct=True), Case(M, 0.4), exact=True)
def maximum(xp, x, y):
    """The larger of x and y; NaN wins; a tie shares the gradient."""
    return xp.maximum(x, y)


maximum.vjp(
    x=lambda xp, g, x, y: _half_at_ties(xp, g, x, y, xp.less),
    y=lambda xp, g, x, y: _half_at_ties(xp, g, y, x, xp.less),
)


@primitive(Case(M, V, distinct=True), Case((4,), (3, 4), distinct=True), Case(-0.4, M), exact=True)
def minimum(xp, x, y):
    """The smaller of x and y; NaN wins; a tie shares the gradient."""
    return xp.minimum(x, y)


minimum.vjp(
    x=lambda xp, g, x, y: _half_at_ties(xp, g, x, y, xp.greater),
    y=lambda xp, g, x, y: _half_at_ties(xp, g, y, x, xp.greater),
)


@primitive(
    Case(M, low=-3, high=3, distinct=True, min=-1.1, max=1.3),
    Case((3, 4), distinct=True, min=-0.4),
    Case((3, 4), distinct=True, max=0.4),
)
def clamp(xp, x, *, min=None, max=None):
    """x limited to [min, max]; the gradient passes where x is within, ends included."""
    if min is not None:
        x = xp.maximum(x, min)
    return x if max is None else xp.minimum(x, max)


@clamp.validate
def _(x, *, min, max):
    if min is None and max is None:
        raise ValueError("clamp: give min, max or both")
    return {"min": _plain(min), "max": _plain(max)}


def _plain(number):
    # Python's number for NumPy's: a numpy.float64 would make a float32 array float64.
    return number.item() if hasattr(number, "item") else number


def _clamp_x(xp, g, x, min, max):
    inside = None if min is None else xp.greater_equal(x, min)
    if max is not None:
        below = xp.less_equal(x, max)
        inside = below if inside is None else xp.logical_and(inside, below)
    return g if inside is None else xp.where(inside, g, xp.zeros_like(g))


clamp.vjp(x=_clamp_x)


@primitive(
    Case(Bools(M), M, V), Case(Bools(V), M, ()), Case(Bools((3, 4)), (3, 4), (3, 4)),
    integer_inputs=("condition",), exact=True,
)  # fmt: skip
def where(xp, condition, x, y):
    """x where the condition holds, else y; broadcasting."""
    return xp.where(condition, x, y)


where.vjp(
    x=lambda xp, g, condition: xp.where(condition, g, xp.zeros_like(g)),
    y=lambda xp, g, condition: xp.where(condition, xp.zeros_like(g), g),
)


# -- without a gradient: they never record -----------------------------------------------------------------
def _constant(name, doc):
    def forward(xp, x):
        return getattr(xp, name)(x)

    forward.__name__, forward.__doc__ = name, doc
    return primitive(exact=True)(forward)


def _rounding(name, doc):
    def forward(xp, x):
        # Integers stay what they are; the libraries disagree on their type.
        return xp.array_copy(x) if x.dtype.kind in "iub" else getattr(xp, name)(x)

    forward.__name__, forward.__doc__ = name, doc
    return primitive(exact=True)(forward)


def _comparison(name, doc):
    def forward(xp, x, y):
        return getattr(xp, name)(x, y)

    forward.__name__, forward.__doc__ = name, doc
    return primitive(exact=True)(forward)


floor = _rounding("floor", "The largest integer at most x.")
ceil = _rounding("ceil", "The smallest integer at least x.")
rint = _rounding("rint", "The nearest integer, halves to even.")
isnan = _constant("isnan", "Where x is not a number.")
isinf = _constant("isinf", "Where x is infinite.")
isfinite = _constant("isfinite", "Where x is neither NaN nor infinite.")
logical_not = _constant("logical_not", "Where x is zero.")
equal = _comparison("equal", "x == y, elementwise.")
not_equal = _comparison("not_equal", "x != y, elementwise.")
less = _comparison("less", "x < y, elementwise.")
less_equal = _comparison("less_equal", "x <= y, elementwise.")
greater = _comparison("greater", "x > y, elementwise.")
greater_equal = _comparison("greater_equal", "x >= y, elementwise.")
logical_and = _comparison("logical_and", "Both non-zero.")
logical_or = _comparison("logical_or", "Either non-zero.")
logical_xor = _comparison("logical_xor", "Exactly one non-zero.")


@primitive()
def floor_divide(xp, x, y):
    """The floor of x / y."""
    return xp.floor_divide(x, y)


@primitive(
    Case((2, 3), (3,), low=0.6, high=2.0),
    Case((2, 3), (3,), low=-2.0, high=-0.6),
    Case((3, 4), Values((0.7, -1.1, 1.3, -0.9)), low=-4.0, high=4.0),
)
def remainder(xp, x, y):
    """x - floor(x / y) * y: the sign is y's."""
    return xp.remainder(x, y)


remainder.vjp(x=lambda xp, g: g, y=lambda xp, g, x, y: xp.negative(g * xp.floor_divide(x, y)))
