"""Functions compiled by Numba, kept on disk, and run without the interpreter's lock.

    @compiled(types.int64, [INT32, INDEX])
    def kernel(values, count): ...

Modules that hold kernels import this one, and are imported themselves by what first needs a kernel: Numba takes most of
a second to load. Types are explicit, so that each kernel is one compilation; a read-only type accepts arrays that can be
written as well. TGL_CACHE_DIR says where compiled code is kept, as for the rest of the library.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import llvmlite
import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

INDEX = types.int64
BYTES = types.Array(types.uint8, 1, "C", readonly=True)
INT32 = types.Array(types.int32, 1, "C", readonly=True)
INT64 = types.Array(types.int64, 1, "C", readonly=True)
UINT64 = types.Array(types.uint64, 1, "C", readonly=True)
BYTES_OUT, INT32_OUT, INT64_OUT, UINT64_OUT = (array.copy(readonly=False) for array in (BYTES, INT32, INT64, UINT64))

# Kernels allocate nothing, so the counting of references to their arrays is left out (_nrt): as an atomic operation for
# each helper that a loop calls, it took 20 of the 22 ns that a scanner spent on a byte. Indices are not checked.
_OPTIONS = {"nogil": True, "error_model": "numpy", "_nrt": False}


def compiled(result: types.Type, arguments: list[types.Type], nogil: bool = True) -> Callable:
    """Decorator: the function compiled for these types and no others; nogil: other threads run while it does."""

    def compile_function(function):
        if numba.config.DISABLE_JIT:
            return function
        dispatcher = numba.njit(**{**_OPTIONS, "nogil": nogil})(function)
        _enable_cache(dispatcher)
        dispatcher.compile(result(*arguments))
        dispatcher.disable_compile()
        return dispatcher

    return compile_function


def inline(function: Callable) -> Callable:
    """Decorator for a helper that kernels call: compiled into each of them."""
    return numba.njit(**_OPTIONS, forceinline=True)(function)


def routine(function: Callable) -> Callable:
    """Decorator for a helper with loops of its own: compiled once for each kernel that calls it."""
    return numba.njit(**_OPTIONS)(function)


def load_8_bytes(data: np.ndarray, place: int) -> np.uint64:
    """data[place : place + 8] of uint8 as one number, the first byte lowest."""
    return np.uint64(int.from_bytes(data[place : place + 8].tobytes(), "little"))


def store_8_bytes(data: np.ndarray, place: int, value: np.uint64) -> None:
    """The reverse of load_8_bytes."""
    data[place : place + 8] = np.frombuffer(int(value).to_bytes(8, "little"), dtype=np.uint8)


if not numba.config.DISABLE_JIT:

    @intrinsic
    def load_8_bytes(typing_context, data, place):  # noqa: F811
        """As above, in one instruction: NumPy and Numba have no name for a load that is not aligned."""

        def generate(context, builder, signature, arguments):
            array = make_array(signature.args[0])(context, builder, arguments[0])
            address = builder.gep(array.data, [arguments[1]])
            return builder.load(builder.bitcast(address, ir.IntType(64).as_pointer()), align=1)

        return types.uint64(data, place), generate

    @intrinsic
    def store_8_bytes(typing_context, data, place, value):  # noqa: F811
        def generate(context, builder, signature, arguments):
            array = make_array(signature.args[0])(context, builder, arguments[0])
            address = builder.gep(array.data, [arguments[1]])
            builder.store(arguments[2], builder.bitcast(address, ir.IntType(64).as_pointer()), align=1)
            return context.get_dummy_value()

        return types.void(data, place, types.uint64), generate


def cache_root() -> Path | None:
    """Where compiled code is kept: TGL_CACHE_DIR, or the user's cache directory; None if this user has no home."""
    asked = os.environ.get("TGL_CACHE_DIR", "").strip()
    try:
        if asked:
            return Path(asked).expanduser().absolute()
        if sys.platform == "win32" and os.environ.get("LOCALAPPDATA"):
            return Path(os.environ["LOCALAPPDATA"], "tinygrad_lite", "Cache")
        if os.environ.get("XDG_CACHE_HOME"):
            return Path(os.environ["XDG_CACHE_HOME"], "tinygrad_lite")
        return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "tinygrad_lite"
    except RuntimeError:
        return None


def _cache_directory() -> str | None:
    """A directory named after all that compiled code depends on: Numba's own key leaves helpers in other files out."""
    key = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        text = source.read_bytes()
        if b".native import" in text or source.name == "native.py":
            key.update(source.name.encode() + b"\0" + text + b"\0")
    versions = sys.version, numba.__version__, llvmlite.__version__, np.__version__
    key.update(repr((versions, llvmlite.binding.get_host_cpu_name())).encode())
    root, trouble = cache_root(), "this user has no home"
    if root is not None:
        directory = root / f"tokenizer-{key.hexdigest()[:16]}"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=directory).close()
            return str(directory)
        except OSError as error:
            trouble = error
    warnings.warn(
        f"compiled kernels cannot be kept ({trouble}), so each process compiles them again, which takes seconds: set "
        "the environment variable TGL_CACHE_DIR to a directory that can be written",
        RuntimeWarning,
        stacklevel=2,
    )
    return None


_directory = None if numba.config.DISABLE_JIT else _cache_directory()


def _enable_cache(dispatcher) -> None:
    """Numba reads config.CACHE_DIR at this moment and keeps it: a user's own cached functions stay where they were."""
    if _directory is None:
        return
    with global_compiler_lock:  # of two threads the first would restore what the second has set
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = _directory
        try:
            dispatcher.enable_caching()
        finally:
            numba.config.CACHE_DIR = before
