"""The lanes' events put together to the steps of a warp, as a GPU would run them.

In the emulator the lanes of a warp run one after the other, and meet at barriers and warp operations. A GPU runs them
in step. So accesses of different lanes by the same instruction become one step: between two meetings the first of each
lane with the first of the others, the second with the second. A step comes after all that one of its lanes did before.
"""

from __future__ import annotations

import ctypes
from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np

from ..counts import Count
from . import record
from .record import Recording

LANES = 32
_OF_A_LANE = {record.READ, record.WRITE, record.ATOMIC, record.COPY, record.COMMIT, record.WAIT}


@dataclass
class Cost:
    """wavefronts of shared memory or sectors of global memory, and the least that so many bytes need."""

    unit: str
    taken: int
    least: int


@dataclass
class Step:
    """One instruction of a warp.

    kind      record.READ, ...
    events    one of each lane that takes part, by lane
    frames    where it stands, and the calls around it, outwards: (file, line)
    costs     of its accesses to memory
    """

    kind: int
    events: np.ndarray
    frames: list[tuple[str, int]]
    costs: list[Cost] = field(default_factory=list)

    @property
    def lanes(self) -> list[int]:
        """Those that take part."""
        return [int(t) % LANES for t in self.events["thread"]]

    @property
    def first(self):
        """The event of the first lane."""
        return self.events[0]


def steps_of(recording: Recording, warp: int) -> list[Step]:
    """What a warp of the recorded block did, in order.

    Raises ValueError for a warp that the block does not have.
    """
    warps = -(-recording.threads // LANES)
    if not 0 <= warp < warps:
        raise ValueError(f"{recording.kernel}: warp {warp} is not there: a block has {warps}, numbered from 0")
    events = recording.events
    mine = np.flatnonzero((events["thread"] // LANES == warp) & (events["kind"] != record.COPY_LANDS))
    frames = recording.module.lines[[int(i) for i in np.unique(events["instruction"][mine]) if i]]
    existing = min(LANES, recording.threads - warp * LANES)
    return [_step(recording, frames, events[together]) for together in _merged(events, mine, existing)]


def _merged(events, mine, existing: int):
    """For each step, the indices of its events."""
    queues = [deque() for _ in range(LANES)]  # of each lane: (key, index)
    executed = [Counter() for _ in range(LANES)]  # of each lane: instructions since the whole warp met,
    last_meeting = [0] * LANES  # which was then
    everybody = (1 << existing) - 1
    for i in mine:
        event = events[i]
        lane, kind = int(event["thread"]) % LANES, int(event["kind"])
        if kind in _OF_A_LANE:
            instruction = kind, int(event["instruction"])
            executed[lane][instruction] += 1
            key = *instruction, executed[lane][instruction], last_meeting[lane]
        else:
            key = kind, int(event["meeting"])
            if kind == record.BARRIER or int(event["mask"]) & everybody == everybody:
                executed[lane].clear()
                last_meeting[lane] = int(event["meeting"])
        queues[lane].append((key, int(i)))
    missing = Counter(key for queue in queues for key, _ in queue)
    while any(queues):
        heads: dict[tuple, list[int]] = {}
        for lane, queue in enumerate(queues):
            if queue:
                heads.setdefault(queue[0][0], []).append(lane)
        first = lambda key: queues[heads[key][0]][0][1]  # noqa: B023 - used before they change
        complete = [key for key, lanes in heads.items() if len(lanes) == missing[key]]
        key = min(complete or heads, key=first)
        missing[key] -= len(heads[key])
        yield [queues[lane].popleft()[1] for lane in heads[key]]


def _step(recording, frames, events) -> Step:
    event = events[0]
    kind = int(event["kind"])
    around = list(frames.get(int(event["instruction"]), ()))
    if event["operation"]:
        place = recording.texts[int(event["file"])].rpartition("/")[2], int(event["line"])
        around = around if place in around else [place]
    step = Step(kind, events, around)
    if kind in (record.READ, record.WRITE):
        step.costs = [_cost(recording, events, "address", int(event["bytes"]), bool(event["shared"]))]
    elif kind == record.COPY:
        reading = events[events["bytes"] > 0]
        step.costs = [_cost(recording, reading, "source", 16, False)] if len(reading) else []
        step.costs.append(_cost(recording, events, "address", 16, True))
    elif event["value"]["kind"] == b"p":  # ldmatrix
        step.costs = [_cost(recording, events, "address", 16, True)]
    return step


def _cost(recording, events, field, size, shared) -> Cost:
    """As the library counts it for whole launches."""
    lanes = np.ascontiguousarray(events["thread"] % LANES, np.uint32)
    addresses = np.ascontiguousarray(events[field])
    count = Count(bytes=size, shared=shared)
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (lanes, addresses)]
    recording.module.library.emulator_count_request(ctypes.byref(count), *pointers, ctypes.c_size_t(len(events)))
    if shared:
        return Cost("wavefront", count.wavefronts, count.least_wavefronts)
    return Cost("sector", count.sectors, count.least_sectors)
