"""Looking at an array's values as fast as memory gives them: are all finite, is it as it was, what does it hold."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..autograd.record import widen
from ..dtypes import HALF, is_float

COLUMNS = 1021  # a prime, so that rows of a matrix do not fall onto each other; their sums stay in the nearest cache
_ODD = 2 * np.arange(16 * COLUMNS, dtype=np.uint64) + 1


def is_finite(array) -> bool:
    """Whether no element is NaN or infinite; of integers always.

    A sum of squares is finite only where all elements are, and BLAS has it at 40 GB/s from the cache, where a test of
    each element goes at 26. Where it is not, it may have overflowed: then each is looked at.
    """
    if not is_float(array.dtype) or not array.size:
        return True
    if isinstance(array, np.ndarray):
        if array.dtype in HALF:
            return bool(np.isfinite(array).all())
        flat = array.reshape(-1)  # a strided one is copied
        with np.errstate(all="ignore"):
            return math.isfinite(flat.dot(flat)) or bool(np.isfinite(flat).all())
    wide = widen(array)
    return bool(((wide - wide) == 0).all())  # on a device; NaN and infinity less themselves are NaN


def fingerprint(array, lib=np) -> int:
    """A number that changes with every change of one element, and nearly surely with any other change.

    Words are summed in 1021 columns modulo 2^64, and column i, where few words are each word, counts 2 i + 1 times: an
    odd factor loses no bit, and what changes places is told, unless by a multiple of 1021 words. 10 to 24 GB/s; with a
    factor for each word 5 to 9, a CRC 2 to 4. lib: the array's library, NumPy or CuPy.
    """
    flat = array.reshape(-1)
    if not isinstance(array, np.ndarray):
        words = flat.view(f"u{flat.dtype.itemsize}").astype("uint64")
        return int((words * (2 * lib.arange(words.size, dtype="uint64") + 1)).sum())
    words = flat.view(f"u{next(size for size in (8, 4, 2, 1) if flat.nbytes % size == 0)}")
    rows, total = words.size // COLUMNS, 0
    if rows >= 8:
        columns = np.add.reduce(words[: rows * COLUMNS].reshape(rows, COLUMNS), axis=0, dtype=np.uint64)
        total = int((columns * _ODD[:COLUMNS]).sum())
        words = words[rows * COLUMNS :]
    return total + int((words * _ODD[COLUMNS : COLUMNS + words.size]).sum(dtype=np.uint64))


class Holds(NamedTuple):
    """What an array holds: its type and shape, how many NaN and infinities, and the range of the rest."""

    dtype: str
    shape: tuple[int, ...]
    size: int
    nan: int
    infinite: int
    low: float | None
    high: float | None

    @property
    def is_finite(self) -> bool:
        """Whether it holds neither NaN nor infinity."""
        return not (self.nan or self.infinite)

    def __str__(self):
        text = f"{self.dtype} {self.shape if self.shape else 'scalar'}"
        if not self.size:
            return f"{text}, empty"
        if self.low is None:
            said = ""
        elif self.size == 1:
            said = f", {self.low:.6g}"
        else:
            said = f", {'' if self.is_finite else 'the rest '}from {self.low:.6g} to {self.high:.6g}"
        counts = [f"{n:,} {name}" for n, name in ((self.nan, "NaN"), (self.infinite, "infinite")) if n]
        return text + (f", {' and '.join(counts)} of {self.size:,}" if counts else "") + said


def holds(array) -> Holds:
    """What a NumPy array holds."""
    shape, name = tuple(array.shape), str(array.dtype)
    if not array.size or array.dtype.kind not in "fiub" and not is_float(array.dtype):
        return Holds(name, shape, array.size, 0, 0, None, None)
    if array.dtype in HALF:
        array = array.astype(np.float32)
    nan, infinite = (int(np.isnan(array).sum()), int(np.isinf(array).sum())) if array.dtype.kind == "f" else (0, 0)
    rest = array[np.isfinite(array)] if nan or infinite else array
    low, high = (float(rest.min()), float(rest.max())) if rest.size else (None, None)
    return Holds(name, shape, array.size, nan, infinite, low, high)
