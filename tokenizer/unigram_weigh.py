"""All spellings of a word at once, weighted by their probability: for training (forward-backward) and for sampling."""

from __future__ import annotations

import math

import numpy as np

from .native import BYTES, INDEX, INT32, INT32_OUT, INT64, INT64_OUT, UINT64, compiled, inline
from .native import types as t
from .trie import child
from .unigram_lattice import FLOAT64, FLOAT64_OUT, emit
from .utf8 import next_character

_TRIE = [UINT64, INT32, INT32, FLOAT64]  # keys, children, values, and the log-probability by token


@inline
def _add_logs(x, y):
    """log(exp(x) + exp(y)), without overflow."""
    if x == -math.inf:
        return y
    if y == -math.inf:
        return x
    return max(x, y) + math.log1p(math.exp(-abs(x - y)))


@compiled(t.float64, [BYTES, INT64, INT64, *_TRIE, FLOAT64_OUT, FLOAT64_OUT, FLOAT64_OUT])
def expected_counts(text, stops, weights, keys, children, values, scores, forward, backward, expected):
    """unigram_readable.expected_counts_readable; weights: how often each word occurs; forward and backward: as long as
    the longest word and one more. Adds to expected, by token; returns the log-likelihood."""
    total = 0.0
    first = 0
    for word in range(stops.size):
        length = stops[word] - first
        forward[: length + 1] = -math.inf
        backward[: length + 1] = -math.inf
        forward[0] = backward[length] = 0.0
        for start in range(length):
            if forward[start] == -math.inf:
                continue
            node = np.int32(0)
            for n in range(start, length):
                node = child(node, text[first + n], keys, children)
                if node < 0:
                    break
                if values[node] >= 0:
                    forward[n + 1] = _add_logs(forward[n + 1], forward[start] + scores[values[node]])
        total += weights[word] * forward[length]
        for start in range(length - 1, -1, -1):
            if forward[start] == -math.inf:
                continue
            node = np.int32(0)
            for n in range(start, length):
                node = child(node, text[first + n], keys, children)
                if node < 0:
                    break
                found = values[node]
                if found >= 0 and backward[n + 1] > -math.inf:
                    rest = scores[found] + backward[n + 1]
                    backward[start] = _add_logs(backward[start], rest)
                    expected[found] += weights[word] * math.exp(forward[start] + rest - forward[length])
        first += length
    return total


@compiled(
    INDEX,
    [
        *[BYTES, INT64, *_TRIE, t.float64, t.float64, INDEX, INT32, FLOAT64],
        *[FLOAT64_OUT, INT64_OUT, INT32_OUT, INT32_OUT, INT32_OUT, INT64_OUT],
    ],
)
def sample_words(
    text,
    stops,
    keys,
    children,
    values,
    scores,
    unknown_score,
    alpha,
    unknown,
    byte_ids,
    uniform,
    backward,
    links,
    token,
    ids,
    ends,
    counts,
):
    """A spelling of each word, drawn with probability proportional to that of the spelling to the power of alpha.

    uniform: numbers from 0 to 1, one for each byte. The other arguments are those of unigram_lattice.spell_words.
    """
    size = 0
    first = 0
    for word in range(stops.size):
        length = stops[word] - first
        backward[:length] = -math.inf
        backward[length] = 0.0
        for start in range(length - 1, -1, -1):
            if (text[first + start] & 0xC0) == 0x80:
                continue
            after = next_character(text, first + start, first + length) - first
            single = False
            node = np.int32(0)
            for n in range(start, length):
                node = child(node, text[first + n], keys, children)
                if node < 0:
                    break
                if values[node] >= 0:
                    single |= n + 1 == after
                    backward[start] = _add_logs(backward[start], alpha * scores[values[node]] + backward[n + 1])
            if not single:
                backward[start] = _add_logs(backward[start], alpha * unknown_score + backward[after])
        start = 0
        while start < length:
            after = next_character(text, first + start, first + length) - first
            left = uniform[first + start]
            chosen, end = np.int32(-1), after
            single = False
            node = np.int32(0)
            for n in range(start, length):
                node = child(node, text[first + n], keys, children)
                if node < 0:
                    break
                if values[node] >= 0:  # the last one stays where rounding leaves a little of the probability
                    chosen, end = values[node], n + 1
                    single |= end == after
                    left -= math.exp(alpha * scores[chosen] + backward[end] - backward[start])
                    if left < 0:
                        break
            if left >= 0 and not single:
                chosen, end = np.int32(-1), after
            links[start], token[start] = end, chosen
            start = end
        before_size = size
        size = emit(text, first, length, links, token, unknown, byte_ids, ids, ends, size)
        counts[word] = size - before_size
        first += length
    return size
