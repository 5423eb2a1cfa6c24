"""A training step, ours against PyTorch's: forward, backward, clip, AdamW, float32.

    python -m benchmarks.train_step --config A [--threads 2] [--rounds 15]

Both start from the same weights and see the same batches; rounds of steps alternate (A B A B ...), so that a
machine that slows down slows both. Losses must agree over the first 20 steps.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np

from tinygrad_lite import Generator, Tensor, optim
from transformer.config import GPTConfig
from transformer.model import GPT

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


def main():
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", choices=CONFIGS, default="A")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    import torch

    from .torch_gpt import TorchGPT, copy_weights

    torch.set_num_threads(args.threads)
    sizes, batch, steps = CONFIGS[args.config]
    config = GPTConfig(**sizes)
    text, rng = learnable_text(100_000, config.vocab_size), np.random.default_rng(1)
    ours = GPT(config, Generator(0))
    peer = TorchGPT(config)
    copy_weights(ours, peer)
    lr, betas, decay = 1e-3, (0.9, 0.99), 0.1
    our_adam = optim.AdamW([
        {"params": [p for p in ours.parameters() if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in ours.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ], lr=lr, betas=betas)  # fmt: skip
    peer_adam = torch.optim.AdamW([
        {"params": [p for p in peer.parameters() if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in peer.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ], lr=lr, betas=betas, fused=True)  # fmt: skip

    def our_step(x, y):
        our_adam.zero_grad()
        loss = ours(Tensor(x), Tensor(y))
        loss.backward()
        optim.clip_grad_norm_(ours.parameters(), 1.0)
        our_adam.step()
        return loss.item()

    def peer_step(x, y):
        peer_adam.zero_grad(set_to_none=True)
        loss = peer(torch.from_numpy(x), torch.from_numpy(y))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(peer.parameters(), 1.0)
        peer_adam.step()
        return loss.item()

    times, losses = {"ours": [], "peer": []}, {"ours": [], "peer": []}
    for round_number in range(args.rounds + 1):
        starts = rng.integers(0, len(text) - config.block_size - 1, (steps, batch))
        batches = [text[s[:, None] + np.arange(config.block_size + 1)] for s in starts]
        for name, step in (("ours", our_step), ("peer", peer_step)):
            for tokens in batches:
                x, y = np.ascontiguousarray(tokens[:, :-1]), np.ascontiguousarray(tokens[:, 1:])
                began = time.perf_counter()
                losses[name].append(step(x, y))
                if round_number:  # the first round compiles and warms
                    times[name].append((time.perf_counter() - began) * 1e3)
    ms = {name: statistics.median(t) for name, t in times.items()}
    apart = max(abs(a - b) for a, b in zip(losses["ours"][:20], losses["peer"][:20]))
    for name in times:
        low, high = np.percentile(times[name], [10, 90])
        print(
            f"{name:>5}  {ms[name]:8.1f} ms a step  ({low:.1f} to {high:.1f})  loss {losses[name][0]:.4f} to {losses[name][-1]:.4f}"
        )
    print(json.dumps({
        "config": args.config, "peer": "torch eager, fused AdamW", "ours_ms": round(ms["ours"], 2), "peer_ms": round(ms["peer"], 2),
        "ratio": round(ms["peer"] / ms["ours"], 3), "losses_agree": apart < 1e-4, "loss_difference": apart,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
