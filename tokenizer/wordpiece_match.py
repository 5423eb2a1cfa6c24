"""Fast spelling with WordPiece: the longest match by a walk down a trie, whose second root holds the continuations."""

from __future__ import annotations

import numpy as np

from .native import BYTES, INDEX, INT32, INT32_OUT, INT64, INT64_OUT, UINT64, compiled
from .trie import child


@compiled(INDEX, [BYTES, INT64, UINT64, INT32, INT32, INDEX, INDEX, INT32_OUT, INT32_OUT, INT64_OUT])
def spell_words(text, stops, keys, children, values, unknown, longest_word, ids, ends, counts):
    """wordpiece_readable.spell_readable of each word: words in UTF-8 end to end, stops where each ends.

    Writes ids, ends (bytes within the word) and counts (tokens by word); returns how many tokens there are.
    """
    size = 0
    start = 0
    for word in range(stops.size):
        stop = stops[word]
        first = size
        characters = 0
        for n in range(start, stop):
            characters += (text[n] & 0xC0) != 0x80
        place = start if characters <= longest_word else -1
        while 0 <= place < stop:
            node = np.int32(place > start)
            found, end = np.int32(-1), place
            n = place
            while n < stop:
                node = child(node, text[n], keys, children)
                if node < 0:
                    break
                n += 1
                if values[node] >= 0:
                    found, end = values[node], n
            if found < 0:
                place = -1
                break
            ids[size] = found
            ends[size] = end - start
            size += 1
            place = end
        if place < 0:
            size = first
            ids[size] = unknown
            ends[size] = stop - start
            size += 1
        counts[word] = size - first
        start = stop
    return size
