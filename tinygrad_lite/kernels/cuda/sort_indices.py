"""sort_indices: the positions of an embedding's indices, sorted by index, stable."""

from ...dtypes import float32, int32, int64
from .arrays import blocks, empty
from .launch import Source

TILE, BITS = 1024, 9  # as in sort_indices.cu
BLOCKS = 64  # at most: each reads the counts of all

_kernels = Source("sort_indices.cu", "count_digits", "place_entries")


def sort_indices(indices, bound):
    """{index, position} (N, 2) int32 of indices (N,), 0 <= index < bound, N > 0: by index, then by position.

    How many launches there are depends on `bound` alone, and nothing comes back to the host.
    """
    indices = indices if indices.dtype == int64 and indices.flags.c_contiguous else indices.astype(int64)
    kernels, n = _kernels[float32], indices.size
    passes = blocks((bound - 1).bit_length(), BITS)
    part = TILE * blocks(n, TILE * BLOCKS)  # of a block
    count = blocks(n, part)
    counts, entries = empty((passes, count, 1 << BITS), int32), None
    kernels["count_digits"]((count,), (TILE,), counts, indices, n, part, passes)
    for i in range(passes):
        placed, following = empty((n, 2), int32), counts[i + 1] if i + 1 < passes else None
        kernels["place_entries"]((count,), (TILE,), placed, following, counts[i], indices, entries, n, part, i * BITS)
        entries = placed
    return entries
