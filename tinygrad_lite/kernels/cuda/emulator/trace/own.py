"""A kernel of one's own, compiled and launched on arrays that are described in a word.

float:64          an array of normal numbers; of an integer type 0, 1, 2, ...
float:4x8=range   0, 1, 2, ...
float:64=0.5      0.5 everywhere
int=64            a number
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ... import nvrtc
from ...launch import FOLDER
from .. import cupy
from .values import TYPES


def argument(text: str):
    """The array or number that a text describes. Raises ValueError for another text."""
    found = re.fullmatch(r"(\w+)(?::(\d+(?:x\d+)*))?(?:=(.+))?", text)
    if not found or found[1] not in TYPES or not (found[2] or found[3]):
        raise ValueError(
            f"--arg {text!r}: expected a type, and :SIZE for an array (float:64, bf16:4x8=range, float:64=0) or =VALUE "
            f"for a number (int=64); types are {', '.join(TYPES)}"
        )
    dtype, fill = TYPES[found[1]], found[3]
    if not found[2]:
        return dtype.type(_number(text, fill, dtype))
    shape = tuple(map(int, found[2].split("x")))
    if fill == "range" or fill is None and dtype.kind in "iu":
        values = np.arange(np.prod(shape)).reshape(shape)
    elif fill is None:
        values = np.random.default_rng(0).standard_normal(shape)
    else:
        values = np.full(shape, _number(text, fill, dtype))
    return cupy.asarray(values.astype(dtype))


def _number(text, value, dtype):
    try:
        return int(value, 0) if dtype.kind in "iu" else float(value)
    except ValueError:
        raise ValueError(f"--arg {text!r}: {value!r} is not a number of that type") from None


def launch(path: Path, kernel: str, grid, block, arguments, shared: int, folder: Path):
    """Compile `kernel`, with its template arguments, from a .cu file into a folder, and launch it.

    The file may include the library's headers. Raises ValueError if it has no such kernel, RuntimeError if it does not
    compile, or for what the emulator finds.
    """
    base = kernel.partition("<")[0]
    kernels = re.findall(
        r"__global__[^;{}()]*?(?:__launch_bounds__\s*\([^{};]*?\)\s*)?(?:void\s+)?(\w+)\s*\(", path.read_text()
    )
    if base not in kernels:
        has = f"it has {', '.join(kernels)}" if kernels else "it has no __global__ function"
        raise ValueError(f"{path}: there is no kernel {base!r}: {has}")
    given = [argument(text) for text in arguments]
    code, _, _ = nvrtc.compile_source(cupy, path, [kernel], "sm_90a", (f"-I{FOLDER}",))
    library = folder / "kernel.so"
    library.write_bytes(code)
    found = cupy.RawModule(path=str(library)).get_function(kernel)
    found.max_dynamic_shared_size_bytes = max(shared, found.max_dynamic_shared_size_bytes)
    found(grid, block, tuple(given), shared_mem=shared)
