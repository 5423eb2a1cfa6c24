"""A compiled library of kernels, and launching one on host memory."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import threading

import numpy as np

from .options import options

ORDERS = {"ascending": 0, "descending": 1, "random": 2}
_lock = threading.Lock()  # one launch at a time: the scheduler's state is global in each library


class _Entry(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("call", ctypes.c_void_p), ("signature", ctypes.CFUNCTYPE(ctypes.c_char_p))]


class Module:
    """The kernels of a library by name. Raises KeyError for others."""

    def __init__(self, path: str):
        self.path, self.library = path, ctypes.CDLL(path)
        self.library.cudahost_launch.restype = ctypes.c_char_p
        self.checks = hasattr(self.library, "race_reset")
        self.kernels = {}
        for entry in (_Entry * 4096).in_dll(self.library, "cudahost_kernels"):
            if not entry.name:
                break
            words = entry.signature().decode().rstrip(",")
            self.kernels[entry.name.decode()] = entry.call, words.split(",") if words else []

    def launch(self, name: str, grid, block, arguments, shared: int, regions):
        """Run a kernel. arguments: NumPy scalars, or host arrays for pointers. regions: the arrays that it may touch.

        Raises TypeError for an argument that the kernel would read wrongly, RuntimeError for what the emulator found.
        """
        call, signature = self.kernels[name]
        if len(signature) != len(arguments):
            raise TypeError(f"{name}: takes {len(signature)} arguments, got {len(arguments)}")
        held = [_pass(name, i, word, a) for i, (word, a) in enumerate(zip(signature, arguments, strict=True))]
        pointers = (ctypes.c_void_p * max(1, len(held)))(*[ctypes.addressof(h) for h in held])
        sizes = [(ctypes.c_uint * 3)(*(*size, 1, 1)[:3]) for size in (grid, block)]
        library = self.library
        with _lock:
            library.cudahost_options(
                ORDERS[options.order], int(options.lazy_copies), options.poison, ctypes.c_ulonglong(options.seed)
            )
            if self.checks:
                library.race_reset()
                for region in regions:
                    library.race_region(ctypes.c_void_p(region.ctypes.data), ctypes.c_size_t(region.nbytes))
            error = library.cudahost_launch(ctypes.c_void_p(call), *sizes, ctypes.c_uint(shared), pointers)
            if error:
                raise RuntimeError(f"{name}: {error.decode()}")
            if self.checks:
                library.race_report.restype = ctypes.c_char_p
                report = library.race_report()
                if report:
                    raise RuntimeError(f"{name}: {self._with_lines(report.decode())}")

    def count_accesses(self, on: bool):
        """Count shared-memory wavefronts and global sectors from now on (mode "race")."""
        self.library.race_perf(int(on))

    def accesses(self) -> str:
        """A line for each instruction that reads or writes memory: requests, wavefronts or sectors, and the least possible."""
        self.library.race_sites.restype = ctypes.c_char_p
        return self._with_lines(self.library.race_sites().decode())

    def _with_lines(self, text: str) -> str:
        """{pc:0x..} replaced by file and line."""
        places = sorted(set(re.findall(r"{pc:(0x[0-9a-f]+)}", text)))
        if not places:
            return text
        asked = [hex(int(p, 16) - 1) for p in places]
        lines = subprocess.run(["addr2line", "-e", self.path, *asked], capture_output=True, text=True).stdout.split("\n")
        for place, line in zip(places, lines):
            text = text.replace("{pc:%s}" % place, "[" + os.path.basename(line.split(" ")[0]) + "]")
        return text


def _pass(name, i, word, a):
    """What the kernel reads for a parameter ("p8" a pointer, "i4" an int ...)."""
    if isinstance(a, np.ndarray):
        if word[0] != "p":
            raise TypeError(f"{name} argument {i}: an array was given for a parameter of kind {word}")
        return ctypes.c_void_p(a.ctypes.data)
    if not isinstance(a, np.generic):  # CuPy passes an int as 8 bytes, a float as double: the kernel would read wrong ones
        raise TypeError(f"{name} argument {i}: expected a NumPy scalar, got {type(a).__name__}")
    right_kind = word[0] not in "fi" or (word[0] == "f") == (a.dtype.kind == "f")
    if a.nbytes != int(word[1:]) or not right_kind or (word[0] == "p" and a != 0):
        raise TypeError(f"{name} argument {i}: {a.dtype} was given for a parameter of kind {word}")
    return ctypes.create_string_buffer(a.tobytes(), a.nbytes)
