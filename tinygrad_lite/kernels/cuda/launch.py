"""From a .cu file in this folder to functions that Python calls on device arrays.

    _kernels = Source("layer_norm.cu", "layer_norm_forward<T>", "layer_norm_backward<T>")
    ...
    _kernels[x.dtype]["layer_norm_forward<T>"]((blocks,), (threads,), out, x, weight, columns, eps)

A file is compiled for an element type T when that type is first asked for, all its kernels at once, and the result is
kept on disk (nvrtc.py). The array library is whatever stands behind device "cuda": CuPy, or the emulator's stand-in.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...device import get_device
from ...dtypes import bfloat16, float16, float32
from . import nvrtc

FOLDER = Path(__file__).parent
TYPES = {float32: "float", bfloat16: "bf16", float16: "half"}  # what T stands for
STATIC_SHARED_BYTES = 48 * 1024  # a launch that asks for more must be announced


def cupy():
    """The array library behind device "cuda"."""
    return get_device("cuda").xp.lib


class Source:
    """A .cu file and the kernels in it; `source[dtype][name]` is a Function. Names are C++ with T for the element type."""

    def __init__(self, file: str, *kernels: str):
        self.file, self.kernels = file, kernels
        self._compiled = {}

    def __repr__(self):
        return f"Source({self.file!r}, {', '.join(map(repr, self.kernels))})"

    def __getitem__(self, dtype) -> dict[str, Function]:
        lib = cupy()
        key = dtype, nvrtc.compiler_version(lib)
        found = self._compiled.get(key)
        if found is None:
            found = self._compiled[key] = self._compile(lib, np.dtype(dtype))
        return found

    def expressions(self, dtype) -> dict[str, str]:
        """The C++ name of each kernel for an element type."""
        if dtype not in TYPES:
            raise TypeError(f"{self.file}: kernels are for float32, bfloat16 and float16, got {dtype}")
        return {name: _instance(name, TYPES[dtype]) for name in self.kernels}

    def _compile(self, lib, dtype):
        expressions = self.expressions(dtype)
        path, symbols = nvrtc.cubin(lib, FOLDER / self.file, tuple(expressions.values()), nvrtc.architecture(lib))
        module = lib.RawModule(path=str(path))
        return {name: Function(e, module.get_function(symbols[e])) for name, e in expressions.items()}


class Function:
    """A compiled kernel: function(grid, block, *arguments, shared=bytes of dynamic shared memory) on the current stream.

    Arguments: device arrays; Python integers, which become int32; Python floats, float32; NumPy scalars as they are;
    None, a null pointer.
    """

    __slots__ = ("name", "raw")

    def __init__(self, name, raw):
        self.name, self.raw = name, raw

    def __repr__(self):
        return f"<CUDA kernel {self.name}>"

    def __call__(self, grid, block, *arguments, shared: int = 0):
        if shared > STATIC_SHARED_BYTES and self.raw.max_dynamic_shared_size_bytes < shared:
            self.raw.max_dynamic_shared_size_bytes = shared
        self.raw(grid, block, tuple([_argument(a) for a in arguments]), shared_mem=shared)


def _argument(a):
    kind = type(a)
    if kind is int:
        if not -(2**31) <= a < 2**31:
            raise OverflowError(f"kernel argument: {a} does not fit int32: pass numpy.int64(...) to an int64 parameter")
        return np.int32(a)
    if kind is float:
        return np.float32(a)
    return np.uint64(0) if a is None else a


def _instance(name: str, element: str) -> str:
    """name with T replaced in its template arguments."""
    head, bracket, arguments = name.partition("<")
    if not bracket:
        return name
    parts = [element if part.strip() == "T" else part.strip() for part in arguments.rstrip(">").split(",")]
    return f"{head}<{', '.join(parts)}>"
