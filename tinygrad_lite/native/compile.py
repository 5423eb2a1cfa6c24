"""One decorator that turns a Python function over a range of items into a compiled kernel per dtype.

    @jit("i i r2 r1 w2")
    def scale(start, stop, x, weight, out):
        vectorise()
        ...

    parallel_for(scale[x.dtype], x.shape[0], 32, x, weight, out)

The words are the arguments' types: i an index, d a float64 scalar, u a uint64 scalar; r1, r2 ... a read-only
C-contiguous array of the kernel's dtype with that many axes, w1, w2 ... one that is written; a2, a3 ... a read-only
one of any strides; R1, W1 an int64 array, B1 a uint32 one that is written, D1 a float64 one that is
written. Types are explicit, so that a strided, a read-only and a
fresh array make one specialisation, not three; a read-only type accepts both kinds.

A dtype is compiled when it is first asked for: training never pays for the float64 kernels of gradient checks.
"""

import functools
import hashlib
import pathlib
import sys
import tempfile
import warnings

import llvmlite
import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import intrinsic

from ..config import settings

# Everything that lets LLVM reorder a sum into vector lanes and fuse multiply-adds; not nnan and ninf, which would let
# it drop the NaN that a user is looking for.
FASTMATH = {"reassoc", "contract", "arcp", "nsz"}

# Division by zero gives inf instead of raising: the test for it kept LLVM from vectorising (GELU 6.7 times slower).
OPTIONS = {"fastmath": FASTMATH, "error_model": "numpy"}

# LLVM left the larger helpers as calls, and a loop with a call in it does not vectorise (erf GELU 7 times slower).
INLINE = {**OPTIONS, "forceinline": True}


def compiled(function, argument_types):
    """A function for these types and no others, compiled, kept on disk, and run without the interpreter's lock."""
    dispatcher = numba.njit(nogil=True, **OPTIONS)(function)
    _enable_cache(dispatcher)
    dispatcher.compile(argument_types)
    dispatcher.disable_compile()
    return dispatcher


class Compiled:
    """A kernel for one dtype: where it is, and `launch`, which shares its range among threads (see `pool.launcher`).

    One launch, and one `bind` (`pool.binder`), is compiled for all kernels that take the same types.
    """

    __slots__ = ("function", "address", "launch", "_types")

    def __init__(self, function, argument_types):
        self.function = compiled(function, argument_types)
        (result,) = self.function.overloads.values()
        self.address = result.library.get_pointer_to_function(result.fndesc.llvm_func_name)
        self._types = argument_types[2:]
        self.launch = _launcher(self._types)

    @property
    def bind(self):
        """Compiled when a tape asks for it."""
        return _binder(self._types)


class Kernel(dict):
    """A kernel's compiled forms by dtype, for parallel_for(kernel[x.dtype], n, grain, ...).

    With NUMBA_DISABLE_JIT=1 each is the Python function itself, for a debugger to step through.
    """

    def __init__(self, function, signature):
        self.function = function
        self.signature = signature.split()

    def __missing__(self, dtype):
        if numba.config.DISABLE_JIT:
            entry = self.function
        else:
            element = numba.from_dtype(np.dtype(dtype))
            entry = Compiled(self.function, tuple(_type(word, element) for word in self.signature))
        self[dtype] = entry
        return entry


@functools.cache
def _launcher(argument_types):
    from .pool import launcher

    return launcher(argument_types)


@functools.cache
def _binder(argument_types):
    from .pool import binder

    return binder(argument_types)


def jit(signature):
    """Decorator: see the module's text for the words of `signature`."""
    return lambda function: Kernel(function, signature)


def inline(function):
    """Decorator for a helper that kernels call: compiled into each of them, under the same rules.

    Never left as a call: the process that compiles a kernel would run the helper's own machine code, and those that read
    the kernel from disk the copy in it, whose sums differ in the last digit.
    """
    return numba.njit(**INLINE)(function)


def inline_in_order(function):
    """Decorator for a helper whose sums must be taken as written: (x - a) - b where x - (a + b) loses the digits."""
    return numba.njit(**{**INLINE, "fastmath": False})(function)  # left out, it would be the caller's


def vectorise():
    """First line of a kernel: its arrays do not overlap where it writes, and the widest vectors are worth using.

    Without the first promise LLVM tests for overlap before every inner loop, and drops short ones to scalars (products
    of 64 x 32 tiles: 47 against 63 GFLOP/s). Without the second it keeps to half of AVX-512 (erf GELU: 0.94 against
    0.68 ns an element).
    """


if not numba.config.DISABLE_JIT:

    @intrinsic
    def vectorise(typing_context):  # noqa: F811
        def generate(context, builder, signature, args):
            for argument in builder.function.args[2:]:  # after the result and the exception, which are Numba's own
                if isinstance(argument.type, ir.PointerType):
                    argument.add_attribute("noalias")
            # llvmlite's set lists only the attributes it knows; this one is LLVM's own spelling
            set.add(builder.function.attributes, '"prefer-vector-width"="512"')
            return context.get_dummy_value()

        return types.void(), generate


def _type(word, dtype):
    scalar = {"i": types.intp, "d": types.float64, "u": types.uint64}
    if word in scalar:
        return scalar[word]
    kind, ndim = word[0], int(word[1:])
    element = {"R": types.int64, "W": types.int64, "B": types.uint32, "D": types.float64}.get(kind, dtype)
    return types.Array(element, ndim, "A" if kind == "a" else "C", readonly=kind in "rRa")


def _cache_directory():
    """A directory named after everything that a compiled kernel depends on, or None where none can be written.

    Numba's own key is the text of the one file that defines a kernel: after an edit to a helper in another file it
    returned the old machine code.
    """
    key = hashlib.sha256()
    package = pathlib.Path(__file__).parent.parent
    for source in sorted(package.glob("native/*.py")) + sorted(package.glob("kernels/cpu/*.py")):
        key.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    versions = sys.version, numba.__version__, llvmlite.__version__, np.__version__
    key.update(repr((versions, llvmlite.binding.get_host_cpu_name())).encode())
    root, trouble = settings.cache_directory, "this user has no home"
    if root is not None:
        directory = root / f"numba-{key.hexdigest()[:16]}"
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


def _enable_cache(dispatcher):
    """Numba reads config.CACHE_DIR when a function's cache is enabled, and keeps the path.

    Setting it for that moment only leaves the user's own `cache=True` functions where they were. Numba's lock, which
    tokenizer/ takes, too: of two threads the first would restore what the second has set.
    """
    if _directory is None:
        return
    with global_compiler_lock:
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = _directory
        try:
            dispatcher.enable_caching()
        finally:
            numba.config.CACHE_DIR = before
