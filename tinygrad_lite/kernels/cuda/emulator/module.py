"""A compiled library of kernels, and launching one on host memory."""

from __future__ import annotations

import ctypes
import re
import threading

import numpy as np

from . import counts
from .lines import Lines, guards
from .options import options
from .trace import record

ORDERS = {"ascending": 0, "descending": 1, "random": 2}
MOST_THREADS = 1024  # as in scheduler.h
_lock = threading.Lock()  # one launch at a time: the scheduler's state is global in each library, and stacks are shared
_stacks = (ctypes.c_size_t * (1 + MOST_THREADS))()  # of all libraries: fibers.cpp


class _Parameter(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_char), ("bytes", ctypes.c_uint)]


class _Kernel(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("call", ctypes.c_void_p), ("parameters", ctypes.POINTER(_Parameter))]


class Module:
    """The kernels of a library by name. Raises KeyError for others."""

    def __init__(self, path: str):
        self.path, self.library, self.lines = path, ctypes.CDLL(path), Lines(path)
        self.library.emulator_launch.restype = ctypes.c_char_p
        self.library.emulator_share_stacks(_stacks)
        self.checks = hasattr(self.library, "emulator_findings")
        if self.checks:
            self.library.emulator_findings.restype = ctypes.c_char_p
            self.library.emulator_access_counts.restype = ctypes.c_size_t
            for offset in guards(path):
                self.library.emulator_add_guard(ctypes.c_size_t(offset))
        self.kernels = {}
        table = ctypes.cast(self.library.emulator_kernels, ctypes.POINTER(_Kernel))
        for kernel in _until(table, "name"):
            parameters = [(p.kind.decode(), p.bytes) for p in _until(kernel.parameters, "kind")]
            self.kernels[kernel.name.decode()] = kernel.call, parameters

    def launch(self, name: str, grid, block, arguments, shared: int, regions):
        """Run a kernel. arguments: NumPy scalars, or host arrays for pointers. regions: the arrays that it may touch.

        Raises TypeError for an argument that the kernel would read wrongly, RuntimeError for what the emulator found.
        """
        call, parameters = self.kernels[name]
        if len(parameters) != len(arguments):
            raise TypeError(f"{name}: takes {len(parameters)} arguments, got {len(arguments)}")
        held = [_pass(name, i, p, a) for i, (p, a) in enumerate(zip(parameters, arguments, strict=True))]
        pointers = (ctypes.c_void_p * max(1, len(held)))(*[ctypes.addressof(h) for h in held])
        sizes = [(ctypes.c_uint * 3)(*(*size, 1, 1)[:3]) for size in (grid, block)]
        library = self.library
        with _lock:
            library.emulator_set_options(
                ORDERS[options.order], int(options.lazy_copies), options.poison, ctypes.c_ulonglong(options.seed)
            )
            if self.checks:
                for region in regions:
                    library.emulator_add_array(ctypes.c_void_p(region.ctypes.data), ctypes.c_size_t(region.nbytes))
                library.emulator_count_accesses(int(counts.counting()))
                traced = record.begin(library, name, grid)
            error = library.emulator_launch(ctypes.c_void_p(call), *sizes, ctypes.c_uint(shared), pointers)
            found = library.emulator_findings() if self.checks else None
            text = "\n".join(part.decode() for part in (error, found) if part)
            wrong = f"{name}: {self._with_lines(text)}" if text else None
            if self.checks and counts.counting():
                counts.read(library, name, self.lines)
            if self.checks and traced:
                record.end(self, name, grid, block, arguments, wrong)
            if wrong:
                raise RuntimeError(wrong)

    def _with_lines(self, text: str) -> str:
        """{pc:0x...} replaced by file and line."""
        positions = [int(p, 16) for p in re.findall(r"{pc:0x([0-9a-f]+)}", text)]
        for position, frames in self.lines[positions].items():
            text = text.replace(f"{{pc:{position:#x}}}", str(frames))
        return text


def _until(array, field):
    """The structures of an array up to the one whose field is zero."""
    i = 0
    while getattr(array[i], field) not in (None, b"\0"):
        yield array[i]
        i += 1


def _pass(name, i, parameter, a):
    """What the kernel reads for a parameter (kind, bytes): "p" a pointer, "i" an integer, "f" a float, "s" a struct."""
    kind, size = parameter
    if isinstance(a, np.ndarray):
        if kind != "p":
            raise TypeError(f"{name} argument {i}: an array was given for {_KINDS[kind]} of {size} bytes")
        if not a.flags.c_contiguous:
            raise TypeError(f"{name} argument {i}: an array that is not C-contiguous")
        return ctypes.c_void_p(a.ctypes.data)
    if not isinstance(a, np.generic):  # CuPy would pass an int as 8 bytes and a float as double
        raise TypeError(f"{name} argument {i}: expected a NumPy scalar, got {type(a).__name__}")
    right_kind = kind not in "fi" or (kind == "f") == (a.dtype.kind == "f")
    if a.nbytes != size or not right_kind or (kind == "p" and a != 0):
        raise TypeError(f"{name} argument {i}: {a.dtype} was given for {_KINDS[kind]} of {size} bytes")
    return ctypes.create_string_buffer(a.tobytes(), a.nbytes)


_KINDS = {"p": "a pointer", "i": "an integer", "f": "a float", "s": "a struct"}
