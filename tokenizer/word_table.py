"""A table of distinct byte strings for kernels: open addressing, and the bytes end to end in one array.

A place of the table holds 32 bits of hash and the number of the word plus 1, or 0 if it is free, so that almost every
comparison of bytes is one that succeeds.
"""

from __future__ import annotations

import numpy as np

from .native import UINT64, UINT64_OUT, compiled, inline
from .native import types as t

MISSING = -1


class WordTable:
    """Room for words; kernels fill it. It is full at half its places, or when its bytes are used up.

    Attributes:
        count: how many words it holds; a kernel says so with each answer.
        slots: uint64, a power of two of them.
        ends: int64; word n is data[ends[n] : ends[n + 1]].
        data: uint8.
    """

    def __init__(self, words: int, data_bytes: int) -> None:
        self.count = 0
        self.slots = np.zeros(2 << max(words - 1, 1).bit_length(), dtype=np.uint64)
        self.ends = np.zeros(len(self.slots) // 2 + 1, dtype=np.int64)
        self.data = np.empty(data_bytes, dtype=np.uint8)

    @property
    def capacity(self) -> int:
        return len(self.ends) - 1

    @property
    def nbytes(self) -> int:
        return self.slots.nbytes + self.ends.nbytes + self.data.nbytes

    def clear(self) -> None:
        self.slots.fill(0)
        self.count = 0

    def grow(self) -> None:
        """Twice the words, twice the bytes."""
        slots = np.zeros(2 * len(self.slots), dtype=np.uint64)
        _rehash(self.slots, slots)
        self.slots = slots
        self.ends = resized(self.ends, 2 * self.capacity + 1)
        self.data = resized(self.data, 2 * len(self.data))

    def words(self) -> list[bytes]:
        """All words, in the order in which they came."""
        data, ends = self.data.tobytes(), self.ends[: self.count + 1].tolist()
        return [data[start:stop] for start, stop in zip(ends, ends[1:], strict=False)]


def resized(array: np.ndarray, size: int) -> np.ndarray:
    result = np.empty(size, dtype=array.dtype)
    result[: len(array)] = array
    return result


@inline
def hash_of(data, start, stop):
    """32 bits; FNV-1a (Fowler, Noll, Vo), with the high bits folded in, because its low ones mix least."""
    value = np.uint64(0xCBF29CE484222325)
    for n in range(start, stop):
        value = (value ^ np.uint64(data[n])) * np.uint64(0x100000001B3)
    value = (value ^ (value >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return value >> np.uint64(32)


@inline
def find_word(data, start, stop, hashed, most_probes, slots, ends, words):
    """The number of data[start:stop] among the words, or MISSING; and the place where it was found or belongs.

    Looks at no more than most_probes places: the place is MISSING if none of them is free.
    """
    mask = np.uint64(slots.size - 1)
    place = hashed & mask
    for _ in range(most_probes):
        slot = slots[place]
        if slot == 0:
            return MISSING, np.int64(place)
        if slot >> np.uint64(32) == hashed:
            word = np.int64(slot & np.uint64(0xFFFFFFFF)) - 1
            first = ends[word]
            if ends[word + 1] - first == stop - start and _equal(data, start, stop, words, first):
                return word, np.int64(place)
        place = (place + np.uint64(1)) & mask
    return MISSING, MISSING


@inline
def _equal(data, start, stop, words, first):
    for n in range(stop - start):
        if data[start + n] != words[first + n]:
            return False
    return True


@inline
def add_word(data, start, stop, hashed, place, count, slots, ends, words):
    """Make data[start:stop] the word number count, at the place that find_word named."""
    first = ends[count]
    for n in range(stop - start):
        words[first + n] = data[start + n]
    ends[count + 1] = first + stop - start
    slots[place] = hashed << np.uint64(32) | np.uint64(count + 1)


@compiled(t.void, [UINT64, UINT64_OUT])
def _rehash(old, new):
    mask = np.uint64(new.size - 1)
    for n in range(old.size):
        slot = old[n]
        if slot != 0:
            place = (slot >> np.uint64(32)) & mask
            while new[place] != 0:
                place = (place + np.uint64(1)) & mask
            new[place] = slot
