"""What every kernel module does with its arrays: view them as rows, find the buffer to write, count blocks."""

from .launch import cupy

VECTOR_BYTES = 16  # what one thread reads at once


def empty(shape, dtype):
    """A new device array, its values undefined."""
    return cupy().empty(shape, dtype=dtype)


def rows(x):
    """x (..., C) as (N, C), without a copy."""
    n = 1
    for size in x.shape[:-1]:
        n *= size
    return x.reshape(n, x.shape[-1])


def buffer(into, like):
    """The caller's buffer for a gradient, or a new one like the input."""
    return empty(like.shape, like.dtype) if into is None else into


def blocks(n: int, per_block: int) -> int:
    """How many blocks of `per_block` items cover n; at least 1, for a launch of none is an error."""
    return max(1, -(-n // per_block))


def fits_vectors(*arrays) -> bool:
    """Whether every array's rows can be read 16 bytes at a time: where they begin, and how long they are."""
    return all(
        x is None or (x.data.ptr % VECTOR_BYTES == 0 and x.shape[-1] * x.dtype.itemsize % VECTOR_BYTES == 0)
        for x in arrays
    )
