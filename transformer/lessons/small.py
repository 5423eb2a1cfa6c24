"""A really small GPT, trained for seconds by the real trainer: what lessons of training compare."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable

import numpy as np

from tinygrad_lite import default_generator
from tokenizer import CharTokenizer

from ..presets import TrainConfig
from ..trainer import NonFiniteLoss, Trainer

STEPS = 150
MODEL = dict(layers=2, heads=2, channels=32, block_size=32, positions="rope")
SETTINGS = dict(tokenizer="char", batch_size=16, lr=1e-2, min_lr=1e-3, warmup=35, weight_decay=0.0)

SHOWN = (
    f"trainer = small_trainer()  # the real Trainer, on the characters of Python's argparse.py\n# {MODEL}\n# {SETTINGS}"
)


def small_trainer(steps: int = STEPS, **settings) -> Trainer:
    """A trainer of 2 layers of 32 channels, on the characters of the source of Python's argparse.

    Any field of TrainConfig may be given; `model` is joined with the small one.
    """
    text = inspect.getsource(argparse)  # about 100 kB, on every machine
    tok = CharTokenizer.train(text)
    ids = np.asarray(tok.encode_to_array(text))
    model = MODEL | settings.pop("model", {})
    config = TrainConfig(**SETTINGS | dict(model=model, steps=steps, eval_every=steps) | settings)
    cut = int(0.9 * len(ids))
    drawn = default_generator.get_state()  # the reader's: a trainer seeds it for dropout, of which there is none
    trainer = Trainer(config, ids[:cut], ids[cut:], tok, source="argparse.py")
    default_generator.set_state(drawn)
    return trainer


def train(trainer: Trainer, progress: Callable[[], None] = lambda: None) -> list[float]:
    """Take all steps; the loss of each, in nats a character. Shorter where it became NaN or infinite."""
    losses = []
    for step in range(trainer.config.steps):
        try:
            losses.append(trainer.train_step(step)["loss"])
        except NonFiniteLoss:
            break
        progress()
    return losses


def train_both(right: Trainer, wrong: Trainer, progress) -> tuple[list[float], list[float]]:
    """`train` of both, one after the other; progress(done, of) counts the steps of both."""
    done, of = [0], right.config.steps + wrong.config.steps

    def count():
        done[0] += 1
        progress(done[0], of)

    return train(right, count), train(wrong, count)


def last(losses: list[float], count: int = 10) -> float:
    """The mean of the last steps' losses."""
    return float(np.mean(losses[-count:]))
