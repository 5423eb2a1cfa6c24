"""What a kernel that draws is told. A graph's launches hold the place of the capture, and add how far it has moved."""

import contextlib
import math

import numpy as np

_moved = None


def moved():
    """A 0-d uint64 array on the device, blocks to add to every offset, or None outside of a capture."""
    return _moved


def dropout_parameters(p, key, offset):
    """Key, offset, what moves the offset, the least 24 bits of a number that is kept, and what is kept times this."""
    least = math.ceil(float(np.float32(p)) * 2.0**24)
    scale = 1.0 / (1.0 - p) if p < 1 else 0.0  # p = 1 keeps nothing
    return np.uint64(key), np.uint64(offset), moved(), np.uint32(least), scale


@contextlib.contextmanager
def moved_by(array):
    """Inside, kernels that draw add the array's value to their offset."""
    global _moved
    before, _moved = _moved, array
    try:
        yield
    finally:
        _moved = before
