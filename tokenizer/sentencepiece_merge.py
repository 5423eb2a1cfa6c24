"""Fast spelling with merges over characters: first each character's token, then the merges of bpe_merge.py."""

from __future__ import annotations

import numpy as np

from .bpe_merge import merge_ids
from .native import BYTES, INDEX, INT32, INT32_OUT, INT64, INT64_OUT, UINT64, compiled
from .trie import child
from .unigram_lattice import next_character, spell_bytes

_TRIE = [UINT64, INT32, INT32]  # keys, children, values: the tokens of one character
_MERGES = [UINT64, INT32, INT32]  # keys, values, made: see bpe_merge.PairTable


@compiled(
    INDEX,
    [BYTES, INT64, *_TRIE, *_MERGES, INT32, INDEX, INDEX, INT32, *[INT64_OUT] * 2, INT32_OUT, INT32_OUT, INT64_OUT],
)
def spell_words(
    text,
    stops,
    keys,
    children,
    values,
    pair_keys,
    pair_values,
    made,
    lengths,
    unknown,
    fuse,
    byte_ids,
    scratch,
    unknown_lengths,
    ids,
    ends,
    counts,
):
    """The ids of each word, as sentencepiece_readable.spell_readable.

    lengths: bytes of each ordinary token; unknown: the id for what has no token, and fuse whether neighbours share one;
    byte_ids: the ids of the 256 bytes to spell it with instead, or nothing; scratch: for merge_ids; unknown_lengths: as
    long as the longest word. Writes ids, ends (bytes within the word) and counts (tokens by word); returns the tokens.
    """
    size = 0
    first = 0
    for word in range(stops.size):
        stop = stops[word]
        begin = size
        unknowns = 0
        place = first
        while place < stop:
            after = next_character(text, place, stop)
            node = np.int32(0)
            for n in range(place, after):
                node = child(node, text[n], keys, children)
                if node < 0:
                    break
            found = values[node] if node >= 0 else np.int32(-1)
            if found >= 0:
                ids[size] = found
                size += 1
            elif byte_ids.size:
                size = spell_bytes(text, 0, place, after, byte_ids, ids, ends, size)
            elif fuse and size > begin and ids[size - 1] == unknown:
                unknown_lengths[unknowns - 1] += after - place
            else:
                ids[size] = unknown
                unknown_lengths[unknowns] = after - place
                unknowns += 1
                size += 1
            place = after
        size = begin + merge_ids(ids, begin, size - begin, pair_keys, pair_values, made, scratch)
        end = 0
        unknowns = 0
        for n in range(begin, size):
            if ids[n] == unknown:
                end += unknown_lengths[unknowns]
                unknowns += 1
            elif byte_ids.size and lengths[ids[n]] == 0:  # a byte's token
                wide = text[first + end] == 0xED and (text[first + end + 1] & 0xFE) == 0xB2
                end += 3 if wide else 1
            else:
                end += lengths[ids[n]]
            ends[n] = end
        counts[word] = size - begin
        first = stop
    return size
