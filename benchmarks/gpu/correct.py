"""Every kernel against float64, on the device that is there: errors in units of the last digit of the type.

Also: two more calls must give the same bits, and products of one-hot matrices must be exact, element by element, which
they are only if every fragment of the tensor cores lies where the kernels think.
"""

from __future__ import annotations

from .cases import cases
from .results import Part
from .worker import Worker

TITLE = "Errors in eps of the type, of the largest value of an array (of 1 if that is smaller), against float64."
COLUMNS = {
    "error, eps": "error_eps",
    "limit": "limit_eps",
    "worst array": "array",
    "same bits": "repeats",
    "right": "right",
}
FIRST_SECONDS = 240.0  # of one check: the first of each kernel compiles it, on the CPU too


def run(part: Part):
    """Check everything; a kernel that crashes or hangs ends its process and no other check."""
    with Worker("correct", make_checker, part.options.toy) as worker:
        for name in cases(part.options.toy):
            part.measure(name, lambda n=name: worker.ask(n, FIRST_SECONDS))


def wrong(rows: dict[str, dict]) -> list[str]:
    """What is not right, or was not checked."""
    found = []
    for name, row in rows.items():
        if "error" in row:
            found.append(f"{name}: {row['error']}")
        elif not row["right"]:
            bits = "" if row["repeats"] else ", and not the same bits each time"
            found.append(f"{name}: {row['array']} is {row['error_eps']} eps off, the limit is {row['limit_eps']}{bits}")
    return found


def make_checker(toy: bool):
    """Answers a check's name with its row."""
    known = cases(toy)
    return lambda name: known[name]()
