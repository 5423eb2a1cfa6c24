"""What a computation on the CPU does to arrays, noted down, to be done again without the engine.

A training step of a small GPT is some 90 kernels and products of 50 to 1000 microseconds each, and between them the
engine checks arguments, builds the graph and walks it: 5 to 8 of 50 ms. All of it comes out the same in every step, as
long as the arrays are the same ones. So a step is recorded once: each launch (threads.parallel_for), each function of
the array namespace that makes an array or writes one, and what kernels leave to NumPy (threads.host). Replayed, the same
functions read and write the same memory, launches in a row in one call of compiled code (threads.Jobs). It is what CUDA
graphs are to a GPU (kernels/cuda/graph.py).

What is not noted down is what Python decides on the way, numbers that are no arrays, and operators applied to arrays
outside of these functions. Whoever records makes sure that none of it depends on the inputs, by comparing a replay with
a run: transformer/gradient_step.py, Repeat.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
from functools import partial

import numpy as np

from . import threads
from .device import CPU


class Tape:
    """Calls in their order. It keeps the arrays of all of them: nothing that a replay writes to is given back.

    Once its arrays take more than `most` bytes it is full: it lets go of all, and notes nothing any more.
    """

    def __init__(self, most: int):
        self.calls, self.is_full = [], False
        self._most, self._thread, self._paused = most, threading.get_ident(), False
        self._held, self._bytes = {}, 0  # the arrays that own memory, by id
        self._parts = None  # what a replay does: functions without arguments

    def note(self, function, *args):
        """Add a call, unless another thread makes it."""
        if self._is_noting():
            self._add(function, args)

    def note_whole(self, function, *args):
        """Make a call and add it, without what it launches."""
        if not self._is_noting():
            function(*args)
            return
        self._paused = True
        try:
            function(*args)
        finally:
            self._paused = False
        self._add(function, args)

    def replay(self):
        """Make the calls again. Nothing is noted down after the first time."""
        if self._parts is None:
            self._parts = list(_parts(self.calls))
        for part in self._parts:
            part()

    def _is_noting(self) -> bool:
        return not (self._paused or self.is_full) and threading.get_ident() == self._thread

    def _add(self, function, args):
        self.calls.append((function, args))
        for x in _arrays(args):
            while isinstance(x.base, np.ndarray):
                x = x.base
            if id(x) not in self._held:
                self._held[id(x)] = x
                self._bytes += x.nbytes
        if self._bytes > self._most:
            self.is_full, self.calls, self._held = True, [], {}


def _parts(calls):
    """The calls as functions without arguments: launches in a row are one."""
    for is_launch, group in itertools.groupby(calls, lambda call: call[0] is threads.parallel_for):
        if is_launch and threads.has_compiler():
            yield threads.Jobs([args for _, args in group]).run
        else:
            yield from (partial(function, *args) for function, args in group)


def _arrays(args):
    for x in args:
        if isinstance(x, np.ndarray):
            yield x
        elif isinstance(x, tuple | list):
            yield from _arrays(x)
        elif isinstance(x, dict):
            yield from _arrays(x.values())


class UnderWay(RuntimeError):
    """Another recording is under way, perhaps in another thread."""


_one = threading.Lock()  # held by whoever records


@contextlib.contextmanager
def recording(most: int):
    """Inside, what this thread does on the CPU is noted on the Tape that it gives; `most`: bytes of its arrays."""
    if not _one.acquire(blocking=False):
        raise UnderWay("recording: another one is under way: end it first")
    xp = CPU.xp
    try:
        threads.tape = tape = Tape(most)
        CPU.xp = _Recorder(xp, tape)
        yield tape
    finally:
        threads.tape, CPU.xp = None, xp
        _one.release()


class _Recorder:
    """The array namespace, whose functions are noted down."""

    def __init__(self, xp, tape: Tape):
        self._xp, self._tape = xp, tape

    def __getattr__(self, name):
        function = getattr(self._xp, name)
        if not callable(function) or isinstance(function, type):
            return function
        tape = self._tape

        def noted(*args, **kwargs):
            before = len(tape.calls)
            out = function(*args, **kwargs)
            if isinstance(out, np.generic):
                out = np.asarray(out)  # a sum over all: a place to write to again
            if len(tape.calls) == before:  # else what it launched stands for it
                if out is None:
                    tape.note(_call, function, args, kwargs)
                elif isinstance(out, np.ndarray) and not _is_view(out, (args, kwargs)):
                    tape.note(_call_into, function, args, kwargs, out)
            return out

        setattr(self, name, noted)
        return noted


def _is_view(out, given) -> bool:
    return any(np.may_share_memory(out, x) for x in _arrays(given))


def _call(function, args, kwargs):
    function(*args, **kwargs)


def _call_into(function, args, kwargs, out):
    np.copyto(out, function(*args, **kwargs))


def attributes(modules) -> list:
    """What a recording goes by beside the values in arrays: the attributes of all modules, a norm's eps among them.

    None is given as Ellipsis: it is what a weak reference gives whose object is gone.
    """
    found = (x for module in modules for x in vars(module).values())
    return [... if x is None else x for x in found if not isinstance(x, tuple | list | dict)]


class Repeat:
    """function(*arrays) -> arrays, called with arrays of the same shapes and types each time, and replayed once it can be.

    The first call runs, the second is recorded, the next one with other values is run and replayed and compared; later
    ones are replays, whose results stand in the same arrays each time. All calls run where the comparison fails, or
    another recording is under way. It is what kernels/cuda/graph.py is on a GPU: all that changes from call to call must
    come in as an array.
    """

    def __init__(self, function):
        self.function, self.is_proven = function, False
        self._inputs = self._given = self._results = self._tape = None
        self._gave_up = False

    def __call__(self, *inputs) -> list[np.ndarray]:
        if self._inputs is None:
            self._inputs = [np.array(x) for x in inputs]
            return self.function(*self._inputs)
        for place, x in zip(self._inputs, inputs, strict=True):
            place[...] = x
        if self._gave_up or threads.tape is not None:
            return self.function(*self._inputs)
        if self.is_proven:
            self._tape.replay()
            return self._results
        if self._tape is None:
            return self._record()
        if all(map(np.array_equal, self._inputs, self._given)):  # what was recorded would agree with itself
            return self.function(*self._inputs)
        return self._prove()

    def _record(self):
        try:
            with recording(sys.maxsize) as tape:
                self._results = self.function(*self._inputs)
        except UnderWay:  # begun by another thread just now
            return self.function(*self._inputs)
        self._tape, self._given = tape, [np.array(x) for x in self._inputs]
        return self._results

    def _prove(self):
        for x in self._results:
            x[...] = np.nan  # what a replay leaves as it is must not pass for computed
        self._tape.replay()
        exact = [np.array(x) for x in self.function(*self._inputs)]  # last, so that what else it writes to is right
        self.is_proven = all(x.tobytes() == y.tobytes() for x, y in zip(self._results, exact, strict=True))
        if not self.is_proven:
            self._gave_up, self._tape, self._results = True, None, None
        return exact
