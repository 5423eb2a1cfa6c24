"""Products of two matrices: cuBLAS's by way of the array library, or our own kernel, to be read and to compare with."""

from .arrays import blocks, empty, fits_vectors
from .launch import Source, cupy

OUTER, THREADS = 64, 128  # as in gemm.cu

_kernels = Source("gemm.cu", *(f"gemm<T, {a}, {b}>" for a in ("true", "false") for b in ("true", "false")))


def matmul(x, y, out=None, *, accumulate=False, use_own=False):
    """x (M, K) @ y (K, N), added up in float32 and rounded once; out += it with accumulate.

    x, y: C-contiguous, or transposes of such, which nobody copies. out is C-contiguous, and neither x nor y.
    """
    if out is None:
        accumulate, out = False, empty((x.shape[0], y.shape[1]), x.dtype)
    # CuPy computes a product of one element as sum(x * y), with 16-bit elements rounded before they are added up.
    if use_own or out.size == 1:
        _own(x, y, out, accumulate)
    elif accumulate:
        out += cupy().matmul(x, y)
    else:
        cupy().matmul(x, y, out=out)  # 2-D: cublasGemmEx with CUBLAS_COMPUTE_32F, whatever the element type
    return out


def _own(x, y, out, accumulate):
    if not out.size:
        return
    (m, k), n = x.shape, y.shape[1]
    a, along_a = _as_it_lies(x)
    bt, along_b = _as_it_lies(y.T)
    name = f"gemm<T, {'true' if along_a else 'false'}, {'true' if along_b else 'false'}>"
    _kernels[out.dtype][name](
        (blocks(n, OUTER), blocks(m, OUTER)), (THREADS,),
        out, a, bt, m, n, k, int(fits_vectors(a)), int(fits_vectors(bt)), int(accumulate),
    )  # fmt: skip


def _as_it_lies(x):
    """(x or its transpose, C-contiguous; whether it is x, its rows along the inner axis)."""
    if x.flags.c_contiguous:
        return x, True
    if x.flags.f_contiguous:
        return x.T, False
    return cupy().ascontiguousarray(x), True
