"""Ops that move elements without computing: shapes, axes, joining, triangles."""

from ._axes import all_axes, ndim_of, one_axis
from .registry import Case, primitive


def _product(shape):
    n = 1
    for size in shape:
        n *= size
    return n


@primitive(Case((2, 3), shape=(3, 2)), Case((2, 3), shape=(6,)), views=True, exact=True)
def reshape(xp, x, *, shape):
    """The same elements in another shape; one -1 is worked out."""
    return xp.reshape(x, shape=shape)


@reshape.validate
def _(x, *, shape):
    shape, total = tuple([int(n) for n in shape]), _product(x.shape)
    if shape.count(-1) == 1:
        rest = _product(n for n in shape if n != -1)
        if rest and total % rest == 0:
            shape = tuple(total // rest if n == -1 else n for n in shape)
    if min(shape, default=0) < 0 or _product(shape) != total:
        raise ValueError(f"reshape: {tuple(x.shape)} has {total} elements, which do not fill {shape}")
    return {"shape": shape}


reshape.vjp(x=lambda xp, g, x_shape: xp.reshape(g, shape=x_shape))


@primitive(Case((2, 3), axes=(1, 0)), Case((2, 3, 4), axes=(2, 0, 1)), views=True, exact=True)
def transpose(xp, x, *, axes):
    """The axes in another order."""
    return xp.transpose(x, axes=axes)


@transpose.validate
def _(x, *, axes):
    ndim = ndim_of(x)
    axes = tuple(one_axis("transpose", a, ndim) for a in axes)
    if sorted(axes) != list(range(ndim)):
        raise ValueError(f"transpose: expected each of {ndim} axes once, got {axes}")
    return {"axes": axes}


transpose.vjp(x=lambda xp, g, axes: xp.transpose(g, axes=tuple(axes.index(i) for i in range(len(axes)))))


@primitive(Case((3,), shape=(2, 3)), Case((2, 1), shape=(2, 4)), views=True, exact=True)
def broadcast_to(xp, x, *, shape):
    """x stretched to a shape, as broadcasting would."""
    return xp.broadcast_to(x, shape=shape)


broadcast_to.vjp(x=lambda xp, g: g)


@primitive(Case((2, 3), axis=1), Case((2, 3), axis=2), views=True, exact=True)
def expand_dims(xp, x, *, axis):
    """A new axis of size 1."""
    return xp.expand_dims(x, axis=axis)


@expand_dims.validate
def _(x, *, axis):
    return {"axis": one_axis("expand_dims", axis, ndim_of(x) + 1)}


expand_dims.vjp(x=lambda xp, g, x_shape: xp.reshape(g, shape=x_shape))


@primitive(Case((2, 3), axis=(0,)), Case((2, 3), axis=(0, 1)), views=True, exact=True)
def flip(xp, x, *, axis):
    """The order of elements along axes reversed."""
    return xp.flip(x, axis=axis)


@flip.validate
def _(x, *, axis):
    return {"axis": all_axes("flip", axis, ndim_of(x))}


flip.vjp(x=lambda xp, g, axis: xp.flip(g, axis=axis))


@primitive(Case((2, 3), shift=(1,), axis=(1,)), Case((3, 4), shift=(2, -1), axis=(0, 1)), exact=True)
def roll(xp, x, *, shift, axis):
    """Elements moved along axes, those pushed out entering at the other end."""
    return xp.roll(x, shift=shift, axis=axis)


roll.vjp(x=lambda xp, g, shift, axis: xp.roll(g, shift=tuple(-s for s in shift), axis=axis))


@primitive(Case((2, 3), widths=((1, 0), (0, 2))), Case((2,), widths=((2, 1),), value=1.5), exact=True)
def pad(xp, x, *, widths, value=0.0):
    """`value` added before and after each axis: widths is ((before, after), ...)."""
    return xp.pad(x, widths=widths, value=value)


@pad.validate
def _(x, *, widths, value):
    try:
        widths = tuple([(int(a), int(b)) for a, b in widths])
    except (TypeError, ValueError):
        raise TypeError(f"pad: widths are pairs, ((before, after), ...), one an axis, got {widths!r}") from None
    if len(widths) != ndim_of(x) or any(n < 0 for pair in widths for n in pair):
        raise ValueError(f"pad: expected {ndim_of(x)} pairs (before, after) of sizes from 0, got {widths}")
    return {"widths": widths, "value": value}


def _inside(widths, shape):
    return tuple(slice(before, before + n) for (before, _), n in zip(widths, shape, strict=True))


pad.vjp(x=lambda xp, g, x_shape, widths: xp.getitem(g, key=_inside(widths, x_shape)))


@primitive(Case((2, 3), (1, 3), axis=0), Case((2, 1), (2, 2), (2, 1), axis=1), exact=True)
def concatenate(xp, *xs, axis):
    """Arrays joined along an axis."""
    return xp.concatenate(*xs, axis=axis)


@concatenate.validate
def _(*xs, axis):
    if not xs:
        raise ValueError("concatenate: expected at least one tensor, got none")
    if not ndim_of(xs[0]):
        raise ValueError("concatenate: 0-d tensors have no axis to join along: use stack")
    axis = one_axis("concatenate", axis, ndim_of(xs[0]))
    shape = xs[0].shape
    for x in xs[1:]:
        same = len(x.shape) == len(shape) and all(a == b for i, (a, b) in enumerate(zip(x.shape, shape)) if i != axis)
        if not same:
            raise ValueError(f"concatenate: shapes must agree except on axis {axis}, got {shape} and {x.shape}")
    return {"axis": axis}


def _piece(xp, g, index, xs_shape, axis):
    before = sum(shape[axis] for shape in xs_shape[:index])
    key = (slice(None),) * axis + (slice(before, before + xs_shape[index][axis]),)
    return xp.getitem(g, key=key)


concatenate.vjp(xs=_piece)


@primitive(Case((2, 3), (2, 3), axis=0), Case((2,), (2,), (2,), axis=1), exact=True)
def stack(xp, *xs, axis):
    """Arrays of one shape joined along a new axis."""
    return xp.stack(*xs, axis=axis)


@stack.validate
def _(*xs, axis):
    if not xs:
        raise ValueError("stack: expected at least one tensor, got none")
    if len({tuple(x.shape) for x in xs}) > 1:
        raise ValueError(f"stack: shapes must be equal, got {', '.join(str(x.shape) for x in xs)}")
    return {"axis": one_axis("stack", axis, ndim_of(xs[0]) + 1)}


stack.vjp(xs=lambda xp, g, index, axis: xp.getitem(g, key=(slice(None),) * axis + (index,)))


@primitive(Case((2, 3), reps=(2, 1)), Case((2,), reps=(2, 3)), Case((2, 3), reps=(2,)), exact=True)
def tile(xp, x, *, reps):
    """x repeated whole, reps times along each axis."""
    return xp.tile(x, reps=reps)


@tile.validate
def _(x, *, reps):
    reps = tuple([int(n) for n in reps])
    if min(reps, default=0) < 0:
        raise ValueError(f"tile: expected numbers from 0, got {reps}")
    return {"reps": reps}


def _tile_x(xp, g, x_shape, reps):
    d = max(len(reps), len(x_shape))
    reps, shape = (1,) * (d - len(reps)) + tuple(reps), (1,) * (d - len(x_shape)) + tuple(x_shape)
    apart = xp.reshape(g, shape=tuple(n for pair in zip(reps, shape, strict=True) for n in pair))
    return xp.reshape(xp.sum(apart, axis=tuple(range(0, 2 * d, 2)), keepdims=False), shape=x_shape)


tile.vjp(x=_tile_x)


@primitive(Case((3, 3)), Case((2, 3, 4), k=1), exact=True)
def tril(xp, x, *, k=0):
    """The lower triangle of the last two axes, from diagonal k down; zeros above."""
    return xp.tril(x, k=k)


tril.vjp(x=lambda xp, g, k: xp.tril(g, k=k))


@primitive(Case((3, 3)), Case((2, 3, 4), k=-1), exact=True)
def triu(xp, x, *, k=0):
    """The upper triangle of the last two axes, from diagonal k up; zeros below."""
    return xp.triu(x, k=k)


triu.vjp(x=lambda xp, g, k: xp.triu(g, k=k))


def _needs_a_matrix(op):
    @op.validate
    def check(x, *, k):
        if ndim_of(x) < 2:
            raise ValueError(f"{op.name}: expected at least 2 axes, got {tuple(x.shape)}: unsqueeze it first")
        return {"k": int(k)}


_needs_a_matrix(tril)
_needs_a_matrix(triu)
