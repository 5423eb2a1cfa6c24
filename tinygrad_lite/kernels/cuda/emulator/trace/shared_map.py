"""Shared memory at each barrier: which bytes have been written, and by which warp."""

from __future__ import annotations

import numpy as np

from . import record
from .record import Recording
from .source import Variable, shared_variables
from .steps import LANES
from .values import numbers

BANKS, WORD = 32, 4
NOBODY = -1
_WARPS = "0123456789abcdefghijklmnopqrstuv"
LEGEND = (
    "a line is 128 bytes, a letter the word of one of the 32 banks: the warp that wrote it, . nobody,",
    "* several, ~ a cp.async that is not waited for yet",
)
MOST_VALUE_LINES = 64


class SharedMemory:
    """What the events up to a moment leave in the block's shared memory; `advance(index)` moves that moment."""

    def __init__(self, recording: Recording):
        self._events = recording.events
        self._done = 0
        kept = [(record.WRITE, 1), (record.ATOMIC, 1), (record.COPY, 0), (record.COPY_LANDS, 0)]
        matches = [(self._events["kind"] == kind) & (self._events["shared"] == shared) for kind, shared in kept]
        self._changes = np.flatnonzero(np.logical_or.reduce(matches))
        self.parts = []  # (Variable, where it begins, a writer for each byte, whether a copy is under way, bytes)
        (begin, end), (dynamic_begin, dynamic_end) = recording.shared
        for variable in shared_variables(recording.module.path):
            if begin + variable.begin + variable.bytes <= end:  # others are not in shared memory
                self._add(variable, begin + variable.begin)
        if dynamic_end > dynamic_begin:
            self._add(Variable("dynamic shared", 0, dynamic_end - dynamic_begin), dynamic_begin)

    def _add(self, variable, begin):
        size = variable.bytes
        self.parts.append(
            (variable, begin, np.full(size, NOBODY, np.int16), np.zeros(size, bool), np.zeros(size, "u1"))
        )

    def name(self, address: int) -> tuple[str, int]:
        """The array that an address is in, and the byte in it."""
        for variable, begin, *_ in self.parts:
            if begin <= address < begin + variable.bytes:
                return variable.name, address - begin
        return "shared", address

    def advance(self, index: int) -> bool:
        """Up to the event of that index. Returns whether anything was written since the last time, or a copy landed."""
        before = self._done
        while self._done < len(self._changes) and self._changes[self._done] < index:
            self._apply(self._events[self._changes[self._done]])
            self._done += 1
        return self._done > before

    def _apply(self, event):
        kind, address, size = int(event["kind"]), int(event["address"]), int(event["bytes"])
        if kind in (record.COPY, record.COPY_LANDS):
            size = 16  # what a copy does not read becomes zeros
        data = np.frombuffer(bytes(event["input"]), "u1")[:size]
        for variable, begin, writer, under_way, values in self.parts:
            if begin <= address < begin + variable.bytes:
                here = slice(address - begin, address - begin + size)
                under_way[here] = kind == record.COPY
                if kind != record.COPY_LANDS:
                    writer[here] = int(event["thread"]) // LANES
                    values[here] = data[: len(values[here])]

    def lines(self, indent: str, dtype=None) -> list[str]:
        """The arrays that something was written to; with a dtype, what stands there, too."""
        out = []
        for variable, _, writer, under_way, values in self.parts:
            if not (writer != NOBODY).any():
                continue
            out.append(f"{indent}{variable.name}: {variable.bytes} bytes, {(writer != NOBODY).sum()} of them written")
            out += _collapsed([indent + "  " + line for line in _map(writer, under_way)])
            if dtype is not None:
                out += _values(values, writer, np.dtype(dtype), indent + "  ")
        return out


def _map(writer, under_way):
    """A line for every 128 bytes: (where it begins, a letter for each word)."""
    for start in range(0, len(writer), BANKS * WORD):
        letters = ""
        for at in range(start, min(start + BANKS * WORD, len(writer)), WORD):
            who = {int(w) for w in writer[at : at + WORD]} - {NOBODY}
            moving = under_way[at : at + WORD].any()
            letters += "~" if moving else "." if not who else "*" if len(who) > 1 else _WARPS[who.pop()]
        yield f"{start:6}  " + " ".join(letters[i : i + 8] for i in range(0, len(letters), 8))


def _collapsed(lines: list[str]) -> list[str]:
    """Lines that repeat the one before, but for the number, become one."""
    out, i = [], 0
    while i < len(lines):
        text = lines[i].split("  ")[-1]
        end = i
        while end + 1 < len(lines) and lines[end + 1].split("  ")[-1] == text:
            end += 1
        out.append(lines[i])
        if end > i:
            out[-1] += f"  and {end - i} more line{'s' * (end - i > 1)} like it"
        i = end + 1
    return out


def _values(values, writer, dtype, indent: str) -> list[str]:
    """The elements as numbers, eight a line, ? for those that nobody has written."""
    size, out = dtype.itemsize, []
    for start in range(0, len(values) - size + 1, 8 * size):
        row = range(start, min(start + 8 * size, len(values) - size + 1), size)
        if all((writer[at : at + size] == NOBODY).all() for at in row):
            continue
        if len(out) == MOST_VALUE_LINES:
            return [*out, f"{indent}... (no more than {MOST_VALUE_LINES} lines of values)"]
        cells = [
            "?" if (writer[at : at + size] == NOBODY).any() else numbers(values[at : at + size].tobytes(), dtype)[0]
            for at in row
        ]
        out.append(f"{indent}{start // size:>6}: " + " ".join(c.rjust(10) for c in cells))
    return out
