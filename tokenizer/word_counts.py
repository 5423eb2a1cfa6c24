"""How often each distinct piece of the training texts occurs, counted by several threads in bounded memory.

Each thread has a table of its own. One that reaches its limit is written to a temporary file, its words sorted into
parts by their hashes, and begins anew; at the end the tables and the files are added up, one part after the other
(Fushimi, Kitsuregawa & Tanaka 1986, the GRACE hash join). What comes out does not depend on who counted what, but for
the order of the words, which no training looks at.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .native import BYTES, BYTES_OUT, INT64, INT64_OUT, UINT64, UINT64_OUT, compiled
from .native import types as t
from .pretokenize import Pretokenizer, as_array
from .word_table import MISSING, WordTable, add_word, find_word, has_room, key_of, part_of, resized, word_of

PARTS = 64
_BATCH = 1 << 18  # characters for a thread at a time
_FIRST_WORDS = 1 << 14


@dataclass(frozen=True)
class WordCounts:
    """Word n is data[ends[n-1] : ends[n]], from 0 for the first, and occurs counts[n] times.

    data: uint8; ends, counts: int64.
    """

    data: np.ndarray
    ends: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, words: Mapping[bytes, int]) -> WordCounts:
        ends = np.cumsum([len(word) for word in words], dtype=np.int64)
        return cls(as_array(b"".join(words)), ends, np.array(list(words.values()), dtype=np.int64))

    def as_dict(self) -> dict[bytes, int]:
        data, ends = self.data.tobytes(), self.ends.tolist()
        words = [data[start:stop] for start, stop in zip([0, *ends], ends)]
        return dict(zip(words, self.counts.tolist(), strict=True))


def count_pieces(
    batches: Iterable[list[str]],
    pretokenizer: Pretokenizer,
    threads: int,
    memory: int,
    progress: Callable[[int], None] | None = None,
) -> WordCounts:
    """Count the pieces of texts.

    Args:
        batches: texts; no piece goes across the border of two.
        pretokenizer: cuts them.
        threads: how many count at the same time.
        memory: bytes that the tables of all threads may take before they are written to files; at the end, all
            distinct pieces are in memory, with 16 bytes each beside their own.
        progress: called with the number of bytes counted so far.
    """
    idle: list[_Counter] = []
    counted = 0

    def count(texts: list[str]) -> int:
        try:
            counter = idle.pop()
        except IndexError:
            counter = _Counter(memory // threads, Path(folder))
        parts = [text.encode("utf-8", "surrogateescape") for text in texts]
        limits = np.cumsum([len(part) for part in parts], dtype=np.int64)
        data = as_array(parts[0] if len(parts) == 1 else b"".join(parts))
        for ends in pretokenizer.ends(data, limits):
            counter.add(data, ends)
        counter.place = 0
        idle.append(counter)
        return len(data)

    def report(size: int) -> None:
        nonlocal counted
        counted += size
        if progress is not None:
            progress(counted)

    with tempfile.TemporaryDirectory(prefix="tokenizer-") as folder:
        if threads == 1:
            for texts in _collected(batches):
                report(count(texts))
        else:
            with ThreadPoolExecutor(threads) as pool:
                waiting: deque = deque()
                for texts in _collected(batches):
                    waiting.append(pool.submit(count, texts))
                    if len(waiting) > 2 * threads:
                        report(waiting.popleft().result())
                for future in waiting:
                    report(future.result())
        return _added_up(idle)


def _collected(batches: Iterable[list[str]]) -> Iterator[list[str]]:
    """Enough texts at a time to be worth a thread's while."""
    texts: list[str] = []
    size = 0
    for batch in batches:
        for text in batch:
            texts.append(text)
            size += len(text)
            if size >= _BATCH:
                yield texts
                texts, size = [], 0
    if texts:
        yield texts


class _Counter:
    """One thread's table."""

    def __init__(self, memory: int, folder: Path) -> None:
        self._memory = memory
        self._folder = folder
        self._table = WordTable(_FIRST_WORDS, 8 * _FIRST_WORDS)
        self._counts = np.zeros(self._table.capacity, dtype=np.int64)
        self.place = 0  # in the data that is being counted
        self.runs: list[Path] = []

    def add(self, data: np.ndarray, ends: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Count the pieces that end there, the first of which begins at self.place."""
        weights = np.ones(0, dtype=np.int64) if weights is None else weights
        state = np.array([0, self.place, self._table.count], dtype=np.int64)
        while True:
            table = self._table
            full = _count(data, ends, weights, state, table.slots, table.ends, table.data, self._counts)
            table.count = int(state[2])
            if not full:
                break
            self._make_room(int(ends[state[0]] - state[1]))
            state[2] = self._table.count
        self.place = int(state[1])

    def _make_room(self, length: int) -> None:
        table = self._table
        if table.nbytes + self._counts.nbytes > self._memory // 2 and table.count:  # twice that would be too much
            self.spill()
        while not table.has_room(length):
            table.grow()
            self._counts = resized(self._counts, table.capacity)

    def spill(self) -> None:
        """Write all words to a file, and forget them."""
        table = self._table
        parts = np.empty(table.count, dtype=np.int64)
        _find_parts(table.slots, parts)
        order = np.argsort(parts, kind="stable")
        lengths = np.diff(table.ends[: table.count + 1])[order]
        data = np.empty(int(lengths.sum()), dtype=np.uint8)
        _gather(table.data, table.ends, order, data)
        path = self._folder / f"{id(self)}-{len(self.runs)}"
        sizes = np.bincount(parts, minlength=PARTS)
        data_sizes = np.bincount(parts[order], weights=lengths, minlength=PARTS).astype(np.int64)
        with open(path, "xb") as file:
            for array in (sizes, data_sizes, lengths, self._counts[: table.count][order], data):
                array.tofile(file)
        self.runs.append(path)
        table.clear()

    def result(self) -> WordCounts:
        table = self._table
        ends = table.ends[1 : table.count + 1].copy()
        return WordCounts(table.data[: ends[-1] if len(ends) else 0].copy(), ends, self._counts[: table.count].copy())


def _added_up(counters: list[_Counter]) -> WordCounts:
    if not any(counter.runs for counter in counters):
        if not counters:
            return WordCounts.of({})
        total, *others = counters
        total._memory = 1 << 62
        while others:
            words = others.pop().result()
            total.place = 0
            total.add(words.data, words.ends, words.counts)
        return total.result()
    for counter in counters:
        counter.spill()
    runs = [run for counter in counters for run in counter.runs]
    counters.clear()
    parts = []
    for part in range(PARTS):
        total = _Counter(1 << 62, Path())
        for run in runs:
            words = _read_part(run, part)
            total.place = 0
            total.add(words.data, words.ends, words.counts)
        parts.append(total.result())
    sizes = [len(part.data) for part in parts]
    starts = np.cumsum(sizes) - sizes
    return WordCounts(
        np.concatenate([part.data for part in parts]),
        np.concatenate([part.ends + start for part, start in zip(parts, starts, strict=True)]),
        np.concatenate([part.counts for part in parts]),
    )


def _read_part(run: Path, part: int) -> WordCounts:
    """The words of one part of a file that spill wrote."""
    sizes, data_sizes = np.fromfile(run, dtype=np.int64, count=2 * PARTS).reshape(2, PARTS)
    words, before, here = int(sizes.sum()), int(sizes[:part].sum()), int(sizes[part])
    lengths_at = 8 * 2 * PARTS
    counts_at = lengths_at + 8 * words
    data_at = counts_at + 8 * words + int(data_sizes[:part].sum())
    lengths = np.fromfile(run, dtype=np.int64, count=here, offset=lengths_at + 8 * before)
    counts = np.fromfile(run, dtype=np.int64, count=here, offset=counts_at + 8 * before)
    data = np.fromfile(run, dtype=np.uint8, count=int(data_sizes[part]), offset=data_at)
    return WordCounts(data, np.cumsum(lengths), counts)


@compiled(t.boolean, [BYTES, INT64, INT64, INT64_OUT, UINT64_OUT, INT64_OUT, BYTES_OUT, INT64_OUT])
def _count(data, piece_ends, weights, state, slots, ends, words, counts):
    """Add the weight of each piece, 1 if there are no weights, to its word's count; True if there is no room."""
    place, count = state[1], state[2]
    full = False
    piece = state[0]
    while piece < piece_ends.size:
        stop = piece_ends[piece]
        key = key_of(data, place, stop)
        value, home = find_word(data, place, stop, key, slots.size, slots, ends, words)
        word = word_of(value)
        if value == MISSING:
            if not has_room(count, stop - place, ends, words):
                full = True
                break
            add_word(data, place, stop, key, home, count, 0, slots, ends, words)
            word = count
            counts[word] = 0
            count += 1
        counts[word] += weights[piece] if weights.size else 1
        place = stop
        piece += 1
    state[0], state[1], state[2] = piece, place, count
    return full


@compiled(t.void, [UINT64, INT64_OUT])
def _find_parts(slots, parts):
    for n in range(0, slots.size, 2):
        if slots[n] != 0:
            parts[word_of(np.int64(slots[n + 1]))] = part_of(slots[n])


@compiled(t.void, [BYTES, INT64, INT64, BYTES_OUT])
def _gather(data, ends, order, out):
    at = 0
    for n in range(order.size):
        for place in range(ends[order[n]], ends[order[n] + 1]):
            out[at] = data[place]
            at += 1
