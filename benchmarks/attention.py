"""Causal attention, forward and backward, ours against PyTorch's scaled_dot_product_attention on the CPU: time and memory.

    python -m benchmarks.attention [--lengths 1024 4096 16384] [--threads 2] [--rounds 7]

One sequence, 4 heads of 64 columns, float32. Each side runs in a process of its own, in turns; outputs and gradients are
compared. The memory is what a call takes beyond its inputs, output, gradients and log-sum-exp, in a fresh process. The
bound is the causal half of six products (two forward, four backward): benchmarks/bound.py.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import time
from threading import Event, Thread

import numpy as np

from .bound import REPEATS, Bound, attention_products
from .pair import Side, take_turns
from .report import Times, last_line, number, ratios, table

HEADS, COLUMNS = 4, 64
BLOCK = 1024  # rows of the squares whose products are timed: of longer sequences the whole square would not fit memory
WITHIN = 1e-5  # of the largest value of each array
NAMES = "output", "gradient of q", "gradient of k", "gradient of v"


def inputs(t: int) -> list[np.ndarray]:
    """q, k, v and the gradient handed to the output, (1, H, T, D) each."""
    rng = np.random.default_rng(t)
    return [rng.standard_normal((1, HEADS, t, COLUMNS), dtype=np.float32) for _ in range(4)]


def make_ours(threads: int):
    """A function that runs ours on the length it was last given."""
    from tinygrad_lite import Tensor
    from tinygrad_lite import functional as F
    from tinygrad_lite.threads import set_num_threads

    set_num_threads(threads)

    def prepare(t):
        q, k, v, g = (Tensor(x, requires_grad=i < 3) for i, x in enumerate(inputs(t)))

        def run():
            q.grad = k.grad = v.grad = None
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            out.backward(g)
            return [x.numpy() for x in (out, q.grad, k.grad, v.grad)]

        return run

    return _Contestant(prepare)


def make_torch(threads: int):
    """The same of PyTorch's."""
    import torch

    torch.set_num_threads(threads)

    def prepare(t):
        q, k, v, g = (torch.from_numpy(x).requires_grad_(i < 3) for i, x in enumerate(inputs(t)))

        def run():
            q.grad = k.grad = v.grad = None
            out = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            out.backward(g)
            return [x.detach().numpy() for x in (out, q.grad, k.grad, v.grad)]

        return run

    return _Contestant(prepare)


class _Contestant:
    """Called with ("prepare", T), "run", "results" or "memory"."""

    def __init__(self, prepare):
        self.prepare, self.current, self.t = prepare, None, None

    def __call__(self, request):
        if isinstance(request, tuple):
            self.t = request[1]
            self.current = self.prepare(self.t)
        elif request == "run":
            self.current()
        elif request == "results":
            return self.current()
        elif request == "memory":
            return _extra_bytes(self.current, self.t)


def _extra_bytes(run, t: int) -> int:
    """What the first call takes at its peak beyond what it must: output, three gradients, one float a row and head.

    Ours keeps two floats a row and head: one of them counts as taken.
    """
    from transformer.memory import peak_bytes, process_bytes

    _give_back()
    most, stop = [process_bytes()], Event()

    def watch():
        while not stop.wait(0.001):
            most.append(process_bytes())

    before, peak_before, watcher = most[0], peak_bytes(), Thread(target=watch)
    watcher.start()
    results = run()
    stop.set()
    watcher.join()
    if peak_bytes() > peak_before:  # the system's own mark, which misses nothing, where this call set it
        most.append(peak_bytes())
    return max(0, max(most) - before - sum(x.nbytes for x in results) - 4 * HEADS * t)


def _give_back():
    """Hand memory that is free but kept to the system: a call that took from there would seem to take none."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None  # glibc's
    if trim is not None:
        trim(0)


def extra_mib(make, threads: int, t: int) -> float:
    """Extra memory of one call, in a process that has only compiled and warmed before."""
    side = Side(make, threads)
    for request in (("prepare", 64), "run", "run", ("prepare", t)):
        side.call(request)
    found = side.call("memory") / 2**20
    side.close()
    return found


def largest_difference(ours, theirs) -> tuple[float, str]:
    """The largest difference of any array, over that array's largest value, and which array has it."""
    apart = [float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(ours, theirs, strict=True)]
    worst = int(np.argmax(apart))  # a NaN, if there is one
    return apart[worst], NAMES[worst]


def causal_bound_ms(bound: Bound, t: int) -> float:
    """The causal half of attention's products, from the best times of squares of at most BLOCK rows."""
    block = min(t, BLOCK)
    squares = attention_products(HEADS, block, COLUMNS)
    return sum(n * bound.product_ms(product) for product, n in squares.items()) * (t / block) ** 2 / 2


def main():
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 4096, 16384])
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--rounds", type=int, default=7, help="calls of each side in turn, more of short ones")
    parser.add_argument(
        "--bound-repeats", type=int, default=REPEATS, help="the bound takes the best of so many products"
    )
    args = parser.parse_args()
    makers, rows, found = {"ours": make_ours, "peer": make_torch}, [], {}
    bound = Bound(args.threads, args.bound_repeats)
    bounds = {t: causal_bound_ms(bound, t) for t in args.lengths}
    bound.close()
    sides = {name: Side(make, args.threads) for name, make in makers.items()}
    for t in args.lengths:
        take_turns(sides, [[("prepare", t), "run"]])
        began, ms = time.perf_counter(), {name: [] for name in sides}
        # Short calls vary more: as many as a second holds, at most ten times the rounds.
        while len(ms["ours"]) < args.rounds or (len(ms["ours"]) < 10 * args.rounds and time.perf_counter() - began < 1):
            for name, rounds in take_turns(sides, [["run"]]).items():
                ms[name].append(rounds[0][0][0])
        times = {name: Times.of(x) for name, x in ms.items()}
        apart, where = largest_difference(*(side.call("results") for side in sides.values()))
        extra = {name: extra_mib(make, args.threads, t) for name, make in makers.items()}
        found[t] = {
            **ratios(times["ours"].median, times["peer"].median, bounds[t]), "agree": apart <= WITHIN, "difference": apart,
            "ours_extra_mib": round(extra["ours"], 1), "peer_extra_mib": round(extra["peer"], 1),
        }  # fmt: skip
        rows.append([f"{t}", str(times["ours"]), str(times["peer"]), found[t]["ratio"], bounds[t], found[t]["over_bound"],
                     f"{number(extra['ours'])} / {number(extra['peer'])}", f"{apart:.0e} ({where})"])  # fmt: skip
    for side in sides.values():
        side.close()
    table(
        ["T", "ours, ms", "torch, ms", "torch / ours", "bound, ms", "ours / bound", "extra MiB, ours / torch", "apart"],
        rows,
    )
    print(
        f"\nB=1, H={HEADS}, D={COLUMNS}, causal, float32, {args.threads} threads: median (8 in 10 calls lie between)."
    )
    last_line(peer="torch scaled_dot_product_attention", threads=args.threads, lengths=found)


if __name__ == "__main__":
    main()
