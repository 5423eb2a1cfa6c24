"""What heads do, measured: attention to the previous token, to an earlier copy, and to what followed it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..model import GPT
from .cache import must_be_still, run_with_cache

KINDS = {
    "previous": "previous-token",
    "duplicate": "duplicate-token",
    "induction": "induction",
}  # and what they are called
PERIOD = 20  # random tokens before they repeat: few enough that 26 letters need no doublets


class HeadScores(NamedTuple):
    """Mean attention weights, each (layers, H), on sequences of random tokens that are repeated once.

    previous   from each position to the one before it
    duplicate  from the second copy of a token to its first
    induction  from the second copy of a token to what followed its first: the prefix-matching score of Olsson et al.
               2022, arXiv:2209.11895
    chance     what even attention over all that is seen would score, for the three kinds
    """

    previous: np.ndarray
    duplicate: np.ndarray
    induction: np.ndarray
    chance: dict

    def best(self, kind: str) -> tuple[int, int, float]:
        """(layer, head, score) of the head that scores highest."""
        scores = getattr(self, kind)
        layer, head = np.unravel_index(int(scores.argmax()), scores.shape)
        return int(layer), int(head), float(scores[layer, head])


def repeated_tokens(kinds: int, period: int, rows: int, seed: int = 0) -> np.ndarray:
    """Ids (rows, 2 * period): random tokens twice over; without doublets within a copy where there are kinds enough."""
    rng = np.random.default_rng(seed)
    once = [rng.permutation(kinds)[:period] if kinds >= period else rng.integers(0, kinds, period) for _ in range(rows)]
    return np.tile(np.array(once, np.int64), (1, 2))


def head_scores(model: GPT, period: int | None = None, rows: int = 16, seed: int = 0) -> HeadScores:
    """Score all heads on `rows` sequences of `period` random tokens, each repeated once.

    period: PERIOD, or less where the context holds no two of them or a window does not reach back so far, unless given.
    Random tokens, so that nothing but the repetition predicts; without doublets, of which only one could be looked at,
    where there are kinds enough.
    """
    must_be_still("head_scores", model)
    c = model.config
    if period is None:
        period = max(2, min(c.block_size // 2, c.vocab_size, PERIOD, (c.window or PERIOD + 1) - 1))
    if not 2 <= period <= c.block_size // 2:
        raise ValueError(f"head_scores: period must be from 2 to {c.block_size // 2}, half the context, got {period}")
    ids = repeated_tokens(c.vocab_size, period, rows, seed)
    _, cache = run_with_cache(model, ids, "*attention.pattern")
    patterns = np.stack([cache[name].numpy().astype(np.float64).mean(0) for name in cache])  # (L, H, T, T)
    later, all_but_first = np.arange(period, 2 * period), np.arange(1, 2 * period)
    targets = {"previous": (all_but_first, all_but_first - 1), "duplicate": (later, later - period),
               "induction": (later, later - period + 1)}  # fmt: skip
    scores = [patterns[:, :, queries, keys].mean(2) for queries, keys in targets.values()]
    ahead, width = np.arange(2 * period)[:, None] - np.arange(2 * period), c.window or 2 * period
    seen = (ahead >= 0) & (ahead < width)  # (T, T)
    even = seen / seen.sum(1, keepdims=True)
    return HeadScores(*scores, {kind: float(even[queries, keys].mean()) for kind, (queries, keys) in targets.items()})
