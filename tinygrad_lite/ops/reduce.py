"""Reductions and scans. `axis` is a sorted tuple of non-negative axes once recorded."""

import math

from ._axes import all_axes, kept_shape, ndim_of, one_axis
from .registry import Case, Values, primitive


def _normalised(op, empty_ok=False):
    @op.validate
    def check(x, *, axis, keepdims):
        axes = all_axes(op.name, axis, ndim_of(x))
        if not empty_ok and 0 in [x.shape[a] for a in axes]:
            raise ValueError(f"{op.name}: cannot reduce the empty axes of shape {x.shape}: there is no such element")
        return {"axis": axes, "keepdims": bool(keepdims)}

    return op


def _spread(xp, g, shape, axis):
    """g of a reduced result, seen at the input's shape."""
    kept = kept_shape(shape, axis)
    return xp.stretched(g if g.shape == kept else xp.reshape(g, shape=kept), shape=shape)


@primitive(Case((2, 3)), Case((2, 3), axis=(1,)), Case((2, 3, 2), axis=(0, 2), keepdims=True), exact=True)
def sum(xp, x, *, axis=None, keepdims=False):
    """Sum over axes."""
    return xp.sum(x, axis=axis, keepdims=keepdims)


sum.vjp(x=lambda xp, g, x_shape, axis: _spread(xp, g, x_shape, axis))
_normalised(sum, empty_ok=True)


# Rows with no zero, one and two: the derivative of a product with zeros is not 0 where one factor alone is.
_ZEROS = Values(((0.7, -1.2, 1.5), (1.1, 0.0, -0.8), (0.0, 1.3, 0.0)))


@primitive(
    Case((2, 3), low=0.5),
    Case((2, 3), axis=(1,)),
    Case((3, 2), axis=(0,), keepdims=True),
    Case(_ZEROS, axis=(1,)),
    Case(_ZEROS, axis=(0,), keepdims=True),
    Case(Values((((0.7, 1.4), (-1.2, 0.6)), ((0.0, -0.9), (1.6, 1.1)))), axis=(0, 2)),
)
def prod(xp, x, *, axis=None, keepdims=False):
    """Product over axes; right also where factors are zero."""
    return xp.prod(x, axis=axis, keepdims=keepdims)


def _prod_x(xp, g, x, out, x_shape, axis):
    g = _spread(xp, g, x_shape, axis)
    if _divisible(xp, x):
        return g * _spread(xp, out, x_shape, axis) / x
    # out / x is 0 / 0 at a zero: multiply the others instead, those before and those behind.
    rest = tuple(i for i in range(len(x_shape)) if i not in axis)
    order = rest + axis
    moved = xp.transpose(x, axes=order)
    lead = tuple(x_shape[i] for i in rest)
    flat = xp.reshape(moved, shape=(*lead, math.prod(x_shape[i] for i in axis)))
    last = len(lead)
    before = _exclusive(xp, flat, last)
    behind = xp.flip(_exclusive(xp, xp.flip(flat, axis=(last,)), last), axis=(last,))
    back = xp.reshape(before * behind, shape=tuple(x_shape[i] for i in order))
    return g * xp.transpose(back, axes=tuple(order.index(i) for i in range(len(order))))


def _divisible(xp, x):
    """Whether a factor can be divided out of a product again: none is 0, infinite or NaN."""
    return bool(xp.all(xp.logical_and(xp.not_equal(x, 0.0), xp.isfinite(x))))


def _exclusive(xp, x, axis):
    """At each place of an axis the product of the elements before it."""
    products = xp.cumprod(x, axis=axis)
    first = xp.full_like(xp.getitem(x, key=(slice(None),) * axis + (slice(0, 1),)), 1.0)
    return xp.concatenate(first, xp.getitem(products, key=(slice(None),) * axis + (slice(0, -1),)), axis=axis)


prod.vjp(x=_prod_x)
_normalised(prod, empty_ok=True)


def _shared(xp, g, x, out, x_shape, axis):
    # Ties share the gradient evenly; so do NaNs, of which one decides.
    wins = xp.logical_or(xp.equal(x, _spread(xp, out, x_shape, axis)), xp.isnan(x))
    wins = xp.where(wins, xp.full_like(x, 1.0), xp.zeros_like(x))
    return _spread(xp, g, x_shape, axis) * wins / xp.sum(wins, axis=axis, keepdims=True)


@primitive(
    Case((2, 3), distinct=True),
    Case((2, 3), distinct=True, axis=(1,)),
    Case((3, 4), low=-3.0, high=-0.5, distinct=True, axis=(0,)),
)
def max(xp, x, *, axis=None, keepdims=False):
    """Largest element over axes; ties share the gradient."""
    return xp.max(x, axis=axis, keepdims=keepdims)


max.vjp(x=_shared)
_normalised(max)


@primitive(
    Case((2, 3), distinct=True),
    Case((2, 3), distinct=True, axis=(0,), keepdims=True),
    Case((3, 4), low=0.5, high=3.0, distinct=True, axis=(1,)),
)
def min(xp, x, *, axis=None, keepdims=False):
    """Smallest element over axes; ties share the gradient."""
    return xp.min(x, axis=axis, keepdims=keepdims)


min.vjp(x=_shared)
_normalised(min)


@primitive(Case((2, 3)), Case((2, 3), axis=(1,), keepdims=True), to_float=True)
def logsumexp(xp, x, *, axis=None, keepdims=False):
    """log(sum(exp(x))) over axes, without overflow."""
    top = xp.max(x, axis=axis, keepdims=True)
    top = xp.where(xp.isfinite(top), top, xp.zeros_like(top))
    total = xp.log(xp.sum(xp.exp(x - top), axis=axis, keepdims=True)) + top
    if keepdims:
        return total
    return xp.reshape(total, shape=tuple(n for i, n in enumerate(x.shape) if i not in axis))


logsumexp.vjp(x=lambda xp, g, x, out, x_shape, axis: _spread(xp, g, x_shape, axis) * xp.exp(
    x - _spread(xp, out, x_shape, axis)))  # fmt: skip
_normalised(logsumexp)


@primitive(Case((2, 3)), Case((2, 3), axis=(1,)), to_float=True)
def norm(xp, x, *, axis=None, keepdims=False):
    """Euclidean norm over axes; the gradient at zero is 0, not NaN."""
    return xp.sqrt(xp.sum(x * x, axis=axis, keepdims=keepdims))


def _norm_x(xp, g, x, out, x_shape, axis):
    safe = xp.where(xp.equal(out, 0.0), xp.full_like(out, 1.0), out)
    return x * _spread(xp, g / safe, x_shape, axis)


norm.vjp(x=_norm_x)
_normalised(norm, empty_ok=True)


def _unrecorded(name, doc, empty_ok=True):
    def forward(xp, x, *, axis=None, keepdims=False):
        return getattr(xp, name)(x, axis=axis, keepdims=keepdims)

    forward.__name__, forward.__doc__ = name, doc
    return _normalised(primitive()(forward), empty_ok)


any = _unrecorded("any", "Whether any element over axes is non-zero.")
all = _unrecorded("all", "Whether all elements over axes are non-zero.")


def _position(name, doc):
    def forward(xp, x, *, axis=None, keepdims=False):
        return getattr(xp, name)(x, axis=axis, keepdims=keepdims)

    forward.__name__, forward.__doc__ = name, doc
    op = primitive()(forward)

    @op.validate
    def check(x, *, axis, keepdims):
        if axis is not None:
            axis = one_axis(name, axis, ndim_of(x))
        if 0 in x.shape and (axis is None or x.shape[axis] == 0):
            raise ValueError(f"{name}: cannot reduce an empty axis of shape {x.shape}: there is no such element")
        return {"axis": axis if ndim_of(x) else None, "keepdims": bool(keepdims)}

    return op


argmax = _position("argmax", "Index of the largest element, the first of equals.")
argmin = _position("argmin", "Index of the smallest element, the first of equals.")


def _along(op):
    @op.validate
    def check(x, *, axis):
        if not ndim_of(x):
            raise ValueError(f"{op.name}: a 0-d tensor has no axis to go along: reshape it to (1,)")
        return {"axis": one_axis(op.name, axis, ndim_of(x))}

    return op


@primitive(Case((2, 3), axis=1), Case((3, 2), axis=0))
def cumsum(xp, x, *, axis):
    """Running sum along an axis."""
    return xp.cumsum(x, axis=axis)


cumsum.vjp(x=lambda xp, g, axis: xp.flip(xp.cumsum(xp.flip(g, axis=(axis,)), axis=axis), axis=(axis,)))
_along(cumsum)


@primitive(Case((2, 3), axis=1), Case((3, 2), axis=0), Case(_ZEROS, axis=1), Case(_ZEROS, axis=0))
def cumprod(xp, x, *, axis):
    """Running product along an axis; right also where factors are zero."""
    return xp.cumprod(x, axis=axis)


def _cumprod_x(xp, g, x, out, x_shape, axis):
    # out_i is the product of x_k for k <= i, so gx_j = sum over i >= j of g_i times that product without x_j.
    if _divisible(xp, x):
        return xp.flip(xp.cumsum(xp.flip(g * out, axis=(axis,)), axis=axis), axis=(axis,)) / x
    # Without a division: gx_j = (product before j) * s_j, where s_j = g_j + x_{j+1} s_{j+1}. Each turn doubles how far
    # ahead the sums look: sums_j takes in the terms up to j + reach - 1, steps_j is the product of the x on the way.
    sums, steps, reach = g, _ahead(xp, x, axis, 1), 1
    while reach < x_shape[axis]:
        sums, steps = sums + steps * _ahead(xp, sums, axis, reach), steps * _ahead(xp, steps, axis, reach)
        reach *= 2
    return _exclusive(xp, x, axis) * sums


def _ahead(xp, x, axis, by):
    """At each place of an axis the element `by` places further on; 0 beyond the end."""
    before = (slice(None),) * axis
    rest = xp.getitem(x, key=(*before, slice(by, None)))
    return xp.concatenate(rest, xp.zeros_like(xp.getitem(x, key=(*before, slice(0, by)))), axis=axis)


cumprod.vjp(x=_cumprod_x)
_along(cumprod)


@primitive()
def argsort(xp, x, *, axis=-1):
    """Indices that sort an axis, ascending; equal elements keep their order."""
    return xp.argsort(x, axis=axis)


_along(argsort)
