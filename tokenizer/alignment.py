"""From where in the original text each character of the normalised one comes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from .normalizers import Bert, Normalizer


def primitive(normalizers: Iterable[Normalizer]) -> Iterator[Normalizer]:
    """The steps, those of Bert one by one."""
    for normalizer in normalizers:
        yield from normalizer.steps if isinstance(normalizer, Bert) else [normalizer]


def align(normalizers: Sequence[Normalizer], text: str) -> tuple[str, np.ndarray, np.ndarray]:
    """The normalised text, and for each of its characters (start, stop) of what it comes from in the original.

    A character that was put in has start == stop, where it was put.
    """
    starts = np.arange(len(text), dtype=np.int64)
    stops = starts + 1
    end = len(text)
    for normalizer in primitive(normalizers):
        place = 0
        outputs: list[str] = []
        first: list[int] = []
        last: list[int] = []
        for taken, output in normalizer.pieces(text):
            begin = int(starts[place]) if place < len(starts) else end
            # What is put in between two characters of the same origin lies there, too: ranges never go back.
            finish = int(stops[place + taken - 1]) if taken else max([begin, *last[-1:]])
            outputs.append(output)
            first += [begin] * len(output)
            last += [finish] * len(output)
            place += taken
        text = "".join(outputs)
        starts, stops = np.array(first, dtype=np.int64), np.array(last, dtype=np.int64)
    return text, starts, stops
