"""Universal functions and operators of the emulated CuPy."""

from __future__ import annotations

import numpy as np

from ....dtypes import HALF
from .arrays import key_of, ndarray, plain
from .streams import Stream, makes, work


class _Ufunc:
    """A universal function over strict arrays and scalars."""

    def __init__(self, name):
        self._function = getattr(np, name)

    def __call__(self, *xs, out=None, casting="same_kind"):
        if not any(type(x) is ndarray for x in xs):
            raise TypeError(f"Unsupported types {[type(x) for x in xs]}")
        if out is None:
            return self._new(*xs)
        self._into(out, *xs, casting=casting)
        return out

    @makes
    def _new(self, *xs):
        with np.errstate(all="ignore"):  # a GPU does not warn
            return ndarray(self._function(*map(plain, xs)))

    @work
    def _into(self, out, *xs, casting):
        with np.errstate(all="ignore"):
            self._function(*map(plain, xs), out=out._host, casting=casting)

    @work
    def at(self, a, indices, b):
        self._function.at(a._host, key_of(indices, a.shape), plain(b))


def matmul(x, y, out=None, casting="same_kind"):
    """16-bit elements are added up in float32 and the sum is rounded once, as cuBLAS does."""
    dtype = np.result_type(x, y)
    wide = [a.astype(np.float32) for a in (x, y)] if dtype in HALF else (x, y)
    product = np.matmul(*wide).astype(dtype, copy=False)
    if out is None:
        return product
    np.copyto(out, product, casting=casting)


class _Product(_Ufunc):
    """matmul, which CuPy leaves to cuBLAS."""

    def __init__(self, name):
        self._function = matmul

    def __call__(self, *xs, **named):
        if Stream.current.graph:
            raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
        return super().__call__(*xs, **named)


def ufunc(name):
    """NumPy's universal function of that name over device arrays and scalars."""
    return (_Product if name == "matmul" else _Ufunc)(name)


def _operator(name, swapped=False):
    function = ufunc(name)

    def method(self, other):
        return function(other, self) if swapped else function(self, other)

    return method


def _in_place(name):
    function = ufunc(name)

    def method(self, other):
        return function(self, other, out=self)

    return method


_OPERATORS = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "floordiv": "floor_divide",
    "mod": "remainder", "pow": "power", "matmul": "matmul", "and": "bitwise_and", "or": "bitwise_or",
}  # fmt: skip
for _sign, _name in _OPERATORS.items():
    setattr(ndarray, f"__{_sign}__", _operator(_name))
    setattr(ndarray, f"__r{_sign}__", _operator(_name, swapped=True))
    setattr(ndarray, f"__i{_sign}__", _in_place(_name))
for _sign, _name in {
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
}.items():
    setattr(ndarray, f"__{_sign}__", _operator(_name))
ndarray.__neg__ = lambda self: ndarray(-self._host)
ndarray.__invert__ = lambda self: ndarray(~self._host)
