"""What a library tells of its source: which line an instruction comes from, which bytes are the compiler's own."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

_OURS = {file.name for folder in ("include", "runtime") for file in Path(__file__).with_name(folder).iterdir()}


class Frames(tuple):
    """(file, line) of an instruction, and of the calls that were inlined around it, outwards."""

    def __str__(self):
        if not self:
            return "an unknown line"
        (file, line), *outer = self
        called = f" (from {outer[-1][0]}:{outer[-1][1]})" if outer else ""
        return f"{file}:{line}{called}"

    @property
    def place(self) -> tuple[str, int]:
        """The innermost line in a .cu file, rather than in a header that it includes."""
        return next((frame for frame in self if frame[0].endswith(".cu")), self[0] if self else ("", 0))


class Lines:
    """Lines(path)[positions] is {position: Frames}. A position is that of the instruction behind the one asked for."""

    def __init__(self, path: str):
        self.path, self._known = path, {}

    def __getitem__(self, positions) -> dict[int, Frames]:
        new = sorted(set(positions) - self._known.keys())
        if new:
            asked = [hex(p - 1) for p in new]
            command = ["addr2line", "--addresses", "--inlines", "--exe", self.path, *asked]
            said = subprocess.run(command, capture_output=True, text=True).stdout
            blocks = said.split("0x")[1:] if said else [""] * len(new)
            for position, block in zip(new, blocks, strict=True):
                self._known[position] = Frames(filter(None, map(_frame, block.split("\n")[1:])))
        return {p: self._known[p] for p in positions}


def guards(path: str) -> list[int]:
    """Offsets, among the __shared__ variables, of bytes that g++ put there to mark an array as initialised.

    It does so for arrays of bf16 and half, though there is nothing to initialise.
    """
    said = subprocess.run(["nm", path], capture_output=True, text=True).stdout
    return [int(line.split()[0], 16) for line in said.splitlines() if re.search(r" [bBdDuVW] _ZGV", line)]


def _frame(text: str):
    """("layer_norm.cu", 12) of "/some/where/layer_norm.cu:12 (discriminator 3)"; None for our own headers."""
    file, _, line = text.split(" ")[0].rpartition(":")
    name = os.path.basename(file)
    return (name, int(line)) if line.isdigit() and name not in _OURS else None
