"""The slots of a Tensor, and what every group of methods needs: its shape and type, and a way to take in values."""

from __future__ import annotations

import numpy as np

from ..device import get_device


class Base:
    """What stands below the groups of methods. Only `Tensor`, which joins them, is made."""

    __slots__ = (
        "data",  # the array, of the device's library
        "node",  # the place in the graph: None where nothing is recorded
        "device",
        "cell",  # the version that in-place writes count up, shared by views; None until someone watches
        "__weakref__",
    )
    __array_ufunc__ = None  # ndarray * Tensor asks Tensor
    __array_priority__ = 1000

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self.data.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.data.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.data.size

    @property
    def dtype(self):
        """Element type."""
        return self.data.dtype

    def numel(self) -> int:
        """Number of elements."""
        return self.data.size

    def _host(self):
        return self.device.to_host(self.data)

    @classmethod
    def _of(cls, data, node, device):
        """A Tensor around an array, without checks."""
        out = cls.__new__(cls)
        out.data, out.node, out.device, out.cell = data, node, device, None
        return out

    @classmethod
    def _from(cls, x, device, op: str):
        """x as a Tensor, without a copy where it is an array already; `op` is named if it is neither."""
        if isinstance(x, Base):
            return x
        device = get_device(device)
        if isinstance(x, device.xp.ndarray):
            return cls._of(x, None, device)
        if not isinstance(x, (bool, int, float, list, tuple, np.ndarray, np.generic)):
            raise TypeError(f"{op}: expected a Tensor, an array or a number, got {type(x).__name__}")
        return cls(x, device=device)
