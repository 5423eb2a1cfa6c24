"""Launches attention's kernels: for both ops, any layout given by strides, and the three element types.

16-bit types run on the tensor cores (attention_forward.cu, attention_backward.cu), compiled for head sizes of 32, 64
and 128: another one runs in the next larger, its rows filled up with zeros in shared memory. float32 runs without them
(attention_float.cu). Larger heads than 128 would not fit a block's registers.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ...dtypes import float32
from .arrays import VECTOR_BYTES, blocks, empty
from .launch import Source

HEAD_SIZES = (32, 64, 128)

# What the .cu files know by the same or similar names.
THREADS, KEYS, OWN, STEP = 128, 64, 64, 32
FLOAT_WARPS = 8  # of an attention_float block: each owns a row
ROWS, ROW_LANES = 32, 8  # of a block of attention_backward_rows: rows, and threads for each

_forward = {d: Source("attention_forward.cu", f"attention_forward<T, {d}>") for d in HEAD_SIZES}
_backward = {
    d: Source(
        "attention_backward.cu", "attention_backward_rows<T>", f"attention_backward_keys<T, {d}>",
        f"attention_backward_queries<T, {d}>",
    )
    for d in HEAD_SIZES
}  # fmt: skip
_float = Source(
    "attention_float.cu", "attention_float_forward", "attention_float_delta", "attention_float_backward_keys",
    "attention_float_backward_queries",
)  # fmt: skip


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


def _aligned(layout, arrays):
    """Whether every row begins at a multiple of 16 bytes and is a whole number of them long."""
    size = arrays[0].itemsize
    return all(x.data.ptr % VECTOR_BYTES == 0 for x in arrays) and all(
        n * size % VECTOR_BYTES == 0 for n in (layout.d, *layout.strides)
    )


def forward(layout, q, k, v, out, causal, window, scale):
    """Fill `out`. Returns what backward makes the probabilities from: (B, H, T), for float32 (B, H, T, 2)."""
    width, rows = _tile_width(layout.d), (layout.batch, layout.heads, layout.t)
    problem = _problem(layout, causal, window, scale, _aligned(layout, (q, k, v, out)))
    if q.dtype == float32:
        stats, own = empty((*rows, 2), float32), FLOAT_WARPS
        kernel, block, shared = _float[float32]["attention_float_forward"], 32 * FLOAT_WARPS, 0
    else:
        stats, own = empty(rows, float32), 128 if width <= 64 else 64
        kernel, block = _forward[width][q.dtype][f"attention_forward<T, {width}>"], THREADS
        shared = q.itemsize * width * (own + 4 * KEYS)
    if out.size:
        grid = layout.batch * layout.heads * blocks(layout.t, own)
        kernel((grid,), (block,), out, stats, q, k, v, *problem, shared=shared)
    return stats


def backward(layout, g, q, k, v, out, stats, gq, gk, gv, causal, window, scale):
    """Fill gq, and gk with gv. A gq of None, or both others, is not wanted."""
    batch, heads, key_heads, t, s, d, _ = layout
    given = [x for x in (g, q, k, v, out, gq, gk, gv) if x is not None]
    problem = _problem(layout, causal, window, scale, _aligned(layout, given))
    if q.dtype == float32:
        kernels, own, block, shared = _float[float32], FLOAT_WARPS, 32 * FLOAT_WARPS, 0
        keys_kernel, queries_kernel = "attention_float_backward_keys", "attention_float_backward_queries"
        delta = empty((batch, heads, t), float32)
        if g.size:
            grid = (blocks(delta.size, FLOAT_WARPS),)
            kernels["attention_float_delta"](grid, (block,), delta, g, out, np.int64(delta.size), *problem)
        rows = stats, delta
    else:
        width, own, block = _tile_width(d), OWN, THREADS
        kernels, shared = _backward[width][q.dtype], q.itemsize * width * (2 * OWN + 4 * STEP)
        keys_kernel, queries_kernel = (f"attention_backward_{x}<T, {width}>" for x in ("keys", "queries"))
        padded = -(-t // OWN) * OWN
        rows = empty((batch, heads, 2, padded), float32), padded
        if g.size:
            grid = (batch * heads * padded // ROWS,)
            kernels["attention_backward_rows<T>"](grid, (ROWS * ROW_LANES,), rows[0], stats, g, out, padded, *problem)
    if gk is not None and gk.size:
        grid = (batch * key_heads * blocks(s, own),)
        kernels[keys_kernel](grid, (block,), gk, gv, q, k, v, g, *rows, *problem, shared=shared)
    if gq is not None and gq.size:
        grid = (batch * heads * blocks(t, own),)
        kernels[queries_kernel](grid, (block,), gq, q, k, v, g, *rows, *problem, shared=shared)
