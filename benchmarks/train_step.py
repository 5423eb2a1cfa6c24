"""A training step, ours against PyTorch's: forward, backward, clip, AdamW, float32.

    python -m benchmarks.train_step --config A [--threads 2] [--rounds 15]

Both start from the same weights and see the same batches, each in a process of its own; rounds of steps alternate
(A B A B ...), so that a machine that slows down slows both. Losses must agree over the first 20 steps.
"""

from __future__ import annotations

import argparse
import json
import statistics

import numpy as np

from transformer.config import GPTConfig

from .pair import Side

LR, BETAS, DECAY = 1e-3, (0.9, 0.99), 0.1

CONFIGS = {
    "A": (dict(vocab_size=65, block_size=64, layers=4, heads=4, channels=128, bias=False), 12, 10),
    "B": (dict(vocab_size=65, block_size=256, layers=6, heads=6, channels=384, bias=False), 8, 2),
    "C": (dict(vocab_size=50304, block_size=64, layers=12, heads=12, channels=768), 4, 1),
}


def learnable_text(n: int, vocab: int) -> np.ndarray:
    """Tokens with something to learn: each is the one before times 5 plus 1, with one in eight random."""
    rng, out = np.random.default_rng(0), np.zeros(n, np.int64)
    noise, jump = rng.integers(0, vocab, n), rng.random(n) < 0.125
    for i in range(1, n):
        out[i] = noise[i] if jump[i] else (out[i - 1] * 5 + 1) % vocab
    return out


def make_ours(config: GPTConfig, threads: int):
    """Our step: tokens (B, T + 1) to the loss before it."""
    from tinygrad_lite import Generator, Tensor, optim
    from tinygrad_lite.threads import set_num_threads
    from transformer.model import GPT

    set_num_threads(threads)
    model = GPT(config, Generator(0))
    adam = optim.AdamW(optim.decay_groups(list(model.named_parameters()), DECAY), lr=LR, betas=BETAS)

    def step(tokens):
        adam.zero_grad()
        loss = model(Tensor(np.ascontiguousarray(tokens[:, :-1])), Tensor(np.ascontiguousarray(tokens[:, 1:])))
        loss.backward()
        optim.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        return loss.item()

    return step


def make_torch(config: GPTConfig, threads: int):
    """PyTorch's step, from our weights."""
    import torch

    from tinygrad_lite import Generator
    from transformer.model import GPT

    from .torch_gpt import TorchGPT, copy_weights

    torch.set_num_threads(threads)
    model = TorchGPT(config)
    copy_weights(GPT(config, Generator(0)), model)
    adam = torch.optim.AdamW([
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": DECAY},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ], lr=LR, betas=BETAS, fused=True)  # fmt: skip

    def step(tokens):
        tokens = torch.from_numpy(tokens)
        adam.zero_grad(set_to_none=True)
        loss = model(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        return loss.item()

    return step


def main():
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", choices=CONFIGS, default="A")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    sizes, batch, steps = CONFIGS[args.config]
    config = GPTConfig(**sizes)
    text, rng = learnable_text(100_000, config.vocab_size), np.random.default_rng(1)
    sides = {name: Side(make, config, args.threads) for name, make in (("ours", make_ours), ("peer", make_torch))}
    times, losses = {"ours": [], "peer": []}, {"ours": [], "peer": []}
    for round_number in range(args.rounds + 1):
        starts = rng.integers(0, len(text) - config.block_size - 1, (steps, batch))
        batches = [text[s[:, None] + np.arange(config.block_size + 1)] for s in starts]
        for name, side in sides.items():
            found = side.run(batches)
            losses[name] += [loss for _, loss in found]
            if round_number:  # the first round compiles and warms
                times[name] += [ms for ms, _ in found]
    peaks = {name: side.close() for name, side in sides.items()}
    ms = {name: statistics.median(t) for name, t in times.items()}
    apart = max(abs(a - b) for a, b in zip(losses["ours"][:20], losses["peer"][:20]))
    for name in times:
        low, high = np.percentile(times[name], [10, 90])
        print(
            f"{name:>5}  {ms[name]:8.1f} ms a step  ({low:.1f} to {high:.1f})  loss {losses[name][0]:.4f} to "
            f"{losses[name][-1]:.4f}  peak {peaks[name]:,.0f} MiB"
        )
    print(json.dumps({
        "config": args.config, "peer": "torch eager, fused AdamW", "ours_ms": round(ms["ours"], 2), "peer_ms": round(ms["peer"], 2),
        "ratio": round(ms["peer"] / ms["ours"], 3), "losses_agree": apart < 1e-4, "loss_difference": apart,
        "ours_peak_mib": round(peaks["ours"]), "peer_peak_mib": round(peaks["peer"]),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
