"""A stand-in for CuPy over the emulator, which refuses what CuPy refuses, and some of what it takes silently.

Arrays are NumPy's underneath, behind a wall: no implicit conversion to NumPy, no mixing with NumPy arrays or
lists, 0-d results stay arrays, flags know nothing of writing, fancy indices out of range wrap silently, and
`empty` is filled with NaN, with guard bytes around it. Only functions that CuPy has are there, and only with the
arguments that it takes. Kernels (`RawModule`) run in the emulator, and `launches` says which.
"""

from __future__ import annotations

import types

import numpy as np

from . import compiler, cublaslt, memory
from .arrays import UNWRITTEN, allocate, check_guards, key_of, ndarray, plain  # noqa: F401 - ndarray is CuPy's name
from .module import Module
from .streams import (
    SHARED_OPTIN,
    Device,
    Event,
    Graph,
    Stream,
    device_attribute,
    get_elapsed_time,
    makes,
    most_shared_bytes,
    no_capture,
    use,
    wait_for_all,
)
from .ufuncs import ufunc

launches: list[str] = cublaslt.launches  # every kernel and product by name, in order; tests clear it


class _Library:
    """CuPy's functions; a class, because sum, min and any would hide Python's own in this module."""

    ndarray = ndarray
    for _name in (
        "add subtract multiply divide power negative absolute sign exp log log1p expm1 sqrt square reciprocal sin cos "
        "tan tanh maximum minimum floor ceil rint isnan isinf isfinite equal not_equal less less_equal greater "
        "greater_equal logical_and logical_or logical_not logical_xor matmul floor_divide remainder arctan"
    ).split():
        locals()[_name] = ufunc(_name)

    @staticmethod
    def where(condition, x, y):
        return ndarray(np.where(plain(condition), plain(x), plain(y)))

    # -- the ways in from the host, which are explicit ------------------------------------------------------
    @staticmethod
    def asarray(x, dtype=None):
        if type(x) is ndarray:
            return x if dtype is None or x.dtype == dtype else x.astype(dtype)
        host = np.asarray(x, dtype=dtype)
        no_capture("copying from the host")
        out = allocate(host.shape, host.dtype, 0)
        use(out._host)
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
        return ndarray(np.ascontiguousarray(plain(x)))

    @staticmethod
    def zeros(shape, dtype=float):
        return allocate(shape, dtype, 0)

    @staticmethod
    def empty(shape, dtype=float):
        return allocate(shape, dtype, UNWRITTEN)

    @staticmethod
    def empty_like(x, dtype=None):
        return allocate(x.shape, x.dtype if dtype is None else dtype, UNWRITTEN)

    @staticmethod
    def zeros_like(x):
        return ndarray(np.zeros_like(plain(x)))

    @staticmethod
    def full_like(x, value):
        return ndarray(np.full_like(plain(x), plain(value)))

    @staticmethod
    def arange(start, stop=None, step=1, dtype=None):
        return ndarray(np.arange(start, stop, step, dtype) if stop is not None else np.arange(start, dtype=dtype))

    # -- reductions: several axes at once only where CuPy takes them ------------------------------------------
    @staticmethod
    def argmax(x, axis=None, keepdims=False):
        if not (axis is None or isinstance(axis, int)):
            raise TypeError("an integer is required")
        return ndarray(np.argmax(plain(x), axis=axis, keepdims=keepdims))

    @staticmethod
    def argmin(x, axis=None, keepdims=False):
        if not (axis is None or isinstance(axis, int)):
            raise TypeError("an integer is required")
        return ndarray(np.argmin(plain(x), axis=axis, keepdims=keepdims))

    @staticmethod
    def argsort(x, axis=-1, kind=None):
        if kind not in (None, "stable"):
            raise ValueError("kind can only be None or 'stable'")
        if not x.ndim:
            raise TypeError("Sorting arrays with the rank of zero is not supported")
        return ndarray(np.argsort(plain(x), axis=axis, kind="stable"))

    @staticmethod
    def cumsum(x, axis=None, dtype=None):
        return ndarray(np.cumsum(plain(x), axis=axis, dtype=dtype))

    @staticmethod
    def cumprod(x, axis=None, dtype=None):
        return ndarray(np.cumprod(plain(x), axis=axis, dtype=dtype))

    # -- shapes -------------------------------------------------------------------------------------------
    @staticmethod
    def pad(x, pad_width, mode="constant", *, constant_values=0):
        return ndarray(np.pad(plain(x), pad_width, mode, constant_values=constant_values))

    @staticmethod
    def concatenate(xs, axis=0):
        return ndarray(np.concatenate([plain(x) for x in xs], axis=axis))

    @staticmethod
    def stack(xs, axis=0):
        return ndarray(np.stack([plain(x) for x in xs], axis=axis))

    # -- indexing and products ------------------------------------------------------------------------------
    @staticmethod
    def take_along_axis(x, indices, axis):
        if type(indices) is not ndarray or indices.dtype.kind not in "iu":
            raise IndexError("`indices` must be an integer array")
        return ndarray(np.take_along_axis(plain(x), indices._host % max(x.shape[axis], 1), axis=axis))

    @staticmethod
    def einsum(subscripts, *xs, optimize=False):
        if optimize not in (False, True, "greedy", "optimal"):
            raise TypeError(f"Did not understand the path (optimize): {optimize}")
        return ndarray(np.einsum(subscripts, *map(plain, xs), optimize=optimize))


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
        self.module, self.name, self._most_shared = module, name, 48 * 1024

    @property
    def max_dynamic_shared_size_bytes(self):
        """What a launch may ask for; more than the card has is refused."""
        return self._most_shared

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, size):
        if size > most_shared_bytes():
            raise RuntimeError(
                f"CUDA_ERROR_INVALID_VALUE: {size} bytes of shared memory: at most {most_shared_bytes()}"
            )
        self._most_shared = size

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
            for host in arrays:
                use(host)
            self.module.launch(self.name, grid, block, hosts, shared_mem, arrays)
            check_guards(self.name)

        graph = (stream or Stream.current).graph
        if graph:
            graph.work.append(run)
            return
        with stream or Stream.current:
            run()


_Library.RawModule, _Library.RawKernel = RawModule, RawKernel
_Library.cuda = types.SimpleNamespace(
    Stream=Stream, Event=Event, Graph=Graph, Device=Device, nvrtc=compiler, cublaslt=cublaslt,
    get_current_stream=lambda: Stream.current,
    get_elapsed_time=get_elapsed_time, is_available=lambda: True, MemoryPool=memory.MemoryPool, Memory=memory.Memory,
    MemoryPointer=memory.MemoryPointer, using_allocator=memory.using_allocator, set_allocator=memory.set_allocator,
    get_allocator=memory.get_allocator,
    runtime=types.SimpleNamespace(
        getDeviceCount=lambda: 1, deviceSynchronize=wait_for_all, getDeviceProperties=lambda device: {"name": b"emulated GPU"},
        CUDARuntimeError=memory.CUDARuntimeError, deviceGetAttribute=device_attribute,
        cudaDevAttrMaxSharedMemoryPerBlockOptin=SHARED_OPTIN,
    ),
)  # fmt: skip
_Library.get_default_memory_pool = staticmethod(lambda: memory.default_pool)


def __getattr__(name):
    """The functions of the library as this module's."""
    try:
        return getattr(_Library, name)
    except AttributeError:
        raise AttributeError(f"the emulated CuPy has no {name!r}") from None


def _reduction(name):
    def reduce(x, axis=None, keepdims=False):
        return ndarray(getattr(np, name)(plain(x), axis=axis, keepdims=keepdims))

    return staticmethod(reduce)


def _movement(name):
    def move(x, *args):
        return ndarray(getattr(np, name)(plain(x), *args))

    return staticmethod(move)


for _name in ("sum", "prod", "max", "min", "any", "all"):
    setattr(_Library, _name, _reduction(_name))
for _name in ("broadcast_to", "expand_dims", "flip", "roll", "tile", "tril", "triu"):
    setattr(_Library, _name, _movement(_name))
for _name in (
    "where array ascontiguousarray zeros zeros_like full_like arange argmax argmin argsort cumsum cumprod pad concatenate "
    "stack take_along_axis einsum sum prod max min any all broadcast_to expand_dims flip roll tile tril triu"
).split():
    setattr(_Library, _name, staticmethod(makes(getattr(_Library, _name))))
