"""Fast application of merges to a sequence of ids, whatever the first ids stand for: bytes, or characters.

The rule is that of bpe_readable.merge_readable: the merge of the lowest rank, leftmost first, until none is left. A
short sequence is searched for it again after each merge, which is fastest while it fits in a few cache lines; a long one
is a linked list with a heap of the places where a merge may be, so that a million equal letters take n log n steps.
"""

from __future__ import annotations

import numpy as np

from .native import INDEX, INT32, INT32_OUT, UINT64, compiled, inline, routine
from .native import types as t

NO_RANK = np.int32(0x7FFFFFFF)  # above every rank
_SHORT = 64  # up to here the search beats the heap: both took 0.9 us at 64 random letters
_RANK_SHIFT = 39  # a heap entry is rank << 39 | place: ranks are below 2**24


class PairTable:
    """The merges of one vocabulary in an open-addressing table, for kernels.

    Args:
        merges: int32 (n, 3) rows of left id, right id, id made.
        ranks: int32 (n,); merges of the same rank make the same id.

    Attributes:
        keys, values: the table; made: the id by rank.
    """

    def __init__(self, merges: np.ndarray, ranks: np.ndarray) -> None:
        size = 1 << max(6, (2 * len(merges)).bit_length())
        self.keys = np.zeros(size, dtype=np.uint64)
        self.values = np.full(size, NO_RANK, dtype=np.int32)
        self.made = np.zeros(int(ranks[-1]) + 1 if len(ranks) else 1, dtype=np.int32)
        self.made[ranks] = merges[:, 2]
        left, right = (np.ascontiguousarray(merges[:, column], dtype=np.int32) for column in (0, 1))
        _fill(left, right, np.ascontiguousarray(ranks, dtype=np.int32), self.keys, self.values)

    def merge(self, ids: np.ndarray) -> np.ndarray:
        """The ids after all merges; int32 (n,) in, int32 (m,) out with m <= n."""
        result = np.array(ids, dtype=np.int32)
        return result[: _merge(result, len(result), self.keys, self.values, self.made)]


@inline
def pair_key(left, right):
    """Distinct for each pair, and never 0, which stands for a free place."""
    return (np.uint64(left) << np.uint64(32)) + np.uint64(right) + np.uint64(1)


@inline
def home_of(key, mask):
    """Fibonacci hashing (Knuth, The Art of Computer Programming 3, 6.4)."""
    mixed = key * np.uint64(0x9E3779B97F4A7C15)
    return np.int64((mixed >> np.uint64(32)) & np.uint64(mask))


@inline
def rank_of(left, right, keys, values):
    key = pair_key(left, right)
    mask = keys.size - 1
    place = home_of(key, mask)
    while keys[place] != 0:
        if keys[place] == key:
            return values[place]
        place = (place + 1) & mask
    return NO_RANK


@compiled(t.void, [INT32, INT32, INT32, UINT64.copy(readonly=False), INT32_OUT])
def _fill(left, right, ranks, keys, values):
    mask = keys.size - 1
    for number in range(left.size):
        key = pair_key(left[number], right[number])
        place = home_of(key, mask)
        while keys[place] != 0:
            place = (place + 1) & mask
        keys[place] = key
        values[place] = ranks[number]


@routine
def merge_ids(ids, count, keys, values, made):
    """Merge ids[:count] in place; how many ids are left."""
    if count < 2:
        return count
    if count > _SHORT:
        return _merge_long(ids, count, keys, values, made)
    return _merge_short(ids, count, keys, values, made)


@routine
def _merge_short(ids, count, keys, values, made):
    ranks = np.empty(_SHORT, dtype=np.int32)
    for n in range(count - 1):
        ranks[n] = rank_of(ids[n], ids[n + 1], keys, values)
    while count > 1:
        best, lowest = 0, NO_RANK
        for n in range(count - 1):
            if ranks[n] < lowest:
                best, lowest = n, ranks[n]
        if lowest == NO_RANK:
            break
        ids[best] = made[lowest]
        count -= 1
        for n in range(best + 1, count):
            ids[n] = ids[n + 1]
            ranks[n - 1] = ranks[n]
        if best:
            ranks[best - 1] = rank_of(ids[best - 1], ids[best], keys, values)
        if best < count - 1:
            ranks[best] = rank_of(ids[best], ids[best + 1], keys, values)
    return count


@routine
def _merge_long(ids, count, keys, values, made):
    following = np.empty(count, dtype=np.int32)
    preceding = np.empty(count, dtype=np.int32)
    ranks = np.empty(count, dtype=np.int32)  # of the pair that begins here; NO_RANK where none does
    heap = np.empty(2 * count, dtype=np.int64)  # each merge takes one entry out and puts at most two in
    size = 0
    for n in range(count):
        following[n] = n + 1
        preceding[n] = n - 1
        ranks[n] = rank_of(ids[n], ids[n + 1], keys, values) if n + 1 < count else NO_RANK
        if ranks[n] != NO_RANK:
            heap[size] = np.int64(ranks[n]) << _RANK_SHIFT | n
            size += 1
    for n in range(size // 2 - 1, -1, -1):
        _sift_down(heap, size, n, heap[n])

    while size:
        top = heap[0]
        size -= 1
        if size:
            _sift_down(heap, size, 0, heap[size])
        here = np.int64(top & ((1 << _RANK_SHIFT) - 1))
        rank = np.int32(top >> _RANK_SHIFT)
        if ranks[here] != rank:  # a neighbour has been merged since
            continue
        absorbed = following[here]
        after = following[absorbed]
        ids[here] = made[rank]
        ids[absorbed] = -1
        ranks[absorbed] = NO_RANK
        following[here] = after
        ranks[here] = NO_RANK
        if after < count:
            preceding[after] = here
            ranks[here] = rank_of(ids[here], ids[after], keys, values)
            if ranks[here] != NO_RANK:
                size = _push(heap, size, np.int64(ranks[here]) << _RANK_SHIFT | here)
        before = preceding[here]
        if before >= 0:
            ranks[before] = rank_of(ids[before], ids[here], keys, values)
            if ranks[before] != NO_RANK:
                size = _push(heap, size, np.int64(ranks[before]) << _RANK_SHIFT | before)

    left = 0
    for n in range(count):
        if ids[n] >= 0:
            ids[left] = ids[n]
            left += 1
    return left


@inline
def _sift_down(heap, size, place, entry):
    """Put entry where it belongs at or below place, whose own entry is given up."""
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if entry <= heap[child]:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = entry


@inline
def _push(heap, size, entry):
    place = size
    while place:
        parent = (place - 1) // 2
        if heap[parent] <= entry:
            break
        heap[place] = heap[parent]
        place = parent
    heap[place] = entry
    return size + 1


@compiled(INDEX, [INT32_OUT, INDEX, UINT64, INT32, INT32])
def _merge(ids, count, keys, values, made):
    return merge_ids(ids, count, keys, values, made)
