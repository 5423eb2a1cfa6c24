"""On one NVIDIA GPU: are the kernels right, and how fast are they, a training step, generation, a whole training?

    python -m benchmarks.gpu [--part NAME ...] [--data FILE] [--out results.json] [--only TEXT] [--toy]

Parts: probe (what the card can do), correct (every kernel against float64), kernels (bytes a second, products),
attention (against PyTorch's), step (GPT-2 124M and a small GPT against PyTorch's), generate (against Hugging Face's),
train (tinyshakespeare to the loss that nanoGPT publishes; needs --data). Each takes minutes; all are run by default.

A part writes its rows to --out as they come, beside what other runs wrote there; the last line has them all. A row that
fails says why, and the rest goes on. Exit status 1: a kernel is wrong, or could not be checked; 2: nothing was measured.

Without a GPU, `TGL_CUDA=emulate python -m benchmarks.gpu --toy` rehearses all of it: its times are the emulator's.
"""

from __future__ import annotations

import argparse
import importlib
import sys

from ..report import last_line, table
from .clock import is_emulated
from .probe import device_missing
from .results import Options, Part, Results, say

PARTS = "probe", "correct", "kernels", "attention", "step", "generate", "train"


def run_part(name: str, options: Options, results: Results) -> list[str]:
    """Measure a part and print its table, if it is interrupted, too. Returns what is wrong in it."""
    module, part = importlib.import_module(f"{__package__}.{name}"), Part(name, options, results)
    try:
        module.run(part)
    except Exception as error:  # what is no row's: the other parts go on
        part.keep("part", {"error": f"{type(error).__name__}: {error}"})
    finally:
        show_part(module, part)
    return module.wrong(part.rows) if hasattr(module, "wrong") else []


def show_part(module, part: Part):
    """A part's title and table."""
    print(f"\n{module.TITLE}\n")
    show(part.rows, module.COLUMNS)
    if not part.rows and part.options.only:
        print(f"no row's name contains {part.options.only!r}")
    print(flush=True)


def show(rows: dict[str, dict], columns: dict[str, str]):
    """A table of rows: columns by head and key. What went wrong stands below it."""
    lines = [
        [name, *(_cell(row.get(key)) for key in columns.values())] for name, row in rows.items() if "error" not in row
    ]
    if lines:
        table(["", *columns], lines)
    for name, row in rows.items():
        if "error" in row:
            print(f"{name}: {row['error']}")


def _cell(x):
    return ("yes" if x else "NO") if isinstance(x, bool) else x


def main(argv=None) -> int:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, nargs="+", default=PARTS)
    parser.add_argument("--data", help="the text of part train: tinyshakespeare")
    parser.add_argument("--out", help="a JSON file that is added to")
    parser.add_argument("--only", default="", help="only rows whose names contain this")
    parser.add_argument("--seconds", type=float, default=450.0, help="a part begins nothing new after so long")
    parser.add_argument("--toy", action="store_true", help="tiny sizes, for a rehearsal")
    args = parser.parse_args(argv)
    emulated = is_emulated()
    note = "; ".join(["these are the emulator's times"] * emulated + ["toy sizes"] * args.toy)
    results = Results(args.out, {"note": note} if note else None)
    if (trouble := results.trouble()) is not None:  # before anything takes minutes
        parser.error(f"--out {args.out}: {trouble}")
    if (trouble := device_missing()) is not None:
        print(f"benchmarks.gpu: {trouble}", file=sys.stderr)
        return 2
    if note:
        say(f"A rehearsal: {note}.")
    options, wrong = Options(args.toy, args.data, args.only, args.seconds), []
    interrupted = False
    try:
        for name in args.part:
            wrong += run_part(name, options, results)
    except KeyboardInterrupt:
        interrupted = True
    for text in wrong:
        print(f"WRONG: {text}")
    last_line(emulated=emulated, toy=args.toy, wrong=wrong, parts=results.read())
    return 130 if interrupted else 1 if wrong else 0  # 130: as a shell says of who was interrupted


if __name__ == "__main__":
    sys.exit(main())
