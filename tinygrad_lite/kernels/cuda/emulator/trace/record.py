"""The events of one block of a launch, written down while it runs.

with recording("softmax_forward", block=0) as found:
    softmax.forward(x)
found.recording.events
"""

from __future__ import annotations

import contextlib
import ctypes
from dataclasses import dataclass

import numpy as np

from ..counts import AccessRecord, count_accesses

READ, WRITE, ATOMIC, COPY, COPY_LANDS, COMMIT, WAIT, WARP, BARRIER = range(9)  # as runtime/trace.cpp numbers them
MOST_EVENTS = 1_000_000  # 128 bytes each
_VALUE = np.dtype([("kind", "S1"), ("bytes", "u1"), ("offset", "u1"), ("pointed", "u1")])
EVENT = np.dtype([
    ("address", "u8"), ("source", "u8"), ("operation", "u8"), ("file", "u8"), ("line", "u4"), ("mask", "u4"),
    ("meeting", "u4"), ("instruction", "u4"), ("bytes", "u4"), ("thread", "u2"), ("kind", "u1"), ("shared", "u1"),
    ("value", _VALUE), ("result", _VALUE), ("input", "V48"), ("output", "V16"),
])  # fmt: skip


@dataclass
class Recording:
    """One launch of a kernel, with the events of one of its blocks.

    kernel        its C++ name
    arguments     host arrays, as they are after the launch, and NumPy scalars
    events        of type EVENT, in the order in which they happened
    happened      how many there were: more than len(events) where there was no room
    shared        (begin, end) of __shared__ variables and of dynamic shared memory
    module        the library: its lines, its counter
    texts         what the pointers `operation` and `file` of events point at
    error         what the emulator found wrong, or None
    counts        what each line cost, over all blocks
    """

    kernel: str
    grid: tuple[int, ...]
    block: tuple[int, ...]
    block_number: int
    arguments: list
    events: np.ndarray
    happened: int
    shared: tuple[tuple[int, int], tuple[int, int]]
    module: object
    texts: dict[int, str]
    error: str | None
    counts: list[AccessRecord]

    @property
    def threads(self) -> int:
        """How many a block has."""
        return int(np.prod(self.block))


class _Recorder:
    """What is asked for, and what came of it."""

    def __init__(self, kernel: str, block: int):
        self.kernel, self.block = kernel, block
        self.recording: Recording | None = None
        self.launched: list[str] = []  # every kernel that ran, whether or not it was the one
        self.buffer = None


_recorder: _Recorder | None = None


@contextlib.contextmanager
def recording(kernel: str, block: int = 0):
    """Inside, the first launch of a kernel of this name, without its template arguments, is recorded.

    Its block of that number, counted along x, then y, then z. Yields an object whose `recording` is a Recording after
    it, or None if there was no such launch.
    """
    global _recorder
    before, _recorder = _recorder, _Recorder(kernel, block)
    try:
        with count_accesses() as counts:
            try:
                yield _recorder
            finally:
                if _recorder.recording is not None:
                    name = _recorder.recording.kernel
                    _recorder.recording.counts = [r for r in counts if r.kernel == name]
    finally:
        _recorder = before


def begin(library, kernel: str, grid):
    """Before a launch: tell the library whether to write its events down. Returns whether it does.

    Raises ValueError for a block that the grid does not have.
    """
    recorder = _recorder
    if recorder is not None:
        recorder.launched.append(kernel)
    if recorder is None or recorder.recording is not None or kernel.partition("<")[0] != recorder.kernel:
        library.emulator_trace(None, ctypes.c_size_t(0), 0)
        return False
    if not 0 <= recorder.block < (blocks := int(np.prod(grid))):
        raise ValueError(f"{kernel}: block {recorder.block} is not there: the grid has {blocks}, numbered from 0")
    recorder.buffer = np.empty(MOST_EVENTS, EVENT)  # no memory until it is written
    memory = ctypes.c_void_p(recorder.buffer.ctypes.data)
    library.emulator_trace(memory, ctypes.c_size_t(MOST_EVENTS), ctypes.c_uint(recorder.block))
    return True


def end(module, kernel: str, grid, block, arguments, error: str | None):
    """After a launch for which `begin` said yes."""
    recorder, library = _recorder, module.library
    library.emulator_traced.restype = ctypes.c_size_t
    happened = library.emulator_traced()
    library.emulator_trace(None, ctypes.c_size_t(0), 0)
    ends = (ctypes.c_size_t * 4)()
    library.emulator_shared_ranges(ends)
    events = recorder.buffer[: min(happened, MOST_EVENTS)].copy()
    recorder.buffer = None
    pointers = {int(p) for name in ("operation", "file") for p in np.unique(events[name]) if p}
    texts = {p: ctypes.string_at(p).decode() for p in pointers}
    shared = (ends[0], ends[1]), (ends[2], ends[3])
    sizes = tuple(map(int, grid)), tuple(map(int, block))
    recorder.recording = Recording(
        kernel, *sizes, recorder.block, list(arguments), events, happened, shared, module, texts, error, []
    )  # fmt: skip
