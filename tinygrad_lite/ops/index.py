"""Reading and writing elements by index. Backward places gradients with `At`: see the registry."""

from ._axes import ndim_of, one_axis
from .registry import At, Case, Ints, primitive


def _basic(key) -> bool:
    """A key of slices, integers, None and Ellipsis names no element twice."""
    parts = key if type(key) is tuple else (key,)
    return all(part is None or part is Ellipsis or isinstance(part, (int, slice)) for part in parts)


@primitive(
    Case((4, 3), key=(slice(1, 3),)),
    Case((4, 3), key=(slice(None, None, 2), 1)),
    Case((4, 3), key=(None, 2, slice(None, None, -1))),
    views=True, exact=True,
)  # fmt: skip
def getitem(xp, x, *, key):
    """x[key], for any key that NumPy takes."""
    return xp.getitem(x, key=key)


@getitem.validate
def _(x, *, key):
    if type(key) is tuple and not _basic(key) or hasattr(key, "dtype"):
        check_key("getitem", key, x.shape, x.device.xp if hasattr(x, "cell") else None)
    return {"key": key}


getitem.vjp(x=lambda xp, g, key: At(key, g, _basic(key)))


@primitive(Case((2, 3), key=(slice(1, 3),), shape=(4, 3)))
def scatter(xp, g, *, key, shape, unique=True):
    """Zeros of `shape` with g added at key: what `At` becomes when gradients are differentiated again."""
    return xp.scatter(g, key=key, shape=shape, unique=unique)


scatter.vjp(g=lambda xp, g, key: xp.getitem(g, key=key))


def _mesh(xp, indices, axis):
    """Keys that address, for each index along `axis`, the element that take_along_axis takes."""
    d = len(indices.shape)
    keys = []
    for i in range(d):
        grid = xp.positions(indices, axis=i)
        keys.append(xp.reshape(grid, shape=tuple(-1 if j == i else 1 for j in range(d))))
    keys[axis] = indices
    return tuple(keys)


@primitive(Case((3, 4), Ints((3, 2), 4), axis=1), Case((3, 4), Ints((2, 4), 3), axis=0),
           integer_inputs=("indices",), exact=True)  # fmt: skip
def take_along_axis(xp, x, indices, *, axis):
    """out[i, j] = x[i, indices[i, j]] along an axis; the other axes match."""
    return xp.take_along_axis(x, indices, axis=axis)


@take_along_axis.validate
def _(x, indices, *, axis):
    axis = one_axis("take_along_axis", axis, ndim_of(x))
    if ndim_of(x) != ndim_of(indices) or not ndim_of(x):
        raise ValueError(
            f"take_along_axis: x and indices need as many axes, got {tuple(x.shape)} and {tuple(indices.shape)}"
        )
    check_indices("take_along_axis", indices, x.shape[axis])
    return {"axis": axis}


take_along_axis.vjp(x=lambda xp, g, indices, axis: At(_mesh(xp, indices, axis), g, False))


@primitive(Case((5, 3), Ints((4,), 5)), Case((5, 3), Ints((2, 2), 5)), integer_inputs=("indices",), exact=True)
def embedding(xp, weight, indices):
    """Rows of weight (V, C) by index: indices (...) to (..., C). Indices from 0 to V - 1 only."""
    return xp.getitem(weight, key=(indices,))


@embedding.validate
def _(weight, indices):
    if ndim_of(weight) != 2:
        raise ValueError(f"embedding: weight must be (V, C), got {tuple(weight.shape)}")
    check_indices(
        "embedding", indices, weight.shape[0], "the vocabulary or the table is too small, or the ids are another's"
    )
    return {}


embedding.vjp(weight=lambda xp, g, indices: At((indices,), g, False))


def _is_mask(part) -> bool:
    return hasattr(part, "dtype") and part.dtype.kind == "b"


def check_key(op: str, key, shape, xp):
    """Raise where integer arrays in a key are out of range, on libraries that would wrap them in silence."""
    if xp is None or not xp.wraps_indices:
        return
    parts = key if type(key) is tuple else (key,)
    taken = sum(0 if p is None or p is Ellipsis else p.ndim if _is_mask(p) else 1 for p in parts)
    axis = 0
    for part in parts:
        if part is Ellipsis:
            axis += len(shape) - taken
        elif _is_mask(part):
            axis += part.ndim
        elif part is not None:
            if hasattr(part, "dtype") and part.size and axis < len(shape):
                low, high = int(part.min()), int(part.max())
                if low < -shape[axis] or high >= shape[axis]:
                    raise IndexError(
                        f"{op}: indices from {low} to {high} are out of range for axis {axis} of size {shape[axis]}"
                    )
            axis += 1


def check_indices(op: str, indices, size: int, hint: str = "negative indices are not wrapped here"):
    """Raise unless every index is an integer in [0, size)."""
    if getattr(indices, "dtype", None) is None or indices.dtype.kind not in "iu":
        raise TypeError(f"{op}: indices must be integers, got {getattr(indices, 'dtype', type(indices).__name__)}")
    if hasattr(indices, "cell") and not indices.device.xp.checks_values:
        return
    data = getattr(indices, "data", indices) if hasattr(indices, "cell") else indices
    if data.size:
        low, high = int(data.min()), int(data.max())
        if low < 0 or high >= size:
            raise IndexError(f"{op}: indices must be in [0, {size}), got from {low} to {high}: {hint}")
