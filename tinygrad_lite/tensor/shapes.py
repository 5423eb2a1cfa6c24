"""The same elements in another shape or order, padded, repeated, cut in pieces."""

from __future__ import annotations

from typing import Self

import numpy as np

from ..ops import shape
from ..ops._axes import all_axes, one_axis
from .arguments import axis_of, integer, real_axis, shape_of
from .base import Base


class Shapes(Base):
    """`x.reshape(2, -1)`, `x.transpose(0, 1)`, `x.split(3)` ..."""

    __slots__ = ()

    @property
    def T(self) -> Self:
        """The axes reversed."""
        return shape.transpose.call(self, axes=tuple(range(self.ndim))[::-1])

    def reshape(self, *sizes):
        """The same elements in another shape; one -1 is worked out."""
        return shape.reshape.call(self, shape=shape_of("reshape", sizes))

    view = reshape

    def flatten(self, start_dim=0, end_dim=-1):
        """Axes start_dim to end_dim as one."""
        first, last = one_axis("flatten", start_dim, self.ndim), one_axis("flatten", end_dim, self.ndim)
        if not self.ndim:
            return self.reshape(1)
        if first > last:
            raise ValueError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
        merged = 1
        for n in self.shape[first : last + 1]:
            merged *= n
        return self.reshape(*self.shape[:first], merged, *self.shape[last + 1 :])

    def transpose(self, dim0, dim1):
        """Two axes exchanged, as in PyTorch."""
        axes = list(range(self.ndim))
        a, b = one_axis("transpose", dim0, self.ndim), one_axis("transpose", dim1, self.ndim)
        if axes:
            axes[a], axes[b] = axes[b], axes[a]
        return shape.transpose.call(self, axes=tuple(axes))

    def permute(self, *axes):
        """The axes in another order."""
        axes = tuple([one_axis("permute", a, self.ndim) for a in shape_of("permute", axes)])
        if len(axes) != self.ndim or len(set(axes)) != self.ndim:
            raise ValueError(f"permute: expected each of {self.ndim} axes once, got {axes}")
        return shape.transpose.call(self, axes=axes)

    def expand(self, *sizes):
        """Axes of size 1 stretched; -1 keeps a size."""
        sizes = shape_of("expand", sizes)
        extra = len(sizes) - self.ndim
        if extra < 0:
            raise ValueError(f"expand: {self.shape} has more axes than {sizes}")
        full = tuple(self.shape[i - extra] if n == -1 and i >= extra else n for i, n in enumerate(sizes))
        if min(full, default=0) < 0 or any(m not in (1, n) for m, n in zip(self.shape, full[extra:], strict=True)):
            raise ValueError(f"expand: {self.shape} does not stretch to {sizes}: only axes of size 1 and new ones do")
        return shape.broadcast_to.call(self, shape=full)

    def squeeze(self, dim=None, *, axis=None):
        """Without axes of size 1; with `dim`, that axis if its size is 1."""
        dim = axis_of(dim, axis)
        axes = [i for i, n in enumerate(self.shape) if n == 1]
        if dim is not None:
            chosen = all_axes("squeeze", dim, self.ndim)
            axes = [a for a in axes if a in chosen]
        return self.reshape(tuple(n for i, n in enumerate(self.shape) if i not in axes))

    def unsqueeze(self, dim=None, *, axis=None):
        """A new axis of size 1."""
        return shape.expand_dims.call(self, axis=one_axis("unsqueeze", axis_of(dim, axis), self.ndim + 1))

    def flip(self, *dims, axis=None):
        """Axes reversed: flip(0), flip(0, 1), flip((0, 1)), flip(axis=0)."""
        return shape.flip.call(self, axis=shape_of("flip", dims) if axis is None else axis)

    def roll(self, shifts, dims=None, *, axis=None):
        """Elements moved along axes, a shift for each; without dims, along the flattened tensor."""
        dims, shifts = axis_of(dims, axis), shape_of("roll", (shifts,))
        if dims is None:
            return self.flatten().roll(shifts, 0).reshape(self.shape)
        dims = tuple([real_axis("roll", d, self.ndim) for d in shape_of("roll", (dims,))])
        if len(shifts) != len(dims):
            raise ValueError(f"roll: expected a shift for each axis, got shifts {shifts} and axes {dims}")
        return shape.roll.call(self, shift=shifts, axis=dims)

    def repeat(self, *reps):
        """The whole tensor repeated along each axis, as in PyTorch (numpy.tile)."""
        reps = shape_of("repeat", reps)
        if len(reps) < self.ndim or min(reps, default=0) < 0:
            raise ValueError(f"repeat: expected at least {self.ndim} numbers from 0, one an axis, got {reps}")
        return shape.tile.call(self, reps=reps)

    def tile(self, *reps):
        """The whole tensor repeated along its last axes."""
        return shape.tile.call(self, reps=shape_of("tile", reps))

    def pad(self, widths, value: float = 0.0):
        """`value` added around x: widths is one pair (before, after) an axis, first axis first."""
        return shape.pad.call(self, widths=widths, value=value)

    def tril(self, diagonal=0):
        """The lower triangle of the last two axes."""
        return shape.tril.call(self, k=integer("tril", "diagonal", diagonal))

    def triu(self, diagonal=0):
        """The upper triangle of the last two axes."""
        return shape.triu.call(self, k=integer("triu", "diagonal", diagonal))

    def diagonal(self, offset=0, dim1=0, dim2=1):
        """The diagonal of two axes, as a new last axis."""
        a, b = real_axis("diagonal", dim1, self.ndim), real_axis("diagonal", dim2, self.ndim)
        if a == b:
            raise ValueError(f"diagonal: dim1 and dim2 are the same axis {a}")
        offset = integer("diagonal", "offset", offset)
        rest = [i for i in range(self.ndim) if i not in (a, b)]
        x = self.permute(a, b, *rest) if rest or a > b else self
        n = max(0, min(x.shape[0] + min(offset, 0), x.shape[1] - max(offset, 0)))
        rows = np.arange(n) + max(-offset, 0)
        out = x[rows, rows + offset]  # (n, rest...)
        return out.permute(*range(1, out.ndim), 0)

    def split(self, size, dim=0, *, axis=None):
        """Pieces of `size` along an axis (the last may be smaller), or of the sizes given."""
        axis = real_axis("split", dim if axis is None else axis, self.ndim)
        n = self.shape[axis]
        if getattr(size, "ndim", 0) == 0 and hasattr(size, "__index__"):
            size = int(size)
            if size < 1:
                raise ValueError(f"split: the size must be positive, got {size}")
            sizes = [min(size, n - start) for start in range(0, n, size)] or [0]
        else:
            sizes = shape_of("split", (size,))
            if sum(sizes) != n or min(sizes, default=0) < 0:
                raise ValueError(f"split: sizes {sizes} must be from 0 and add up to {n}, the size of axis {axis}")
        out, start = [], 0
        for s in sizes:
            out.append(self[(slice(None),) * axis + (slice(start, start + s),)])
            start += s
        return tuple(out)

    def chunk(self, chunks, dim=0, *, axis=None):
        """At most `chunks` pieces of equal size along an axis, the last smaller."""
        chunks, dim = integer("chunk", "chunks", chunks), dim if axis is None else axis
        if chunks < 1:
            raise ValueError(f"chunk: expected at least 1 piece, got {chunks}")
        n = self.shape[real_axis("chunk", dim, self.ndim)]
        if not n:
            return self.split([0] * chunks, dim)
        return self.split(max(1, -(-n // chunks)), dim)
