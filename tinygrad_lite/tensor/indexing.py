"""Elements by index: `x[key]`, gather, scatter_add."""

from __future__ import annotations

import numpy as np

from ..device import CPU
from ..ops import index
from .arguments import real_axis, same_axes
from .base import Base


class Indexing(Base):
    """`x[key]` for any key that NumPy takes, with Tensors as indices and masks too."""

    __slots__ = ()

    def __getitem__(self, key):
        return index.getitem.call(self, key=plain_key(key, self.device, copy=True))

    def __iter__(self):
        if not self.ndim:
            raise TypeError("iter: a 0-d tensor cannot be iterated")
        return (self[i] for i in range(self.shape[0]))

    def gather(self, dim, indices):
        """out[i, j] = x[i, indices[i, j]] for dim=1; indices may be smaller than x on the other axes."""
        axis = real_axis("gather", dim, self.ndim)
        indices = same_axes("gather", self, self._from(indices, self.device, "gather"))
        if any(n > m for i, (n, m) in enumerate(zip(indices.shape, self.shape)) if i != axis):
            raise ValueError(
                f"gather: indices {indices.shape} reach beyond x {self.shape} on an axis other than {axis}"
            )
        index.check_indices("gather", indices, self.shape[axis])
        key = tuple(slice(0, n) if i != axis else slice(None) for i, n in enumerate(indices.shape))
        return index.take_along_axis.call(self[key], indices, axis=axis)

    def scatter_add(self, dim, indices, source):
        """x with source[i, j] added at [i, indices[i, j]] for dim=1."""
        axis = real_axis("scatter_add", dim, self.ndim)
        indices, source = (
            self._from(indices, self.device, "scatter_add"),
            self._from(source, self.device, "scatter_add"),
        )
        same_axes("scatter_add", self, indices), same_axes("scatter_add", self, source)
        index.check_indices("scatter_add", indices, self.shape[axis])
        if any(n > m for n, m in zip(indices.shape, source.shape)):
            raise ValueError(
                f"scatter_add: indices {indices.shape} need as many elements of source, got {source.shape}"
            )
        if source.dtype != self.dtype:
            raise TypeError(f"scatter_add: source must be {self.dtype} as x, got {source.dtype}")
        source = source[tuple(slice(0, n) for n in indices.shape)]
        key = index._mesh(self.device.xp, indices.data, axis)
        return self + index.scatter.call(source, key=key, shape=self.shape, unique=False)

    def index_select(self, dim, indices):
        """Slices along an axis by index."""
        axis = real_axis("index_select", dim, self.ndim)
        indices = self._from(indices, self.device, "index_select")
        if indices.ndim > 1:
            raise ValueError(f"index_select: indices must be 1-D, got {indices.shape}: use gather, or x[indices]")
        indices = indices.reshape(-1)
        index.check_indices("index_select", indices, self.shape[axis])
        return self[(slice(None),) * axis + (indices,)]


def plain_key(key, device=CPU, copy: bool = False):
    """An index without Tensors: they become arrays of the device, copied when the graph will keep them."""
    if type(key) is tuple:
        return tuple([plain_key(k, device, copy) for k in key])
    if type(key) is int or type(key) is slice or key is None or key is Ellipsis:
        return key
    if isinstance(key, Base):
        if key.device is not device:
            raise ValueError(
                f"x[key]: x is on {device.name}, the key on {key.device.name}: move it with .to({device.name!r})"
            )
        key = key.data
    elif isinstance(key, list):
        key = np.asarray(key) if key else np.zeros(0, np.int64)
    if isinstance(key, np.ndarray):
        key = device.xp.array_copy(key) if copy or device is not CPU else key
    elif copy and isinstance(key, device.xp.ndarray):
        key = device.xp.array_copy(key)
    return key
