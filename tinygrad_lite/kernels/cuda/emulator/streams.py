"""Streams, graphs, events and the card of the emulated CuPy.

All work is done at once, in the order in which it is asked for, unless its stream is captured: then it is noted down,
and done each time that the graph is launched. A GPU does the work of two streams in any order, so an array that one
stream has worked on must not be touched in another before somebody has waited: that is an error here (`use`).
"""

from __future__ import annotations

import functools
import time
import weakref

import numpy as np

from .memory import card
from .options import options


class Graph:
    """Work that was captured; `launch` does it again on the memory that it had."""

    def __init__(self):
        self.work = []

    def launch(self, stream=None):
        with stream or Stream.current:
            for run in self.work:
                run()

    def upload(self, stream=None):
        """Nothing to prepare."""


class Stream:
    """Work in order."""

    current: Stream

    def __init__(self, null=False, non_blocking=False, ptds=False):
        self.graph, self.null, self.blocking = None, null, not non_blocking
        self.waits = 0  # how often the host has waited for all its work
        self._outer = []

    @property
    def ptr(self):
        """CUDA's handle: 0 is the default stream."""
        return 0 if self.null else id(self)

    def use(self):
        Stream.current = self
        return self

    def __enter__(self):
        self._outer.append(Stream.current)
        Stream.current = self
        return self

    def __exit__(self, *error):
        Stream.current = self._outer.pop()

    def synchronize(self):
        if self.graph:
            raise RuntimeError("cudaErrorStreamCaptureUnsupported: synchronising a stream that is captured")
        self.waits += 1

    def begin_capture(self, mode=None):
        if self.null:
            raise RuntimeError("cudaErrorStreamCaptureUnsupported: the default stream cannot be captured")
        self.graph = Graph()

    def end_capture(self):
        graph, self.graph = self.graph, None
        return graph

    def is_capturing(self):
        return self.graph is not None


Stream.current = Stream(null=True)


def no_capture(what: str):
    """Raise under capture: it would wait for work that is not done yet."""
    if Stream.current.graph:
        raise RuntimeError(f"cudaErrorStreamCaptureUnsupported: {what} during capture")


_used: dict[
    int, tuple
] = {}  # by id of an array with memory of its own: a weak reference, its last stream, its waits then


def use(host):
    """Note that the current stream works on a host array. Raises where another one may still be at it."""
    while isinstance(host.base, np.ndarray):
        host = host.base
    stream, key = Stream.current, id(host)
    found, other, waits = _used.get(key, (None, stream, 0))
    if found is not None and found() is host and other is not stream and other.waits == waits:
        if not (other.blocking and stream.blocking and (other.null or stream.null)):  # these wait for each other
            raise RuntimeError(
                "an array is used in a stream, and another stream that has worked on it was not waited for: synchronize() it"
            )
    _used[key] = weakref.ref(host, lambda _: _used.pop(key, None)), stream, stream.waits


def wait_for_all():
    """As the host does with Device.synchronize(): nothing is under way any more."""
    _used.clear()


def work(function):
    """function, which writes arrays that exist: done now, or noted down."""

    @functools.wraps(function)
    def call(*args, **named):
        def run():
            for a in _arrays(args, named):
                use(a._host)
            return function(*args, **named)

        graph = Stream.current.graph
        if graph is None:
            return run()
        graph.work.append(run)

    return call


def makes(function):
    """function, which returns a new array or a view: under capture the new one's values come when the graph is launched."""

    @functools.wraps(function)
    def call(*args, **named):
        graph = Stream.current.graph
        result = function(*args, **named)  # under capture for its shape and type only
        if any(np.may_share_memory(result._host, a._host) for a in _arrays(args, named)):
            return result

        def note():
            for a in (result, *_arrays(args, named)):
                use(a._host)

        def run():
            note()
            np.copyto(result._host, function(*args, **named)._host)

        note() if graph is None else graph.work.append(run)
        return result

    return call


def _arrays(args, named):
    for a in (*args, *named.values()):
        if hasattr(a, "_host"):
            yield a
        elif isinstance(a, (list, tuple)):
            yield from _arrays(a, {})


class Event:
    """A mark in a stream; times here are the host's."""

    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self.at = self.stream = None

    def record(self, stream=None):
        self.at, self.stream = time.perf_counter(), stream or Stream.current

    def synchronize(self):
        """All is done at once: here all of its stream, not what came before it alone."""
        self.stream.waits += 1


SHARED_OPTIN = 97  # CUDA's number of cudaDevAttrMaxSharedMemoryPerBlockOptin


def most_shared_bytes() -> int:
    """What a block of the claimed card may have of shared memory; of one that is not listed as much as of an H100."""
    return {"80": 163, "86": 99, "87": 163, "89": 99, "120": 99}.get(options.compute_capability, 227) << 10


def device_attribute(attribute: int, device: int) -> int:
    """One of the card's numbers by CUDA's number for it."""
    if attribute != SHARED_OPTIN:
        raise NotImplementedError(f"the emulated card has no attribute {attribute}")
    return most_shared_bytes()


class Device:
    """The one emulated card."""

    compute_capability = property(lambda self: options.compute_capability)
    mem_info = property(lambda self: (card.total - card.taken, card.total))

    def __init__(self, device=None):
        self.id = 0

    def synchronize(self):
        """All is done at once."""
        wait_for_all()

    def use(self):
        """There is only this one."""


def get_elapsed_time(start: Event, end: Event) -> float:
    """Milliseconds between two events."""
    return (end.at - start.at) * 1e3
