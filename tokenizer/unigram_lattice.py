"""Fast Viterbi, sampling and forward-backward over the lattice of a word's spellings; tokens are found by a trie.

All kernels take words in UTF-8 end to end (words.encoded) and the places where they end. A word of n bytes takes n times
the length of the longest token at most, whatever it holds.
"""

from __future__ import annotations

import numpy as np

from .native import BYTES, INDEX, INT32, INT32_OUT, INT64, INT64_OUT, UINT64, compiled, routine
from .native import types as t
from .trie import child
from .utf8 import next_character, spell_bytes

FLOAT64 = t.Array(t.float64, 1, "C", readonly=True)
FLOAT64_OUT = FLOAT64.copy(readonly=False)
_TRIE = [UINT64, INT32, INT32, FLOAT64]  # keys, children, values, and the log-probability by token
_WORK = [FLOAT64_OUT, INT64_OUT, INT32_OUT]  # by place in the longest word, as `work_arrays` makes them


def work_arrays(stops: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the kernels write by place in a word: a score, where a token begins or ends, and which one it is."""
    longest = int(np.diff(stops, prepend=0).max(initial=0))
    return np.empty(longest + 1), np.empty(longest + 1, np.int64), np.empty(longest + 1, np.int32)


@routine
def emit(text, first, length, links, token, unknown, byte_ids, ids, ends, size):
    """Write the tokens of one spelling: at each place where one begins, links says where it ends and token which it is,
    -1 for a character that has none."""
    start = 0
    while start < length:
        stop = links[start]
        if token[start] >= 0:
            ids[size], ends[size] = token[start], stop
            size += 1
        elif byte_ids.size:
            size = spell_bytes(text, first, start, stop, byte_ids, ids, ends, size)
        else:
            while stop < length and token[stop] < 0:
                stop = links[stop]
            ids[size], ends[size] = unknown, stop
            size += 1
        start = stop
    return size


@compiled(
    INDEX,
    [BYTES, INT64, *_TRIE, t.float64, INDEX, INT32, INDEX, *_WORK, INT32_OUT, INT32_OUT, INT64_OUT],
)
def spell_words(
    text,
    stops,
    keys,
    children,
    values,
    scores,
    unknown_score,
    unknown,
    byte_ids,
    in_parts,
    best,
    begins,
    token,
    ids,
    ends,
    counts,
):
    """The best spelling of each word, as unigram_readable.spell_readable.

    unknown: the id for what has no token; byte_ids: the ids of the 256 bytes to spell it with instead, or nothing;
    in_parts: no token may be the whole word, if it has more than one character. Writes ids, ends (bytes within the word) and counts (tokens by word); returns how many tokens there are.
    """
    size = 0
    first = 0
    for word in range(stops.size):
        length = stops[word] - first
        best[0] = 0.0
        begins[: length + 1] = -1
        start = 0
        while start < length:
            after = next_character(text, first + start, first + length) - first
            single = False
            node = np.int32(0)
            for n in range(start, length):
                node = child(node, text[first + n], keys, children)
                if node < 0:
                    break
                found = values[node]
                if found >= 0 and not (in_parts and n + 1 == length and start == 0 and after < length):
                    stop = n + 1
                    single |= stop == after
                    score = best[start] + scores[found]
                    if begins[stop] < 0 or score > best[stop]:
                        best[stop], begins[stop], token[stop] = score, start, found
            if not single:
                score = best[start] + unknown_score
                if begins[after] < 0 or score > best[after]:
                    best[after], begins[after], token[after] = score, start, -1
            start = after
        # The way back turns the links round: begins[start] becomes the place where the token at start ends.
        place, ahead, ahead_token = length, np.int64(-1), np.int32(-1)
        while place >= 0:
            before, this = (begins[place], token[place]) if place else (np.int64(-1), np.int32(-1))
            begins[place], token[place] = ahead, ahead_token
            place, ahead, ahead_token = before, place, this
        before_size = size
        size = emit(text, first, length, begins, token, unknown, byte_ids, ids, ends, size)
        counts[word] = size - before_size
        first += length
    return size
