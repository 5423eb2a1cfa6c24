"""The clean registry under many seeds, on both cores: what the checks find there is a false alarm."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from tinygrad_lite.gradcheck import directions
from tinygrad_lite.gradcheck.registry import cases_of, check_case


def alarms(seeds: range, mode: str = "fast") -> tuple[int, list[str]]:
    """(checks made, the failures in words) for every case and path under each seed, to second order."""
    before, directions.DIRECTIONS = directions.DIRECTIONS, 1  # a new direction comes with every seed
    count, found = 0, []
    try:
        for op, case, path in cases_of():
            for seed in seeds:
                row = check_case(op, case, seed, path=path, mode=mode)
                count += 2
                if row.verdict != "ok":
                    found.append(f"{row.op} {row.case} {row.path} seed {seed}: {row.verdict}")
    finally:
        directions.DIRECTIONS = before
    return count, found


def alarms_in_parallel(seeds: int, workers: int = 2) -> tuple[int, list[str]]:
    """The same for seeds 0 to seeds - 1, shared out among processes."""
    share = -(-seeds // (4 * workers))
    parts = [range(start, min(start + share, seeds)) for start in range(0, seeds, share)]
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        results = list(pool.map(alarms, parts))
    return sum(n for n, _ in results), [text for _, texts in results for text in texts]
