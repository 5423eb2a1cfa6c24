"""What both sides of a benchmark train: the configurations, the text, the learning rate, and a step of each side.

A step is forward, backward, clipping the gradient's norm to 1, AdamW; float32. Both sides start from the same weights
and are handed the same batches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from transformer.config import GPTConfig

CLIP, DECAY = 1.0, 0.1
KINDS = 256  # of tokens in the text, the vocabulary permitting


@dataclass(frozen=True)
class Setup:
    """A model, how much it is fed a step, and the published settings of its optimiser."""

    model: GPTConfig
    batch: int
    steps: int  # a round
    lr: float
    warmup: int
    betas: tuple[float, float]

    def lr_at(self, step: int) -> float:
        """Linear to lr over the warm-up, then constant: the run ends long before the published schedules decay."""
        return self.lr * min(1.0, (step + 1) / self.warmup)


CONFIGS = {
    # nanoGPT's train_shakespeare_char for a CPU, the same for a GPU with a smaller batch, and its GPT-2 124M.
    "A": Setup(GPTConfig(65, 64, layers=4, heads=4, channels=128, bias=False), 12, 10, 1e-3, 100, (0.9, 0.99)),
    "B": Setup(GPTConfig(65, 256, layers=6, heads=6, channels=384, bias=False), 8, 2, 1e-3, 100, (0.9, 0.99)),
    "C": Setup(GPTConfig(50304, 64, layers=12, heads=12, channels=768), 4, 1, 6e-4, 2000, (0.9, 0.95)),
}


def learnable_text(n: int, vocab: int) -> np.ndarray:
    """Tokens with something to learn: each follows from the one before, but for one in eight, which is random.

    A large vocabulary is used as text uses it, unevenly: a few kinds of token make up all of it.
    """
    kinds = min(vocab, KINDS)
    rng, out = np.random.default_rng(0), np.zeros(n, np.int64)
    noise, jump = rng.integers(0, kinds, n), rng.random(n) < 0.125
    for i in range(1, n):
        out[i] = noise[i] if jump[i] else (out[i - 1] * 5 + 1) % kinds
    return out * (vocab // kinds)


class Batches:
    """Random windows of the text, (B, T + 1) each, the same ones in every run."""

    def __init__(self, setup: Setup):
        self.setup, self.rng = setup, np.random.default_rng(1)
        self.text = learnable_text(100_000, setup.model.vocab_size)

    def take(self, steps: int) -> list[np.ndarray]:
        """The next batches, one a step."""
        size = self.setup.model.block_size
        starts = self.rng.integers(0, len(self.text) - size - 1, (steps, self.setup.batch))
        return [self.text[s[:, None] + np.arange(size + 1)] for s in starts]


def make_ours(setup: Setup, threads: int):
    """Our step: tokens (B, T + 1) to the loss before it."""
    from tinygrad_lite import Generator, optim
    from tinygrad_lite.threads import set_num_threads
    from transformer.gradient_step import GradientStep
    from transformer.model import GPT

    set_num_threads(threads)
    model = GPT(setup.model, Generator(0))
    groups = optim.decay_groups(list(model.named_parameters()), DECAY)
    adam = optim.AdamW(groups, lr=setup.lr, betas=setup.betas)
    parameters, gradients = list(model.parameters()), GradientStep(model, adam)  # as the trainer
    done = 0

    def step(tokens):
        nonlocal done
        adam.set_lr(setup.lr_at(done))
        loss = gradients(tokens[None, :, :-1], tokens[None, :, 1:])
        norm = optim.grad_norm(parameters)  # clipped as the trainer does: while AdamW reads the gradients anyway
        adam.step(grad_scale=optim.clip_coefficient(norm, CLIP))
        done += 1
        return loss

    return step


def make_torch(setup: Setup, threads: int, mode: str = "eager", adamw: str = "fused"):
    """PyTorch's step, from our weights. mode: eager or compile; adamw: its implementation, fused or foreach."""
    import torch

    from tinygrad_lite import Generator
    from transformer.model import GPT

    from .torch_gpt import TorchGPT, copy_weights

    torch.set_num_threads(threads)
    model = TorchGPT(setup.model)
    copy_weights(GPT(setup.model, Generator(0)), model)
    adam = torch.optim.AdamW([
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": DECAY},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ], lr=setup.lr, betas=setup.betas, **{adamw: True})  # fmt: skip
    forward = torch.compile(model) if mode == "compile" else model
    parameters = list(model.parameters())
    done = 0

    def step(tokens):
        nonlocal done
        for group in adam.param_groups:
            group["lr"] = setup.lr_at(done)
        tokens = torch.from_numpy(tokens)
        adam.zero_grad(set_to_none=True)
        loss = forward(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        adam.step()
        done += 1
        return loss.item()

    return step
