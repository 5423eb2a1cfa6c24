"""A training step, ours against PyTorch's and against what the machine allows: forward, backward, clip, AdamW, float32.

    python -m benchmarks.train_step --config A|B|C [--peer best|eager|compile] [--threads 2] [--rounds 15]

Both start from the same weights and see the same batches, each in a process of its own; rounds of steps alternate
(A B A B ...), so that a machine that slows down slows both. The first 20 steps are not timed: their losses must agree.
The peer is the fastest of PyTorch's ways, {eager, torch.compile} x {foreach, fused AdamW}, found by a short look before.
The bound is the time of the step's matrix products alone, plus moving AdamW's bytes (benchmarks/bound.py), measured
after each round like a third side.
"""

from __future__ import annotations

import argparse
import os

import numpy as np

from .bound import StepMeter
from .pair import Side, take_turns
from .report import Times, last_line, ratios, table
from .training import CONFIGS, Batches, Setup, make_ours, make_torch

AGREE_STEPS, AGREE_WITHIN, FALL = 20, 1e-4, 0.5
MODES = {"best": ("eager", "compile"), "eager": ("eager",), "compile": ("compile",)}
LOOK_STEPS = 6


def find_peer(setup: Setup, threads: int, modes) -> tuple[str, str]:
    """The faster of PyTorch's ways to take this step, one after the other; prints what each took."""
    batches, found = Batches(setup).take(2 + LOOK_STEPS), {}
    for mode in modes:
        for adamw in ("fused", "foreach"):
            side = Side(make_torch, setup, threads, mode, adamw)
            try:
                found[mode, adamw] = min(ms for ms, _ in side.run(batches)[2:])
                side.close()
            except RuntimeError as error:
                print(f"PyTorch {mode}, {adamw} AdamW, does not run here: {str(error).splitlines()[0]}")
    if not found:
        raise SystemExit("train_step: no way of PyTorch's runs here: pip install torch")
    print("A look at PyTorch's ways, best of a few steps in ms: "
          + ", ".join(f"{mode} with {adamw} AdamW {ms:.1f}" for (mode, adamw), ms in found.items()))  # fmt: skip
    return min(found, key=found.get)


def peer_name(mode: str, adamw: str) -> str:
    """What the figures are compared with, in words."""
    return f"torch {mode}, {adamw} AdamW"


def losses_of(rounds) -> list[float]:
    """The loss of every step, in order."""
    return [loss for answers in rounds for _, loss in answers]


def main():
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", choices=CONFIGS, default="A")
    parser.add_argument("--peer", choices=MODES, default="best")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--bound-repeats", type=int, default=50, help="the bound takes the best of so many products, over all rounds"
    )
    args = parser.parse_args()
    setup = CONFIGS[args.config]
    peer = find_peer(setup, args.threads, MODES[args.peer])
    batches = Batches(setup)
    sides = {"ours": Side(make_ours, setup, args.threads), "peer": Side(make_torch, setup, args.threads, *peer)}
    warm = take_turns(sides, [batches.take(AGREE_STEPS)])
    parameters = count_parameters(setup)
    meter = StepMeter(setup.model, setup.batch, parameters, args.threads, -(-args.bound_repeats // args.rounds))
    timed = {name: [] for name in sides}
    for _ in range(args.rounds):
        for name, answers in take_turns(sides, [batches.take(setup.steps)]).items():
            timed[name] += answers
        meter.visit()
    peaks = {name: side.close() for name, side in sides.items()}
    bound = meter.close()

    times = {name: Times.of([ms for answers in rounds for ms, _ in answers]) for name, rounds in timed.items()}
    losses = {name: losses_of(warm[name] + timed[name]) for name in sides}
    apart = float(np.abs(np.subtract(losses["ours"], losses["peer"])[:AGREE_STEPS]).max())  # NaN if any loss is
    falls = {name: x[0] - sum(x[-3:]) / 3 for name, x in losses.items()}
    print(f"\nConfiguration {args.config}: {parameters:,} parameters, {setup.batch} x {setup.model.block_size} tokens a "
          f"step, {args.threads} threads, {len(losses['ours']) - AGREE_STEPS} steps timed.\n")  # fmt: skip
    rows = [[name, str(times[key]), times[key].median / bound.ms, losses[key][0], losses[key][-1], peaks[key]]
            for key, name in (("ours", "ours"), ("peer", peer_name(*peer)))]  # fmt: skip
    rows.append(["the bound", f"{bound.ms:.4g}", 1.0, None, None, None])
    table(["", "ms a step (8 in 10)", "of the bound", "first loss", "last loss", "peak MiB"], rows)
    print(
        f"\nThe bound: linear layers' products {bound.linear_ms:.1f} ms (at {bound.gflops:.0f} GFLOP/s), attention's causal "
        f"half {bound.attention_ms:.1f}, the bytes of AdamW and the norm {bound.bytes_ms:.1f}."
    )
    print(
        f"Losses over the first {AGREE_STEPS} steps are at most {apart:.1e} apart (the limit is {AGREE_WITHIN:.0e}); they fall "
        f"by {falls['ours']:.2f} and {falls['peer']:.2f} over the run (at least {FALL} is asked for)."
    )
    last_line(
        config=args.config, peer=peer_name(*peer), **ratios(times["ours"].median, times["peer"].median, bound.ms),
        losses_agree=apart <= AGREE_WITHIN, losses_fall=min(falls.values()) >= FALL, loss_difference=apart,
        loss_fall=round(falls["ours"], 3), ours_peak_mib=round(peaks["ours"]), peer_peak_mib=round(peaks["peer"]),
        ours_spread_ms=[round(times["ours"].low, 2), round(times["ours"].high, 2)],
        peer_spread_ms=[round(times["peer"].low, 2), round(times["peer"].high, 2)], threads=args.threads,
    )  # fmt: skip


def count_parameters(setup: Setup) -> int:
    """Parameters of the model, from its sizes: building it takes memory that would count as the sides' own."""
    m, c = setup.model, setup.model.channels
    vectors = 2 if m.bias else 1  # of a norm
    layer = 12 * c * c + (9 * c if m.bias else 0) + 2 * vectors * c
    return (m.vocab_size + m.block_size) * c + m.layers * layer + vectors * c


if __name__ == "__main__":
    main()
