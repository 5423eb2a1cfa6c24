"""scatter_add_rows: the gradient of an embedding, the same bits each time."""

from ...dtypes import bfloat16, float16, float32, int64
from .arrays import VECTOR_BYTES, blocks, empty, fits_vectors
from .launch import Source, cupy

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
    indices = indices if indices.dtype == int64 and indices.flags.c_contiguous else indices.astype(int64)
    order = cupy().argsort(indices, kind="stable")
    vectors = fits_vectors(out, g)
    per_thread = VECTOR_BYTES // g.dtype.itemsize if vectors else 1
    kind, kernels = "true" if vectors else "false", _kernels[out.dtype]
    chunks = blocks(n, CHUNK)
    pieces = empty((chunks, 2, c), float32)
    kernels[f"add_runs<T, {kind}>"](
        (chunks, blocks(c, THREADS * per_thread)), (THREADS,), out, pieces, indices, order, g, n, c
    )
    if chunks > 1:
        kernels[f"add_pieces<T, {kind}>"](
            (chunks - 1, blocks(c, 32 * per_thread)), (32 * WARPS,), out, pieces, indices, order, n, c
        )
    return out
