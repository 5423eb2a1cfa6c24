"""How long our trainer takes to the loss that nanoGPT publishes for its small GPT on tinyshakespeare.

The preset `shakespeare-char` on "cuda" in bfloat16. Every 250 steps nanoGPT's estimator: the mean loss of 200 random
batches of the held-out part. The clock runs from before the process is started until an estimate reaches the goal, with
the text's reading, all compiling (no kernel is kept from before) and the estimates.
"""

from __future__ import annotations

import tempfile
import time

import numpy as np

from .results import Part, say
from .worker import Worker

TITLE = "tinyshakespeare to nanoGPT's published loss: wall seconds in all, and of those of training's steps."
COLUMNS = {"reached": "reached", "seconds": "seconds", "training": "training_seconds", "estimates": "estimate_seconds",
           "before": "setup_seconds", "steps": "steps", "best loss": "best_loss", "tokens/s": "tokens_per_s"}  # fmt: skip
GOAL, EVERY, BATCHES = 1.4697, 250, 200
LIMIT = 420.0  # seconds of training, after which it is given up


def run(part: Part):
    """Train once."""
    toy, data = part.options.toy, part.options.data
    if data is None:
        return part.keep("shakespeare-char", {"error": "--data FILE is not given: tinyshakespeare"})
    with tempfile.TemporaryDirectory() as folder:
        environment = {} if toy else {"TGL_CACHE_DIR": folder}
        with Worker("trainer", make_training, data, toy, time.time(), environment=environment) as worker:
            part.measure("shakespeare-char", lambda: worker.ask("train", LIMIT + 60))


def configuration(toy: bool):
    """The preset on the GPU."""
    from transformer.presets import preset

    config = preset("shakespeare-char")
    config.device, config.dtype = "cuda", "bfloat16"
    if toy:
        config.model = dict(layers=1, heads=2, channels=32, block_size=16, dropout=0.2, bias=False)
        config.batch_size, config.steps = 4, 6
    return config


def make_training(data: str, toy: bool, began: float):
    """Answers "train" with the row; began: the time at which the clock was started."""

    def train(_):
        from tokenizer import CharTokenizer
        from transformer.data import load_corpus
        from transformer.trainer import Trainer

        corpus, config = load_corpus([data]), configuration(toy)
        tokenizer = CharTokenizer.train(corpus.train + corpus.val)
        train_ids, val_ids = (tokenizer.encode_to_array(text) for text in (corpus.train, corpus.val))
        trainer = Trainer(config, train_ids, val_ids, tokenizer)
        trainer.settle_steps()
        every, batches = (3, 2) if toy else (EVERY, BATCHES)
        rng, clock = np.random.default_rng(1337), {"training": 0.0, "estimates": 0.0}
        setup, curve, first_step = time.time() - began, [], None
        for step in range(config.steps):
            start = time.perf_counter()
            values = trainer.train_step(step)
            clock["training"] += time.perf_counter() - start
            first_step = first_step or clock["training"]
            done = step + 1
            if done % every == 0 or done == config.steps:
                start = time.perf_counter()
                curve.append((done, estimate(trainer.model, val_ids, config.batch_size, batches, rng)))
                clock["estimates"] += time.perf_counter() - start
                say(f"    step {done}: loss {values['loss']:.4f}, held-out estimate {curve[-1][1]:.4f}")
                if curve[-1][1] <= GOAL:
                    break
            if time.time() - began > LIMIT:
                break
        tokens = done * trainer.tokens_per_step
        return {
            "reached": bool(curve and curve[-1][1] <= GOAL), "goal": GOAL, "seconds": time.time() - began,
            "setup_seconds": setup, "training_seconds": clock["training"], "first_step_seconds": first_step,
            "estimate_seconds": clock["estimates"], "steps": done, "tokens_per_s": tokens / clock["training"],
            "best_loss": min((loss for _, loss in curve), default=None), "curve": curve,
        }  # fmt: skip

    return train


def estimate(model, tokens: np.ndarray, batch_size: int, batches: int, rng) -> float:
    """nanoGPT's estimate: the mean loss of random batches, without dropout."""
    from tinygrad_lite import no_grad
    from transformer.evaluation import batch_loss

    size, was_training, total = model.config.block_size, model.training, 0.0
    model.eval()
    try:
        with no_grad():
            for _ in range(batches):
                starts = rng.integers(0, len(tokens) - size - 1, batch_size)
                window = tokens[starts[:, None] + np.arange(size + 1)].astype(np.int64)
                total += batch_loss(model, window[:, :-1], window[:, 1:]) / (batch_size * size)
    finally:
        model.train(was_training)
    return total / batches
