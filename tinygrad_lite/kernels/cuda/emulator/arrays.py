"""Device arrays of the emulated CuPy: NumPy's underneath, behind a wall, in memory between guards."""

from __future__ import annotations

import math
import types
import weakref

import numpy as np

from .memory import take_for
from .streams import Stream, makes, no_capture, use, work

SCALARS = (bool, int, float, np.generic)
ALIGNMENT, GUARD = 256, 256  # bytes: where CuPy's allocations begin, and what lies around ours
UNWRITTEN = 0xFF  # as floats NaN, as integers -1: a result that nobody wrote shows
_GUARD_BYTE = 0xA5

_guarded: list[tuple] = []  # (weak reference to the raw bytes, where the array begins, where it ends)


def allocate(shape, dtype, byte: int) -> ndarray:
    """A device array of its own memory, every byte of it `byte`, between guards."""
    dtype = np.dtype(dtype)
    shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    n = math.prod(shape) * dtype.itemsize
    raw = np.full(n + 2 * GUARD + ALIGNMENT, _GUARD_BYTE, np.uint8)
    take_for(raw, n)
    start = -(raw.ctypes.data + GUARD) % ALIGNMENT + GUARD
    raw[start : start + n] = byte
    _guarded.append((weakref.ref(raw), start, start + n))
    return ndarray(raw[start : start + n].view(dtype).reshape(shape))


def check_guards(kernel: str):
    """Raise if anything outside of an allocation was written."""
    global _guarded
    alive = []
    for entry in _guarded:
        raw = entry[0]()
        if raw is not None:
            alive.append(entry)
            _, start, stop = entry
            if not ((raw[:start] == _GUARD_BYTE).all() and (raw[stop:] == _GUARD_BYTE).all()):
                side = "behind" if not (raw[stop:] == _GUARD_BYTE).all() else "before"
                raw[:start] = raw[stop:] = _GUARD_BYTE
                raise RuntimeError(f"{kernel}: wrote {side} an allocation of {stop - start} bytes")
    _guarded = alive


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

    def set(self, values, stream=None):
        """Overwrite with a host array of the same shape and type."""
        no_capture("copying from the host")
        if not isinstance(values, np.ndarray) or (values.shape, values.dtype) != (self.shape, self.dtype):
            raise ValueError(f"set: expected a host array {self.shape} {self.dtype}")
        use(self._host)
        self._host[...] = values

    def get(self, stream=None):
        """The explicit way to the host: a copy."""
        no_capture("copying to the host")
        use(self._host)
        Stream.current.waits += 1
        return self._host.copy()

    @property
    def data(self):
        """Where the array is, as CuPy's memory pointer says it."""
        return types.SimpleNamespace(ptr=self._host.ctypes.data)

    shape = property(lambda self: self._host.shape)
    strides = property(lambda self: self._host.strides)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    dtype = property(lambda self: self._host.dtype)
    flags = property(lambda self: _Flags(self._host.flags))
    T = property(lambda self: ndarray(self._host.T))

    # These wait for the device, and CuPy allows them.
    def __bool__(self):
        return bool(self.get())

    def __int__(self):
        return int(self.get())

    def __float__(self):
        return float(self.get())

    def item(self):
        return self.get().item()

    def tolist(self):
        return self.get().tolist()

    def __len__(self):
        return len(self._host)

    @makes
    def __getitem__(self, key):
        return ndarray(self._host[key_of(key, self.shape)])

    @work
    def __setitem__(self, key, value):
        self._host[key_of(key, self.shape)] = plain(value)

    @makes
    def astype(self, dtype, copy=True):
        with np.errstate(all="ignore"):  # a GPU does not warn
            return ndarray(self._host.astype(dtype, copy=copy))

    @makes
    def copy(self, order="C"):
        return ndarray(self._host.copy(order))

    @makes
    def reshape(self, *shape):
        return ndarray(self._host.reshape(*shape))

    @makes
    def view(self, dtype):
        return ndarray(self._host.view(dtype))

    @makes
    def transpose(self, *axes):
        return ndarray(self._host.transpose(*axes))

    @makes
    def swapaxes(self, axis1, axis2):
        return ndarray(self._host.swapaxes(axis1, axis2))

    @makes
    def ravel(self):
        return ndarray(self._host.ravel())

    @makes
    def diagonal(self, offset=0, axis1=0, axis2=1):
        return ndarray(self._host.diagonal(offset, axis1, axis2))

    @makes
    def sum(self, axis=None, dtype=None, out=None, keepdims=False):
        with np.errstate(all="ignore"):
            return ndarray(self._host.sum(axis=axis, dtype=dtype, keepdims=keepdims))

    @makes
    def min(self, axis=None, out=None, keepdims=False):
        return ndarray(self._host.min(axis=axis, keepdims=keepdims))

    @makes
    def max(self, axis=None, out=None, keepdims=False):
        return ndarray(self._host.max(axis=axis, keepdims=keepdims))

    @makes
    def any(self, axis=None, out=None, keepdims=False):
        return ndarray(self._host.any(axis=axis, keepdims=keepdims))

    @makes
    def all(self, axis=None, out=None, keepdims=False):
        return ndarray(self._host.all(axis=axis, keepdims=keepdims))


def plain(x):
    """The NumPy array of a device array, or a scalar as it is; TypeError for a host array, as in CuPy."""
    if type(x) is ndarray:
        return x._host
    if isinstance(x, SCALARS):
        return x
    raise TypeError(f"Unsupported type {type(x)}")


def key_of(key, shape):
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
