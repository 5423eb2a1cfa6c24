"""Training of the Unigram model: many seeds, then in turns a better estimate of their probabilities and fewer of them.

Kudo 2018 (arXiv:1804.10959), section 3.2, with the details of SentencePiece's trainer: the seeds are the frequent
substrings, an estimate is two steps of expectation-maximisation with a sparse prior, and a token's loss is what the
likelihood of its own occurrences falls by when they are spelt with other tokens.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from heapq import nlargest

import numpy as np

from .errors import TrainingError
from .words import encoded

Progress = Callable[[int, int], None]
Scores = dict[str, float]

LONGEST = 16  # characters of a token
_SEEDS_PER_TOKEN = 10
_KEPT_PER_ROUND = 0.75
_FINISH_WITH = 1.1  # prune to this many times the size, then take the best
_FEWEST_EXPECTED = 0.5  # tokens that are expected less often than this are dropped at once


def train(
    words: Mapping[str, int], size: int, alphabet: Collection[str], progress: Progress | None = None
) -> list[tuple[str, float]]:
    """Tokens and their log-probabilities, the most probable first.

    Args:
        words: how often each word occurs; all their characters are in the alphabet.
        size: how many tokens are wanted, the characters among them; fewer come back from a small text.
        alphabet: characters that are tokens whatever happens.
        progress: called after each round with the number of tokens left and size.

    Raises:
        TrainingError: size is below that of the alphabet.
    """
    if size < len(alphabet):
        raise TrainingError(
            f"the vocabulary has room for {size} tokens beside the special ones, but the text has {len(alphabet)} "
            "different characters; ask for a larger vocabulary or for less character_coverage"
        )
    corpus = _Corpus(words)
    scores = seeds(words, alphabet, _SEEDS_PER_TOKEN * size)
    target = max(size, int(_FINISH_WITH * size)) if len(scores) > size else size
    while True:
        for _ in range(2):
            scores = maximise(*corpus.expected(scores), alphabet)
        if progress is not None:
            progress(len(scores), size)
        if len(scores) <= target:
            break
        scores = prune(scores, *corpus.usage(scores), alphabet, max(target, int(_KEPT_PER_ROUND * len(scores))))
    best = nlargest(size - len(alphabet), (token for token in scores if token not in alphabet), key=scores.get)
    kept = sorted([*alphabet, *best], key=lambda token: (-scores[token], token))
    return [(token, scores[token]) for token in kept]


def seeds(words: Mapping[str, int], alphabet: Collection[str], count: int) -> Scores:
    """The characters, and the substrings that occur at least twice and cover most text."""
    counts: Counter[str] = Counter()
    for word, weight in words.items():
        for start in range(len(word)):
            for stop in range(start + 1, min(start + LONGEST, len(word)) + 1):
                counts[word[start:stop]] += weight
    longer = ((token, n) for token, n in counts.items() if len(token) > 1 and n > 1)
    best = nlargest(count, longer, key=lambda item: (item[1] * len(item[0]), item[0]))
    chosen = {**{character: max(counts[character], 1) for character in sorted(alphabet)}, **dict(best)}
    total = math.log(sum(chosen.values()))
    return {token: math.log(n) - total for token, n in chosen.items()}


def maximise(expected: Mapping[str, float], _: float, alphabet: Collection[str]) -> Scores:
    """Log-probabilities from expected counts: those of the mean under a sparse Dirichlet prior, which makes rare tokens
    rarer (the digamma function in place of the logarithm)."""
    kept = {token: n for token, n in expected.items() if n >= _FEWEST_EXPECTED or token in alphabet}
    total = digamma(sum(kept.values()))
    return {token: digamma(max(n, _FEWEST_EXPECTED)) - total for token, n in kept.items()}


def prune(
    scores: Scores, used: Mapping[str, int], instead: Mapping[str, list[str]], alphabet: Collection[str], keep: int
) -> Scores:
    """The tokens that the text would miss most.

    used: how often each token occurs in the best spelling of the text; instead: the tokens that would spell it.
    """
    total = sum(used.values())
    loss: dict[str, float] = {}
    for token in scores:
        n = used.get(token, 0)
        if token in alphabet or not n:
            continue
        parts = instead[token]
        log_total = math.log(total + n * (len(parts) - 1))
        log_parts = sum(math.log(used.get(part, 0) + n) - log_total for part in parts)
        loss[token] = n / total * (math.log(n) - math.log(total) - log_parts)
    best = nlargest(max(keep - len(alphabet), 0), loss, key=lambda token: (loss[token], token))
    return {token: scores[token] for token in [*sorted(alphabet), *best]}


def digamma(x: float) -> float:
    """The derivative of log gamma, for x > 0: recurrence up to 7, then the asymptotic series (Abramowitz & Stegun
    6.3.5, 6.3.18)."""
    result = 0.0
    while x < 7:
        result -= 1 / x
        x += 1
    square = 1 / (x * x)
    return result + math.log(x) - 0.5 / x - square * (1 / 12 - square * (1 / 120 - square * (1 / 252 - square / 240)))


class _Corpus:
    """The words in the form of the kernels."""

    def __init__(self, words: Mapping[str, int]) -> None:
        self._text, self._stops = encoded(words)
        self._weights = np.fromiter(words.values(), dtype=np.int64, count=len(words))
        self._longest = int(np.diff(self._stops, prepend=0).max(initial=0)) + 1

    def expected(self, scores: Scores) -> tuple[dict[str, float], float]:
        from .unigram_weigh import expected_counts

        trie, values = _trie(scores)
        expected = np.zeros(len(values))
        work = np.empty(self._longest), np.empty(self._longest)
        total = expected_counts(self._text, self._stops, self._weights, *trie, values, *work, expected)
        return dict(zip(scores, expected.tolist(), strict=True)), total

    def usage(self, scores: Scores) -> tuple[dict[str, int], dict[str, list[str]]]:
        """How often each token occurs in the best spelling, and how each is spelt without itself."""
        trie, values = _trie(scores)
        tokens = list(scores)
        ids, counts = _spell(self._text, self._stops, trie, values, in_parts=False)
        used = np.bincount(ids, np.repeat(self._weights, counts), len(tokens)).astype(np.int64)
        ids, counts = _spell(*encoded(tokens), trie, values, in_parts=True)
        parts = np.split(ids, np.cumsum(counts)[:-1])
        instead = {token: [tokens[n] for n in row.tolist()] for token, row in zip(tokens, parts, strict=True)}
        return dict(zip(tokens, used.tolist(), strict=True)), instead


def _trie(scores: Scores):
    from .trie import Trie

    trie = Trie((0, token.encode(), number) for number, token in enumerate(scores))
    return (trie.keys, trie.children, trie.values), np.array(list(scores.values()))


def _spell(text, stops, trie, values, in_parts: bool) -> tuple[np.ndarray, np.ndarray]:
    from .unigram_lattice import spell_words, work_arrays

    ids, ends = np.empty(len(text), np.int32), np.empty(len(text), np.int32)
    counts = np.empty(len(stops), np.int64)
    nothing = np.empty(0, np.int32)
    unknown = (-1e9, 0, nothing, int(in_parts))  # every character has a token
    size = spell_words(text, stops, *trie, values, *unknown, *work_arrays(stops), ids, ends, counts)
    return ids[:size], counts
