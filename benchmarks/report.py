"""How the benchmarks show what they measured: one table, one last line of JSON."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Times:
    """Milliseconds of many runs: their median, and from where to where eight in ten of them lie."""

    median: float
    low: float
    high: float
    least: float

    @classmethod
    def of(cls, ms) -> Times:
        low, high = np.percentile(ms, [10, 90])
        return cls(statistics.median(ms), float(low), float(high), min(ms))

    def __str__(self):
        return f"{number(self.median)} ({number(self.low)} to {number(self.high)})"


def number(x: float) -> str:
    """Three or four digits that matter: 0.0123, 1.23, 12.3, 1,234."""
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"


def table(head: list[str], rows: list[list]):
    """Print rows under their heads, each column as wide as it must be, numbers to the right."""
    cells = [[c if isinstance(c, str) else "" if c is None else number(c) for c in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *cells)]
    right = [all(not isinstance(row[i], str) for row in rows) for i in range(len(head))]
    for line in (head, *cells):
        print("  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right)).rstrip())


def ratios(ours_ms: float, peer_ms: float | None = None, bound_ms: float | None = None) -> dict:
    """The words that every benchmark's last line uses: ratio above 1 means that we are faster than the peer."""
    found = {"ours_ms": _digits(ours_ms)}
    if peer_ms is not None:
        found |= {"peer_ms": _digits(peer_ms), "ratio": round(peer_ms / ours_ms, 3)}
    if bound_ms is not None:
        found |= {"bound_ms": _digits(bound_ms), "over_bound": round(ours_ms / bound_ms, 3)}
    return found


def _digits(x: float) -> float:
    return float(f"{x:.5g}")  # microseconds of an op as well as minutes of a compilation


def last_line(**found):
    """Print the figures as one line of JSON."""
    print(json.dumps(found))
