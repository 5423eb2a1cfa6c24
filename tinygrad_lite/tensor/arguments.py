"""What methods are given, read in one way: dim or axis, sizes as a tuple or as numbers."""

import operator

from .. import dtypes
from ..ops._axes import one_axis


def axis_of(dim, axis):
    """PyTorch's `dim` or NumPy's `axis`, whichever is given."""
    if dim is not None and axis is not None:
        raise TypeError("give dim or axis, not both: they mean the same")
    return dim if axis is None else axis


def shape_of(op: str, sizes):
    """The sizes of f(2, 3) or f((2, 3)) as a tuple of integers."""
    if len(sizes) == 1 and type(sizes[0]) is not int:
        only = sizes[0]
        if getattr(only, "ndim", 0) or not hasattr(only, "__index__"):
            sizes = only
    try:
        return tuple([operator.index(n) for n in sizes])
    except TypeError:
        raise TypeError(f"{op}: expected integers, f(2, 3) or f((2, 3)), got {sizes!r}") from None


def integer(op: str, name: str, value) -> int:
    """A Python integer."""
    try:
        return operator.index(value if not isinstance(value, bool) else None)
    except TypeError:
        raise TypeError(f"{op}: {name} must be an integer, got {value!r}") from None


def booleans(sign, *xs):
    """xs, if all are bools: `&` and its like serve masks."""
    for x in xs:
        if not (isinstance(x, bool) or getattr(x, "dtype", None) == dtypes.bool_):
            raise TypeError(
                f"{sign}: expected bool tensors, got {getattr(x, 'dtype', x)}: compare first, or use .bool()"
            )
    return xs


def real_axis(op, dim, ndim):
    """An axis that exists, as a non-negative integer."""
    if not ndim:
        raise ValueError(f"{op}: a 0-d tensor has no axis: reshape it to (1,)")
    return one_axis(op, dim, ndim)


def same_axes(op, x, other):
    """other, if it has as many axes as x."""
    if other.ndim != x.ndim:
        raise ValueError(f"{op}: expected {x.ndim} axes as x has, got {other.shape} beside {x.shape}")
    return other
