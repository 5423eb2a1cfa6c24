"""Loss on held-out text: nats a token, bits a byte, perplexity a token and a word."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tinygrad_lite import no_grad

from .data import DataError
from .model import GPT, as_tokens


@dataclass
class Evaluation:
    """Summed loss over scored tokens, and the text's size: every figure follows from these."""

    nats: float
    tokens: int
    text_bytes: int
    words: int

    @property
    def loss(self) -> float:
        """Mean nats a token."""
        return self.nats / max(self.tokens, 1)

    @property
    def bits_per_byte(self) -> float:
        """Bits a UTF-8 byte: comparable across tokenizers."""
        return self.nats / math.log(2) / max(self.text_bytes, 1)

    @property
    def token_perplexity(self) -> float:
        """exp of the loss a token."""
        return _exp(self.loss)

    @property
    def word_perplexity(self) -> float:
        """exp of the loss a whitespace-separated word."""
        return _exp(self.nats / max(self.words, 1))


def _exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def batch_loss(model: GPT, inputs, targets) -> float:
    """Summed nats of a batch of integer arrays (B, T); targets of -100 are not scored."""
    scored = int((targets != -100).sum())
    return model(as_tokens(inputs, model.device), as_tokens(targets, model.device)).item() * scored if scored else 0.0


def evaluate(model: GPT, tokens: np.ndarray, tokenizer, *, stride: int | None = None, batch_size: int = 16,
             limit: int | None = None, progress=None) -> Evaluation:  # fmt: skip
    """Score every token after the first, once.

    stride None: non-overlapping windows of the model's context. stride S: each window scores its last S tokens
    with as much context before them as fits (slower, lower). limit: at most so many windows, evenly spaced; only what
    they score counts.

    Raises DataError where there is no token to score, ValueError for a stride or limit that means nothing.
    """
    size = model.config.block_size
    check_stride(stride, size)
    if limit is not None and limit < 1:
        raise ValueError(f"evaluate: the limit must be at least 1 window, or None for all, got {limit}")
    if len(tokens) < 2:
        raise DataError(
            f"evaluate: needs at least 2 tokens, one to predict from and one to score, got {len(tokens)}: give more text"
        )
    spans = windows(len(tokens), size) if stride is None else _sliding(len(tokens), size, stride)
    if limit is not None and len(spans) > limit:
        spans = spans[np.linspace(0, len(spans) - 1, limit).astype(np.int64)]
    was_training = model.training
    model.eval()
    nats, scored, scored_ids = 0.0, 0, []
    try:
        with no_grad():
            for first in range(0, len(spans), batch_size):
                group = spans[first : first + batch_size]
                inputs = np.zeros((len(group), (group[:, 1] - group[:, 0]).max()), np.int64)
                targets = np.full_like(inputs, -100)
                for i, (start, end, scored_from) in enumerate(group):
                    inputs[i, : end - start] = tokens[start:end]
                    targets[i, scored_from - start : end - start] = tokens[scored_from + 1 : end + 1]
                nats += batch_loss(model, inputs, targets)
                scored += int((targets != -100).sum())
                scored_ids.append(targets[targets != -100])
                if progress is not None:
                    progress(min(first + batch_size, len(spans)), len(spans))
    finally:
        model.train(was_training)
    text = tokenizer.decode_bytes(np.concatenate(scored_ids).tolist())
    return Evaluation(nats, scored, len(text), len(text.split()))


def check_stride(stride: int | None, size: int):
    """Raise ValueError for a stride that skips tokens or scores none."""
    if stride is not None and not 1 <= stride <= size:
        raise ValueError(f"evaluate: the stride must be from 1 to the context {size}, got {stride}")


def windows(count: int, size: int) -> np.ndarray:
    """Non-overlapping windows over `count` tokens, the last one shorter: rows of (start, end, start) as in _sliding."""
    starts = np.arange(0, count - 1, size)
    return np.stack([starts, np.minimum(starts + size, count - 1), starts], axis=1)


def _sliding(count: int, size: int, stride: int) -> np.ndarray:
    """Rows of (start, end, from): a window reads tokens start to end, and scores the successors of from to end."""
    ends = np.minimum(np.arange(min(size, count - 1), count - 1 + stride, stride), count - 1)
    return np.stack([np.maximum(ends - size, 0), ends, np.concatenate([[0], ends[:-1]])], axis=1)
