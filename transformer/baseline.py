"""What counting alone reaches on held-out text: the losses that a trained model must beat.

A model that has learned nothing scores log V nats a token; one that knows how often each token occurs, the entropy
of single tokens; one that knows which token follows which, that of pairs. The first few hundred steps of every GPT
walk down these stairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Baselines:
    """Held-out nats a token of a uniform guess, of token counts, and of counts of pairs."""

    uniform: float
    single: float
    pair: float


def baselines(train: np.ndarray, val: np.ndarray, vocab_size: int) -> Baselines:
    """Count on train, score on val: integer token arrays (n,), n >= 2.

    Single tokens with one added to each count (Laplace). Pairs interpolated with singles, each context trusted in
    proportion to its count over the kinds of token that follow it (Witten & Bell 1991, doi:10.1109/18.87000).
    """
    counts = np.bincount(train, minlength=vocab_size).astype(np.float64)
    single = (counts + 1.0) / (len(train) + vocab_size)
    kinds, times = np.unique(_pairs(train, vocab_size), return_counts=True)
    followers = np.bincount(kinds // vocab_size, minlength=vocab_size).astype(np.float64)
    seen = np.bincount(kinds // vocab_size, weights=times, minlength=vocab_size)
    asked, first, second = _pairs(val, vocab_size), val[:-1].astype(np.int64), val[1:].astype(np.int64)
    place = np.minimum(np.searchsorted(kinds, asked), len(kinds) - 1)
    count = np.where(kinds[place] == asked, times[place], 0)
    weight = seen[first] + followers[first]
    pair = (count + followers[first] * single[second]) / np.maximum(weight, 1.0)
    pair = np.where(weight > 0, pair, single[second])
    return Baselines(math.log(vocab_size), float(-np.log(single[second]).mean()), float(-np.log(pair).mean()))


def _pairs(tokens, vocab_size):
    tokens = tokens.astype(np.int64)
    return tokens[:-1] * vocab_size + tokens[1:]
