"""muon: one optimiser step of many matrices; each is one thread's, from its momentum to its update.

Newton-Schulz is a chain of products of one small matrix, too short to share: threads that shared each would wait for
each other fifteen times a matrix. Jordan et al. 2024; the readable twin is optim/muon.py.
"""

import numpy as np

from ...native.compile import jit, vectorise
from ...native.gemm import AS_IS, TRANSPOSED, call_gemm
from ...threads import gemm_address, has_compiler, parallel_for


def works(dtype):
    """Whether BLAS can be called from compiled code here."""
    return has_compiler() and bool(gemm_address(dtype))


def step(param, grad, held, places, *, lr, momentum, nesterov, ns_steps, weight_decay, coefficients, eps,
         grad_scale=1.0):  # fmt: skip
    """Update param and held, the momentum, in place: 1-D arrays of one dtype.

    places (N, 3) int64: where each matrix begins, its rows, its columns. coefficients, eps: Newton-Schulz's.
    """
    parallel_for(
        _step[param.dtype], len(places), 1, gemm_address(param.dtype), param, grad, held, places, ns_steps, momentum,
        nesterov, lr, 1.0 - lr * weight_decay, grad_scale, *coefficients, eps,
    )  # fmt: skip


@jit("i i i w1 r1 w1 R2 i d i d d d d d d d")
def _step(
    start, stop, gemm, param, grad, held, places, ns_steps, momentum, nesterov, lr, keep, grad_scale, a, b, c, eps
):
    vectorise()
    real = param.dtype.type
    for place in range(start, stop):
        at, rows, columns = places[place]
        low, high, tall = min(rows, columns), max(rows, columns), rows > columns
        x, y = np.empty((low, high), param.dtype), np.empty((low, high), param.dtype)
        square, mixed = np.empty((low, low), param.dtype), np.empty((low, low), param.dtype)
        top = real(0)
        for i in range(rows):
            row = at + i * columns
            for j in range(columns):
                g = grad[row + j] * real(grad_scale)
                h = held[row + j] * real(momentum) + g
                held[row + j] = h
                if nesterov:
                    h = h * real(momentum) + g
                top = max(top, abs(h))
                if tall:
                    y[j, i] = h
                else:
                    y[i, j] = h
        flat_x, flat_y, flat_square, flat_mixed = x.reshape(-1), y.reshape(-1), square.reshape(-1), mixed.reshape(-1)
        total, unit = 0.0, (1.0 / np.float64(top) if top > 1e-300 else 1.0)  # 1 / 1e-310 would be infinite
        for i in range(flat_y.size):  # Frobenius norm, which bounds the largest singular value; no square overflows
            total += (np.float64(flat_y[i]) * unit) ** 2
        norm = np.sqrt(total) + eps * unit  # in units of the largest element
        for i in range(flat_y.size):
            flat_x[i] = real(np.float64(flat_y[i]) * unit / norm)
        for _ in range(ns_steps):
            # square = x x^T;  mixed = b square + c square^2;  y = a x + mixed x
            call_gemm(gemm, AS_IS, TRANSPOSED, low, low, high, 1.0, x, high, x, high, 0.0, square, low)
            for i in range(flat_square.size):
                flat_mixed[i] = flat_square[i] * real(b)
            call_gemm(gemm, AS_IS, AS_IS, low, low, low, c, square, low, square, low, 1.0, mixed, low)
            for i in range(flat_x.size):
                flat_y[i] = flat_x[i] * real(a)
            call_gemm(gemm, AS_IS, AS_IS, low, high, low, 1.0, mixed, low, x, high, 1.0, y, high)
            x, y = y, x
            flat_x, flat_y = flat_y, flat_x
        rate = real(lr * np.sqrt(max(1.0, rows / columns)))
        for i in range(rows):
            row = at + i * columns
            for j in range(columns):
                u = x[j, i] if tall else x[i, j]
                param[row + j] = param[row + j] * real(keep) - rate * u
