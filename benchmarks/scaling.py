"""How does a training step's cost grow with the context, the batch, the layers and the threads? Ours beside PyTorch's.

    python -m benchmarks.scaling [--rounds 5] [--plot scaling.png]

A small GPT (4 layers, 4 heads, 128 channels, T=64, B=8, V=65, float32) with one size changed at a time; each point is a
pair of fresh processes in turns, PyTorch's eager with its fused AdamW.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace

import numpy as np

from transformer.config import GPTConfig

from .pair import Side, take_turns
from .report import Times, last_line, ratios, table
from .training import Batches, Setup, make_ours, make_torch

BASE = Setup(GPTConfig(65, 64, layers=4, heads=4, channels=128, bias=False), 8, 1, 1e-3, 100, (0.9, 0.99))
VALUES = {"T": (32, 64, 128, 256, 512, 1024), "B": (1, 2, 4, 8, 16, 32), "layers": (1, 2, 4, 8)}
NAMES = {"T": "context, tokens", "B": "batch, sequences", "layers": "layers", "threads": "threads"}
WARM_STEPS, AGREE_WITHIN = 3, 1e-4


def changed(what: str, value: int) -> Setup:
    """The base with one size changed."""
    if what == "T":
        return replace(BASE, model=replace(BASE.model, block_size=value))
    if what == "layers":
        return replace(BASE, model=replace(BASE.model, layers=value))
    return replace(BASE, batch=value) if what == "B" else BASE


def powers_up_to(n: int) -> tuple[int, ...]:
    """1, 2, 4 ... and n itself."""
    return *(2**i for i in range(n.bit_length()) if 2**i < n), n


def measure(setup: Setup, threads: int, rounds: int) -> tuple[dict[str, Times], float]:
    """Milliseconds a step of each side, and how far apart their losses are."""
    batches = Batches(setup)
    sides = {"ours": Side(make_ours, setup, threads), "peer": Side(make_torch, setup, threads)}
    warm = take_turns(sides, [batches.take(WARM_STEPS)])
    timed = take_turns(sides, [batches.take(1) for _ in range(rounds)])
    for side in sides.values():
        side.close()
    ours, peer = ([loss for _, loss in warm[name][0]] for name in sides)
    times = {name: Times.of([answer[0][0] for answer in answers]) for name, answers in timed.items()}
    return times, float(np.abs(np.subtract(ours, peer)).max())


def plot(points: list[dict], path: str):
    """One panel a size, both sides' medians, with the line of cost in proportion to the size."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    figure, panels = pyplot.subplots(1, len(NAMES), figsize=(13, 3.6), dpi=120)
    for panel, (what, name) in zip(panels, NAMES.items()):
        own = [p for p in points if p["what"] == what]
        x = [p["value"] for p in own]
        panel.plot(x, [p["ours_ms"] for p in own], "o-", color="#b3402a", label="ours")
        panel.plot(x, [p["peer_ms"] for p in own], "s--", color="#7aa6c2", label="PyTorch eager")
        power = -1 if what == "threads" else 1
        panel.plot(x, [own[0]["ours_ms"] * (v / x[0]) ** power for v in x], ":", color="gray", label="in proportion")
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter(ticker.FuncFormatter(lambda ms, _: f"{ms:,.4g}"))
        panel.yaxis.set_minor_formatter(ticker.NullFormatter())
        panel.set_xticks(x, [str(v) for v in x])
        panel.set_xlabel(name)
        panel.grid(alpha=0.25)
    panels[0].set_ylabel("ms a training step")
    panels[0].legend()
    figure.tight_layout()
    figure.savefig(path, format="png")
    pyplot.close(figure)


def main():
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="where threads are not varied")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--points", type=int, default=None, help="only so many values of each size, the least ones")
    parser.add_argument("--plot", metavar="FILE", help="draw the table as a PNG")
    args = parser.parse_args()
    points, apart = [], 0.0
    for what, values in {**VALUES, "threads": powers_up_to(os.cpu_count() or 1)}.items():
        for value in values[: args.points]:
            threads = value if what == "threads" else args.threads
            setup = changed(what, value)
            times, difference = measure(setup, threads, args.rounds)
            apart = float(np.maximum(apart, difference))  # NaN stays
            points.append({"what": what, "value": value, **ratios(times["ours"].median, times["peer"].median),
                           "us_a_token": round(times["ours"].median * 1e3 / setup.batch / setup.model.block_size, 2),
                           "spread": str(times["ours"]), "peer_spread": str(times["peer"])})  # fmt: skip
    table(["", "value", "ours, ms", "torch, ms", "torch / ours", "ours, microseconds a token"],
          [[p["what"] if i == 0 or points[i - 1]["what"] != p["what"] else "", p["value"], p["spread"], p["peer_spread"],
            p["ratio"], p["us_a_token"]] for i, p in enumerate(points)])  # fmt: skip
    print(f"\n{args.threads} threads where they are not varied; median (8 in 10 steps lie between). "
          f"First losses are at most {apart:.0e} apart.")  # fmt: skip
    if args.plot:
        plot(points, args.plot)
        print(f"Drawn in {args.plot}.")
    last_line(
        peer="torch eager, fused AdamW", threads=args.threads, losses_agree=apart <= AGREE_WITHIN,
        points=[{k: v for k, v in p.items() if not k.endswith("spread")} for p in points],
    )  # fmt: skip


if __name__ == "__main__":
    main()
