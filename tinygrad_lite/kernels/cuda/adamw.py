"""adamw: one optimiser step over flat arrays, and the sum of squares that clipping needs.

Decoupled weight decay: Loshchilov & Hutter 2017, arXiv:1711.05101; the order of operations is PyTorch's.
"""

import math

import numpy as np

from ...dtypes import bfloat16, float16, float32, float64
from .arrays import VECTOR_BYTES, blocks, empty
from .launch import Source
from .scale import grid, number_and_pointer, scale_into  # noqa: F401 - clipping looks for scale_into here

DTYPES = (float32, bfloat16, float16)

THREADS = 256
# Partial sums: as many blocks as are under way on an H100 at once. The same on every card, and so the same sum.
MOST_PARTIALS = 1024
_kernels = Source("adamw.cu", "adamw_step<T>", "square_partials<T>", "add_partials")


def step(
    param, grad, m, v, *, lr, beta1, beta2, eps, weight_decay, bias_correction1, bias_correction2, grad_scale=1.0,
    master=None, draws=None, scalars=None,
):  # fmt: skip
    """Update param, m and v in place, 1-D arrays; bias_correction = 1 - beta ** step.

    p *= 1 - lr weight_decay;  m, v = averages of g and g^2;  p -= lr / bc1 m / (sqrt(v) / sqrt(bc2) + eps)
    with g = grad_scale grad: clipping costs no pass of its own. grad_scale is a number, or a 0-d array on the device,
    which nobody waits for; where it is not finite nothing changes. grad is of param's type, m and v are float32.
    scalars: four float32 on the device that stand for lr, the corrections and the step: 1 - lr weight_decay, lr / bc1,
    1 / sqrt(bc2), step; a graph that is replayed finds the new step's there.

    A parameter in bfloat16 or float16 comes with a float32 `master`, which is updated in its place; param becomes its
    rounding. A param that is no rounding of its master was written by somebody: it is its new master. Or, for bfloat16,
    draws=(key, step, first) in place of a master: param itself is updated, and rounded up or down by chance, element i by
    half i % 8 of Philox block step 2**40 + first + i / 8, as optim/rounding.py does it.
    """
    if (param.dtype == float32 or draws is not None) != (master is None):
        wanted = "a float32 master, or draws," if master is None else "no master"
        raise ValueError(f"adamw: expected {wanted} of a {param.dtype} parameter")
    if draws is not None and param.dtype != bfloat16:
        raise ValueError(f"adamw: only bfloat16 is rounded stochastically, got draws for {param.dtype}")
    scale, scale_at = number_and_pointer(grad_scale)
    key, number, first = draws or (0, 0, 0)
    if param.size:
        _kernels[param.dtype]["adamw_step<T>"](
            grid(param), (THREADS,), param, grad, m, v, master, np.int64(param.size), float(1.0 - lr * weight_decay),
            float(beta1), float(1.0 - beta1), float(beta2), float(1.0 - beta2), float(eps),
            float(lr / bias_correction1), 1.0 / math.sqrt(bias_correction2), scale, scale_at, scalars,
            np.uint64(key), np.uint64(first), float(number),
        )  # fmt: skip


def sum_of_squares(x):
    """Sum of x^2 over a 1-D array as a Python float, which waits for the device."""
    out = empty((), float64)
    sum_of_squares_into(x, out)
    return float(out)


def sum_of_squares_into(x, out, adds=False):
    """out = sum of x^2 over a 1-D array, or with `adds` out += it; out is a 0-d float32 or float64 array on the device.

    Added up in float64, in an order that follows from the length (and from where x begins in its 16 bytes) alone.
    """
    n = min(MOST_PARTIALS, blocks(x.size, THREADS * VECTOR_BYTES // x.dtype.itemsize))
    partials, found = empty(n, float64), _kernels[x.dtype]
    found["square_partials<T>"]((n,), (THREADS,), partials, x, np.int64(x.size))
    places = (out, None) if out.dtype == float64 else (None, out)
    found["add_partials"]((1,), (THREADS,), *places, partials, n, int(adds))
