"""Operators: `x + y`, `x @ y`, `x < y`, and their names as methods."""

from ..ops import elementwise
from .arguments import booleans
from .base import Base


class Arithmetic(Base):
    """What Python's signs mean between a Tensor and a Tensor, an array or a number."""

    __slots__ = ()

    def __add__(self, other):
        return elementwise.add.call(self, other)

    def __radd__(self, other):
        return elementwise.add.call(other, self)

    def __sub__(self, other):
        return elementwise.subtract.call(self, other)

    def __rsub__(self, other):
        return elementwise.subtract.call(other, self)

    def __mul__(self, other):
        return elementwise.multiply.call(self, other)

    def __rmul__(self, other):
        return elementwise.multiply.call(other, self)

    def __truediv__(self, other):
        return elementwise.divide.call(self, other)

    def __rtruediv__(self, other):
        return elementwise.divide.call(other, self)

    def __floordiv__(self, other):
        return elementwise.floor_divide.call(self, other)

    def __rfloordiv__(self, other):
        return elementwise.floor_divide.call(other, self)

    def __mod__(self, other):
        return elementwise.remainder.call(self, other)

    def __rmod__(self, other):
        return elementwise.remainder.call(other, self)

    def __pow__(self, other):
        return elementwise.power.call(self, other)

    def __rpow__(self, other):
        return elementwise.power.call(other, self)

    def __neg__(self):
        return elementwise.negative.call(self)

    def __pos__(self):
        return self

    def __abs__(self):
        return elementwise.absolute.call(self)

    def __matmul__(self, other):
        return self.matmul(other)

    def __rmatmul__(self, other):
        return self._from(other, self.device, "matmul").matmul(self)

    def __eq__(self, other):
        if other is None or isinstance(other, str):
            return False  # as in PyTorch: no element is one of these, and `x == None` asks about x
        return elementwise.equal.call(self, other)

    def __ne__(self, other):
        if other is None or isinstance(other, str):
            return True
        return elementwise.not_equal.call(self, other)

    def __lt__(self, other):
        return elementwise.less.call(self, other)

    def __le__(self, other):
        return elementwise.less_equal.call(self, other)

    def __gt__(self, other):
        return elementwise.greater.call(self, other)

    def __ge__(self, other):
        return elementwise.greater_equal.call(self, other)

    def __and__(self, other):
        return elementwise.logical_and.call(*booleans("&", self, other))

    def __or__(self, other):
        return elementwise.logical_or.call(*booleans("|", self, other))

    def __xor__(self, other):
        return elementwise.logical_xor.call(*booleans("^", self, other))

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __invert__(self):
        return elementwise.logical_not.call(*booleans("~", self))

    add, sub, mul, div, pow, neg = __add__, __sub__, __mul__, __truediv__, __pow__, __neg__
    eq, ne, lt, le, gt, ge, remainder = __eq__, __ne__, __lt__, __le__, __gt__, __ge__, __mod__

    __hash__ = object.__hash__
