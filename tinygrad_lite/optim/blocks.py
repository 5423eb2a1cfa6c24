"""Walking long arrays in blocks that stay in cache, with scratch memory that is made once."""

from __future__ import annotations

import threading

from ..device import CPU
from ..dtypes import HALF, float32

# Elements a block. On a CPU six float32 arrays of this length fit a 1 MiB second-level cache, so that each line of
# the formula finds there what the line before wrote; a GPU wants long passes, of which this bounds the scratch.
BLOCK, GPU_BLOCK = 1 << 15, 1 << 22


class _Scratch(threading.local):
    def __init__(self):
        self.arrays = {}


_scratch = _Scratch()


def scratch(name, shapes, dtype, device) -> list:
    """Arrays of these shapes, kept from call to call under a name; their content is whatever was left."""
    key = name, tuple(shapes), dtype, device.name
    if key not in _scratch.arrays:
        _scratch.arrays[key] = [device.xp.empty(shape, dtype) for shape in shapes]
    return _scratch.arrays[key]


def computing_dtype(flat):
    """The type that updates are computed in: float32 for half precision."""
    return float32 if flat.dtype in HALF else flat.dtype


def blocks(flat, first: int, last: int, names, grad_scale: float, scratches: int = 1):
    """For each block of parameters first to last: (param, gradient, [state arrays by name], [scratch arrays]).

    The gradient is scaled, and is scratch that the caller may overwrite; param and state are to be updated in place.
    For half precision all are float32, and the parameter is rounded when the block is done.
    """
    begin, end, device = flat.starts[first], flat.stops[last], flat.device
    length = BLOCK if device is CPU else GPU_BLOCK
    whole = scratch("blocks", [(length,)] * (1 + scratches), computing_dtype(flat), device)
    for a in range(begin, end, length):
        b = min(a + length, end)
        g, *free = (array[: b - a] for array in whole)
        g[...] = flat.grad[a:b]
        if grad_scale != 1.0:
            g *= grad_scale
        param = flat.open_master(a, b)
        yield param, g, [flat.state[name][a:b] for name in names], free
        flat.close_master(param, a, b, flat.steps[first])
