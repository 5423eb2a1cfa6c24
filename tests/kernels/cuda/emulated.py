"""Small CUDA sources of a test, compiled and run by the emulator, whatever stands behind device "cuda"."""

import numpy as np
import pytest

from tinygrad_lite.kernels.cuda import nvrtc
from tinygrad_lite.kernels.cuda.emulator import cupy, options, unavailable
from tinygrad_lite.kernels.cuda.emulator.module import Module
from tinygrad_lite.kernels.cuda.launch import FOLDER

needs_emulator = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))
SCHEDULES = [
    dict(order=order, lazy_copies=lazy) for order in ("ascending", "descending", "random") for lazy in (False, True)
]


class Kernels:
    """The kernels of a text of CUDA C, compiled at first use in each mode: run(name, grid, block, *arguments)."""

    def __init__(self, folder, text, *names):
        self.source, self.names, self._modules = folder / "planted.cu", names, {}
        self.source.write_text(text)

    @property
    def module(self):
        """The library for the emulator's present mode."""
        if options.mode not in self._modules:
            code, _, _ = nvrtc.compile_source(cupy, self.source, self.names, "sm_90a", (f"-I{FOLDER}",))
            library = self.source.with_name(f"{options.mode}.so")
            library.write_bytes(code)
            self._modules[options.mode] = Module(str(library))
        return self._modules[options.mode]

    def run(self, name, grid, block, *arguments, shared=0, **changes):
        """Launch on host arrays, under these options of the emulator."""
        grid, block = (size if isinstance(size, tuple) else (size,) for size in (grid, block))
        arrays = [a for a in arguments if isinstance(a, np.ndarray)]
        with options.set(**changes):
            self.module.launch(name, grid, block, arguments, shared, arrays)

    def line(self, mark):
        """Where the source has a comment `// mark`."""
        lines = self.source.read_text().split("\n")
        (number,) = [i for i, line in enumerate(lines, 1) if line.endswith(f"// {mark}")]
        return f"planted.cu:{number}"
