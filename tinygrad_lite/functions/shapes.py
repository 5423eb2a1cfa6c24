"""Shapes, elements by index, products of matrices and vectors."""

from __future__ import annotations

from ..tensor import as_tensor


def reshape(x, shape):
    """The same elements in another shape; one -1 is worked out."""
    return as_tensor(x).reshape(shape)


def flatten(x, start_dim=0, end_dim=-1):
    """Axes start_dim to end_dim as one."""
    return as_tensor(x).flatten(start_dim, end_dim)


def transpose(x, dim0, dim1):
    """Two axes exchanged."""
    return as_tensor(x).transpose(dim0, dim1)


def permute(x, dims):
    """The axes in another order."""
    return as_tensor(x).permute(dims)


def squeeze(x, dim=None, *, axis=None):
    """Without axes of size 1; with `dim`, that axis if its size is 1."""
    return as_tensor(x).squeeze(dim, axis=axis)


def unsqueeze(x, dim=None, *, axis=None):
    """A new axis of size 1."""
    return as_tensor(x).unsqueeze(dim, axis=axis)


def flip(x, dims=(), *, axis=None):
    """Axes reversed."""
    return as_tensor(x).flip(dims, axis=axis)


def roll(x, shifts, dims=None, *, axis=None):
    """Elements moved along axes, those pushed out entering at the other end."""
    return as_tensor(x).roll(shifts, dims, axis=axis)


def expand(x, sizes):
    """Axes of size 1 stretched; -1 keeps a size."""
    return as_tensor(x).expand(sizes)


def repeat(x, reps):
    """The whole tensor repeated along each axis, as in PyTorch (numpy.tile)."""
    return as_tensor(x).repeat(reps)


def tile(x, reps):
    """The whole tensor repeated along its last axes."""
    return as_tensor(x).tile(reps)


def tril(x, diagonal=0):
    """The lower triangle of the last two axes."""
    return as_tensor(x).tril(diagonal)


def triu(x, diagonal=0):
    """The upper triangle of the last two axes."""
    return as_tensor(x).triu(diagonal)


def diagonal(x, offset=0, dim1=0, dim2=1):
    """The diagonal of two axes, as a new last axis."""
    return as_tensor(x).diagonal(offset, dim1, dim2)


def split(x, size, dim=0, *, axis=None):
    """Pieces of `size` along an axis, or of the sizes given."""
    return as_tensor(x).split(size, dim, axis=axis)


def chunk(x, chunks, dim=0, *, axis=None):
    """At most `chunks` pieces of equal size along an axis, the last smaller."""
    return as_tensor(x).chunk(chunks, dim, axis=axis)


def gather(x, dim, indices):
    """out[i, j] = x[i, indices[i, j]] for dim=1."""
    return as_tensor(x).gather(dim, indices)


def scatter_add(x, dim, indices, source):
    """x with source[i, j] added at [i, indices[i, j]] for dim=1."""
    return as_tensor(x).scatter_add(dim, indices, source)


def index_select(x, dim, indices):
    """Slices along an axis by index."""
    return as_tensor(x).index_select(dim, indices)


def masked_fill(x, mask, value):
    """x with `value` where mask holds."""
    return as_tensor(x).masked_fill(mask, value)


def matmul(x, y):
    """Matrix product; a 1-D operand is a row or a column whose axis is dropped again."""
    return as_tensor(x).matmul(y)


def dot(x, y):
    """Inner product of two vectors."""
    return as_tensor(x).dot(as_tensor(y))


def outer(x, y):
    """All products of two vectors' elements."""
    return as_tensor(x).outer(as_tensor(y))
