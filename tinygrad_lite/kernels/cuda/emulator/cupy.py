"""A stand-in for CuPy over the emulator, which refuses what CuPy refuses, and some of what it takes silently.

Arrays are NumPy's underneath, behind a wall: no implicit conversion to NumPy, no mixing with NumPy arrays or
lists, 0-d results stay arrays, flags know nothing of writing, fancy indices out of range wrap silently, and
`empty` is filled with NaN, with guard bytes around it. Only functions that CuPy has are there, and only with the
arguments that it takes. Kernels (`RawModule`) run in the emulator, and `launches` says which.
"""

from __future__ import annotations

import math
import time
import types
import weakref

import numpy as np

from . import compiler
from .module import Module

_SCALARS = (bool, int, float, np.generic)


ALIGNMENT, GUARD = 256, 256  # bytes: where CuPy's allocations begin, and what lies around ours
UNWRITTEN = 0xFF  # as floats NaN, as integers -1: a result that nobody wrote shows
_GUARD_BYTE = 0xA5
launches: list[str] = []  # every kernel by name, in order; tests clear it

_guarded: list[tuple] = []  # (weak reference to the raw bytes, where the array begins, where it ends)


def _allocate(shape, dtype, byte: int) -> ndarray:
    """A device array of its own memory, every byte of it `byte`, between guards."""
    dtype = np.dtype(dtype)
    shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    n = math.prod(shape) * dtype.itemsize
    raw = np.full(n + 2 * GUARD + ALIGNMENT, _GUARD_BYTE, np.uint8)
    start = -(raw.ctypes.data + GUARD) % ALIGNMENT + GUARD
    raw[start : start + n] = byte
    _guarded.append((weakref.ref(raw), start, start + n))
    return ndarray(raw[start : start + n].view(dtype).reshape(shape))


def _check_guards(kernel: str):
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

    def get(self, stream=None):
        """The explicit way to the host: a copy."""
        _no_capture("copying to the host")
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
        with np.errstate(all="ignore"):  # a GPU does not warn
            return ndarray(self._host.astype(dtype, copy=copy))

    def copy(self, order="C"):
        return ndarray(self._host.copy(order))

    def reshape(self, *shape):
        return ndarray(self._host.reshape(*shape))

    def transpose(self, *axes):
        return ndarray(self._host.transpose(*axes))

    def swapaxes(self, axis1, axis2):
        return ndarray(self._host.swapaxes(axis1, axis2))

    def ravel(self):
        return ndarray(self._host.ravel())

    def diagonal(self, offset=0, axis1=0, axis2=1):
        return ndarray(self._host.diagonal(offset, axis1, axis2))

    def sum(self, axis=None, dtype=None, out=None, keepdims=False):
        with np.errstate(all="ignore"):
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
        with np.errstate(all="ignore"):
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
    """CuPy's functions; a class, because sum, min and any would hide Python's own in this module."""

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
        host = np.asarray(x, dtype=dtype)
        _no_capture("copying from the host")
        out = _allocate(host.shape, host.dtype, 0)
        out._host[...] = host
        return out

    @staticmethod
    def asnumpy(x, stream=None):
        return x.get() if type(x) is ndarray else np.asarray(x)

    @staticmethod
    def array(x, dtype=None, copy=True, order="K"):
        return ndarray(np.array(x._host if type(x) is ndarray else x, dtype=dtype, copy=copy, order=order))

    @staticmethod
    def ascontiguousarray(x):
        return ndarray(np.ascontiguousarray(_plain(x)))

    @staticmethod
    def zeros(shape, dtype=float):
        return _allocate(shape, dtype, 0)

    @staticmethod
    def empty(shape, dtype=float):
        return _allocate(shape, dtype, UNWRITTEN)

    @staticmethod
    def empty_like(x, dtype=None):
        return _allocate(x.shape, x.dtype if dtype is None else dtype, UNWRITTEN)

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


# -- kernels, streams, graphs ------------------------------------------------------------------------------
class RawModule:
    """A compiled library: `path` is what compiler.getCUBIN gave."""

    def __init__(self, *, path):
        self._module = Module(path)

    def get_function(self, name):
        if name not in self._module.kernels:
            raise RuntimeError(f"CUDA_ERROR_NOT_FOUND: named symbol not found: {name}")
        return RawKernel(self._module, name)


class RawKernel:
    """A kernel to launch. Host arrays, Python numbers and arrays with gaps are refused."""

    def __init__(self, module, name):
        self.module, self.name, self.max_dynamic_shared_size_bytes = module, name, 48 * 1024

    def __call__(self, grid, block, args, *, shared_mem=0, stream=None):
        hosts = [a._host if type(a) is ndarray else a for a in args]
        for i, (given, host) in enumerate(zip(args, hosts, strict=True)):
            if isinstance(given, np.ndarray):
                raise TypeError(f"{self.name} argument {i}: an array of the host")
            if type(given) is ndarray and not host.flags.c_contiguous:
                raise TypeError(f"{self.name} argument {i}: an array that is not C-contiguous")
        if shared_mem > self.max_dynamic_shared_size_bytes:
            raise RuntimeError("CUDA_ERROR_INVALID_VALUE: raise max_dynamic_shared_size_bytes first")

        def run():
            launches.append(self.name)
            arrays = [host for host in hosts if isinstance(host, np.ndarray)]
            self.module.launch(self.name, grid, block, hosts, shared_mem, arrays)
            _check_guards(self.name)

        graph = (stream or Stream.current).graph
        graph.launches.append(run) if graph else run()


class Graph:
    """Launches that were captured; `launch` runs them again on the memory that they had."""

    def __init__(self):
        self.launches = []

    def launch(self, stream=None):
        for run in self.launches:
            run()

    def upload(self, stream=None):
        """Nothing to prepare."""


class Stream:
    """Work in order. All of it is done at once, unless it is captured."""

    current: Stream

    def __init__(self, null=False, non_blocking=False, ptds=False):
        self.graph, self.null = None, null

    def use(self):
        Stream.current = self
        return self

    def __enter__(self):
        self._outer, Stream.current = Stream.current, self
        return self

    def __exit__(self, *error):
        Stream.current = self._outer

    def synchronize(self):
        if self.graph:
            raise RuntimeError("cudaErrorStreamCaptureUnsupported: synchronising a stream that is captured")

    def begin_capture(self, mode=None):
        if self.null:
            raise RuntimeError("cudaErrorStreamCaptureUnsupported: the default stream cannot be captured")
        self.graph = Graph()

    def end_capture(self):
        graph, self.graph = self.graph, None
        return graph

    def is_capturing(self):
        return self.graph is not None


Stream.current = Stream(null=True)


def _no_capture(what: str):
    if Stream.current.graph:
        raise RuntimeError(f"cudaErrorStreamCaptureUnsupported: {what} during capture")


class Event:
    """A mark in a stream; times here are the host's."""

    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self.at = None

    def record(self, stream=None):
        self.at = time.perf_counter()

    def synchronize(self):
        """All is done at once."""


class Device:
    """The one emulated card."""

    compute_capability = "90"
    mem_info = (64 << 30, 80 << 30)

    def __init__(self, device=None):
        self.id = 0

    def synchronize(self):
        """All is done at once."""

    def use(self):
        """There is only this one."""


_Library.RawModule, _Library.RawKernel = RawModule, RawKernel
_Library.cuda = types.SimpleNamespace(
    Stream=Stream, Event=Event, Graph=Graph, Device=Device, nvrtc=compiler, get_current_stream=lambda: Stream.current,
    get_elapsed_time=lambda start, end: (end.at - start.at) * 1e3, is_available=lambda: True,
    runtime=types.SimpleNamespace(getDeviceCount=lambda: 1, deviceSynchronize=lambda: None),
)  # fmt: skip


def __getattr__(name):
    """The functions of the library as this module's."""
    try:
        return getattr(_Library, name)
    except AttributeError:
        raise AttributeError(f"the emulated CuPy has no {name!r}") from None


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
