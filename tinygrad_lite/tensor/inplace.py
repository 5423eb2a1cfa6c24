"""Writing in place: outside a graph, and on leaves under no_grad. Each refusal names the form that makes a new tensor."""

from __future__ import annotations

from typing import Self

from ..autograd.mode import mode
from ..autograd.node import SHARED
from ..ops import index
from .arguments import booleans
from .base import Base
from .indexing import plain_key


class InPlace(Base):
    """`+=`, `x[key] = y`, `copy_`, `zero_`, `fill_`."""

    __slots__ = ()

    def _writable(self, name: str, instead: str):
        if self.node is not None and (self.node.op is not None or mode.state):
            where = "a recorded result" if self.node.op is not None else "a leaf that records"
            raise RuntimeError(
                f"{name}: in-place writing to {where} would corrupt backward: write {instead}, or use no_grad() on a leaf"
            )
        if self.cell is SHARED:
            raise RuntimeError(
                f"{name}: a recorded result shares this memory, and backward may need it: write {instead}, or clone() first"
            )
        if not getattr(self.data.flags, "writeable", True):  # CuPy's flags do not know about writing
            raise ValueError(
                f"{name}: this memory is read-only, an expanded tensor's say: clone() it first, or write {instead}"
            )
        if self.cell is None:
            self.cell = [0]
        self.cell[0] += 1

    def _incoming(self, name: str, instead: str, value):
        """What is to be written, as an array of this device or a scalar."""
        if isinstance(value, (bool, int, float)):
            return value
        value = self._from(value, self.device, name)
        if value.node is not None and mode.state:
            raise RuntimeError(
                f"{name}: the gradient of what is written would be lost: write {instead}, or detach() it"
            )
        if value.device is not self.device:
            raise ValueError(
                f"{name}: {self.device.name} meets {value.device.name}: move one with .to({self.device.name!r})"
            )
        return value.data

    def _in_place(self, name, instead, function, other):
        other = self._incoming(name, instead, other)
        self._writable(name, instead)
        try:
            function(self.data, other, out=self.data, casting="same_kind")
        except (TypeError, ValueError) as error:
            given = f"{self.dtype} {self.shape} and {getattr(other, 'dtype', other)} {getattr(other, 'shape', ())}"
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{name}: {given} do not fit in place: write {instead}") from None
        return self

    def _overwrite(self, name, instead, key, value):
        value = self._incoming(name, instead, value)
        self._writable(name, instead)
        key = plain_key(key, self.device)
        index.check_key(name, key, self.shape, self.device.xp)
        try:
            self.data[key] = value
        except (TypeError, ValueError, IndexError) as error:
            kind = next(k for k in (TypeError, IndexError, ValueError) if isinstance(error, k))
            raise kind(f"{name}: {error}") from None
        return self

    def __iadd__(self, other):
        return self._in_place("+=", "x = x + y", self.device.xp.add, other)

    def __isub__(self, other):
        return self._in_place("-=", "x = x - y", self.device.xp.subtract, other)

    def __imul__(self, other):
        return self._in_place("*=", "x = x * y", self.device.xp.multiply, other)

    def __itruediv__(self, other):
        return self._in_place("/=", "x = x / y", self.device.xp.divide, other)

    def __ifloordiv__(self, other):
        return self._in_place("//=", "x = x // y", self.device.xp.floor_divide, other)

    def __imod__(self, other):
        return self._in_place("%=", "x = x % y", self.device.xp.remainder, other)

    def __ipow__(self, other):
        return self._in_place("**=", "x = x ** y", self.device.xp.power, other)

    def __iand__(self, other):
        return self._in_place("&=", "x = x & y", self.device.xp.logical_and, booleans("&=", self, other)[1])

    def __ior__(self, other):
        return self._in_place("|=", "x = x | y", self.device.xp.logical_or, booleans("|=", self, other)[1])

    def __ixor__(self, other):
        return self._in_place("^=", "x = x ^ y", self.device.xp.logical_xor, booleans("^=", self, other)[1])

    def __setitem__(self, key, value):
        self._overwrite("x[key] = y", "x = where(mask, y, x)", key, value)

    def copy_(self, source) -> Self:
        """Overwrite the elements with source's."""
        return self._overwrite("copy_", "x = source.clone()", Ellipsis, source)

    def zero_(self) -> Self:
        """Overwrite the elements with zeros."""
        return self._overwrite("zero_", "x = zeros_like(x)", Ellipsis, 0)

    def fill_(self, value) -> Self:
        """Overwrite the elements with one value."""
        return self._overwrite("fill_", "x = full_like(x, value)", Ellipsis, value)
