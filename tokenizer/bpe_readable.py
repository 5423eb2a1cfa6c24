"""Byte-pair encoding in its plainest form: the algorithm to read, and the judge of the fast one.

Sennrich, Haddow and Birch 2016 (arXiv:1508.07909) bring the data-compression idea of Gage (1994) to text: start from
single symbols, and again and again replace the most frequent pair of neighbours by one new symbol. GPT-2 starts from
the 256 bytes, so that every text has a spelling. Each step here recounts everything; bpe_train.py and bpe_merge.py give
the same results by updating counts instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from heapq import nlargest, nsmallest
from itertools import pairwise

import numpy as np

from .bpe_record import MergeRecord
from .bpe_vocabulary import BPEVocabulary, Pair


def train_readable(
    words: Mapping[bytes, int],
    merge_count: int,
    tie_break: str = "lowest-id",
    record: list[MergeRecord] | None = None,
    *,
    base: BPEVocabulary | None = None,
    first_id: int = 256,
) -> list[Pair]:
    """Learn merges from words and how often each occurs; merge number n makes the token with id first_id + n.

    Of several most frequent pairs, "lowest-id" takes the smallest pair of ids, and "greatest-bytes" the pair whose two
    byte strings come last in the order of bytes. Stops early when no pair is left. A list given as record gets what
    each choice was made from. The merges of base, by default none, have been made before.
    """
    base = BPEVocabulary.from_pairs([]) if base is None else base
    spellings = [
        (merge_readable(base.byte_ids[list(word)].tolist(), base.merges, base.ranks), count)
        for word, count in words.items()
    ]
    token_bytes = [*base.tokens, *[None] * (first_id - len(base.tokens))]
    merges: list[Pair] = []
    while len(merges) < merge_count:
        counts: Counter[Pair] = Counter()
        for ids, count in spellings:
            for pair in pairwise(ids):
                counts[pair] += count
        if not counts:
            break
        if tie_break == "lowest-id":
            ranked = nsmallest(2, counts, key=lambda pair: (-counts[pair], pair))
        else:
            # Two tokens can stand for the same bytes; sorting first, and keeping the order of equals, settles that by id.
            ordered = sorted(counts.items())
            ranked = nlargest(2, ordered, key=lambda item: (item[1], *(token_bytes[token] for token in item[0])))
            ranked = [pair for pair, _ in ranked]
        best, runner_up = ranked[0], ranked[1] if len(ranked) > 1 else None
        if record is not None:
            record.append(MergeRecord(best, counts[best], runner_up, counts.get(runner_up, 0)))
        new_id = first_id + len(merges)
        merges.append(best)
        token_bytes.append(token_bytes[best[0]] + token_bytes[best[1]])
        spellings = [(replace_pair(ids, best, new_id), count) for ids, count in spellings]
    return merges


def encode_readable(word: bytes, vocabulary: BPEVocabulary) -> list[int]:
    """Spell a word: by the token that it is if the vocabulary takes those whole, else by its bytes, merged."""
    return ReadableEncoder(vocabulary).encode(word)


def merge_readable(ids: Sequence[int], merges: np.ndarray, ranks: np.ndarray) -> list[int]:
    """Apply the merge of the lowest rank, the leftmost first where there are several, until none can be applied."""
    return _merge(ids, _rules(merges, ranks))


class ReadableEncoder:
    """encode_readable for many words of one vocabulary."""

    def __init__(self, vocabulary: BPEVocabulary) -> None:
        whole = vocabulary.tokens if vocabulary.take_whole else []
        self._whole = {token: token_id for token_id, token in enumerate(whole)}
        self._byte_ids = vocabulary.byte_ids.tolist()
        self._rules = _rules(vocabulary.merges, vocabulary.ranks)

    def encode(self, word: bytes) -> list[int]:
        """The ids of one word."""
        if word in self._whole:
            return [self._whole[word]]
        return _merge([self._byte_ids[value] for value in word], self._rules)


def _rules(merges: np.ndarray, ranks: np.ndarray) -> dict[Pair, tuple[int, int]]:
    """Rank and id made, by pair."""
    return {(left, right): (rank, made) for (left, right, made), rank in zip(merges.tolist(), ranks.tolist())}


def _merge(ids: Sequence[int], rules: Mapping[Pair, tuple[int, int]]) -> list[int]:
    result = list(ids)
    while places := [(rules[pair][0], n) for n, pair in enumerate(pairwise(result)) if pair in rules]:
        _, here = min(places)
        _, made = rules[result[here], result[here + 1]]
        result[here : here + 2] = [made]
    return result


def replace_pair(ids: list[int], pair: Pair, new_id: int) -> list[int]:
    """Replace each occurrence of pair by new_id, from left to right: in a run of three, the first two merge."""
    result = []
    position = 0
    while position < len(ids):
        if tuple(ids[position : position + 2]) == pair:
            result.append(new_id)
            position += 2
        else:
            result.append(ids[position])
            position += 1
    return result
