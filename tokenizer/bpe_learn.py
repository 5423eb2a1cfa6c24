"""The kernel that learns merges from counted words: counts are updated where a merge happens, and never recomputed.

Words stand one after the other, each in a few neighbouring places of one array, and shrink as their symbols merge. A
pair can only come into being in the step that makes the newer of its two symbols, so the words that hold it are known
for good after that step, and its count can only fall from then on: a heap whose counts may be too high is enough, and
each pair has one entry in it at most.

Memory is what costs the time: a merge visits its words all over the array. Everything about one word lies in one or two
cache lines, and a pair's words are a list of 32-bit numbers in the order of the array.
"""

from __future__ import annotations

import numpy as np

from .bpe_merge import home_of, pair_key
from .native import BYTES_OUT, INDEX, INT32_OUT, INT64, INT64_OUT, UINT64_OUT, compiled, inline, routine
from .native import types as t
from .word_table import resized

_DONE, _PAIRS_FULL, _EVENTS_FULL, _PLACES_FULL, _TOKENS_FULL = range(5)
_MERGES, _PAIRS, _HEAP, _PLACES, _EVENTS, _TOKENS, _NEXT, _FIRST_FRESH, _CHOSEN = range(9)  # the state, in an array
_NONE = -1
RECORD = 6  # numbers that describe a merge: left, right, count, and the runner-up's left, right, count


class Learner:
    """Learns merges, some at a time.

    Args:
        symbols: int32, the words' symbols end to end; changed.
        ends: int64, where each word ends.
        weights: int64, how often each word occurs.
        tokens: the bytes of each id so far; the first merge makes the id len(tokens).
        greatest_bytes: of equally frequent pairs take the one whose bytes sort last, else that of the lowest ids.
    """

    def __init__(
        self, symbols: np.ndarray, ends: np.ndarray, weights: np.ndarray, tokens: list[bytes], greatest_bytes: bool
    ) -> None:
        self._symbols = symbols
        self._starts = np.zeros(len(ends) + 1, dtype=np.int64)
        self._starts[1:] = ends
        self._lengths = np.empty(len(ends), dtype=np.int32)
        np.subtract(self._starts[1:], self._starts[:-1], out=self._lengths, casting="unsafe")
        self._weights = weights
        self._greatest_bytes = greatest_bytes
        data = b"".join(tokens)
        self._token_data = np.frombuffer(data + bytes(len(data) + 4096), dtype=np.uint8).copy()
        self._token_ends = np.zeros(2 * len(tokens) + 1, dtype=np.int64)
        np.cumsum([len(token) for token in tokens], out=self._token_ends[1 : len(tokens) + 1])
        self._state = np.zeros(9, dtype=np.int64)
        self._state[_TOKENS] = len(tokens)
        self._state[_CHOSEN] = _NONE
        # By number of pair. In the heap, one entry a pair at most.
        pairs = 1 << 14
        self._keys = np.zeros(2 * pairs, dtype=np.uint64)
        self._numbers = np.zeros(2 * pairs, dtype=np.int32)
        self._pair_keys = np.zeros(pairs, dtype=np.uint64)
        self._counts = np.zeros(pairs, dtype=np.int64)
        self._firsts = np.zeros(pairs, dtype=np.int64)
        self._sizes = np.zeros(pairs, dtype=np.int32)
        self._heap_counts = np.zeros(pairs, dtype=np.int64)
        self._heap_pairs = np.zeros(pairs, dtype=np.int32)
        # The new pairs of one step, with the word of each, in the order of the words.
        self._event_pairs = np.zeros(1 << 14, dtype=np.int32)
        self._event_words = np.zeros(1 << 14, dtype=np.int32)
        self._begin()

    def learn(self, merges: int) -> np.ndarray:
        """At most so many merges more: int64 (n, RECORD)."""
        record = np.zeros(merges * RECORD, dtype=np.int64)
        before = int(self._state[_MERGES])
        while reason := _learn(
            merges, self._greatest_bytes, self._state, record[: merges * RECORD],
            self._symbols, self._starts, self._lengths, self._weights,
            self._keys, self._numbers, self._pair_keys, self._counts, self._firsts, self._sizes,
            self._heap_counts, self._heap_pairs, self._places, self._event_pairs, self._event_words,
            self._token_data, self._token_ends,
        ):  # fmt: skip
            self._grow(reason)
        done = int(self._state[_MERGES]) - before
        self._state[_MERGES] = 0
        return record[: done * RECORD].reshape(done, RECORD)

    def _begin(self) -> None:
        while not _count_pairs(
            self._state, self._symbols, self._starts, self._weights, self._keys, self._numbers,
            self._pair_keys, self._counts, self._sizes, self._firsts,
        ):  # fmt: skip
            self._grow(_PAIRS_FULL)
        pairs = int(self._state[_PAIRS])
        cursors = np.cumsum(self._sizes[:pairs], dtype=np.int64) - self._sizes[:pairs]
        self._firsts[:pairs] = cursors
        self._state[_PLACES] = places = int(self._sizes[:pairs].sum(dtype=np.int64))
        self._places = np.empty(places + places // 4 + 1024, dtype=np.int32)
        last_words = np.zeros(pairs, dtype=np.int64)
        _find_places(self._symbols, self._starts, self._keys, self._numbers, cursors, last_words, self._places)
        _fill_heap(
            self._state, self._greatest_bytes, self._pair_keys, self._counts, self._heap_counts, self._heap_pairs,
            self._token_data, self._token_ends,
        )  # fmt: skip

    def _grow(self, what: int) -> None:
        """Twice the room for one kind of thing."""
        if what == _PAIRS_FULL:
            keys, numbers = self._keys, self._numbers
            self._keys = np.zeros(2 * len(keys), dtype=np.uint64)
            self._numbers = np.zeros(2 * len(keys), dtype=np.int32)
            _rehash(keys, numbers, self._keys, self._numbers)
            for name in ("_pair_keys", "_counts", "_firsts", "_sizes", "_heap_counts", "_heap_pairs"):
                setattr(self, name, resized(getattr(self, name), len(keys)))
        elif what == _EVENTS_FULL:
            self._event_pairs = resized(self._event_pairs, 2 * len(self._event_pairs))
            self._event_words = resized(self._event_words, 2 * len(self._event_words))
        elif what == _PLACES_FULL:
            # The pairs of the step that is not over yet have no words among the places.
            settled = int(self._state[_FIRST_FRESH])
            left = _compact(
                settled, self._pair_keys, self._counts, self._firsts, self._sizes, self._places,
                self._symbols, self._starts, self._lengths,
            )  # fmt: skip
            self._state[_PLACES] = left
            if left + int(self._state[_EVENTS]) > len(self._places) * 15 // 16:
                self._places = resized(self._places, 2 * len(self._places))
        else:
            self._token_data = resized(self._token_data, 2 * len(self._token_data))
            self._token_ends = resized(self._token_ends, 2 * len(self._token_ends))


@inline
def _find(key, keys):
    """Where a pair's key is in the table, or the free place for it."""
    mask = keys.size - 1
    place = home_of(key, mask)
    while keys[place] != 0 and keys[place] != key:
        place = (place + 1) & mask
    return place


@inline
def _number(key, keys, numbers, pairs, pair_keys):
    """The number of a pair, which is the next free one if it is new; and how many there are now."""
    place = _find(key, keys)
    if keys[place] == 0:
        keys[place] = key
        numbers[place] = pairs
        pair_keys[pairs] = key
        pairs += 1
    return np.int64(numbers[place]), pairs


@compiled(t.void, [UINT64_OUT, INT32_OUT, UINT64_OUT, INT32_OUT])
def _rehash(keys, numbers, new_keys, new_numbers):
    for n in range(keys.size):
        if keys[n] != 0:
            place = _find(keys[n], new_keys)
            new_keys[place] = keys[n]
            new_numbers[place] = numbers[n]


@compiled(
    t.boolean,
    [INT64_OUT, INT32_OUT, INT64, INT64, UINT64_OUT, INT32_OUT, UINT64_OUT, INT64_OUT, INT32_OUT, INT64_OUT],
)
def _count_pairs(state, symbols, starts, weights, keys, numbers, pair_keys, counts, sizes, last_words):
    """Count each pair, and in how many words it is, from the word state[_NEXT] on; False if there is no room."""
    pairs = state[_PAIRS]
    for word in range(state[_NEXT], weights.size):
        if pairs + starts[word + 1] - starts[word] > counts.size:
            state[_PAIRS], state[_NEXT] = pairs, word
            return False
        for place in range(starts[word], starts[word + 1] - 1):
            number, pairs = _number(pair_key(symbols[place], symbols[place + 1]), keys, numbers, pairs, pair_keys)
            counts[number] += weights[word]
            if last_words[number] != word + 1:
                last_words[number] = word + 1
                sizes[number] += 1
    state[_PAIRS], state[_NEXT] = pairs, 0
    return True


@compiled(t.void, [INT32_OUT, INT64, UINT64_OUT, INT32_OUT, INT64_OUT, INT64_OUT, INT32_OUT])
def _find_places(symbols, starts, keys, numbers, cursors, last_words, places):
    """The words of each pair; cursors: where the first goes, moved to after the last."""
    for word in range(starts.size - 1):
        for place in range(starts[word], starts[word + 1] - 1):
            number = numbers[_find(pair_key(symbols[place], symbols[place + 1]), keys)]
            if last_words[number] != word + 1:
                last_words[number] = word + 1
                places[cursors[number]] = word
                cursors[number] += 1


@routine
def _compare_tokens(a, b, data, ends):
    """Below, at or above 0 as the bytes of token a sort before, with or after those of b."""
    first, second = ends[a], ends[b]
    length_a, length_b = ends[a + 1] - first, ends[b + 1] - second
    for n in range(min(length_a, length_b)):
        difference = np.int64(data[first + n]) - np.int64(data[second + n])
        if difference != 0:
            return difference
    return length_a - length_b


@inline
def _left(key):
    return np.int64((key - np.uint64(1)) >> np.uint64(32))


@inline
def _right(key):
    return np.int64((key - np.uint64(1)) & np.uint64(0xFFFFFFFF))


@inline
def _comes_first(count, pair, other_count, other, greatest, pair_keys, data, ends):
    """Whether a pair with this count is merged before the other one."""
    if count != other_count:
        return count > other_count
    key, other_key = pair_keys[pair], pair_keys[other]
    if greatest:
        order = _compare_tokens(_left(key), _left(other_key), data, ends)
        if order == 0:
            order = _compare_tokens(_right(key), _right(other_key), data, ends)
        if order != 0:
            return order > 0
    return key < other_key


@routine
def _sift_down(size, place, count, pair, greatest, pair_keys, heap_counts, heap_pairs, data, ends):
    """Put an entry where it belongs at or below place, whose own entry is given up."""
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and _comes_first(
            heap_counts[child + 1], heap_pairs[child + 1], heap_counts[child], heap_pairs[child],
            greatest, pair_keys, data, ends,
        ):  # fmt: skip
            child += 1
        if _comes_first(count, pair, heap_counts[child], heap_pairs[child], greatest, pair_keys, data, ends):
            break
        heap_counts[place], heap_pairs[place] = heap_counts[child], heap_pairs[child]
        place = child
    heap_counts[place], heap_pairs[place] = count, pair


@routine
def _push(size, count, pair, greatest, pair_keys, heap_counts, heap_pairs, data, ends):
    place = size
    while place:
        parent = (place - 1) // 2
        if not _comes_first(
            count, pair, heap_counts[parent], heap_pairs[parent], greatest, pair_keys, data, ends
        ):  # fmt: skip
            break
        heap_counts[place], heap_pairs[place] = heap_counts[parent], heap_pairs[parent]
        place = parent
    heap_counts[place], heap_pairs[place] = count, pair


@routine
def _settle_top(size, greatest, pair_keys, counts, heap_counts, heap_pairs, data, ends):
    """Lower the first entries whose counts have fallen until the first one is right; the heap's new size."""
    while size:
        pair = heap_pairs[0]
        count = counts[pair]
        if count == heap_counts[0]:
            break
        if count <= 0:
            size -= 1
            count, pair = heap_counts[size], heap_pairs[size]
        _sift_down(size, 0, count, pair, greatest, pair_keys, heap_counts, heap_pairs, data, ends)
    return size


@compiled(t.void, [INT64_OUT, t.boolean, UINT64_OUT, INT64_OUT, INT64_OUT, INT32_OUT, BYTES_OUT, INT64_OUT])
def _fill_heap(state, greatest, pair_keys, counts, heap_counts, heap_pairs, data, ends):
    size = state[_PAIRS]
    for pair in range(size):
        heap_counts[pair], heap_pairs[pair] = counts[pair], pair
    for n in range(size // 2 - 1, -1, -1):
        count, pair = heap_counts[n], heap_pairs[n]
        _sift_down(size, n, count, pair, greatest, pair_keys, heap_counts, heap_pairs, data, ends)
    state[_HEAP] = size


@compiled(
    INDEX,
    [INDEX, t.boolean, INT64_OUT, INT64_OUT, INT32_OUT, INT64_OUT, INT32_OUT, INT64]
    + [UINT64_OUT, INT32_OUT, UINT64_OUT, INT64_OUT, INT64_OUT, INT32_OUT, INT64_OUT, INT32_OUT]
    + [INT32_OUT, INT32_OUT, INT32_OUT, BYTES_OUT, INT64_OUT],
)
def _learn(
    wanted, greatest, state, record, symbols, starts, lengths, weights,
    keys, numbers, pair_keys, counts, firsts, sizes, heap_counts, heap_pairs,
    places, event_pairs, event_words, token_data, token_ends,
):  # fmt: skip
    """Go on from state until so many merges are done, or no pair is left, or something must grow: which."""
    while True:
        if state[_CHOSEN] == _NONE:
            if state[_MERGES] == wanted:
                return _DONE
            size = _settle_top(
                state[_HEAP], greatest, pair_keys, counts, heap_counts, heap_pairs, token_data, token_ends
            )  # fmt: skip
            state[_HEAP] = size
            if size == 0:
                return _DONE
            chosen = np.int64(heap_pairs[0])
            left, right = _left(pair_keys[chosen]), _right(pair_keys[chosen])
            new = state[_TOKENS]
            end = token_ends[new]
            left_length, right_length = (
                token_ends[left + 1] - token_ends[left],
                token_ends[right + 1] - token_ends[right],
            )
            if new + 2 > token_ends.size or end + left_length + right_length > token_data.size:
                return _TOKENS_FULL
            for n in range(left_length):
                token_data[end + n] = token_data[token_ends[left] + n]
            for n in range(right_length):
                token_data[end + left_length + n] = token_data[token_ends[right] + n]
            token_ends[new + 1] = end + left_length + right_length
            state[_TOKENS] += 1

            at = state[_MERGES] * RECORD
            record[at], record[at + 1], record[at + 2] = left, right, counts[chosen]
            size -= 1
            if size:
                count, pair = heap_counts[size], heap_pairs[size]
                _sift_down(size, 0, count, pair, greatest, pair_keys, heap_counts, heap_pairs, token_data, token_ends)
                size = _settle_top(
                    size, greatest, pair_keys, counts, heap_counts, heap_pairs, token_data, token_ends
                )  # fmt: skip
            if size:
                key = pair_keys[heap_pairs[0]]
                record[at + 3], record[at + 4], record[at + 5] = _left(key), _right(key), heap_counts[0]
            state[_HEAP] = size
            state[_CHOSEN], state[_NEXT], state[_EVENTS], state[_FIRST_FRESH] = chosen, 0, 0, state[_PAIRS]

        chosen = state[_CHOSEN]
        left, right, new = _left(pair_keys[chosen]), _right(pair_keys[chosen]), state[_TOKENS] - 1
        pairs, events = state[_PAIRS], state[_EVENTS]
        reason = _DONE
        for n in range(state[_NEXT], sizes[chosen]):
            word = np.int64(places[firsts[chosen] + n])
            length = np.int64(lengths[word])
            if pairs + 2 * length > counts.size:
                reason = _PAIRS_FULL
            elif events + 2 * length > event_pairs.size:
                reason = _EVENTS_FULL
            if reason != _DONE:
                state[_NEXT] = n
                break
            weight = weights[word]
            start = starts[word]
            read = write = start
            stop = start + length
            while read < stop:
                if symbols[read] != left or read + 1 == stop or symbols[read + 1] != right:
                    symbols[write] = symbols[read]
                    read += 1
                    write += 1
                    continue
                for side in range(2):
                    if side == 0:  # the neighbour before, which may be a new symbol itself
                        if write == start:
                            continue
                        old = pair_key(symbols[write - 1], left)
                        fresh = pair_key(symbols[write - 1], new)
                    else:
                        if read + 2 == stop:
                            continue
                        old = pair_key(right, symbols[read + 2])
                        fresh = pair_key(new, symbols[read + 2])
                    counts[numbers[_find(old, keys)]] -= weight
                    number, pairs = _number(fresh, keys, numbers, pairs, pair_keys)
                    counts[number] += weight
                    if firsts[number] != word + 1:  # until the step is over: the last word that has it
                        firsts[number] = word + 1
                        sizes[number] += 1
                        event_pairs[events], event_words[events] = number, word
                        events += 1
                symbols[write] = new
                read += 2
                write += 1
            lengths[word] = write - start
        state[_PAIRS], state[_EVENTS] = pairs, events
        if reason != _DONE:
            return reason
        state[_NEXT] = sizes[chosen]
        counts[chosen] = 0
        if state[_PLACES] + events > places.size:
            return _PLACES_FULL

        # The new pairs have the last numbers, and get their words, grouped, at the end of the places.
        cursor = state[_PLACES]
        for number in range(state[_FIRST_FRESH], pairs):
            firsts[number] = cursor
            cursor += sizes[number]
        for n in range(events):
            number = event_pairs[n]
            places[firsts[number]] = event_words[n]
            firsts[number] += 1
        size = state[_HEAP]
        for number in range(state[_FIRST_FRESH], pairs):
            firsts[number] -= sizes[number]
            if counts[number] > 0:
                count = counts[number]
                _push(size, count, number, greatest, pair_keys, heap_counts, heap_pairs, token_data, token_ends)
                size += 1
        state[_HEAP], state[_PLACES] = size, cursor
        state[_MERGES] += 1
        state[_CHOSEN] = _NONE


@compiled(INDEX, [INDEX, UINT64_OUT, INT64_OUT, INT64_OUT, INT32_OUT, INT32_OUT, INT32_OUT, INT64, INT32_OUT])
def _compact(pairs, pair_keys, counts, firsts, sizes, places, symbols, starts, lengths):
    """Let each pair keep the words that still have it, without gaps between: how many places that takes."""
    cursor = 0
    for number in range(pairs):
        left, right = _left(pair_keys[number]), _right(pair_keys[number])
        first, stop = firsts[number], firsts[number] + sizes[number]
        firsts[number] = cursor
        if counts[number] > 0:
            for n in range(first, stop):
                word = places[n]
                for at in range(starts[word], starts[word] + lengths[word] - 1):
                    if symbols[at] == left and symbols[at + 1] == right:
                        places[cursor] = word
                        cursor += 1
                        break
        sizes[number] = cursor - firsts[number]
    return cursor
