"""Matrix products, with what is added to them: cuBLASLt's; of a single row, and to be read and compared with, our own."""

import math

import numpy as np

from ...dtypes import HALF
from . import cublaslt, gelu, row_product
from .arrays import blocks, empty, fits_vectors, rows
from .launch import Source, cupy

OUTER, THREADS = 64, 128  # as in gemm.cu

_ways = [(out, a, b) for out in ("T", "float") for a in ("true", "false") for b in ("true", "false")]
_kernels = Source("gemm.cu", *(f"gemm<T, {out}, {a}, {b}>" for out, a, b in _ways))


def matmul(
    x, y, out=None, *, bias=None, residual=None, accumulate=False, before_gelu=None, slope_at=None, use_own=False
):
    """out = x (M, K) @ y (K, N) + bias (N,) + residual (M, N), added up in float32 and rounded once.

    Where nothing lies at multiples of 16 bytes, cuBLASLt has kernels that round the product before they add to it.
    accumulate: out itself is the residual.

    before_gelu (M, N), where given, takes x @ y + bias, and out is gelu of it, by tanh. slope_at (M, N): out is
    (x @ y) gelu'(slope_at). Both are of x's type, as out is. cuBLASLt computes them while it has the sums in registers.

    x, y: C-contiguous, or transposes of such, which nobody copies. out is C-contiguous, of their type or float32, and
    neither x nor y; bias and residual are of out's type.
    """
    if out is None:
        accumulate, out = False, empty((x.shape[0], y.shape[1]), x.dtype)
    if x.shape[1] != y.shape[0] or out.shape != (x.shape[0], y.shape[1]):
        raise ValueError(f"matmul: expected x (M, K), y (K, N), out (M, N), got {x.shape}, {y.shape}, {out.shape}")
    addend, (a, a_turned), (b, b_turned) = out if accumulate else residual, _as_it_lies(x), _as_it_lies(y)
    beside = dict(bias=bias, addend=addend, before_gelu=before_gelu, slope_at=slope_at)
    has_library = out.size and x.shape[1] and not use_own  # which wants something to add up
    is_row = b_turned and not a_turned and slope_at is None and not use_own and row_product.supports(out, a, b)
    if before_gelu is not None or slope_at is not None:
        _check_gelu(x, out, **beside)
        # NVIDIA wants rows of a multiple of 8 elements, and says nothing of how exact its tanh is: not for float32.
        has_library = has_library and out.dtype in HALF and fits_vectors(a, b, out, bias, before_gelu, slope_at)
    if is_row:
        return row_product.multiply(out, a, b, bias, addend, before_gelu)
    if has_library and cublaslt.matmul(out, a, b, a_turned, b_turned, **beside):
        return out
    if before_gelu is not None:
        gelu.forward(matmul(x, y, before_gelu, bias=bias, use_own=use_own), approximate="tanh", out=out)
    elif slope_at is not None:
        gelu.backward(matmul(x, y, use_own=use_own), (slope_at,), (True,), (out,), approximate="tanh")
    else:
        _own(out, a, b, a_turned, b_turned, bias, addend)
    return out


def _check_gelu(x, out, bias, addend, before_gelu, slope_at):
    place = slope_at if before_gelu is None else before_gelu
    if place.shape != out.shape or not place.dtype == out.dtype == x.dtype:
        raise ValueError(
            f"matmul: before_gelu and slope_at must be as the result, {out.shape} {x.dtype}, got {place.shape} "
            f"{place.dtype} beside {out.dtype}"
        )
    if addend is not None or (slope_at is not None and (bias is not None or before_gelu is not None)):
        raise ValueError(
            "matmul: before_gelu goes with a bias alone, slope_at with nothing: add in a product of its own"
        )


def stacked(x, y, out=None):
    """numpy.matmul of x (..., M, K) and y (..., K, N); float32 and 16 bits are added up in float32 and rounded once.

    A matrix that meets all those of the other operand is read where it is. Where a stack is stretched along some axes only,
    it is copied: a product of cuBLASLt's goes through each stack in equal steps.

    Vectors, other types and an `out` that is not C-contiguous are left to CuPy, whose products a graph cannot capture.
    """
    if (
        min(x.ndim, y.ndim) < 2 or x.dtype != y.dtype or x.dtype not in cublaslt.TYPES
        or (out is not None and (out.dtype != x.dtype or not out.flags.c_contiguous))
    ):  # fmt: skip
        return cupy().matmul(x, y) if out is None else cupy().matmul(x, y, out=out)
    if x.ndim == y.ndim == 2:
        return matmul(x, y, out)
    if x.shape[-1] != y.shape[-2]:
        raise ValueError(f"matmul: expected x (..., M, K) and y (..., K, N), got {x.shape} and {y.shape}")
    stack = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    count = math.prod(stack)
    out = empty((*stack, x.shape[-2], y.shape[-1]), x.dtype) if out is None else out
    if not out.size:
        return out
    (a, a_turned), (b, b_turned) = _matrices(x, stack), _matrices(y, stack)
    if len(b) == 1 and len(a) == count and not a_turned:  # the rows of all as those of one matrix
        matmul(rows(a), b[0].T if b_turned else b[0], rows(out))
        return out
    c = out.reshape(count, *out.shape[-2:])
    if not (x.shape[-1] and cublaslt.matmul(c, a, b, a_turned, b_turned)):
        for i in range(count):
            _own(c[i], a[i % len(a)], b[i % len(b)], a_turned, b_turned, None, None)
    return out


def _own(out, a, b, a_turned, b_turned, bias, addend):
    """The same by gemm.cu: any shapes, also where there is nothing to add up."""
    if out.size:
        (m, n), k = out.shape, a.shape[0 if a_turned else 1]
        element, along = "T" if out.dtype == a.dtype else "float", {True: "true", False: "false"}
        _kernels[a.dtype][f"gemm<T, {element}, {along[not a_turned]}, {along[b_turned]}>"](
            (blocks(n, OUTER), blocks(m, OUTER)), (THREADS,),
            out, a, b, bias, addend, m, n, k, int(fits_vectors(a)), int(fits_vectors(b)),
        )  # fmt: skip


def _as_it_lies(x):
    """(x (..., R, C) or its transpose, C-contiguous; whether it is the transpose)."""
    if x.flags.c_contiguous:
        return x, False
    turned = x.swapaxes(-1, -2)
    return (turned, True) if turned.flags.c_contiguous else (cupy().ascontiguousarray(x), False)


def _matrices(x, stack):
    """x (..., R, C) for a stack's shape as (N, R, C) or the transposes, C-contiguous, and whether these are transposes.

    N is 1 where all are one matrix, else the stack's size.
    """
    axes = x.shape[:-2]
    if all(size == 1 or step == 0 for size, step in zip(axes, x.strides)):
        x, n = x[(0,) * len(axes)], 1
    else:
        x, n = x if axes == stack else cupy().broadcast_to(x, (*stack, *x.shape[-2:])), math.prod(stack)
    x, turned = _as_it_lies(x)
    return x.reshape(n, *x.shape[-2:]), turned
