"""How long until it runs? The import, and a new process's first training step, ours and PyTorch's.

    python -m benchmarks.cold_start [--rounds 5] [--cold-rounds 1]

Each figure is a process of its own, ours and PyTorch's in turns. The first step is of configuration A of
benchmarks.train_step, timed from the start of the interpreter until its loss is there: once with an empty TGL_CACHE_DIR,
where the kernels are compiled, then with a filled one. PyTorch's is eager: torch.compile takes far longer.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .report import Times, last_line, ratios, table

ROOT = Path(__file__).parent.parent
IMPORT = "import time; began = time.perf_counter(); import {}; print(time.perf_counter() - began)"
STEP = """
from benchmarks.training import CONFIGS, Batches, {0}
setup = CONFIGS["A"]
print({0}(setup, {1})(Batches(setup).take(1)[0]), flush=True)
"""


def run(code: str, cache: str) -> tuple[float, float]:
    """(milliseconds until the first line is printed, the number in that line) of a fresh interpreter."""
    environment = {**os.environ, "TGL_CACHE_DIR": cache, "PYTHONPATH": str(ROOT)}
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    )
    line = process.stdout.readline()
    ms = (time.perf_counter() - began) * 1e3
    _, trouble = process.communicate()
    if process.returncode:
        raise RuntimeError(f"a fresh interpreter failed on {code!r}: {trouble.strip().splitlines()[-1]}")
    return ms, float(line)


def main():
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--rounds", type=int, default=5, help="fresh processes of each warm figure")
    parser.add_argument(
        "--cold-rounds", type=int, default=1, help="fresh processes with an empty cache, each from nothing"
    )
    args = parser.parse_args()
    ours_step, peer_step = (STEP.format(name, args.threads) for name in ("make_ours", "make_torch"))
    ms = {name: [] for name in ("import", "peer import", "empty", "filled", "peer step")}
    losses = set()
    with tempfile.TemporaryDirectory() as cache:
        for number in range(args.cold_rounds):
            taken, loss = run(ours_step, str(Path(cache, str(number))))
            ms["empty"].append(taken)
            losses.add(loss)
        filled = str(Path(cache, "0"))
        for code in (IMPORT.format("tinygrad_lite"), IMPORT.format("torch")):
            run(code, filled)  # the system's own cache of files, and Python's compiled modules
        for _ in range(args.rounds):
            for name, module in (("import", "tinygrad_lite"), ("peer import", "torch")):
                ms[name].append(run(IMPORT.format(module), filled)[1] * 1e3)
            for name, code in (("filled", ours_step), ("peer step", peer_step)):
                taken, loss = run(code, filled)
                ms[name].append(taken)
                losses.add(loss)
    times = {name: Times.of(x) for name, x in ms.items()}
    said = {
        "import": "import tinygrad_lite", "peer import": "import torch", "empty": "ours, first step, nothing compiled before",
        "filled": "ours, first step, kernels compiled before", "peer step": "torch eager, first step",
    }  # fmt: skip
    table(["", "best, ms", "median, ms", "processes"],
          [[text, times[name].least, times[name].median, len(ms[name])] for name, text in said.items()])  # fmt: skip
    apart = max(losses) - min(losses)
    print(f"\n{args.threads} threads; first steps' losses are at most {apart:.0e} apart.")
    last_line(
        config="A", peer="torch eager", **ratios(times["filled"].median, times["peer step"].median),
        ours_best_ms=round(times["filled"].least, 1), empty_cache_ms=round(statistics.median(ms["empty"]), 1),
        import_ms=round(times["import"].median, 1), import_best_ms=round(times["import"].least, 1),
        peer_import_ms=round(times["peer import"].median, 1), losses_agree=apart <= 1e-4, threads=args.threads,
    )  # fmt: skip


if __name__ == "__main__":
    main()
