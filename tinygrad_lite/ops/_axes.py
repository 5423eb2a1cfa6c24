"""Axes, normalised in one way: sorted, non-negative, checked."""

import operator

_ALL = [tuple(range(ndim)) for ndim in range(8)]


def ndim_of(x) -> int:
    """Number of dimensions of a Tensor or an array; a scalar has none."""
    return len(getattr(x, "shape", ()))


def one_axis(op: str, axis, ndim: int) -> int:
    """A single axis as a non-negative integer."""
    low = max(ndim, 1)
    if type(axis) is not int:
        try:
            axis = operator.index(axis if not isinstance(axis, bool) else None)
        except TypeError:
            raise TypeError(f"{op}: an axis is an integer, got {axis!r}") from None
    if not -low <= axis < low:
        raise IndexError(f"{op}: axis {axis} is out of range for {ndim} dimension(s): expected {-low} to {low - 1}")
    return axis % low


def all_axes(op: str, axis, ndim: int) -> tuple[int, ...]:
    """None, one axis or several as a sorted tuple; None means all."""
    if axis is None:
        return _ALL[ndim] if ndim < 8 else tuple(range(ndim))
    if not isinstance(axis, (tuple, list)):
        return (one_axis(op, axis, ndim),) if ndim else ()
    axes = tuple(sorted(one_axis(op, a, ndim) for a in axis))
    if len(set(axes)) != len(axes):
        raise ValueError(f"{op}: an axis is named twice in {tuple(axis)}")
    return axes if ndim else ()


def kept_shape(shape, axes) -> tuple[int, ...]:
    """The shape with the reduced axes kept as 1."""
    return tuple([1 if i in axes else n for i, n in enumerate(shape)])
