"""Rows of figures, written to a file as they come: parts that run one by one are merged there."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_began = time.perf_counter()


def say(text: str):
    """A line of progress, at once."""
    print(f"[{time.perf_counter() - _began:6.1f} s] {text}", flush=True)


@dataclass(frozen=True)
class Options:
    """What the command line asked for."""

    toy: bool = False  # tiny sizes, for a rehearsal
    data: str | None = None  # a text to train on
    only: str = ""  # rows whose names contain this
    seconds: float = 450.0  # a part begins nothing new after so long


class Results:
    """{part: {row: figures}}, in a file if one is given, which keeps what it held of other parts and rows."""

    def __init__(self, path=None, identity: dict | None = None):
        self.path, self.identity = None if path is None else Path(path), identity or {}
        self.parts: dict[str, dict] = {}

    def keep(self, part: str, row: str, found: dict):
        """Add a row, or replace it, here and in the file, which is never half written."""
        found = plain({**found, **self.identity})
        self.parts.setdefault(part, {})[row] = found
        if self.path is not None:
            everything = self.read()
            everything.setdefault(part, {})[row] = found
            writing = self.path.with_name(f".{self.path.name}.{os.getpid()}")
            writing.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
            os.replace(writing, self.path)

    def trouble(self) -> str | None:
        """Why the file cannot be added to, or None."""
        if self.path is None:
            return None
        if not self.path.absolute().parent.is_dir():
            return f"there is no folder {self.path.parent}"
        try:
            found = self.read()
        except (OSError, ValueError) as error:
            return f"it is there, and is no JSON: {error}"
        return None if isinstance(found, dict) else "it is there, and holds no results"

    def read(self) -> dict:
        """What the file holds, this run's own rows where there is no file."""
        if self.path is None:
            return self.parts
        return json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}


class Part:
    """One part's way to say what it does and to keep what it found."""

    def __init__(self, name: str, options: Options, results: Results):
        self.name, self.options, self.results = name, options, results
        self.began = time.perf_counter()

    @property
    def rows(self) -> dict[str, dict]:
        """This run's rows by name."""
        return self.results.parts.get(self.name, {})

    def measure(self, row: str, measure: Callable[[], dict], note: str = ""):
        """Keep what measure() gives, or why it gave nothing: an error of one row does not stop the others."""
        if self.options.only not in row:
            return
        if time.perf_counter() - self.began > self.options.seconds:
            return self.keep(row, {"error": f"left out: the part had taken {self.options.seconds:.0f} s"})
        say(f"{self.name}: {row} {note}".rstrip())
        try:
            found = measure()
        except Exception as error:
            found = {"error": first_line(error)}
        self.keep(row, found)

    def keep(self, row: str, found: dict):
        """Add or replace a row, and say what it holds."""
        self.results.keep(self.name, row, found)
        shown = {k: v for k, v in self.rows[row].items() if k not in self.results.identity and k != "curve"}
        say(f"{self.name}: {row}: " + ", ".join(f"{k} {v}" for k, v in shown.items()))


def first_line(error: BaseException) -> str:
    """An exception in one line."""
    lines = str(error).strip().splitlines() or [""]
    text = lines[0] if isinstance(error, WorkerError) else f"{type(error).__name__}: {lines[0]}"
    return text[:300]


class WorkerError(RuntimeError):
    """What a process of the benchmark raised, or that it is no more."""


def plain(x):
    """x with NumPy's numbers as Python's, five digits of each, and what is not finite as text, for JSON has none."""
    if isinstance(x, dict):
        return {str(k): plain(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return [plain(v) for v in x]
    if isinstance(x, (bool, np.bool_)):
        return bool(x)
    if isinstance(x, np.integer):
        return int(x)
    if isinstance(x, (float, np.floating)):
        return float(f"{x:.5g}") if math.isfinite(x) else str(float(x))
    return x
