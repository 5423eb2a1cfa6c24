"""A recording as text: a warp's steps under the source lines they come from, shared memory at barriers, a summary."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

import numpy as np

from .....dtypes import HALF
from . import record, source, values
from .record import Recording
from .shared_map import LEGEND, SharedMemory
from .steps import LANES, Step, steps_of

_INDENT = " " * 8
_NAMES = {record.READ: "load", record.WRITE: "store", record.ATOMIC: "atomic", record.COPY: "cp.async",
          record.COMMIT: "cp.async commit", record.WAIT: "cp.async wait"}  # fmt: skip


@dataclass
class View:
    """What to show.

    warp      of the recorded block
    lanes     every lane's value instead of the first ones
    most      steps to print; 0 for all
    line      only steps of this line, of the kernel's file or of one it includes
    values    the type in which to print what shared memory holds at barriers, or None for the map alone
    width     of a line, in characters
    folders   where sources are
    """

    warp: int = 0
    lanes: bool = False
    most: int = 100
    line: int | None = None
    values: np.dtype | None = None
    width: int = 110
    folders: tuple[Path, ...] = ()


def report(recording: Recording, view: View):
    """The lines to print, one after the other."""
    writer = _Writer(recording, view)
    yield from writer.head()
    yield from writer.body()
    yield from writer.summary()


class _Writer:
    def __init__(self, recording: Recording, view: View):
        self.recording, self.view = recording, view
        self.steps = steps_of(recording, view.warp)
        self.memory, self.explained = SharedMemory(recording), False
        names = source.parameter_names(view.folders, recording.kernel.partition("<")[0])
        names += [f"argument {i}" for i in range(len(names), len(recording.arguments))]
        self.arguments = list(zip(names, recording.arguments))
        arrays = [a for a in recording.arguments if isinstance(a, np.ndarray)]
        self.half = next((a.dtype for a in arrays if a.dtype in HALF), None)

    # -- head ----------------------------------------------------------------------------------------------------
    def head(self):
        r, view = self.recording, self.view
        size = lambda n: " x ".join(map(str, n))
        blocks, warps = int(np.prod(r.grid)), -(-r.threads // LANES)
        yield f"{r.kernel}"
        yield (
            f"grid {size(r.grid)} = {_count(blocks, 'block')} of {size(r.block)} threads, {_count(warps, 'warp')} each;"
            f" below: block {r.block_number}, warp {view.warp}"
        )
        for name, value in self.arguments:
            if isinstance(value, np.ndarray):
                yield f"  {name:<14} {value.dtype} {value.shape}"
        scalars = [f"{n} = {values.number(v)}" for n, v in self.arguments if isinstance(v, np.generic)]
        out = "  "
        for text in scalars:
            if len(out) + len(text) + 2 > view.width:
                yield out
                out = "  "
            out += (", " if out.strip() else "") + text
        if scalars:
            yield out
        yield "Of an access: the sectors (32 bytes of global memory) or wavefronts (passes through the 32 banks of"
        yield "shared memory) that it took, of the least that would do for so many bytes."

    # -- steps ---------------------------------------------------------------------------------------------------
    def body(self):
        shown, barriers, place, left = 0, 0, None, 0
        for number, step in enumerate(self.steps, 1):
            is_barrier = step.kind == record.BARRIER
            barriers += is_barrier
            wanted = self.view.line is None or self.view.line in {line for _, line in step.frames}
            if wanted and self.view.most and shown >= self.view.most:
                left += 1
                continue
            if wanted:
                shown += 1
                if (here := self._place(step)) != place:
                    place = here
                    yield ""
                    yield self._fit(f"{place[0]}:{place[1]}  {source.text_of(self.view.folders, place)}")
                yield from self._step(number, step)
            if is_barrier and self.view.line is None and not left:
                yield from self._shared(step, barriers)
        if left:
            yield ""
            yield f"... {_count(left, 'more step')}: --max 0 shows all, --line N those of one line"
        if not shown:
            yield ""
            yield "No step of this warp" + ("" if self.view.line is None else f" is at line {self.view.line}")
            if self.steps:
                yield "There are some at:"
                yield from self._places()
        if self.recording.happened > len(self.recording.events):
            yield (
                f"The block had {self.recording.happened:,} events; only the first {len(self.recording.events):,} were "
                "kept, so what comes later is not shown: trace a smaller input"
            )

    def _places(self):
        """The lines that have steps, by file."""
        files: dict[str, set[int]] = {}
        for file, line in {frame for step in self.steps for frame in step.frames}:
            files.setdefault(file, set()).add(line)
        for file in sorted(files):
            yield from wrap(
                f"{file}: " + ", ".join(map(str, sorted(files[file]))), self.view.width, subsequent_indent="  "
            )

    def _place(self, step: Step) -> tuple[str, int]:
        """The innermost line in a .cu file."""
        return next((f for f in step.frames if f[0].endswith(".cu")), step.frames[0] if step.frames else ("", 0))

    def _step(self, number: int, step: Step):
        what, details = self._describe(step)
        lanes = "whole block" if step.kind == record.BARRIER else _lanes(step.lanes)
        costs = ", ".join(f"{_count(c.taken, c.unit)} of {c.least}" for c in step.costs)
        inner = step.frames[0] if step.frames and step.frames[0] != self._place(step) else None
        where = f"{inner[0]}:{inner[1]}" if inner else ""
        head = f"{number:>6}  {what:<28} {lanes:<12} {costs}"
        yield (head.ljust(self.view.width - len(where) - 2) + "  " + where).rstrip()
        for cost in step.costs:
            if cost.taken > cost.least:
                why = "bank conflict" if cost.unit == "wavefront" else "not coalesced, or not aligned"
                yield f"{_INDENT}<- {why}: {cost.taken} {cost.unit}s where {cost.least} would do"
        yield from details

    def _describe(self, step: Step) -> tuple[str, list[str]]:
        """(what it is, lines about it)."""
        kind, first = step.kind, step.first
        if kind in (record.READ, record.WRITE, record.ATOMIC):
            memory = "shared" if first["shared"] else "global"
            return f"{memory} {_NAMES[kind]}, {first['bytes']} B", self._access(step)
        if kind == record.COPY:
            return "cp.async, 16 B", self._copies(step)
        if kind == record.COMMIT:
            return _NAMES[kind], []
        if kind == record.WAIT:
            return f"cp.async wait<{first['bytes']}>", []
        operation = self.recording.texts[int(first["operation"])]
        if kind == record.BARRIER or first["value"]["bytes"] == 0 and first["value"]["kind"] != b"p":
            return operation, []
        if operation.startswith("mma"):
            return operation, self._mma(step)
        if operation.startswith("ldmatrix"):
            return operation, self._ldmatrix(step)
        brings = [values.lane_value(bytes(e["input"]), e["value"]) for e in step.events]
        receives = [values.lane_value(bytes(e["output"]), e["result"]) for e in step.events]
        what, more = operation, []
        if operation.startswith("__shfl"):
            by, more = self._sources(step)
            what += by
        if not self.view.lanes and len(set(brings)) > 1 < len(set(receives)):
            brings, receives = values.aligned(brings, receives)
        return what, self._lane_rows(step, "brings  ", brings) + more + self._lane_rows(step, "receives", receives)

    def _sources(self, step: Step) -> tuple[str, list[str]]:
        """How a shuffle's lanes find theirs: ", lane ^ 16", and lines for lanes that do so differently."""
        sign = {"xor": "^", "up": "-", "down": "+"}.get(self._operation(step).split("_")[3], "")
        size = int(step.first["value"]["bytes"])
        given = [str(np.frombuffer(bytes(e["input"])[size : size + 4], "i4")[0]) for e in step.events]
        by, more = given[0], []
        if len(set(given)) > 1:
            by, more = "x", self._lane_rows(step, "with x =", given)
        return f", lane {sign} {by}" if sign else f", lane {by}", more

    def _operation(self, step: Step) -> str:
        return self.recording.texts[int(step.first["operation"])]

    def _lane_rows(self, step: Step, label: str, texts: list[str]) -> list[str]:
        if self.view.lanes and len(set(texts)) > 1:
            rows = values.table(step.lanes, texts, self.view.width, _INDENT + "  ")
            return [_INDENT + label.rstrip(), *rows] if label else rows
        return [f"{_INDENT}{label} " + values.row(texts, self.view.width - len(_INDENT) - len(label) - 1)]

    # -- accesses ------------------------------------------------------------------------------------------------
    def _access(self, step: Step) -> list[str]:
        size = int(step.first["bytes"])
        place, dtype = (self._shared_place if step.first["shared"] else self._global_place)(step, "address", size)
        pieces = [bytes(e["input"])[:size] for e in step.events]
        dtype = values.guess(pieces, self.half) if dtype is None else dtype
        texts = [" ".join(values.numbers(piece, dtype)) for piece in pieces]
        if step.kind == record.ATOMIC:
            before = [" ".join(values.numbers(bytes(e["output"])[:size], dtype)) for e in step.events]
            texts = [f"{was}->{now}" for was, now in zip(before, texts)]
        if self.view.lanes:
            return [self._fit(_INDENT + place), *self._lane_rows(step, "", texts)]
        if len(texts) > 1 and size > dtype.itemsize and len(set(texts)) > 1:
            texts = [f"({text})" for text in texts]
        rest = self.view.width - len(_INDENT) - len(place) - 3
        if rest < 30 or len(texts[0]) + 4 > rest:
            return [self._fit(_INDENT + place), f"{_INDENT}= {values.row(texts, self.view.width - len(_INDENT) - 2)}"]
        return [f"{_INDENT}{place} = {values.row(texts, rest)}"]

    def _copies(self, step: Step) -> list[str]:
        reading = step.events[step.events["bytes"] > 0]
        out = [self._fit(f"{_INDENT}to   {self._shared_place(step)[0]}")]
        if len(reading):
            found = Step(step.kind, reading, step.frames)
            out.append(
                self._fit(f"{_INDENT}from {self._global_place(found, 'source', int(reading['bytes'].max()))[0]}")
            )
        if len(reading) < len(step.events):
            others = [lane for lane in step.lanes if lane not in reading["thread"] % LANES]
            out.append(f"{_INDENT}nothing is read by {_lanes(others)}: zeros")
        return out

    def _shared_place(self, step: Step, field="address", size=16):
        name, _ = self.memory.name(int(step.first[field]))
        begins = [self.memory.name(int(e[field]))[1] for e in step.events]
        say = lambda begin, end: f"{begin}..{end - 1}" if end > begin + 1 else str(begin)
        return f"{name}, bytes " + values.describe(begins, size, say, "bytes"), self.view.values

    def _global_place(self, step: Step, field="address", size=16):
        address = int(step.first[field])
        for name, array in self.arguments:
            begin = array.ctypes.data if isinstance(array, np.ndarray) else 0
            if begin and begin <= address < begin + max(array.nbytes, 1):
                item = array.dtype.itemsize
                begins = [(int(e[field]) - begin) // item for e in step.events]
                length = max(1, size // item)
                if min(begins) < 0 or max(begins) + length > array.size:  # of several arrays: by their addresses
                    break
                say = lambda a, b: values.indices(a, b, array.shape)  # noqa: B023 - used before it changes
                return name + values.describe(begins, length, say, "elements"), array.dtype
        begins = [int(e[field]) for e in step.events]
        return "address " + values.describe(begins, size, lambda a, b: f"{a:#x}..{b - 1:#x}", "bytes"), None

    # -- tensor cores --------------------------------------------------------------------------------------------
    def _type(self, step: Step):
        return values.TYPES["half" if step.first["value"]["kind"] == b"H" else "bf16"]

    def _mma(self, step: Step) -> list[str]:
        dtype = self._type(step)
        if self.view.lanes:
            found = values.fragments(step.events, dtype).items()
            return [text for name, x in found for text in values.matrix(name, x, _INDENT)]
        data, result = bytes(step.first["input"]), bytes(step.first["output"])
        a, b = (" ".join(values.numbers(part, dtype)) for part in (data[:16], data[16:24]))
        d, after = (" ".join(values.numbers(part, "f4")) for part in (data[24:40], result))
        return [f"{_INDENT}lane 0: a = {a}", f"{_INDENT}        b = {b}", f"{_INDENT}        d = {d} -> {after}"]

    def _ldmatrix(self, step: Step) -> list[str]:
        dtype = self.half or values.TYPES["bf16"]
        texts = [" ".join(values.numbers(bytes(e["output"]), dtype)) for e in step.events]
        rows = self._fit(f"{_INDENT}rows at {self._shared_place(step)[0]}")
        if self.view.lanes:
            return [rows, *self._lane_rows(step, "receives", texts)]
        return [rows, self._fit(f"{_INDENT}lane 0 receives {texts[0]}")]

    # -- shared memory, summary ----------------------------------------------------------------------------------
    def _shared(self, step: Step, barrier: int):
        index = int(np.flatnonzero(
            (self.recording.events["kind"] == record.BARRIER)
            & (self.recording.events["meeting"] == step.first["meeting"])
        )[0])  # fmt: skip
        changed = self.memory.advance(index)
        lines = self.memory.lines(_INDENT + "| ", self.view.values)
        if not lines:
            return
        if not changed:
            yield f"{_INDENT}| shared memory: as at the last barrier"
            return
        yield f"{_INDENT}| shared memory at barrier {barrier}"
        if not self.explained:
            yield from (f"{_INDENT}|   {line}" for line in LEGEND)
            self.explained = True
        yield from lines

    def summary(self):
        records = self.recording.counts
        yield ""
        yield "All blocks, by line: how often a warp accessed memory there, and what it took"
        if not records:
            yield "  none"
            return
        size = max(len(f"{r.file}:{r.line}") for r in records)
        for r in records:
            taken, least, unit = (
                (r.wavefronts, r.least_wavefronts, "wavefronts")
                if r.memory == "shared"
                else (r.sectors, r.least_sectors, "sectors")
            )
            flag = "!" if taken > least else " "
            text = source.text_of(self.view.folders, (r.file, r.line))
            what = "load" if r.access == "read" else "store"
            start = f"{flag} {f'{r.file}:{r.line}':<{size}} {f'{r.memory} {what}, {r.bytes} B':<18} {r.requests:>4} "
            yield self._fit(f"{start} {f'{taken} of {least} {unit}':<22}  {text}")
        yield ""
        for memory, taken, least, word in (
            ("shared", "wavefronts", "least_wavefronts", "too many: bank conflicts"),
            ("global", "sectors", "least_sectors", "too many: lanes that lie apart, or between two"),
        ):
            mine = [r for r in records if r.memory == memory]
            if mine:
                a, b = sum(getattr(r, taken) for r in mine), sum(getattr(r, least) for r in mine)
                yield f"{memory} memory: {_count(a, taken[:-1])} of {b}" + (
                    f", {a - b} {word}" if a > b else ", none too many"
                )

    def _fit(self, text: str) -> str:
        return text if len(text) <= self.view.width else text[: self.view.width - 4] + " ..."


def _count(n: int, thing: str) -> str:
    return f"{n} {thing}{'s' * (n != 1)}"


def _lanes(lanes: list[int]) -> str:
    if len(lanes) == LANES:
        return "all lanes"
    if len(lanes) == 1:
        return f"lane {lanes[0]}"
    if lanes == list(range(lanes[0], lanes[-1] + 1)):
        return f"lanes {lanes[0]}-{lanes[-1]}"
    return f"{len(lanes)} lanes"
