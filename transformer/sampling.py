"""Sampling: temperature, top-k, top-p, with a cache of keys and values."""

from __future__ import annotations

import math

import numpy as np

from tinygrad_lite import Generator, no_grad

from .decoding import last_logits, reading
from .model import GPT, as_tokens

BROKEN = (
    "the model's weights are broken, or too large for float32: take an earlier checkpoint, or train with a lower --lr"
)


def pick(logits: np.ndarray, generator: Generator, temperature: float = 1.0, top_k: int | None = None,
         top_p: float | None = None) -> int:  # fmt: skip
    """One token from logits (V,). temperature 0 takes the most likely; top_k keeps the k most likely; top_p the
    smallest set whose probability reaches p (Holtzman et al. 2019, arXiv:1904.09751). Of equal logits the lower id
    comes first. -inf forbids a token; logits that are NaN, +inf or all -inf are a ValueError."""
    top = float(logits.max())
    if not math.isfinite(top):
        held = {math.inf: "+inf", -math.inf: "-inf alone"}.get(top, "NaN")
        raise ValueError(f"sampling: the logits hold {held}, so there is no most likely token: {BROKEN}")
    if temperature == 0.0:
        return int(logits.argmax())
    ids = _largest(logits, top_k) if top_k is not None and top_k < logits.size else None
    scaled = (logits if ids is None else logits[ids]).astype(np.float64) - top
    with np.errstate(over="ignore"):  # of a tiny temperature: -inf is then right, and 0 / temperature stays 0
        p = np.exp(scaled / temperature)
    p /= p.sum()
    if top_p is not None and top_p < 1.0:
        _drop_unlikely(p, top_p)
        p /= p.sum()
    u = float(generator.bits(1)[0]) * 2.0**-32
    chosen = int(np.searchsorted(np.cumsum(p), u, side="right"))
    chosen = min(chosen, int(np.flatnonzero(p)[-1]))
    return chosen if ids is None else int(ids[chosen])


def _largest(logits, k):
    """The ids of exactly the k largest, in order of id. A partition and not a sort: vocabularies are large."""
    least = np.partition(logits, -k)[-k]
    kept = logits > least
    kept[np.flatnonzero(logits == least)[: k - int(kept.sum())]] = True
    return np.flatnonzero(kept)


def _drop_unlikely(p, top_p):
    """Set to 0 what does not belong to the smallest set of probability top_p.

    Those below (1 - top_p) / V together have less than 1 - top_p, so they do not, and need not be sorted.
    """
    likely = np.flatnonzero(p >= 0.5 * (1.0 - top_p) / p.size)  # a half: sums are rounded
    order = likely[np.argsort(-p[likely], kind="stable")]
    before = np.cumsum(p[order]) - p[order]
    kept = order[before < top_p]
    probabilities = p[kept]
    p[:] = 0.0
    p[kept] = probabilities


def check_sampling(temperature, top_k, top_p):
    """Raise ValueError for settings that mean nothing."""
    if not 0 <= temperature < math.inf:  # so that NaN is refused too
        raise ValueError(f"temperature must be 0 (greedy) or more, and finite, got {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    if top_p is not None and not 0.0 < top_p <= 1.0:
        raise ValueError(f"top_p must be in (0, 1], got {top_p}")


def generate(model: GPT, prompt, count: int, *, temperature: float = 1.0, top_k: int | None = None,
             top_p: float | None = None, generator: Generator | None = None, use_cache: bool = True):  # fmt: skip
    """Yield `count` token ids that follow `prompt` (a non-empty sequence of ids).

    When the context is full, the last half of it is read again and the rest forgotten.
    """
    check_sampling(temperature, top_k, top_p)
    ids = [int(i) for i in prompt]
    if not ids:
        raise ValueError("generate: the prompt is empty: give at least one token")
    size, generator = model.config.block_size, generator or Generator(0)
    was_training = model.training
    model.eval()
    window, known = ids[-size:], 0
    try:
        with reading(model) as next_logits:
            for _ in range(count):
                if len(window) > size:
                    window, known = window[-(size // 2 or 1) :], 0
                if model.training:  # who trains a little between two tokens
                    model.eval()
                if use_cache:
                    logits = next_logits(window, known)
                else:
                    with no_grad():
                        logits = last_logits(model, as_tokens([window], model.device)).numpy()[0, -1]
                known = len(window)
                token = pick(logits, generator, temperature, top_k, top_p)
                window.append(token)
                yield token
    finally:
        model.train(was_training)


def start_of_text(tokenizer) -> list[int]:
    """What a sample without a prompt follows: a line end, or the first token where the vocabulary has none."""
    try:
        return tokenizer.encode("\n")
    except ValueError:
        return [0]
