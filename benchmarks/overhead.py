"""What does an op on four elements cost?  python -m benchmarks.overhead

Forward plus backward of small ops on four float32 elements: this engine, NumPy's own work for the same values
and gradients, and PyTorch eager, in turns, so that other work on the machine hits all three alike. The figures
are the least of many rounds, in microseconds; the share is ours over PyTorch's, and the goal is 0.8. Forward alone is
shown too. Without PyTorch the share is left out. One process: an op of microseconds waits for no thread.
"""

import argparse
import math
import time

import numpy as np

import tinygrad_lite as tgl

from .report import last_line, ratios

try:
    import torch
except ImportError:
    torch = None


def _numpy_ops(a, b, g, m):
    def add():
        a + b
        return g, g

    def mul():
        a * b
        return g * b, g * a

    def tanh():
        y = np.tanh(a)
        return g * (1.0 - y * y)

    def matmul():
        m @ m
        return m @ m.T, m.T @ m

    def sum():
        a.sum()
        return np.broadcast_to(np.float32(1.0), a.shape)

    return {"add": add, "mul": mul, "tanh": tanh, "matmul": matmul, "sum": sum}


def _engine_ops(module, make):
    """Per op: (forward, forward and backward) over leaves whose gradients are dropped each time."""
    a, b, g, m, gm = (make(x) for x in _arrays())
    n = make(_arrays()[3])
    for x in (a, b, m, n):
        x.requires_grad_()
    one = make(np.float32(1.0))
    forwards = {
        "add": (lambda: a + b, g, (a, b)),
        "mul": (lambda: a * b, g, (a, b)),
        "tanh": (lambda: a.tanh(), g, (a,)),
        "matmul": (lambda: m @ n, gm, (m, n)),
        "sum": (lambda: a.sum(), one, (a,)),
    }

    def both(forward, seed, leaves):
        def run():
            for x in leaves:
                x.grad = None
            forward().backward(seed)

        return run

    return {name: (f, both(f, s, leaves)) for name, (f, s, leaves) in forwards.items()}


def _arrays():
    rng = np.random.default_rng(0)
    a, b, g = (rng.standard_normal(4).astype(np.float32) for _ in range(3))
    return a, b, g, rng.standard_normal((4, 4)).astype(np.float32), np.ones((4, 4), np.float32)


def _time_us(f, number):
    start = time.perf_counter()
    for _ in range(number):
        f()
    return (time.perf_counter() - start) / number * 1e6


def measure(rounds=60, number=200):
    """{op: {name: least microseconds}}, all contenders in turns."""
    a, b, g, m, _ = _arrays()
    contenders = {}
    ours, plain = _engine_ops(tgl, tgl.tensor), _numpy_ops(a, b, g, m)
    theirs = _engine_ops(torch, torch.tensor) if torch else {}
    if torch:
        torch.set_num_threads(1)
    for name, (forward, both) in ours.items():
        contenders[name] = {"numpy": plain[name], "ours_forward": forward, "ours": both}
        if theirs:
            contenders[name].update(torch_forward=theirs[name][0], torch=theirs[name][1])
    best = {name: dict.fromkeys(fs, math.inf) for name, fs in contenders.items()}
    for _ in range(rounds):
        for name, fs in contenders.items():
            for who, f in fs.items():
                best[name][who] = min(best[name][who], _time_us(f, number))
    return best


def main():
    """Print the table, and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    best = measure(parser.parse_args().rounds)
    print(f"{'microseconds':14}{'numpy':>8}{'forward':>9}{'torch':>8}{'both':>8}{'torch':>8}{'share':>8}")
    shares = {}
    for name, t in best.items():
        theirs, their_forward = t.get("torch", math.nan), t.get("torch_forward", math.nan)
        shares[name] = t["ours"] / theirs
        print(
            f"{name:14}{t['numpy']:8.2f}{t['ours_forward']:9.2f}{their_forward:8.2f}{t['ours']:8.2f}{theirs:8.2f}{shares[name]:8.2f}"
        )
    mean = _mean(shares.values())
    print(f"{'geometric mean':14}{mean:49.2f}")
    rounded = {name: {who: round(us, 3) for who, us in t.items()} for name, t in best.items()}
    ours_ms = _mean([t["ours"] for t in best.values()]) / 1e3
    peer = ratios(ours_ms, _mean([t["torch"] for t in best.values()]) / 1e3) if torch else ratios(ours_ms)
    last_line(peer="torch eager" if torch else None, **peer, of_peer=round(mean, 3) if torch else None, us=rounded)


def _mean(values) -> float:
    """The geometric mean."""
    return math.exp(sum(map(math.log, values)) / len(values))


if __name__ == "__main__":
    main()
