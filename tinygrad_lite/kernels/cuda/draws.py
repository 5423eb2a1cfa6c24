"""Where a replayed graph draws its random numbers: launches hold the place of the capture, and add what is here."""

import contextlib

_moved = None


def moved():
    """A 0-d uint64 array on the device, blocks to add to every offset, or None outside of a capture."""
    return _moved


@contextlib.contextmanager
def moved_by(array):
    """Inside, kernels that draw add the array's value to their offset."""
    global _moved
    before, _moved = _moved, array
    try:
        yield
    finally:
        _moved = before
