"""A table of distinct byte strings for kernels: open addressing, and the bytes end to end in one array.

A place of the table is two numbers: the key of a word, or 0 if it is free, and its value: the number of the word and a
note. The key of a word of up to seven bytes is these bytes and their count, so nothing else needs to be compared; that
of a longer one is a hash. Against bytes hashed and compared one by one, the search for a word of a text took 28 ns in
place of 51.
"""

from __future__ import annotations

import numpy as np

from .native import UINT64, UINT64_OUT, compiled, inline, load_8_bytes, store_8_bytes
from .native import types as t

MISSING = -1
_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
_LONG = np.uint64(0xFF << 56)  # the top byte of the keys of long words; that of a short one is its length


class WordTable:
    """Room for words; kernels fill it. It is full at half its places, or when its bytes are used up.

    Attributes:
        count: how many words it holds; a kernel says so with each answer.
        slots: uint64, key and value by turns, for a power of two of places.
        ends: int64; word n is data[ends[n] : ends[n + 1]].
        data: uint8, and room for 8 bytes after the last word, which is written by eights.
    """

    def __init__(self, words: int, data_bytes: int) -> None:
        self.count = 0
        self.slots = np.zeros(4 << max(words - 1, 1).bit_length(), dtype=np.uint64)
        self.ends = np.zeros(len(self.slots) // 4 + 1, dtype=np.int64)
        self.data = np.empty(data_bytes + 8, dtype=np.uint8)

    @property
    def capacity(self) -> int:
        return len(self.ends) - 1

    @property
    def nbytes(self) -> int:
        return self.slots.nbytes + self.ends.nbytes + self.data.nbytes

    def clear(self) -> None:
        self.slots.fill(0)
        self.count = 0

    def has_room(self, length: int) -> bool:
        """Whether a word of so many bytes can be added."""
        return self.count < self.capacity and self.ends[self.count] + length + 8 <= len(self.data)

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
    """A longer copy, zero at the end."""
    result = np.zeros(size, dtype=array.dtype)
    result[: len(array)] = array
    return result


@inline
def key_of(data, start, stop):
    """The key of data[start:stop], which is not empty."""
    length = stop - start
    if length < 8:
        if start + 8 <= data.size:
            text = load_8_bytes(data, start) & (_ONES >> np.uint64(64 - 8 * length))
        else:
            text = np.uint64(0)
            for n in range(length):
                text |= np.uint64(data[start + n]) << np.uint64(8 * n)
        return text | np.uint64(length) << np.uint64(56)
    value = np.uint64(length)
    for n in range(start, stop - 8, 8):
        value = _mixed(value ^ load_8_bytes(data, n))
    return _mixed(value ^ load_8_bytes(data, stop - 8)) | _LONG  # may take in some bytes again


@inline
def _mixed(value):
    """SplitMix64's finaliser (Steele, Lea & Flood 2014), the first half of it."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return value ^ (value >> np.uint64(27))


@inline
def find_word(data, start, stop, key, most_probes, slots, ends, words):
    """The value of data[start:stop] among the words, or MISSING; and the place where it was found or belongs.

    Looks at no more than most_probes places: the place is MISSING if none of them is free.
    """
    places = slots.size // 2
    place = _home(key, places)
    for _ in range(most_probes):
        found = slots[2 * place]
        if found == key:
            value = np.int64(slots[2 * place + 1])
            word = word_of(value)
            if key < _LONG or _equal(data, start, stop, words, ends[word], ends[word + 1]):
                return value, place
        if found == 0:
            return MISSING, place
        place = (place + 1) & (places - 1)
    return MISSING, MISSING


@inline
def word_of(value):
    """The number of a word from its value."""
    return value & 0xFFFFFFFF


@inline
def note_of(value):
    """The note that was added with a word, from its value."""
    return value >> 32


@inline
def _home(key, places):
    return np.int64((key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & (places - 1)


@inline
def part_of(key):
    """One of 64 parts, by bits of the hash that do not decide the place."""
    return np.int64((key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(58)) ^ np.int64(key & np.uint64(63))


@inline
def _equal(data, start, stop, words, first, last):
    """Whether data[start:stop] and words[first:last], each of 8 bytes or more, are the same."""
    if last - first != stop - start:
        return False
    for n in range(0, stop - start - 8, 8):
        if load_8_bytes(data, start + n) != load_8_bytes(words, first + n):
            return False
    return load_8_bytes(data, stop - 8) == load_8_bytes(words, last - 8)


@inline
def has_room(count, length, ends, words):
    """WordTable.has_room."""
    return count + 1 < ends.size and ends[count] + length + 8 <= words.size


@inline
def add_word(data, start, stop, key, place, count, note, slots, ends, words):
    """Make data[start:stop] the word number count, at the place that find_word named, with a note below 2**31."""
    first = ends[count]
    ends[count + 1] = first + stop - start
    if key < _LONG:
        store_8_bytes(words, first, key)  # its top byte, the length, lies beyond the word
    else:
        for n in range(0, stop - start - 8, 8):
            store_8_bytes(words, first + n, load_8_bytes(data, start + n))
        store_8_bytes(words, first + stop - start - 8, load_8_bytes(data, stop - 8))
    slots[2 * place] = key
    slots[2 * place + 1] = note << 32 | count


@compiled(t.void, [UINT64, UINT64_OUT])
def _rehash(old, new):
    places = new.size // 2
    for n in range(0, old.size, 2):
        if old[n] != 0:
            place = _home(old[n], places)
            while new[2 * place] != 0:
                place = (place + 1) & (places - 1)
            new[2 * place] = old[n]
            new[2 * place + 1] = old[n + 1]
