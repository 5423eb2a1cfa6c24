"""Launches attention's kernels: for both ops, any layout given by strides, and the three element types.

16-bit types run on the tensor cores (attention_forward.cu, attention_backward.cu), compiled for head sizes of 32, 64
and 128: another one runs in the next larger, its rows filled up with zeros in shared memory. On Hopper, heads of 64 and
128 take its warpgroups' products, and other tiles. float32 runs without them
(attention_float.cu). Larger heads than 128 would not fit a block's registers.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ...dtypes import float32
from . import draws, nvrtc
from .arrays import VECTOR_BYTES, blocks, empty
from .launch import Source, cupy

HEAD_SIZES = (32, 64, 128)

# What the .cu files know by the same or similar names.
KEYS, OWN, BACKWARD_THREADS = 64, 64, 128
FLOAT_WARPS = 8  # of an attention_float block: each owns a row

# By head size and by whether weights are dropped, which few programs want both ways: each is compiled by itself.
_INSTANCES = [(d, drops) for d in HEAD_SIZES for drops in ("false", "true")]
_forward = {
    (d, drops): Source("attention_forward.cu", f"attention_forward<T, {d}, {drops}>") for d, drops in _INSTANCES
}
_backward = {
    (d, drops): Source(
        "attention_backward.cu", f"attention_backward_queries<T, {d}, {drops}>",
        f"attention_backward_keys<T, {d}, {drops}>",
    )
    for d, drops in _INSTANCES
}  # fmt: skip
_float = {
    drops: Source(
        "attention_float.cu", f"attention_float_forward<{drops}>", "attention_float_delta",
        f"attention_float_backward_keys<{drops}>", f"attention_float_backward_queries<{drops}>",
    )
    for drops in ("false", "true")
}  # fmt: skip


class Layout(NamedTuple):
    """Sizes, and the steps from one batch entry, head and row to the next in q, in k and v, and in out, in elements.

    Gradients lie as what they belong to.
    """

    batch: int
    heads: int
    key_heads: int
    t: int
    s: int
    d: int
    strides: tuple[int, ...]  # nine


def supports(d):
    """Whether there is a kernel for a head size."""
    return d <= HEAD_SIZES[-1]


class Tiles(NamedTuple):
    """How attention_forward and attention_backward are cut for a head size, as the .cu files have it by IN_WARPGROUPS."""

    threads: int  # of a forward block, how many queries it has, and rows of keys and values in its memory
    queries: int
    rows: int
    step: int  # rows of the other side that backward takes at a time


def _tiles(width, drops):
    if width >= 64 and nvrtc.architecture(cupy()) in nvrtc.WARPGROUPS:
        return Tiles(256, 128, 5 * 2 * KEYS, 64)
    return Tiles(128, 128 if width == 32 or (width == 64 and drops == "false") else 64, 4 * KEYS, 32)


def _tile_width(d):
    """The head size that the kernel for d is compiled for."""
    for width in HEAD_SIZES:
        if d <= width:
            return width
    raise ValueError(
        f"attention: the CUDA kernels take head sizes up to {HEAD_SIZES[-1]}, got {d}: use more and smaller heads, or "
        "TGL_FUSED=0 for the unfused formula"
    )


def reach(t, s, causal, window):
    """`behind` and `ahead`: how many keys before and after its own position a query sees; t + s is no limit."""
    everything = t + s
    return everything if window is None else min(window - 1, everything), 0 if causal else everything


@lru_cache(maxsize=256)
def _problem(layout, causal, window, scale, aligned):
    """The last parameters of every kernel (attention_problem.cuh)."""
    _, heads, key_heads, t, s, d, strides = layout
    numbers = heads, heads // key_heads, t, s, d, *reach(t, s, causal, window), scale, int(aligned)
    return *map(np.int64, strides), *numbers


_NOTHING_DRAWN = np.uint64(0), np.uint64(0), None, np.uint32(0), 1.0


def _drawn(p, key, offset):
    """Whether weights are dropped, as C++ writes it, and the parameters that say which (attention_dropout.cuh)."""
    return ("true", draws.dropout_parameters(p, key, offset)) if p else ("false", _NOTHING_DRAWN)


def _aligned(layout, arrays):
    """Whether every row begins at a multiple of 16 bytes and is a whole number of them long."""
    size = arrays[0].itemsize
    return all(x.data.ptr % VECTOR_BYTES == 0 for x in arrays) and all(
        n * size % VECTOR_BYTES == 0 for n in (layout.d, *layout.strides)
    )


def forward(layout, q, k, v, out, causal, window, scale, dropout):
    """Fill `out`. Returns what backward makes the probabilities from: (B, H, T rounded up), for float32 (B, H, T, 2).

    dropout: p, and the generator's key and offset.
    """
    drops, drawn = _drawn(*dropout)
    width, heads = _tile_width(layout.d), (layout.batch, layout.heads)
    problem = _problem(layout, causal, window, scale, _aligned(layout, (q, k, v, out)))
    if q.dtype == float32:
        stats, own, padded = empty((*heads, layout.t, 2), float32), FLOAT_WARPS, ()
        kernel, block, shared = _float[drops][float32][f"attention_float_forward<{drops}>"], 32 * FLOAT_WARPS, 0
    else:
        block, own, rows, _ = _tiles(width, drops)
        padded = (blocks(layout.t, OWN) * OWN,)
        stats = empty((*heads, *padded), float32)
        kernel = _forward[width, drops][q.dtype][f"attention_forward<T, {width}, {drops}>"]
        shared = q.itemsize * width * (own + rows)
    if out.size:
        grid = layout.batch * layout.heads * blocks(layout.t, own)
        kernel((grid,), (block,), out, stats, q, k, v, *padded, *drawn, *problem, shared=shared)
    return stats


def backward(layout, g, q, k, v, out, stats, gq, gk, gv, causal, window, scale, dropout):
    """Fill gq, and gk with gv. A gq of None, or both others, is not wanted."""
    drops, drawn = _drawn(*dropout)
    given = [x for x in (g, q, k, v, out, gq, gk, gv) if x is not None]
    if not g.size or not k.size:
        for x in (gq, gk, gv):
            if x is not None:
                x[...] = 0
        return
    parameters = *drawn, *_problem(layout, causal, window, scale, _aligned(layout, given))
    (_backward_float if q.dtype == float32 else _backward_tiles)(
        layout, drops, parameters, g, q, k, v, out, stats, gq, gk, gv
    )


def _grids(layout, own):
    """Of blocks that own queries, and of blocks that own keys."""
    batch, heads, key_heads, t, s = layout[:5]
    return (batch * heads * blocks(t, own),), (batch * key_heads * blocks(s, own),)


def _backward_float(layout, drops, parameters, g, q, k, v, out, stats, gq, gk, gv):
    kernels, block = _float[drops][float32], (32 * FLOAT_WARPS,)
    queries_grid, keys_grid = _grids(layout, FLOAT_WARPS)
    delta = empty((layout.batch, layout.heads, layout.t), float32)
    grid, problem = (blocks(delta.size, FLOAT_WARPS),), parameters[len(_NOTHING_DRAWN) :]
    kernels["attention_float_delta"](grid, block, delta, g, out, np.int64(delta.size), *problem)
    rest = stats, delta, *parameters
    if gk is not None:
        kernels[f"attention_float_backward_keys<{drops}>"](keys_grid, block, gk, gv, q, k, v, g, *rest)
    if gq is not None:
        kernels[f"attention_float_backward_queries<{drops}>"](queries_grid, block, gq, q, k, v, g, *rest)


def _backward_tiles(layout, drops, parameters, g, q, k, v, out, log_sum, gq, gk, gv):
    width, block, padded = _tile_width(layout.d), (BACKWARD_THREADS,), log_sum.shape[2]
    kernels, step = _backward[width, drops][q.dtype], _tiles(width, drops).step
    queries_grid, keys_grid = _grids(layout, OWN)
    shared, numbers = q.itemsize * width * (2 * OWN + 4 * step), 4 * 2 * 2 * step
    delta = empty(log_sum.shape, float32)  # filled by the first kernel for the second
    kernels[f"attention_backward_queries<T, {width}, {drops}>"](
        queries_grid, block, gq, delta, q, k, v, g, out, log_sum, padded, *parameters, shared=shared
    )
    if gk is not None:
        kernels[f"attention_backward_keys<T, {width}, {drops}>"](
            keys_grid, block, gk, gv, q, k, v, g, log_sum, delta, padded, *parameters, shared=shared + numbers
        )
