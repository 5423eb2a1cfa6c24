"""What a kernel that draws is told. A graph's launches hold the place of the capture, and add how far it has moved."""

import contextlib
import math
import threading

import numpy as np


class _Moved(threading.local):
    array = None


_moved = _Moved()  # of this thread: another's launches meanwhile are no part of the capture


def moved():
    """A 0-d uint64 array on the device, blocks to add to every offset, or None outside of this thread's capture."""
    return _moved.array


def dropout_parameters(p, key, offset):
    """Key, offset, what moves the offset, the least 24 bits of a number that is kept, and what is kept times this."""
    least = math.ceil(float(np.float32(p)) * 2.0**24)
    scale = 1.0 / (1.0 - p) if p < 1 else 0.0  # p = 1 keeps nothing
    return np.uint64(key), np.uint64(offset), moved(), np.uint32(least), scale


@contextlib.contextmanager
def moved_by(array):
    """Inside, kernels that draw add the array's value to their offset."""
    before, _moved.array = _moved.array, array
    try:
        yield
    finally:
        _moved.array = before
