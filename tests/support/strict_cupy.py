"""A stand-in for CuPy that refuses what CuPy refuses, so that device code is tested where there is no GPU.

Arrays are NumPy's underneath, behind a wall: no implicit conversion to NumPy, no mixing with NumPy arrays or
lists, 0-d results stay arrays, flags know nothing of writing, fancy indices out of range wrap silently, and
`empty` is filled with NaN. Only functions that CuPy has are there, and only with the arguments that it takes.
"""

from __future__ import annotations

import numpy as np

from tinygrad_lite import device
from tinygrad_lite.xp import Namespace

_SCALARS = (bool, int, float, np.generic)


class _Flags:
    """CuPy's flags: the layout, and whether the memory is its own; there is no `writeable`."""

    def __init__(self, flags):
        self.c_contiguous, self.f_contiguous, self.owndata = flags.c_contiguous, flags.f_contiguous, flags.owndata


class ndarray:
    """An array of the strict device."""

    __slots__ = ("_host",)
    __hash__ = None
    __array_ufunc__ = None

    def __init__(self, host):
        self._host = np.asarray(host)

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def get(self):
        """The explicit way to the host: a copy."""
        return self._host.copy()

    shape = property(lambda self: self._host.shape)
    strides = property(lambda self: self._host.strides)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    dtype = property(lambda self: self._host.dtype)
    flags = property(lambda self: _Flags(self._host.flags))
    T = property(lambda self: ndarray(self._host.T))

    # These synchronise with the device, and CuPy allows them.
    def __bool__(self):
        return bool(self._host)

    def __int__(self):
        return int(self._host)

    def __float__(self):
        return float(self._host)

    def item(self):
        return self._host.item()

    def tolist(self):
        return self._host.tolist()

    def __len__(self):
        return len(self._host)

    def __getitem__(self, key):
        return ndarray(self._host[_key(key, self.shape)])

    def __setitem__(self, key, value):
        self._host[_key(key, self.shape)] = _plain(value)

    def astype(self, dtype, copy=True):
        return ndarray(self._host.astype(dtype, copy=copy))

    def copy(self, order="C"):
        return ndarray(self._host.copy(order))

    def reshape(self, *shape):
        return ndarray(self._host.reshape(*shape))

    def transpose(self, *axes):
        return ndarray(self._host.transpose(*axes))

    def ravel(self):
        return ndarray(self._host.ravel())

    def diagonal(self, offset=0, axis1=0, axis2=1):
        return ndarray(self._host.diagonal(offset, axis1, axis2))

    def sum(self, axis=None, dtype=None, out=None, keepdims=False):
        return ndarray(self._host.sum(axis=axis, dtype=dtype, keepdims=keepdims))

    def min(self, axis=None, out=None, keepdims=False):
        return ndarray(self._host.min(axis=axis, keepdims=keepdims))

    def max(self, axis=None, out=None, keepdims=False):
        return ndarray(self._host.max(axis=axis, keepdims=keepdims))

    def any(self, axis=None, out=None, keepdims=False):
        return ndarray(self._host.any(axis=axis, keepdims=keepdims))

    def all(self, axis=None, out=None, keepdims=False):
        return ndarray(self._host.all(axis=axis, keepdims=keepdims))


def _plain(x):
    if type(x) is ndarray:
        return x._host
    if isinstance(x, _SCALARS):
        return x
    raise TypeError(f"Unsupported type {type(x)}")


def _key(key, shape):
    """A key for NumPy, with integer arrays wrapped into range as CuPy does."""
    parts = key if type(key) is tuple else (key,)
    given = sum(
        0 if p is None or p is Ellipsis else p.ndim if type(p) is ndarray and p.dtype == bool else 1 for p in parts
    )
    axis, out = 0, []
    for part in parts:
        if part is Ellipsis:
            axis += len(shape) - given
        elif type(part) is ndarray and part.dtype == bool:
            axis += part.ndim
            part = part._host
        elif type(part) is ndarray:
            part, axis = part._host % max(shape[axis], 1), axis + 1
        elif isinstance(part, (int, slice, np.integer)):
            axis += 1
        elif part is not None:
            raise IndexError(f"Unsupported type {type(part)} in an index")
        out.append(part)
    return tuple(out)


class _Ufunc:
    """A universal function over strict arrays and scalars."""

    def __init__(self, name):
        self._function = getattr(np, name)

    def __call__(self, *xs, out=None, casting="same_kind"):
        if not any(type(x) is ndarray for x in xs):
            raise TypeError(f"Unsupported types {[type(x) for x in xs]}")
        if out is None:
            return ndarray(self._function(*map(_plain, xs)))
        self._function(*map(_plain, xs), out=out._host, casting=casting)
        return out

    def at(self, a, indices, b):
        self._function.at(a._host, _key(indices, a.shape), _plain(b))


def _operator(name, swapped=False):
    ufunc = _Ufunc(name)

    def method(self, other):
        return ufunc(other, self) if swapped else ufunc(self, other)

    return method


def _in_place(name):
    ufunc = _Ufunc(name)

    def method(self, other):
        return ufunc(self, other, out=self)

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


class _Library:
    """What stands where the module `cupy` would stand."""

    ndarray = ndarray
    for _ufunc in (
        "add subtract multiply divide power negative absolute sign exp log log1p expm1 sqrt square reciprocal sin cos "
        "tan tanh maximum minimum floor ceil rint isnan isinf isfinite equal not_equal less less_equal greater "
        "greater_equal logical_and logical_or logical_not logical_xor matmul floor_divide remainder arctan"
    ).split():
        locals()[_ufunc] = _Ufunc(_ufunc)

    @staticmethod
    def where(condition, x, y):
        return ndarray(np.where(_plain(condition), _plain(x), _plain(y)))

    # -- the ways in from the host, which are explicit ------------------------------------------------------
    @staticmethod
    def asarray(x, dtype=None):
        if type(x) is ndarray:
            return x if dtype is None or x.dtype == dtype else x.astype(dtype)
        return ndarray(np.array(x, dtype=dtype))

    @staticmethod
    def array(x, dtype=None, copy=True, order="K"):
        return ndarray(np.array(x._host if type(x) is ndarray else x, dtype=dtype, copy=copy, order=order))

    @staticmethod
    def ascontiguousarray(x):
        return ndarray(np.ascontiguousarray(_plain(x)))

    @staticmethod
    def zeros(shape, dtype=float):
        return ndarray(np.zeros(shape, dtype))

    @staticmethod
    def empty(shape, dtype=float):
        dtype = np.dtype(dtype)
        return ndarray(np.full(shape, 0x5A if dtype.kind in "iub" else np.nan, dtype))

    @staticmethod
    def zeros_like(x):
        return ndarray(np.zeros_like(_plain(x)))

    @staticmethod
    def full_like(x, value):
        return ndarray(np.full_like(_plain(x), _plain(value)))

    @staticmethod
    def arange(start, stop=None, step=1, dtype=None):
        return ndarray(np.arange(start, stop, step, dtype) if stop is not None else np.arange(start, dtype=dtype))

    # -- reductions: several axes at once only where CuPy takes them ------------------------------------------
    @staticmethod
    def argmax(x, axis=None, keepdims=False):
        if not (axis is None or isinstance(axis, int)):
            raise TypeError("an integer is required")
        return ndarray(np.argmax(_plain(x), axis=axis, keepdims=keepdims))

    @staticmethod
    def argmin(x, axis=None, keepdims=False):
        if not (axis is None or isinstance(axis, int)):
            raise TypeError("an integer is required")
        return ndarray(np.argmin(_plain(x), axis=axis, keepdims=keepdims))

    @staticmethod
    def argsort(x, axis=-1, kind=None):
        if kind not in (None, "stable"):
            raise ValueError("kind can only be None or 'stable'")
        if not x.ndim:
            raise TypeError("Sorting arrays with the rank of zero is not supported")
        return ndarray(np.argsort(_plain(x), axis=axis, kind="stable"))

    @staticmethod
    def cumsum(x, axis=None, dtype=None):
        return ndarray(np.cumsum(_plain(x), axis=axis, dtype=dtype))

    @staticmethod
    def cumprod(x, axis=None, dtype=None):
        return ndarray(np.cumprod(_plain(x), axis=axis, dtype=dtype))

    # -- shapes -------------------------------------------------------------------------------------------
    @staticmethod
    def pad(x, pad_width, mode="constant", *, constant_values=0):
        return ndarray(np.pad(_plain(x), pad_width, mode, constant_values=constant_values))

    @staticmethod
    def concatenate(xs, axis=0):
        return ndarray(np.concatenate([_plain(x) for x in xs], axis=axis))

    @staticmethod
    def stack(xs, axis=0):
        return ndarray(np.stack([_plain(x) for x in xs], axis=axis))

    # -- indexing and products ------------------------------------------------------------------------------
    @staticmethod
    def take_along_axis(x, indices, axis):
        if type(indices) is not ndarray or indices.dtype.kind not in "iu":
            raise IndexError("`indices` must be an integer array")
        return ndarray(np.take_along_axis(_plain(x), indices._host % max(x.shape[axis], 1), axis=axis))

    @staticmethod
    def einsum(subscripts, *xs, optimize=False):
        if optimize not in (False, True, "greedy", "optimal"):
            raise TypeError(f"Did not understand the path (optimize): {optimize}")
        return ndarray(np.einsum(subscripts, *map(_plain, xs), optimize=optimize))


def _reduction(name):
    def reduce(x, axis=None, keepdims=False):
        return ndarray(getattr(np, name)(_plain(x), axis=axis, keepdims=keepdims))

    return staticmethod(reduce)


def _movement(name):
    def move(x, *args):
        return ndarray(getattr(np, name)(_plain(x), *args))

    return staticmethod(move)


for _name in ("sum", "prod", "max", "min", "any", "all"):
    setattr(_Library, _name, _reduction(_name))
for _name in ("broadcast_to", "expand_dims", "flip", "roll", "tile", "tril", "triu"):
    setattr(_Library, _name, _movement(_name))


def strict_device() -> device.Device:
    """The device "strict", registered once."""
    if "strict" not in device._DEVICES:
        device.register_device(device.Device("strict", Namespace(_Library(), "strict"), lambda array: array.get()))
    return device.get_device("strict")
