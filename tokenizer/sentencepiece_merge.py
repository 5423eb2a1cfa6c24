"""The tokens that merges over characters begin with: one for each character, or for its bytes."""

from __future__ import annotations

import numpy as np

from .native import BYTES, INDEX, INT32, INT32_OUT, INT64, INT64_OUT, UINT64, compiled
from .trie import child
from .utf8 import next_character, spell_bytes

_TRIE = [UINT64, INT32, INT32]  # keys, children, values: the tokens of one character


@compiled(INDEX, [BYTES, INT64, *_TRIE, INDEX, INDEX, INT32, INT32_OUT, INT32_OUT, INT64_OUT])
def first_tokens(text, stops, keys, children, values, unknown, fuse, byte_ids, ids, ends, counts):
    """Words in UTF-8 end to end, stops where each ends; a trie of the tokens of one character.

    unknown: the id for a character that has none, and fuse whether neighbours share one; byte_ids: the ids of the 256
    bytes to spell it with instead, or nothing. Writes ids, ends (bytes within the word) and counts (tokens by word);
    returns how many tokens there are.
    """
    size = 0
    first = 0
    for word in range(stops.size):
        length = stops[word] - first
        begin = size
        place = 0
        while place < length:
            after = next_character(text, first + place, first + length) - first
            node = np.int32(0)
            for n in range(first + place, first + after):
                node = child(node, text[n], keys, children)
                if node < 0:
                    break
            found = values[node] if node >= 0 else np.int32(-1)
            if found < 0 and byte_ids.size:
                size = spell_bytes(text, first, place, after, byte_ids, ids, ends, size)
            elif found < 0 and fuse and size > begin and ids[size - 1] == unknown:
                ends[size - 1] = after
            else:
                ids[size] = found if found >= 0 else unknown
                ends[size] = after
                size += 1
            place = after
        counts[word] = size - begin
        first += length
    return size
