"""Out of the engine and between types: NumPy, DLPack, Python numbers, text; float(), long() ..."""

from __future__ import annotations

from typing import Self

import numpy as np

from .. import dtypes
from ..autograd.node import SHARED
from ..device import CPU
from .base import Base
from .dlpack import bfloat16_capsule


class Interchange(Base):
    """`x.numpy()`, `x.item()`, `float(x)`, `repr(x)`, `x.half()` ..."""

    __slots__ = ()

    def numpy(self) -> np.ndarray:
        """The values as a NumPy array; shared memory on the CPU, read-only while the graph may need them."""
        array = self._host()
        if self.node is not None or self.cell is SHARED:
            array = array.view()
            array.flags.writeable = False
        return array

    def item(self):
        """The only element as a Python number."""
        if self.size != 1:
            raise ValueError(f"item: expected one element, got shape {self.shape}: index first, or use .tolist()")
        return self._host().reshape(()).item()

    def tolist(self):
        """Nested Python lists of numbers."""
        return self._host().tolist()

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __index__(self):
        if self.dtype.kind not in "iu":
            raise TypeError(f"index: expected an integer tensor, got {self.dtype}")
        return int(self.item())

    def __array__(self, dtype=None, copy=None):
        array = self.numpy()
        if dtype is not None and dtype != array.dtype:
            if copy is False:
                raise ValueError(f"array: {array.dtype} becomes {np.dtype(dtype)} by a copy only: leave copy=False out")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __buffer__(self, flags):
        """memoryview(x) and all that reads buffers, from Python 3.12 on (PEP 688): numpy()'s memory, and its rights."""
        return memoryview(self.numpy())

    def __dlpack__(self, **kwargs):
        if self.dtype == dtypes.bfloat16:
            return bfloat16_capsule(self.numpy(), **kwargs)
        return (self.numpy() if self.device is CPU else self.data).__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self.data.__dlpack_device__()

    def __len__(self):
        if not self.ndim:
            raise TypeError("len: a 0-d tensor has no length")
        return self.shape[0]

    def __bool__(self):
        if self.size != 1:
            raise ValueError(f"bool: a tensor of {self.size} elements is neither true nor false: use .any() or .all()")
        return bool(self._host().reshape(())[()])

    def __format__(self, spec):
        return format(self.item(), spec) if spec and not self.ndim else format(str(self), spec)

    def __repr__(self):
        values = np.array2string(
            self._host().astype(np.float32) if self.dtype in dtypes.HALF else self._host(),
            prefix="Tensor(",
            precision=4,
            threshold=200,
        )
        parts = [values, f"shape={self.shape}", f"dtype={self.dtype}"]
        if self.device is not CPU:
            parts.append(f"device={self.device.name!r}")
        if self.node is not None:
            parts.append("requires_grad=True" if self.node.op is None else f"from={self.node.op.name}")
        return f"Tensor({', '.join(parts)})"

    # -- types --------------------------------------------------------------------------------------------
    def astype(self, dtype) -> Self:
        """Converted to a dtype."""
        return self.to(dtypes.as_dtype(dtype))

    def float(self) -> Self:
        """Converted to float32."""
        return self.to(dtypes.float32)

    def double(self) -> Self:
        """Converted to float64."""
        return self.to(dtypes.float64)

    def half(self) -> Self:
        """Converted to float16."""
        return self.to(dtypes.float16)

    def bfloat16(self) -> Self:
        """Converted to bfloat16."""
        return self.to(dtypes.bfloat16)

    def int(self) -> Self:
        """Converted to int32."""
        return self.to(dtypes.int32)

    def long(self) -> Self:
        """Converted to int64."""
        return self.to(dtypes.int64)

    def bool(self) -> Self:
        """Converted to bool: where it is not zero."""
        return self.to(dtypes.bool_)
