"""Fast application of learnt merges to many words at once.

The rule is the readable one: apply merge 0 everywhere, from left to right, then merge 1, and so on. A merge that uses
a token always comes after the merge that made it, so one pass over the merges in order is enough, and only the merges
that occur need a visit: a heap holds those, each with the positions where it may apply. All words lie end to end in one
linked list, and a run of a million equal bytes costs the same per byte as short words do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise

from .bpe_readable import Pair
from .byte_order import ID_OF_BYTE

_GONE = -1


class MergeTable:
    """The merges of one tokenizer, ready to apply.

    Args:
        merges: pairs of ids; merge number n makes id 256 + n, and uses only ids below that.
    """

    def __init__(self, merges: Sequence[Pair]) -> None:
        self._merges = merges
        self._border = 256 + len(merges)  # no token: stands between words, and takes part in no merge
        self._stride = self._border + 1
        self._made: Mapping[int, int] = {
            left * self._stride + right: 256 + number for number, (left, right) in enumerate(merges)
        }

    def merge_words(self, words: Sequence[bytes]) -> list[list[int]]:
        """The ids of each word."""
        border, stride, find = self._border, self._stride, self._made.get
        symbols = [border]
        for word in words:
            symbols += word.translate(ID_OF_BYTE)
            symbols.append(border)
        following = list(range(1, len(symbols) + 1))
        preceding = list(range(-1, len(symbols) - 1))
        waiting: dict[int, list[int]] = {}  # id that a merge would make -> positions of its left part, ascending
        for position, (left, right) in enumerate(pairwise(symbols)):
            made = find(left * stride + right)
            if made is not None:
                if made in waiting:
                    waiting[made].append(position)
                else:
                    waiting[made] = [position]

        heap = list(waiting)
        heapify(heap)
        while heap:
            new = heappop(heap)
            left, right = self._merges[new - 256]
            for here in waiting.pop(new):
                if symbols[here] != left:
                    continue
                absorbed = following[here]
                if symbols[absorbed] != right:
                    continue
                after = following[absorbed]
                symbols[here] = new
                symbols[absorbed] = _GONE
                following[here] = after
                preceding[after] = here
                before = preceding[here]
                made = find(symbols[before] * stride + new)
                if made is not None:
                    if made in waiting:
                        waiting[made].append(before)
                    else:
                        waiting[made] = [before]
                        heappush(heap, made)
                made = find(new * stride + symbols[after])
                if made is not None:
                    if made in waiting:
                        waiting[made].append(here)
                    else:
                        waiting[made] = [here]
                        heappush(heap, made)
        return self._cut_at_borders(symbols)

    def _cut_at_borders(self, symbols: list[int]) -> list[list[int]]:
        kept = [symbol for symbol in symbols if symbol != _GONE]
        borders = [position for position, symbol in enumerate(kept) if symbol == self._border]
        return [kept[start + 1 : stop] for start, stop in pairwise(borders)]
