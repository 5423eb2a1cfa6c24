"""An array that one stream has worked on is not touched in another before somebody has waited."""

import numpy as np
import pytest
from kernels.cuda.emulated import needs_emulator

from tinygrad_lite.kernels.cuda.emulator import cupy

pytestmark = needs_emulator


def other_stream(blocking=False):
    return cupy.cuda.Stream(non_blocking=not blocking)


def doubled(x):
    return x * 2.0


def written(x):
    x[...] = 1.0


@pytest.mark.parametrize("touch", [doubled, written, lambda x: x[1:] + 1.0, lambda x: x.get(), lambda x: x.sum()])
def test_an_array_in_a_stream_that_does_not_wait_for_its_writer_is_found(touch):
    x = cupy.asarray(np.zeros(3, np.float32))
    with other_stream(), pytest.raises(RuntimeError, match="another stream that has worked on it was not waited for"):
        touch(x)


@pytest.mark.parametrize("touch", [doubled, lambda x: x.get()])
def test_so_is_one_whose_writer_was_a_graph(touch):
    x, stream = cupy.asarray(np.zeros(3, np.float32)), other_stream()
    cupy.cuda.get_current_stream().synchronize()
    with stream:
        stream.begin_capture()
        written(x)
        graph = stream.end_capture()
    assert doubled(x).get().tolist() == [0.0] * 3  # nothing is done yet
    graph.launch(stream)
    with pytest.raises(RuntimeError, match="was not waited for"):
        touch(x)
    stream.synchronize()
    assert doubled(x).get().tolist() == [2.0] * 3


@pytest.mark.parametrize("wait", [
    lambda stream: stream.synchronize(), lambda stream: cupy.cuda.Device().synchronize(),
    lambda stream: cupy.cuda.runtime.deviceSynchronize(), lambda stream: cupy.asarray(np.zeros(1)).get(),
], ids=["stream", "device", "runtime", "another array came to the host"])  # fmt: skip
def test_whoever_waits_may(wait):
    x = cupy.asarray(np.zeros(3, np.float32))
    wait(cupy.cuda.get_current_stream())
    with other_stream() as stream:
        y = doubled(x)
        wait(stream)
    assert (doubled(x) + y).get().tolist() == [0.0] * 3


def test_the_default_stream_and_one_that_blocks_wait_for_each_other_and_views_are_no_work():
    x = cupy.asarray(np.zeros(4, np.float32))
    with other_stream():
        x[1:].reshape(3, 1)
    with other_stream(blocking=True):
        y = doubled(x)
    assert doubled(y).get().tolist() == [0.0] * 4
    with other_stream(blocking=True):
        y = cupy.zeros((4,), np.float32) + 1.0
    with other_stream(blocking=True), pytest.raises(RuntimeError, match="was not waited for"):
        doubled(y)
