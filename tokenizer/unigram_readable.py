"""The Unigram language model in its plainest form (Kudo 2018, arXiv:1804.10959).

A text's probability is the product of its tokens' probabilities; the spelling is the most probable one, found by
Viterbi's algorithm: the best way to each place is the best way to an earlier one and one token more. Training and
sampling weigh all spellings at once, by the forward-backward algorithm.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

UNKNOWN_PENALTY = 10.0  # an unknown character scores this much below the worst token, as in SentencePiece


def spell_readable(
    word: str, scores: Mapping[str, float], unknown_score: float, longest: int
) -> list[tuple[str, bool]]:
    """The pieces of the best spelling, each with whether it is known; neighbours that are not known are joined.

    scores: log-probability by token, none longer than longest characters. Of equally good ways to a place the one whose
    last token begins first is taken.
    """
    best: list[float] = [0.0] + [-math.inf] * len(word)
    begins: list[int] = [-1] * (len(word) + 1)
    known = [True] * (len(word) + 1)
    for start in range(len(word)):
        for stop in range(start + 1, min(start + longest, len(word)) + 1):
            score = scores.get(word[start:stop])
            if score is not None and (begins[stop] < 0 or best[start] + score > best[stop]):
                best[stop], begins[stop], known[stop] = best[start] + score, start, True
        stop = start + 1
        if word[start] not in scores and (begins[stop] < 0 or best[start] + unknown_score > best[stop]):
            best[stop], begins[stop], known[stop] = best[start] + unknown_score, start, False
    pieces: list[tuple[str, bool]] = []
    stop = len(word)
    while stop:
        start = begins[stop]
        if pieces and not known[stop] and not pieces[-1][1]:
            pieces[-1] = (word[start:stop] + pieces[-1][0], False)
        else:
            pieces.append((word[start:stop], known[stop]))
        stop = start
    return pieces[::-1]


def expected_counts_readable(
    words: Mapping[str, int], scores: Mapping[str, float], longest: int
) -> tuple[Counter[str], float]:
    """How often each token occurs in the words, over all their spellings weighted by probability; and the words'
    log-likelihood. Every character of the words is a token."""
    expected: Counter[str] = Counter()
    total = 0.0
    for word, count in words.items():
        edges = [
            (start, stop, scores[word[start:stop]])
            for start in range(len(word))
            for stop in range(start + 1, min(start + longest, len(word)) + 1)
            if word[start:stop] in scores
        ]
        forward = [0.0] + [-math.inf] * len(word)
        for start, stop, score in edges:  # ascending starts: forward[start] is complete
            forward[stop] = add_logs(forward[stop], forward[start] + score)
        backward = [-math.inf] * len(word) + [0.0]
        for start, stop, score in reversed(edges):
            backward[start] = add_logs(backward[start], backward[stop] + score)
        for start, stop, score in edges:
            probability = math.exp(forward[start] + score + backward[stop] - forward[-1])
            expected[word[start:stop]] += count * probability
        total += count * forward[-1]
    return expected, total


def add_logs(x: float, y: float) -> float:
    """log(exp(x) + exp(y)), without overflow."""
    low, high = min(x, y), max(x, y)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))
