"""Fast training of byte-pair encoding: counts are updated where a merge happens, and never recomputed.

All words lie end to end in one linked list of symbols. A pair of symbols can only come into being in the step that
creates the newer of the two, so a pair's positions are known for good after that step, its count can only fall, and a
heap with stale entries is enough: an entry whose count has fallen goes back with the new count.

Plain Python on purpose. There are only some ten thousand distinct words in a corpus, so this takes about a second,
less than it takes to compile a compiled version.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from heapq import heapify, heappop, heappush

import numpy as np

from .bpe_vocabulary import Pair
from .byte_order import BYTE_ORDER, ID_OF_BYTE
from .corpus import Corpus, read_texts
from .special import name_expression

Progress = Callable[[int, int], None]

_STRIDE = 1 << 24  # a pair is the one integer left * _STRIDE + right, so integers order as the pairs do
_BORDER = _STRIDE - 1  # stands between words; ids stay below it
_GONE = -1  # a symbol that a merge absorbed into its left neighbour


def count_words(texts: Corpus, split: Callable[[str], list[str]], cut_out: Iterable[str] = ()) -> dict[bytes, int]:
    """How often each distinct piece occurs, in the order of first occurrence; the strings in cut_out part the texts."""
    counts: Counter[str] = Counter()
    names = name_expression(cut_out)
    for text in read_texts(texts):
        for part in [text] if names is None else names.split(text)[::2]:  # [1::2] are the names
            counts.update(split(part))
    return {piece.encode("utf-8", "surrogateescape"): count for piece, count in counts.items()}


def train(
    words: Mapping[bytes, int], merge_count: int, tie_break: str = "lowest-id", progress: Progress | None = None
) -> list[Pair]:
    """Learn merges; the same result as bpe_readable.train_readable, in time that grows with the merges that happen.

    Args:
        words: distinct words and their counts.
        merge_count: how many merges to learn; fewer come back if every word has become one token.
        tie_break: "lowest-id" or "greatest-bytes".
        progress: called after each merge with the number of merges done and merge_count.
    """
    symbols_array, weights_array = _lay_out(words)
    counts, positions = _initial_pairs(symbols_array, weights_array)
    symbols = symbols_array.tolist()
    weights = weights_array.tolist()
    following = list(range(1, len(symbols) + 1))
    preceding = list(range(-1, len(symbols) - 1))

    token_bytes = [bytes([value]) for value in BYTE_ORDER]
    rank = _rank_by_id if tie_break == "lowest-id" else lambda pair: _rank_by_bytes(pair, token_bytes)
    heap = [(-count, rank(pair), pair) for pair, count in counts.items()]
    heapify(heap)

    merges: list[Pair] = []
    while heap and len(merges) < merge_count:
        negative_count, order, pair = heappop(heap)
        count = counts[pair]
        if count != -negative_count:
            if count:
                heappush(heap, (-count, order, pair))
            continue
        left, right = divmod(pair, _STRIDE)
        new = 256 + len(merges)
        merges.append((left, right))
        token_bytes.append(token_bytes[left] + token_bytes[right])

        # Positions ascend, so a run such as "aaa" merges from the left; the position inside it is then stale.
        created: dict[int, int] = {}
        for here in positions.pop(pair):
            if symbols[here] != left:
                continue
            absorbed = following[here]
            if symbols[absorbed] != right:
                continue
            weight = weights[here]
            before = preceding[here]
            after = following[absorbed]
            symbols[here] = new
            symbols[absorbed] = _GONE
            following[here] = after
            preceding[after] = here

            neighbour = symbols[before]
            if neighbour != _BORDER:
                old = neighbour * _STRIDE + left
                if neighbour == new:
                    created[old] -= weight
                else:
                    counts[old] -= weight
                old += new - left
                if old in created:
                    created[old] += weight
                    positions[old].append(before)
                else:
                    created[old] = weight
                    positions[old] = [before]
            neighbour = symbols[after]
            if neighbour != _BORDER:
                counts[right * _STRIDE + neighbour] -= weight
                fresh = new * _STRIDE + neighbour
                if fresh in created:
                    created[fresh] += weight
                    positions[fresh].append(here)
                else:
                    created[fresh] = weight
                    positions[fresh] = [here]

        del counts[pair]
        for fresh, count in created.items():
            if count:
                counts[fresh] = count
                heappush(heap, (-count, rank(fresh), fresh))
        if progress is not None:
            progress(len(merges), merge_count)
    return merges


def _lay_out(words: Mapping[bytes, int]) -> tuple[np.ndarray, np.ndarray]:
    """Every word's bytes with a border before and after, and beside each symbol the count of its word."""
    lengths = np.fromiter(map(len, words), dtype=np.int64, count=len(words))
    ends = np.cumsum(lengths + 1)
    symbols = np.full(int(ends[-1]) + 1 if len(ends) else 1, _BORDER, dtype=np.int64)
    inside = np.ones(len(symbols), dtype=bool)
    inside[0] = False
    inside[ends] = False
    symbols[inside] = np.frombuffer(b"".join(words).translate(ID_OF_BYTE), dtype=np.uint8)
    weights = np.zeros(len(symbols), dtype=np.int64)
    weights[inside] = np.repeat(np.fromiter(words.values(), dtype=np.int64, count=len(words)), lengths)
    return symbols, weights


def _initial_pairs(symbols: np.ndarray, weights: np.ndarray) -> tuple[dict[int, int], dict[int, list[int]]]:
    """Count and positions, ascending, of each pair of bytes."""
    starts = np.flatnonzero((symbols[:-1] != _BORDER) & (symbols[1:] != _BORDER))
    if not len(starts):
        return {}, {}
    pairs = symbols[starts] * _STRIDE + symbols[starts + 1]
    order = np.argsort(pairs, kind="stable")
    pairs, starts = pairs[order], starts[order]
    firsts = np.flatnonzero(np.concatenate(([True], pairs[1:] != pairs[:-1])))
    totals = np.add.reduceat(weights[starts], firsts).tolist()
    keys = pairs[firsts].tolist()
    groups = [group.tolist() for group in np.split(starts, firsts[1:])]
    return dict(zip(keys, totals, strict=True)), dict(zip(keys, groups, strict=True))


def _rank_by_id(pair: int) -> int:
    return pair


def _rank_by_bytes(pair: int, token_bytes: list[bytes]) -> str:
    """A string that sorts first for the pair whose byte strings sort last.

    Each byte b becomes the character 255 - b, and each of the two strings ends in character 256: a longer string sorts
    after its own prefix, so with the order turned round its prefix needs the larger character there.
    """
    left, right = divmod(pair, _STRIDE)
    return "".join("".join(chr(255 - value) for value in token_bytes[token]) + "\u0100" for token in (left, right))
