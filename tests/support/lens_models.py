"""Small GPTs of three kinds, far enough from zero that every path through them matters."""

import numpy as np

from transformer import GPT, GPTConfig

VOCAB, T = 11, 6
KINDS = {
    "gpt2": dict(),
    "llama": dict(positions="rope", norm="rmsnorm", mlp="swiglu", kv_heads=2, bias=False, tied=False),
    "window": dict(positions="none", mlp="relu", window=3),
}


def made(kind="gpt2", double=False):
    """Two layers of four heads; double: of float64."""
    model = GPT(GPTConfig(vocab_size=VOCAB, block_size=8, layers=2, heads=4, channels=16, **KINDS[kind]))
    rng = np.random.default_rng(1)
    for p in model.parameters():
        p.data[...] += rng.normal(0.0, 0.3, p.shape)
    return (model.double() if double else model).eval()


def some_ids(rows=2, seed=0):
    """Ids (rows, T)."""
    return np.random.default_rng(seed).integers(0, VOCAB, (rows, T))
