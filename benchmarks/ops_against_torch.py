"""How far from PyTorch is each op, in units of eps?  python -m benchmarks.ops_against_torch

Runs every comparison of tests/support/torch_table.py (values and gradients, two types, three layouts) and
prints how many there were and where the largest error stands.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--top", type=int, default=15, help="how many rows to show")
    top = parser.parse_args().top
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from support import torch_table

    worst, compared, over = {}, 0, []
    with np.errstate(all="ignore"):
        for row, shapes, dtype, layout in torch_table.every():
            error, arrays = torch_table.check_row(row, shapes, dtype, layout)
            compared += arrays
            if error > worst.get(row.name, (-1.0,))[0]:
                worst[row.name] = error, dtype, shapes
            if error > row.tol:
                over.append((row.name, dtype, shapes, error))
    ranked = sorted(worst.items(), key=lambda item: -item[1][0])
    for name, (error, dtype, shapes) in ranked[:top]:
        print(f"{name:24} {error:8.2f} eps  {dtype} {shapes}")
    print(f"{len(torch_table.ROWS)} rows, {compared} arrays compared, {len(over)} beyond tolerance")
    print(json.dumps({"rows": len(torch_table.ROWS), "compared": compared, "over": len(over),
                      "largest_eps": round(ranked[0][1][0], 2), "largest_row": ranked[0][0]}))  # fmt: skip


if __name__ == "__main__":
    main()
