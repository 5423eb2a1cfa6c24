"""adamw: one optimiser step over a flat buffer, and the sum of squares that clipping needs.

Decoupled weight decay: Loshchilov & Hutter 2017, arXiv:1711.05101; the order of operations is PyTorch's.
"""

import numpy as np

from ...native.compile import jit, vectorise
from ...threads import parallel_for
from .arrays import GRAIN_ELEMENTS, scale_into  # noqa: F401 - clipping looks for it here

CHUNK = 65536  # elements in one partial sum of squares


def step(param, grad, m, v, *, lr, beta1, beta2, eps, weight_decay, bias_correction1, bias_correction2, grad_scale=1.0):
    """Update param, m and v in place. All are 1-D of one dtype; bias_correction = 1 - beta ** step; 7 arrays' traffic.

    p *= 1 - lr weight_decay;  m, v = averages of g and g^2;  p -= lr / bc1 m / (sqrt(v) / sqrt(bc2) + eps)
    with g = grad_scale grad: clipping costs no pass of its own.
    """
    parallel_for(
        _step[param.dtype], param.size, GRAIN_ELEMENTS, param, grad, m, v, 1.0 - lr * weight_decay, beta1, beta2, eps,
        lr / bias_correction1, 1.0 / np.sqrt(bias_correction2), grad_scale,
    )  # fmt: skip


def sum_of_squares(x):
    """Sum of x^2 over a 1-D array as a Python float, added in float64 by fixed chunks."""
    partial = np.empty(-(-x.size // CHUNK))
    parallel_for(_sum_of_squares[x.dtype], len(partial), 1, x, partial)
    return float(partial.sum())


@jit("i i w1 r1 w1 w1 d d d d d d d")
def _step(start, stop, param, grad, m, v, keep, beta1, beta2, eps, rate, root_correction, grad_scale):
    vectorise()
    real = param.dtype.type
    param, grad, m, v = param[start:stop], grad[start:stop], m[start:stop], v[start:stop]
    keep, eps, rate, root, scale = real(keep), real(eps), real(rate), real(root_correction), real(grad_scale)
    b1, b2, rest1, rest2 = real(beta1), real(beta2), real(1 - beta1), real(1 - beta2)
    for i in range(param.size):
        g = grad[i] * scale
        m[i] = b1 * m[i] + rest1 * g
        v[i] = b2 * v[i] + rest2 * g * g
        param[i] = param[i] * keep - rate * m[i] / (np.sqrt(v[i]) * root + eps)


@jit("i i r1 D1")
def _sum_of_squares(start, stop, x, partial):
    vectorise()
    for chunk in range(start, stop):
        part, total = x[chunk * CHUNK : (chunk + 1) * CHUNK], 0.0
        for i in range(part.size):
            value = np.float64(part[i])
            total += value * value
        partial[chunk] = total
