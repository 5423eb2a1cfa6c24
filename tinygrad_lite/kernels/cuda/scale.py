"""Flat arrays times a number that may lie on the device."""

import numpy as np

from ...dtypes import float32
from .arrays import VECTOR_BYTES, blocks
from .launch import Source, cupy

THREADS = 256
_kernels = Source("scale.cu", "scale_into<T, T>", "scale_into<float, T>")


def scale_into(x, factor, out, constant=1.0):
    """out = constant factor x, of 1-D arrays; factor is a number, or a 0-d array on the device, which nobody waits for.

    out may be x, or of a half type where x is float32.
    """
    constant, factor = number_and_pointer(factor, constant)
    if x.size:
        name = "scale_into<T, T>" if x.dtype == out.dtype else "scale_into<float, T>"
        _kernels[out.dtype][name](grid(out), (THREADS,), out, x, np.int64(x.size), constant, factor)


def number_and_pointer(factor, constant=1.0):
    """(Python float, 0-d float32 array or None), whose product is constant factor: how kernels are given it."""
    if not isinstance(factor, cupy().ndarray):
        return float(constant * factor), None
    return float(constant), factor if factor.dtype == float32 else factor.astype(float32)


def grid(x):
    """Enough blocks for a vector a thread."""
    return (blocks(x.size, THREADS * VECTOR_BYTES // x.dtype.itemsize),)
