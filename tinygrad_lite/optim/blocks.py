"""Walking long arrays in blocks that stay in cache, with scratch memory that is made once."""

from __future__ import annotations

from ..device import CPU
from ..dtypes import HALF, float32

# Elements a block: six float32 arrays of this length fit a 1 MiB second-level cache.
BLOCK = 1 << 15

_scratch: dict = {}


def scratch(count: int, length: int, dtype, device) -> list:
    """`count` arrays of `length` elements, kept from call to call; their content is whatever was left."""
    key = dtype, device.name
    held = _scratch.get(key, [])
    if len(held) < count or (held and held[0].size < length):
        held = _scratch[key] = [device.xp.empty((length,), dtype) for _ in range(max(count, len(held)))]
    return [array[:length] for array in held[:count]]


def blocks(flat, first: int, last: int, names, grad_scale: float, scratches: int = 1):
    """For each block of parameters first to last: (param, gradient, [state arrays by name], [scratch arrays]).

    The gradient is scaled, and scratch the caller may overwrite; param may be updated in place. For half precision
    both are float32, and the parameter is rounded when the block is done.
    """
    begin, end = flat.starts[first], flat.stops[last]
    device, half = flat.device, flat.dtype in HALF
    dtype = float32 if half else flat.dtype
    # A GPU wants one long pass; a CPU wants to find in cache what the line before wrote.
    length = min(BLOCK, end - begin) if device is CPU else end - begin
    xp = device.xp
    for a in range(begin, end, max(length, 1)):
        b = min(a + length, end)
        g, *free = scratch(1 + scratches, b - a, dtype, device)
        if grad_scale == 1.0:
            g[...] = flat.grad[a:b]
        elif half:
            g[...] = flat.grad[a:b]
            xp.multiply(g, grad_scale, out=g)
        else:
            xp.multiply(flat.grad[a:b], grad_scale, out=g)
        kept = [flat.state[name][a:b] for name in names]
        if not half:
            yield flat.data[a:b], g, kept, free
            continue
        master, rounded = flat.state["master"][a:b], flat.data[a:b]
        # Where the parameter is not its master's rounding, somebody wrote it: loading a model, say.
        written = xp.not_equal(master.astype(flat.dtype), rounded)
        master[written] = rounded[written]
        yield master, g, kept, free
        rounded[...] = master
