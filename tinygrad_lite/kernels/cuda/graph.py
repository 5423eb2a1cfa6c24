"""A training step, or a written token, as one launch: captured once as a CUDA graph, replayed with new inputs.

A step of GPT-2 is some 400 launches, a token some 100; from Python each costs about 10 microseconds, a graph's all
together some 100.

What a replay does is what the capture did, on the same memory. So nothing in the function may wait for the device, all
that changes from step to step must come in as an array, and its arrays come from a memory pool that only this graph
uses: memory that was given back during the capture is used again by the graph alone, in the same order.
"""

from __future__ import annotations

import contextlib

import numpy as np

from ...device import get_device
from ...device_memory import Pool
from . import draws
from .launch import cupy


class Graph:
    """function(*device arrays) -> device arrays, called with host arrays and giving host arrays.

    The first call runs the function, which compiles kernels and fills the pool; the second captures it; from then on a
    call copies its inputs to where the capture had them and launches. enabled=False runs the function each time.
    generator: what dropout draws from; a replay draws what a run in its place would have drawn.
    Raises ValueError where an input has another shape or type than in the first call.
    """

    def __init__(self, function, generator, enabled: bool = True):
        lib = cupy()
        self.function, self.generator, self.enabled = function, generator, enabled
        self.stream, self.pool = lib.cuda.Stream(non_blocking=True), Pool(lib)
        self.graph = self.inputs = self.results = None
        self.moved = lib.asarray(np.zeros((), np.uint64))
        self.captured_at, self.drawn = None, 0  # the generator's state at the capture, and how far one run moves it

    def __call__(self, *inputs) -> list[np.ndarray]:
        lib = cupy()
        lib.cuda.get_current_stream().synchronize()  # what others have written, weights say
        with self.stream, lib.cuda.using_allocator(self.pool.malloc):
            is_first = self.inputs is None
            self._place(inputs)
            if is_first or not self.enabled:
                results = self._run(is_first)
            else:
                results = self._replay()
            return [lib.asnumpy(x) for x in results]  # waits for the stream

    def forget(self):
        """Begin anew, for what the capture went by has changed: the next call runs, the one after it is captured."""
        self.graph = self.inputs = self.results = None
        self.pool.is_recorded = False  # nothing is left that writes to its blocks

    def _place(self, inputs):
        """Copy the inputs to where the function finds them."""
        lib, inputs = cupy(), [np.asarray(x, order="C") for x in inputs]
        if self.inputs is None:
            self.inputs = [lib.asarray(x) for x in inputs]
            return
        for i, (place, x) in enumerate(zip(self.inputs, inputs, strict=True)):
            if (place.shape, place.dtype) != (x.shape, x.dtype):
                raise ValueError(
                    f"graph: input {i} must be {place.dtype} {place.shape} as in the first call, got {x.dtype} {x.shape}"
                )
            place.set(x)

    def _run(self, is_first):
        try:
            with _unchecked():
                return self.function(*self.inputs)
        except BaseException:
            if is_first:  # what is compiled is not known: the next call is the first
                self.inputs = None
            raise

    def _replay(self):
        generator = self.generator
        if self.graph is None or self.captured_at[0] != generator.key:
            self._capture()
        elif self.drawn:
            moved = (generator.offset - self.captured_at[1]) % 2**64  # backwards too: kernels add modulo 2^64
            self.moved.set(np.array(moved, np.uint64))
            generator.offset += self.drawn
        self.graph.launch(self.stream)
        return self.results

    def _capture(self):
        """Record the function; where that fails, all is as before, and the next call tries again."""
        self.moved.set(np.zeros((), np.uint64))
        before, was_recorded = self.generator.get_state(), self.pool.is_recorded
        self.pool.is_recorded = True
        self.stream.begin_capture()
        try:
            with _unchecked(), draws.moved_by(self.moved):
                results = self.function(*self.inputs)
            graph = self.stream.end_capture()
        except BaseException:
            with contextlib.suppress(Exception):  # what broke the capture is what matters
                self.stream.end_capture()
            self.generator.set_state(before)
            self.pool.is_recorded = was_recorded
            raise
        self.graph, self.results = graph, results
        self.captured_at, self.drawn = before, self.generator.offset - before[1]


@contextlib.contextmanager
def _unchecked():
    """Inside, ops do not look whether indices are in range, which would wait for the device."""
    xp = get_device("cuda").xp
    before, xp.checks_values = xp.checks_values, False
    try:
        yield
    finally:
        xp.checks_values = before
