"""Small models with all that a page of one training step needs."""

import numpy as np

import tokenizer as tokenizers
from tinygrad_lite import Generator
from transformer.config import GPTConfig
from transformer.model import GPT
from transformer.presets import TrainConfig
from transformer.view.collect import Checkpoint

TEXT = "to be or not to be, that is the question"


def checkpoint(step=0, seed=0, **model):
    """A GPT with random weights of a size at which attention is not uniform."""
    tok = tokenizers.CharTokenizer.train(TEXT)
    settings = {"layers": 2, "heads": 2, "channels": 16, "block_size": 16, **model}
    gpt = GPT(GPTConfig(vocab_size=tok.vocab_size, **settings), Generator(seed)).eval()
    for _, p in gpt.named_parameters():
        if p.ndim == 2:
            p.data *= 8.0
    return Checkpoint(gpt, tok, step, TrainConfig(tokenizer="char", model=settings, steps=100), None, f"step {step}")


def ids(source, count=12):
    """The first tokens of the text: `count` that are read, and the one after them."""
    return np.asarray(source.tokenizer.encode(TEXT), dtype=np.int64)[: count + 1]
