"""Fast application of merges to a sequence of ids, whatever the first ids stand for: bytes, or characters.

The rule is that of bpe_readable.merge_readable: the merge of the lowest rank, leftmost first, until none is left. The ids
are a linked list. A short one is searched for the best place again after each merge, eight places at a time, which is
fastest while they fit in a few vectors; a long one has a heap of its places, so that a million equal letters take
n log n steps.
"""

from __future__ import annotations

import numpy as np

from .hashing import home_of
from .native import INDEX, INT32, INT32_OUT, INT64_OUT, UINT64, UINT64_OUT, compiled, inline, routine
from .native import types as t

NO_RANK = 0x7FFFFFFF  # above every rank
_NO_ENTRY = NO_RANK << 6  # in the search of a short sequence an entry is rank << 6 | place
SCRATCH = 5  # int64 numbers of scratch space for each id
_SHORT = 64  # up to here a search beats the heap
_RANK_SHIFT = 39  # a heap entry is rank << 39 | place: ranks are below 2**24


class PairTable:
    """The merges of one vocabulary in an open-addressing table, for kernels.

    Args:
        merges: int32 (n, 3) rows of left id, right id, id made.
        ranks: int32 (n,); merges of the same rank make the same id.

    Attributes:
        keys, values: the table; made: the id by rank.
        near: the rank of each pair of ids below 256, which mostly are the bytes that merging begins with.
    """

    def __init__(self, merges: np.ndarray, ranks: np.ndarray) -> None:
        size = 1 << max(6, (2 * len(merges)).bit_length())
        self.keys = np.zeros(size, dtype=np.uint64)
        self.values = np.full(size, NO_RANK, dtype=np.int32)
        self.made = np.zeros(int(ranks[-1]) + 1 if len(ranks) else 1, dtype=np.int32)
        self.made[ranks] = merges[:, 2]
        left, right = (np.ascontiguousarray(merges[:, column], dtype=np.int32) for column in (0, 1))
        self.near = np.full(1 << 16, NO_RANK, dtype=np.int32)
        small = (left < 256) & (right < 256)
        self.near[left[small] << 8 | right[small]] = ranks[small]
        _fill(left, right, np.ascontiguousarray(ranks, dtype=np.int32), self.keys, self.values)

    def merge(self, ids: np.ndarray) -> np.ndarray:
        """The ids after all merges; int32 (n,) in, int32 (m,) out with m <= n."""
        result = np.array(ids, dtype=np.int32)
        scratch = scratch_for(len(result))
        return result[: _merge(result, len(result), self.near, self.keys, self.values, self.made, scratch)]


def scratch_for(count: int) -> np.ndarray:
    """The scratch space that merge_ids needs for so many ids, or fewer."""
    return np.empty(SCRATCH * max(count, _SHORT), dtype=np.int64)


@inline
def pair_key(left, right):
    """Distinct for each pair, and never 0, which stands for a free place."""
    return (np.uint64(left) << np.uint64(32)) + np.uint64(right) + np.uint64(1)


@inline
def rank_of(left, right, keys, values):
    """The rank of the merge of two ids in a PairTable, NO_RANK where there is none."""
    key = pair_key(left, right)
    mask = keys.size - 1
    place = home_of(key, mask)
    while keys[place] != 0:
        if keys[place] == key:
            return np.int64(values[place])
        place = (place + 1) & mask
    return NO_RANK


@inline
def first_rank_of(left, right, near, keys, values):
    """rank_of by a table of all pairs of ids below 256."""
    if np.uint64(left) < 256 and np.uint64(right) < 256:
        return np.int64(near[left << 8 | right])
    return rank_of(left, right, keys, values)


@compiled(t.void, [INT32, INT32, INT32, UINT64_OUT, INT32_OUT])
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
def merge_ids(ids, first, count, near, keys, values, made, scratch):
    """Merge ids[first : first + count] in place; how many are left. scratch: what scratch_for gives."""
    if count < 2:
        return count
    if count > _SHORT:
        return _merge_long(ids, first, count, near, keys, values, made, scratch)
    return _merge_short(ids, first, count, near, keys, values, made, scratch)


@routine
def _merge_short(ids, first, count, near, keys, values, made, scratch):
    padded = (count + 7) & -8
    following, preceding = padded, padded + count  # where each begins in scratch; the entries before them
    for n in range(count - 1):
        scratch[n] = first_rank_of(ids[first + n], ids[first + n + 1], near, keys, values) << 6 | n
    for n in range(count - 1, padded):
        scratch[n] = _NO_ENTRY
    for n in range(count):
        scratch[following + n] = n + 1
        scratch[preceding + n] = n - 1
    left = count
    while True:
        best = np.int64(_NO_ENTRY)
        for n in range(0, padded, 8):
            for k in range(8):
                best = min(best, scratch[n + k])
        if best >= _NO_ENTRY:
            break
        here = best & 63
        absorbed = scratch[following + here]
        after = scratch[following + absorbed]
        ids[first + here] = made[best >> 6]
        left -= 1
        scratch[absorbed] = _NO_ENTRY
        scratch[here] = _NO_ENTRY
        scratch[following + here] = after
        if after < count:
            scratch[preceding + after] = here
            scratch[here] = rank_of(ids[first + here], ids[first + after], keys, values) << 6 | here
        before = scratch[preceding + here]
        if before >= 0:
            scratch[before] = rank_of(ids[first + before], ids[first + here], keys, values) << 6 | before
    place = 0
    for n in range(left):
        ids[first + n] = ids[first + place]
        place = scratch[following + place]
    return left


@routine
def _merge_long(ids, first, count, near, keys, values, made, scratch):
    following, preceding, ranks, heap = 0, count, 2 * count, 3 * count  # where each begins in scratch
    size = 0
    for n in range(count):
        scratch[following + n] = n + 1
        scratch[preceding + n] = n - 1
        rank = NO_RANK  # of the pair that begins here
        if n + 1 < count:
            rank = first_rank_of(ids[first + n], ids[first + n + 1], near, keys, values)
        scratch[ranks + n] = rank
        if rank != NO_RANK:
            scratch[heap + size] = rank << _RANK_SHIFT | n
            size += 1
    for n in range(size // 2 - 1, -1, -1):
        _sift_down(scratch, heap, size, n, scratch[heap + n])

    while size:
        top = scratch[heap]
        size -= 1
        if size:
            _sift_down(scratch, heap, size, 0, scratch[heap + size])
        here = top & ((1 << _RANK_SHIFT) - 1)
        rank = top >> _RANK_SHIFT
        if scratch[ranks + here] != rank:  # a neighbour has been merged since
            continue
        absorbed = scratch[following + here]
        after = scratch[following + absorbed]
        ids[first + here] = made[rank]
        ids[first + absorbed] = -1
        scratch[ranks + absorbed] = NO_RANK
        scratch[ranks + here] = NO_RANK
        scratch[following + here] = after
        if after < count:
            scratch[preceding + after] = here
            size = _offer(ids, first, here, after, keys, values, scratch, ranks, heap, size)
        before = scratch[preceding + here]
        if before >= 0:
            size = _offer(ids, first, before, here, keys, values, scratch, ranks, heap, size)

    left = 0
    for n in range(first, first + count):
        if ids[n] >= 0:
            ids[first + left] = ids[n]
            left += 1
    return left


@inline
def _offer(ids, first, here, after, keys, values, scratch, ranks, heap, size):
    """Note the rank of the pair of neighbours here, and put it into the heap if they merge. The heap's new size."""
    rank = rank_of(ids[first + here], ids[first + after], keys, values)
    scratch[ranks + here] = rank
    if rank == NO_RANK:
        return size
    entry = rank << _RANK_SHIFT | here
    place = size
    while place:
        parent = (place - 1) // 2
        if scratch[heap + parent] <= entry:
            break
        scratch[heap + place] = scratch[heap + parent]
        place = parent
    scratch[heap + place] = entry
    return size + 1


@inline
def _sift_down(scratch, heap, size, place, entry):
    """Put entry where it belongs at or below place, whose own entry is given up."""
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and scratch[heap + child + 1] < scratch[heap + child]:
            child += 1
        if entry <= scratch[heap + child]:
            break
        scratch[heap + place] = scratch[heap + child]
        place = child
    scratch[heap + place] = entry


@compiled(INDEX, [INT32_OUT, INDEX, INT32, UINT64, INT32, INT32, INT64_OUT])
def _merge(ids, count, near, keys, values, made, scratch):
    return merge_ids(ids, 0, count, near, keys, values, made, scratch)
