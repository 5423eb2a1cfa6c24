"""From pieces of text to ids: each distinct piece is merged once, and found in a table from then on.

EncodingTables are what the kernels read of a vocabulary, made once. An Encoder holds the table of pieces that one thread
has met, in bounded memory: when it is full, it begins anew.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .bpe_merge import SCRATCH, PairTable, merge_ids, scratch_for
from .bpe_vocabulary import BPEVocabulary
from .native import BYTES, BYTES_OUT, INDEX, INT32, INT32_OUT, INT64, INT64_OUT, UINT64, UINT64_OUT, compiled
from .native import types as t
from .word_table import MISSING, WordTable, add_word, find_word, has_room, key_of, note_of, resized, word_of

_KEPT_LENGTH = 64  # bytes; longer pieces hardly come again
_MOST_PROBES = 64  # a text made to collide in the table costs this much a piece, and merges
_FIRST_WORDS = 1 << 10
_BYTES_PER_WORD = 80  # a text of a megabyte has so many for each distinct piece; a guess that saves growing
_LONG_PIECE = 1 << 9  # bytes; for more, scratch space is made larger
_DONE, _OUT_FULL, _WORDS_FULL, _SCRATCH_FULL = range(4)
_PIECE, _PLACE, _SEGMENT, _AT, _WORDS = range(5)  # the kernel's state, in an array


class EncodingTables:
    """What the kernels read of a vocabulary."""

    def __init__(self, vocabulary: BPEVocabulary) -> None:
        self.pairs = PairTable(vocabulary.merges, vocabulary.ranks)
        self.byte_ids = vocabulary.byte_ids
        tokens = vocabulary.tokens if vocabulary.take_whole else []
        named = [(token, token_id) for token_id, token in enumerate(tokens) if token is not None]
        data = b"".join(token for token, _ in named)
        self.whole = WordTable(max(len(named), 1), max(len(data), 1))
        self.whole_ids = np.array([token_id for _, token_id in named], dtype=np.int32)
        if named:
            ends = np.cumsum([len(token) for token, _ in named], dtype=np.int64)
            whole = self.whole
            _add_all(np.frombuffer(data, dtype=np.uint8), ends, whole.slots, whole.ends, whole.data)


class Encoder:
    """Encodes, for one thread at a time.

    Args:
        tables: those of the vocabulary.
        most_words: how many pieces it remembers at most. Each takes some 50 bytes.
    """

    def __init__(self, tables: EncodingTables, most_words: int) -> None:
        self._tables = tables
        self._most_words = most_words
        self._allocate(_FIRST_WORDS)
        self._scratch = scratch_for(_LONG_PIECE)

    def encode(
        self,
        data: np.ndarray,
        limits: np.ndarray,
        specials: np.ndarray,
        pieces: Iterable[np.ndarray],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ids of segments of text, each followed by an id that is given or by none.

        Args:
            data: uint8, the segments' bytes end to end.
            limits: int64, where each segment ends.
            specials: int64, the id after each segment, or -1.
            pieces: arrays of int64, one at least: where each piece of all segments ends, in order.

        Returns int32, the ids (lists are made from it at twice the speed of uint16), and int64, where those of each
        segment end.
        """
        if self._words.count == 0 and len(data) > _BYTES_PER_WORD * self._words.capacity:
            self._allocate(len(data) // _BYTES_PER_WORD)
        # The system gives memory as it is written, and the array grows where it lies: one pass, no copy.
        out = np.empty(len(data) // 2 + len(limits) + _KEPT_LENGTH, dtype=np.int32)
        id_limits = np.empty(len(limits), dtype=np.int64)
        state = np.zeros(5, dtype=np.int64)
        state[_WORDS] = self._words.count
        for ends in pieces:
            state[_PIECE] = 0
            while reason := self._call(data, ends, limits, specials, id_limits, out, state):
                if reason == _OUT_FULL:
                    length = ends[state[_PIECE]] - state[_PLACE] if state[_PIECE] < len(ends) else 1
                    out.resize(len(out) * 3 // 2 + int(length), refcheck=False)
                elif reason == _SCRATCH_FULL:
                    self._scratch = scratch_for(int(ends[state[_PIECE]] - state[_PLACE]))
                elif reason == _WORDS_FULL:
                    self._words.count = int(state[_WORDS])
                    self._make_room()
                    state[_WORDS] = self._words.count
            self._words.count = int(state[_WORDS])
        out.resize(state[_AT], refcheck=False)
        return out, id_limits

    def _call(self, data, ends, limits, specials, id_limits, out, state) -> int:
        tables, words, pairs, whole = self._tables, self._words, self._tables.pairs, self._tables.whole
        return _encode(
            data, ends, limits, specials, id_limits, state,
            tables.byte_ids, pairs.near, pairs.keys, pairs.values, pairs.made,
            whole.slots, whole.ends, whole.data, tables.whole_ids,
            words.slots, words.ends, words.data, self._id_ends, self._ids, out, self._scratch,
        )  # fmt: skip

    def _make_room(self) -> None:
        """Room for twice as many words, but for no more than are allowed: then all are forgotten."""
        table = self._words
        if table.capacity >= self._most_words:
            table.clear()
        else:
            table.grow()
            self._id_ends = resized(self._id_ends, table.capacity + 1)
            self._ids = resized(self._ids, len(table.data))

    def _allocate(self, words: int) -> None:
        words = min(words, self._most_words)
        self._words = WordTable(words, 8 * words + _KEPT_LENGTH)
        self._id_ends = np.zeros(self._words.capacity + 1, dtype=np.int64)
        self._ids = np.empty(len(self._words.data), dtype=np.int32)  # no piece has more ids than bytes


@compiled(t.void, [BYTES, INT64, UINT64_OUT, INT64_OUT, BYTES_OUT])
def _add_all(data, limits, slots, ends, words):
    """Fill an empty table with distinct words."""
    start = 0
    for n in range(limits.size):
        stop = limits[n]
        key = key_of(data, start, stop)
        _, place = find_word(data, start, stop, key, slots.size, slots, ends, words)
        add_word(data, start, stop, key, place, n, 0, slots, ends, words)
        start = stop


@compiled(
    INDEX,
    [BYTES, INT64, INT64, INT64, INT64_OUT, INT64_OUT]
    + [INT32, INT32, UINT64, INT32, INT32, UINT64, INT64, BYTES, INT32]
    + [UINT64_OUT, INT64_OUT, BYTES_OUT, INT64_OUT, INT32_OUT, INT32_OUT, INT64_OUT],
)
def _encode(
    data, piece_ends, limits, specials, id_limits, state,
    byte_ids, near, keys, values, made, whole_slots, whole_ends, whole_data, whole_ids,
    slots, ends, words, id_ends, ids, out, scratch,
):  # fmt: skip
    """Go on from state until the pieces are done, or something must be made larger: why it stops."""
    piece, place, segment, at, count = state[_PIECE], state[_PLACE], state[_SEGMENT], state[_AT], state[_WORDS]
    reason = _DONE
    while True:
        while segment < limits.size and limits[segment] == place:
            if specials[segment] >= 0:
                if at == out.size:
                    reason = _OUT_FULL
                    break
                out[at] = specials[segment]
                at += 1
            id_limits[segment] = at
            segment += 1
        if reason != _DONE or piece == piece_ends.size:
            break
        stop = piece_ends[piece]
        length = stop - place
        if at + length > out.size:
            reason = _OUT_FULL
            break
        key = key_of(data, place, stop)
        value, home = find_word(data, place, stop, key, _MOST_PROBES, slots, ends, words)
        if value != MISSING:
            single = note_of(value)
            if single:
                out[at] = single - 1
                at += 1
            else:
                word = word_of(value)
                for n in range(id_ends[word], id_ends[word + 1]):
                    out[at] = ids[n]
                    at += 1
        else:
            kept = length <= _KEPT_LENGTH and home != MISSING
            if kept and not has_room(count, length, ends, words):
                reason = _WORDS_FULL
                break
            whole, _ = find_word(data, place, stop, key, whole_slots.size, whole_slots, whole_ends, whole_data)
            made_count = np.int64(1)
            if whole != MISSING:
                out[at] = whole_ids[word_of(whole)]
            elif length * SCRATCH > scratch.size:
                reason = _SCRATCH_FULL
                break
            else:
                for n in range(length):
                    out[at + n] = byte_ids[data[place + n]]
                made_count = merge_ids(out, at, length, near, keys, values, made, scratch)
            if kept:
                note = out[at] + 1 if made_count == 1 else 0  # of a single id, the id plus 1
                add_word(data, place, stop, key, home, count, note, slots, ends, words)
                first = id_ends[count]
                for n in range(made_count):
                    ids[first + n] = out[at + n]
                count += 1
                id_ends[count] = first + made_count
            at += made_count
        place = stop
        piece += 1
    state[_PIECE], state[_PLACE], state[_SEGMENT], state[_AT], state[_WORDS] = piece, place, segment, at, count
    return reason
