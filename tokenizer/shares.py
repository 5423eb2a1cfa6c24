"""Work on a list of texts, shared among threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")

_LEAST = 1 << 16  # characters: a thread takes longer to start than to encode less
_SHARES = 4  # for each thread, so that none waits long for the last


def available_threads() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_shares(work: Callable[[list], list[Result]], texts: Sequence[Sized], threads: int | None) -> list[Result]:
    """What work makes of all texts, in their order; it is called with some of them at a time.

    The error of the first share that has one is raised. Raises ValueError if threads is below 1.
    """
    threads = available_threads() if threads is None else threads
    if threads < 1:
        raise ValueError(f"expected threads as 1 or more, got {threads}")
    total = sum(map(_size, texts))
    if threads == 1 or total < 2 * _LEAST or len(texts) < 2:
        return work(list(texts))
    wanted = max(_LEAST, total // (_SHARES * threads))
    shares: list[list] = [[]]
    size = 0
    for text in texts:
        if size >= wanted:
            shares.append([])
            size = 0
        shares[-1].append(text)
        size += _size(text)
    with ThreadPoolExecutor(threads) as pool:
        return [result for results in pool.map(work, shares) for result in results]


def _size(text: Sized) -> int:
    """Length of a text, of all its spans' texts if it is a list of spans; 0 for what is no text, which fails later."""
    if isinstance(text, str | bytes):
        return len(text)
    return sum(len(getattr(span, "text", "")) for span in text) if isinstance(text, Sequence) else 0
