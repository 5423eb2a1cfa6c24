"""Byte-pair encoding in its plainest form: the algorithm to read, and the judge of the fast one.

Sennrich, Haddow and Birch 2016 (arXiv:1508.07909) bring the data-compression idea of Gage (1994) to text: start from
single symbols, and again and again replace the most frequent pair of neighbours by one new symbol. GPT-2 starts from
the 256 bytes, so that every text has a spelling. Each step here recounts everything; bpe_train.py and bpe_merge.py give
the same results by updating counts instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

from .byte_order import BYTE_ORDER, ID_OF_BYTE

Pair = tuple[int, int]


def train_readable(words: Mapping[bytes, int], merge_count: int, tie_break: str = "lowest-id") -> list[Pair]:
    """Learn merges from words and how often each occurs; merge number n makes the token with id 256 + n.

    Of several most frequent pairs, "lowest-id" takes the smallest pair of ids, and "greatest-bytes" the pair whose two
    byte strings come last in the order of bytes. Stops early when no pair is left.
    """
    spellings = [(list(word.translate(ID_OF_BYTE)), count) for word, count in words.items()]
    token_bytes = [bytes([value]) for value in BYTE_ORDER]
    merges: list[Pair] = []
    while len(merges) < merge_count:
        counts: Counter[Pair] = Counter()
        for ids, count in spellings:
            for pair in pairwise(ids):
                counts[pair] += count
        if not counts:
            break
        if tie_break == "lowest-id":
            best = min(counts, key=lambda pair: (-counts[pair], pair))
        else:
            # Two tokens can stand for the same bytes; sorting first and taking the first maximum settles that by id.
            best = max(sorted(counts), key=lambda pair: (counts[pair], token_bytes[pair[0]], token_bytes[pair[1]]))
        new_id = 256 + len(merges)
        merges.append(best)
        token_bytes.append(token_bytes[best[0]] + token_bytes[best[1]])
        spellings = [(replace_pair(ids, best, new_id), count) for ids, count in spellings]
    return merges


def encode_readable(word: bytes, merges: Sequence[Pair]) -> list[int]:
    """Spell a word by applying the merges in the order in which they were learnt."""
    ids = list(word.translate(ID_OF_BYTE))
    for number, pair in enumerate(merges):
        ids = replace_pair(ids, pair, 256 + number)
    return ids


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
