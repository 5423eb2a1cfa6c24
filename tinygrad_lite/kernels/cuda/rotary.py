"""rotary: pairs of columns turned by an angle that grows with the position. Su et al. 2021, arXiv:2104.09864."""

from functools import cache, lru_cache

import numpy as np

from ...dtypes import bfloat16, float16, float32
from .arrays import VECTOR_BYTES, blocks, buffer, empty, fits_vectors, rows
from .launch import Source, cupy

DTYPES = (float32, bfloat16, float16)
THREADS = 256  # as in rotary.cu
ITEMS = 4 * THREADS  # what a block is given, as nearly as whole rows allow
LONGEST = 1 << 18  # positions that one table may hold from 0 on: 64 MiB with 64 columns

_kernels = Source("rotary.cu", "rotary<T, true>", "rotary<T, false>")


def forward(x, *, heads, size, start, base, turn):
    """(a, b) becomes (a cos - b sin, a sin + b cos) in the first `heads` heads of x (B, T, P); saves nothing."""
    return _apply(x, heads, size, start, base, turn, empty(x.shape, x.dtype)), ()


def backward(g, saved, needs, into, *, heads, size, start, base, turn):
    """A turn is undone by its opposite, which is also its transpose."""
    return (_apply(g, heads, size, start, base, -turn, buffer(into[0], g)) if needs[0] else None,)


def forward_at(x, position, room, *, heads, size, base):
    """forward of x (B, T, P) from a position on that only the device knows, an int64 array (1,); all are below room."""
    return _apply(x, heads, size, room - x.shape[1], base, 1, empty(x.shape, x.dtype), position)


def _apply(x, heads, size, start, base, turn, out, start_at=None):
    if not x.size:
        return out
    lib, end = cupy(), start + x.shape[1]
    # One table serves every length and every start up to a power of two, so generation, which starts one position later
    # each time, does not make a table each time. It is kept for good: captured launches read it where it is.
    if end <= LONGEST or start_at is not None:
        first, table = 0, _table_from_0(lib, lib.cuda.Device().id, 1 << max(0, end - 1).bit_length(), size, base)
    else:
        first, table = start, _table(lib, lib.cuda.Device().id, start, end, size, base)
    n = VECTOR_BYTES // x.dtype.itemsize
    vectors = fits_vectors(x, out) and size // 2 % n == 0
    n = n if vectors else 1
    items = heads * (size // 2 // n) + (x.shape[2] - heads * size) // n
    x2 = rows(x)
    rows_per_block = max(1, ITEMS // items)
    _kernels[x.dtype][f"rotary<T, {'true' if vectors else 'false'}>"](
        (blocks(x2.shape[0], rows_per_block),), (THREADS,),
        out, x, table, np.uint32(x2.shape[0]), rows_per_block, x.shape[1], start - first, start_at, x.shape[2], heads,
        size, float(turn),
    )  # fmt: skip
    return out


@cache
def _table_from_0(lib, device, stop, size, base):
    return _table(lib, device, 0, stop, size, base)


@lru_cache(maxsize=16)
def _table(lib, device, first, stop, size, base):
    """(stop - first, size) float32 on a device: cosines of the size / 2 angles of each position, then their sines.

    Made on the host in float64, once: an angle of 100,000 known in float32 is off by 0.004.
    """
    angle = np.outer(np.arange(first, stop), base ** (-np.arange(0, size, 2) / size))
    return lib.asarray(np.concatenate([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32))
