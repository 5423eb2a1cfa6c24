"""scatter_add_rows: the gradient of an embedding, the same bits each time."""

from ...dtypes import bfloat16, float16, float32
from .arrays import VECTOR_BYTES, blocks, empty, fits_vectors
from .launch import Source
from .sort_indices import sort_indices

DTYPES = (float32, bfloat16, float16)
CHUNK, THREADS, WARPS = 32, 128, 8  # as in scatter_add_rows.cu

_kernels = Source(
    "scatter_add_rows.cu",
    "add_runs<T, true>", "add_runs<T, false>", "add_pieces<T, true>", "add_pieces<T, false>",
)  # fmt: skip


def scatter_add_rows(out, indices, g):
    """out[indices[i]] += g[i] in place, in a fixed order. out (V, C), indices (N,) integers, g (N, C), C-contiguous.

    Positions are sorted by index on the device, and nothing about them comes back to the host: the kernels find for
    themselves where an index begins and ends.
    """
    n, c = g.shape
    if n == 0 or c == 0:
        return out
    entries = sort_indices(indices, out.shape[0])
    vectors = fits_vectors(out, g)
    per_thread = VECTOR_BYTES // g.dtype.itemsize if vectors else 1
    kind, kernels = "true" if vectors else "false", _kernels[out.dtype]
    chunks = blocks(n, CHUNK)
    pieces = empty((chunks, 2, c), float32)
    threads = min(THREADS, 32 * blocks(c, 32 * per_thread))  # 768 columns of bfloat16 are 96
    kernels[f"add_runs<T, {kind}>"](
        (chunks, blocks(c, threads * per_thread)), (threads,), out, pieces, entries, g, n, c
    )
    if chunks > 2:
        kernels[f"add_pieces<T, {kind}>"](
            (chunks - 2, blocks(c, 32 * per_thread)), (32 * WARPS,), out, pieces, entries, n, c
        )
    return out
