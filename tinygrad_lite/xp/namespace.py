"""The functions that formulas may call on arrays, over one array library.

It is not raw NumPy. Arrays are positional, parameters keyword-only; what the library lacks is added (erf,
scatter_add); indices that the library would wrap are found. Each name here is also the name of an op, so
that a backward rule's text runs on arrays and, under `create_graph`, on Tensors.
"""

from __future__ import annotations

import functools
import math
import threading

import numpy

from .. import philox
from ..dtypes import HALF, float32
from . import product

# Taken over as they are: universal functions and their like, with arrays as the only arguments.
_PLAIN = (
    "add subtract multiply divide power negative absolute sign exp log log1p expm1 sqrt square reciprocal sin cos tan "
    "tanh maximum minimum where floor ceil rint isnan isinf isfinite equal not_equal less less_equal greater "
    "greater_equal logical_and logical_or logical_not logical_xor floor_divide remainder arctan"
).split()


class _Checks(threading.local):
    values = True


class Namespace:
    """Array functions over `lib`, a module with NumPy's functions.

    `lib.erf` is used where there is one; NumPy has none, so ours is the C library's.
    """

    takes_halves: frozenset = frozenset()  # ops that here add half precision up in float32, and round a result once
    formulas: dict = {}  # by name, each op's forward(xp, *arrays, **params): what no library offers

    def __init__(self, lib, name: str):
        self.name = name
        self.lib = lib
        self.ndarray = lib.ndarray
        for function in _PLAIN:
            setattr(self, function, getattr(lib, function))
        self.matmul = product.matmul if lib is numpy else lib.matmul
        self.erf = getattr(lib, "erf", None) or self._erf_by_math
        self.inf, self.pi = math.inf, math.pi
        self._checks = _Checks()
        self.wraps_indices = lib is not numpy  # CuPy takes an index out of range modulo the size, silently

    @property
    def checks_values(self) -> bool:
        """Whether ops of this thread look at indices and targets, which waits for a device."""
        return self._checks.values

    @checks_values.setter
    def checks_values(self, value: bool):
        self._checks.values = value

    def __repr__(self):
        return f"<array namespace over {self.name}>"

    def __getattr__(self, name):
        formula = Namespace.formulas.get(name)
        if formula is None:
            raise AttributeError(f"array namespace: there is no function {name!r}")
        function = functools.partial(formula, self)
        setattr(self, name, function)
        return function

    # -- making arrays ------------------------------------------------------------------------------------
    def asarray(self, x, dtype=None):
        return self.lib.asarray(x, dtype=dtype)

    def zeros(self, shape, dtype):
        return self.lib.zeros(shape, dtype=dtype)

    def empty(self, shape, dtype):
        return self.lib.empty(shape, dtype=dtype)

    def zeros_like(self, x):
        return self.lib.zeros_like(x)

    def full_like(self, x, value):
        return self.lib.full_like(x, value)

    def positions(self, x, *, axis):
        """0, 1, ... along an axis of x, where x lives."""
        return self.lib.arange(x.shape[axis])

    def astype(self, x, *, dtype):
        return x.astype(dtype)

    def contiguous(self, x):
        return x if x.flags.c_contiguous else self.lib.ascontiguousarray(x)

    def is_own(self, x):
        """Whether x can be written in place, each element once. CuPy's flags do not know about writing."""
        return x.flags.c_contiguous and getattr(x.flags, "writeable", True)

    def add_into(self, out, x):
        """out += x."""
        out += x

    def assign(self, out, x):
        """out[...] = x."""
        out[...] = x

    def array_copy(self, x):
        """A writable C-contiguous copy."""
        return self.lib.array(x, copy=True, order="C")

    # -- reductions ---------------------------------------------------------------------------------------
    def sum(self, x, *, axis=None, keepdims=False):
        """Half precision adds up in float32, and the sum is rounded once."""
        if x.dtype.itemsize == 2 and x.dtype in HALF:
            return x.sum(axis=axis, dtype=float32, keepdims=keepdims).astype(x.dtype)
        return x.sum(axis=axis, keepdims=keepdims)

    def prod(self, x, *, axis=None, keepdims=False):
        return self.lib.prod(x, axis=axis, keepdims=keepdims)

    def max(self, x, *, axis=None, keepdims=False):
        return self.lib.max(x, axis=axis, keepdims=keepdims)

    def min(self, x, *, axis=None, keepdims=False):
        return self.lib.min(x, axis=axis, keepdims=keepdims)

    def any(self, x, *, axis=None, keepdims=False):
        return self.lib.any(x, axis=axis, keepdims=keepdims)

    def all(self, x, *, axis=None, keepdims=False):
        return self.lib.all(x, axis=axis, keepdims=keepdims)

    def argmax(self, x, *, axis=None, keepdims=False):
        return self.lib.argmax(x, axis=axis, keepdims=keepdims)

    def argmin(self, x, *, axis=None, keepdims=False):
        return self.lib.argmin(x, axis=axis, keepdims=keepdims)

    def argsort(self, x, *, axis):
        return self.lib.argsort(x, axis=axis, kind="stable")

    def cumsum(self, x, *, axis):
        return self.lib.cumsum(x, axis=axis)

    def cumprod(self, x, *, axis):
        return self.lib.cumprod(x, axis=axis)

    # -- shapes -------------------------------------------------------------------------------------------
    def reshape(self, x, *, shape):
        return x.reshape(shape)

    def transpose(self, x, *, axes):
        return x.transpose(axes)

    def broadcast_to(self, x, *, shape):
        return self.lib.broadcast_to(x, shape)

    def stretched(self, x, *, shape):
        """x seen at a larger shape: as broadcast_to, but where that costs more than writing, an array of its own."""
        if math.prod(shape) > 1024:
            return self.lib.broadcast_to(x, shape)
        out = self.lib.empty(shape, dtype=x.dtype)  # 0.6 against 4 microseconds: benchmarks/overhead.py
        out[...] = x
        return out

    def expand_dims(self, x, *, axis):
        return self.lib.expand_dims(x, axis)

    def flip(self, x, *, axis):
        return self.lib.flip(x, axis)

    def roll(self, x, *, shift, axis):
        return self.lib.roll(x, shift, axis)

    def pad(self, x, *, widths, value=0.0):
        return self.lib.pad(x, widths, constant_values=value)

    def concatenate(self, *xs, axis):
        return self.lib.concatenate(xs, axis=axis)

    def stack(self, *xs, axis):
        return self.lib.stack(xs, axis=axis)

    def tile(self, x, *, reps):
        return self.lib.tile(x, reps)

    def tril(self, x, *, k=0):
        return self.lib.tril(x, k)

    def triu(self, x, *, k=0):
        return self.lib.triu(x, k)

    def diagonal(self, x, *, offset=0, axis1=0, axis2=1):
        return x.diagonal(offset, axis1, axis2)

    # -- indexing -----------------------------------------------------------------------------------------
    def getitem(self, x, *, key):
        return x[key]

    def take_along_axis(self, x, indices, *, axis):
        return self.lib.take_along_axis(x, indices, axis=axis)

    def scatter(self, g, *, key, shape, unique=True):
        """Zeros of `shape` with g added at key."""
        out = self.lib.zeros(shape, dtype=g.dtype)
        self.add_at(out, key, g, unique)
        return out

    def add_at(self, out, key, g, unique: bool):
        """out[key] += g in place; where `unique` is False an element named twice receives both."""
        if unique:
            out[key] += g
        else:
            self.lib.add.at(out, key, g)

    # -- products -----------------------------------------------------------------------------------------
    def einsum(self, *xs, subscripts):
        if self.lib is numpy:
            return product.einsum(*xs, subscripts=subscripts)
        return self.lib.einsum(subscripts, *xs, optimize=len(xs) > 1)

    # -- randomness ---------------------------------------------------------------------------------------
    def counter_dropout(self, x, *, p, key, offset):
        """x with elements dropped with probability p, the rest scaled; the mask is the counter's."""
        keep = self.asarray(philox.uniform(x.size, key, offset) >= numpy.float32(p)).reshape(x.shape)
        return self.where(keep, x * (1.0 / (1.0 - p)), self.zeros_like(x))

    # -- what libraries lack ------------------------------------------------------------------------------
    def _erf_by_math(self, x):
        # Element by element: the readable path. The fused gelu has a vectorised polynomial.
        values = [math.erf(v) for v in x.ravel().tolist()]
        return self.lib.asarray(values, dtype=x.dtype).reshape(x.shape)
