"""Generation token by token, ours against Hugging Face's generate and against memory: GPT-2 124M's shape, batch 1, float32.

    python -m benchmarks.generate [--tokens 64] [--prompt 16] [--threads 2] [--rounds 5]

Weights are random and the same on both sides; each token is the most likely one, and both use a cache of keys and
values. Each side runs in a process of its own, in turns. The bound is the weights' bytes over the bandwidth at which
this machine reads memory, the best of measurements between the rounds: every weight is read once a token.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np

from transformer.config import GPTConfig

from .bound import Bound
from .pair import REST, Side, take_turns
from .report import Times, last_line, ratios, table

GPT2 = GPTConfig(50257, 1024, layers=12, heads=12, channels=768)


def make_ours(config: GPTConfig, threads: int):
    """Our generation: (prompt, number of tokens) to the tokens."""
    from tinygrad_lite import Generator
    from tinygrad_lite.threads import set_num_threads
    from transformer.model import GPT
    from transformer.sampling import generate

    set_num_threads(threads)
    model = GPT(config, Generator(0)).eval()
    return lambda request: list(generate(model, *request, temperature=0.0))


def make_huggingface(config: GPTConfig, threads: int):
    """Hugging Face's, from our weights."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from tinygrad_lite import Generator
    from transformer.hf import huggingface_config, to_huggingface
    from transformer.model import GPT

    torch.set_num_threads(threads)
    ours = {name: p.numpy() for name, p in GPT(config, Generator(0)).named_parameters()}
    model = GPT2LMHeadModel(GPT2Config(**huggingface_config(config))).eval()
    model.load_state_dict({name: torch.tensor(x) for name, x in to_huggingface(ours, config).items()})
    del ours

    def run(request):
        prompt, count = request
        ids = torch.tensor([prompt])
        with torch.no_grad():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, use_cache=True, pad_token_id=0,
                                 max_new_tokens=count, min_new_tokens=count)  # fmt: skip
        return out[0, len(prompt) :].tolist()

    return run


def weight_bytes(config: GPTConfig) -> int:
    """Bytes of float32 weights that a token must read: all but the rows of the embeddings that are not looked up."""
    c = config.channels
    layer = 12 * c * c + (9 * c if config.bias else 0) + (4 if config.bias else 2) * c
    return 4 * (config.vocab_size * c + config.layers * layer + (2 if config.bias else 1) * c)


def first_difference(a: list, b: list) -> int | None:
    """The first place where two lists differ, or None."""
    places = (i for i, (x, y) in enumerate(zip(a, b)) if x != y)
    return next(places, None if len(a) == len(b) else min(len(a), len(b)))


def main():
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--prompt", type=int, default=16, help="tokens of the prompt")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    prompt = np.random.default_rng(0).integers(0, GPT2.vocab_size, args.prompt).tolist()
    bound, read = Bound(args.threads), 0.0
    sides = {"ours": Side(make_ours, GPT2, args.threads), "peer": Side(make_huggingface, GPT2, args.threads)}
    take_turns(sides, [[(prompt, 4)]])
    rounds = {name: [] for name in sides}
    for _ in range(args.rounds):
        for name, answers in take_turns(sides, [[(prompt, args.tokens)]]).items():
            rounds[name] += answers
        read = max(read, bound.stream()["read"])  # a machine's memory is not as fast at every minute
        time.sleep(REST)
    bound.close()
    peaks = {name: side.close() for name, side in sides.items()}
    times = {name: Times.of([answer[0][0] / args.tokens for answer in answers]) for name, answers in rounds.items()}
    parted = first_difference(*(answers[0][0][1] for answers in rounds.values()))
    bound_ms = weight_bytes(GPT2) / read
    rows = [[name, str(times[key]), 1e3 / times[key].median, bound_ms / times[key].median, peaks[key]]
            for key, name in (("ours", "ours"), ("peer", "Hugging Face generate"))]  # fmt: skip
    rows.append(["the bound", f"{bound_ms:.4g}", 1e3 / bound_ms, 1.0, None])
    table(["", "ms a token (8 in 10)", "tokens/s", "share of the bound", "peak MiB"], rows)
    print(
        f"\n{args.tokens} tokens after {args.prompt}, the prompt's own time included; {args.threads} threads; weights of "
        f"{weight_bytes(GPT2) / 2**20:.0f} MiB read at {read / 1e6:.1f} GB/s. "
        + ("Both wrote the same tokens." if parted is None else f"The tokens part at number {parted + 1}.")
    )
    last_line(
        peer="Hugging Face generate", **ratios(times["ours"].median, times["peer"].median, bound_ms),
        share_of_bound=round(bound_ms / times["ours"].median, 3), tokens_equal=parted is None, threads=args.threads,
        ours_peak_mib=round(peaks["ours"]), peer_peak_mib=round(peaks["peer"]),
    )  # fmt: skip


if __name__ == "__main__":
    main()
