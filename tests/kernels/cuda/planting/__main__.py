"""python -m tests.kernels.cuda.planting [FILE ...]: wake every bug planted in these CUDA sources, all without a name.

A file is a name in kernels/cuda, norm or norm.cu. Ends with a table, and with 1 where a bug was not found.
"""

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))  # tests/, as pytest has it
os.environ["TGL_CUDA"] = "emulate"  # before the library reads it

from kernels.cuda.planting.equivalents import reason  # noqa: E402
from kernels.cuda.planting.hunt import Hunt  # noqa: E402


def main(names):
    hunt = Hunt()
    files = list(dict.fromkeys(bug.file for bug in hunt.bugs))
    chosen = [f for f in files if not names or f in names or f.partition(".")[0] in names]
    if not chosen:
        raise SystemExit(f"no bugs are planted in {', '.join(names)}: expected {', '.join(files)}")
    bugs = [bug for bug in hunt.bugs if bug.file in chosen]
    outcomes, began = [], time.perf_counter()
    for i, bug in enumerate(bugs, 1):
        outcomes.append(hunt.find(bug))
        print(f"[{i}/{len(bugs)}, {time.perf_counter() - began:.0f} s] {outcomes[-1]}", flush=True)
    print(f"\n{'':24}{'bugs':>8}{'found':>8}{'harmless':>10}{'survived':>10}")
    for file in chosen:
        print(_row(file, [o for o in outcomes if o.bug.file == file]))
    print(_row("all", outcomes))
    wrong = [o for o in outcomes if bool(o.found) == bool(reason(o.bug))]
    for outcome in wrong:
        print(f"\n{outcome}\n    {outcome.bug.source}" + ("\n    is named as harmless" if outcome.found else ""))
    return bool(wrong)


def _row(name, outcomes):
    found = sum(bool(o.found) for o in outcomes)
    harmless = sum(not o.found and reason(o.bug) is not None for o in outcomes)
    return f"{name:24}{len(outcomes):8}{found:8}{harmless:10}{len(outcomes) - found - harmless:10}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.kernels.cuda.planting", description=__doc__)
    parser.add_argument("file", nargs="*")
    raise SystemExit(main(parser.parse_args().file))
