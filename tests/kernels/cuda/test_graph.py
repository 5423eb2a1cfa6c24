"""A captured step: replays on new inputs, moves the generator, refuses what a graph cannot hold."""

import threading

import numpy as np
import pytest
from kernels.cuda.checks import needs_cuda

import tinygrad_lite as tgl
from tinygrad_lite import functional as F
from tinygrad_lite.device import get_device
from tinygrad_lite.kernels.cuda import draws
from tinygrad_lite.kernels.cuda.graph import Graph
from tinygrad_lite.kernels.cuda.launch import cupy
from tinygrad_lite.kernels.cuda.product import matmul

pytestmark = needs_cuda


def test_a_replay_computes_on_new_inputs():
    graph = Graph(lambda x, y: (matmul(x, y), (x * 2.0).sum()), tgl.Generator(0))
    for seed in range(4):
        x, y = np.random.default_rng(seed).standard_normal((2, 3, 3)).astype(np.float32)
        product, total = graph(x, y)
        np.testing.assert_allclose(product, x @ y, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(total, 2 * x.sum(), rtol=1e-5, atol=1e-5)


def test_the_function_runs_twice_and_is_then_replayed():
    calls = []
    graph = Graph(lambda x: (calls.append(1), [x + 1.0])[1], tgl.Generator(0))
    for i in range(5):
        (out,) = graph(np.full(3, i, np.float32))
        assert out.tolist() == [i + 1.0] * 3
    assert len(calls) == 2


def test_switched_off_the_function_runs_each_time():
    calls = []
    graph = Graph(lambda x: (calls.append(1), [x + 1.0])[1], tgl.Generator(0), enabled=False)
    for i in range(4):
        assert graph(np.full(3, i, np.float32))[0].tolist() == [i + 1.0] * 3
    assert len(calls) == 4


def test_state_in_place_goes_on_from_replay_to_replay():
    state = cupy().zeros((3,), np.float32)

    def step(x):
        state[...] = state * 0.5 + x
        return [state * 1.0]

    graph, expected = Graph(step, tgl.Generator(0)), np.zeros(3, np.float32)
    for i in range(5):
        expected = expected * np.float32(0.5) + np.float32(i)
        np.testing.assert_array_equal(graph(np.full(3, i, np.float32))[0], expected)


def test_a_replay_draws_what_a_run_in_its_place_would_draw():
    x = np.ones((5, 33), np.float32)
    results = {}
    for enabled in (True, False):
        generator = tgl.Generator(7)
        graph = Graph(
            lambda a, generator=generator: [F.dropout(tgl.as_tensor(a, "cuda"), 0.4, generator=generator).data],
            generator, enabled,
        )  # fmt: skip
        generator.bits(8)  # elsewhere in its stream than at the start
        results[enabled] = [graph(x)[0] for _ in range(3)] + [tgl.rand(2, generator=generator).numpy()]
        generator.manual_seed(8)  # a new key: captured again
        results[enabled] += [graph(x)[0] for _ in range(2)]
    for replayed, run in zip(results[True], results[False], strict=True):
        np.testing.assert_array_equal(replayed, run)
    assert not np.array_equal(results[True][1], results[True][2])


def test_a_generator_that_goes_back_draws_again_what_it_drew():
    x, generator = np.ones((5, 33), np.float32), tgl.Generator(7)
    graph = Graph(lambda a: [F.dropout(tgl.as_tensor(a, "cuda"), 0.4, generator=generator).data], generator)
    states, first = [], []
    for _ in range(4):
        states.append(generator.get_state())
        first.append(graph(x)[0])
    for i in (0, 3, 1):  # before the capture, which was the second call, behind it and at it
        generator.set_state(states[i])
        np.testing.assert_array_equal(graph(x)[0], first[i])


@pytest.mark.parametrize("function", [
    lambda x: [x * float(x.sum())], lambda x: [x + cupy().asarray(np.ones(3, np.float32))], lambda x: x.get() and [x],
])  # fmt: skip
def test_what_waits_for_the_device_is_refused(function):
    graph = Graph(lambda x: function(x) if graph.inputs and graph.ran else [x], tgl.Generator(0))
    graph.ran = False
    x = np.ones(3, np.float32)
    graph(x)
    graph.ran = True
    with pytest.raises(RuntimeError, match="[Cc]aptur"):
        graph(x)


def test_an_input_of_another_shape_is_refused():
    graph = Graph(lambda x: [x + 1.0], tgl.Generator(0))
    graph(np.ones(3, np.float32))
    for other in (np.ones(4, np.float32), np.ones(3, np.float64)):
        with pytest.raises(ValueError, match="input 0 must be float32"):
            graph(other)


class Failing:
    """A function for a graph that draws, and then fails in the calls of these numbers."""

    def __init__(self, *fails):
        self.fails, self.calls, self.generator = fails, 0, tgl.Generator(7)

    def __call__(self, x):
        self.calls += 1
        out = F.dropout(tgl.as_tensor(x, "cuda"), 0.4, generator=self.generator).data
        if self.calls in self.fails:
            out.get() if cupy().cuda.get_current_stream().is_capturing() else float("none")
        return [out]


def outputs(function, fails, enabled=True):
    """Five results of a graph, calls that fail left out; the graph."""
    graph, x, results = Graph(function, function.generator, enabled), np.ones((5, 33), np.float32), []
    for call in range(1, 6 + len(fails)):
        before = function.generator.get_state(), graph.pool.is_recorded, graph.graph
        if call in fails:
            with pytest.raises((RuntimeError, ValueError)):
                graph(x)
            assert (function.generator.get_state(), graph.pool.is_recorded, graph.graph) == before
            assert not graph.stream.is_capturing() and draws.moved() is None
        else:
            results.append(graph(x)[0])
    return results, graph


@pytest.mark.parametrize("fails", [(2,), (2, 3)])
def test_after_a_capture_that_failed_all_is_as_before_and_the_next_call_captures(fails):
    expected, _ = outputs(Failing(), (), enabled=False)
    function = Failing(*fails)
    results, graph = outputs(function, fails)
    np.testing.assert_array_equal(results, expected)
    assert graph.graph is not None and graph.pool.is_recorded and function.calls == 2 + len(fails)


def test_a_capture_that_fails_for_a_new_key_never_replays_the_old_one():
    function, x = Failing(3), np.ones((5, 33), np.float32)
    graph = Graph(function, function.generator)
    graph(x), graph(x)
    function.generator.manual_seed(8)
    with pytest.raises(RuntimeError, match="[Cc]aptur"):
        graph(x)
    assert graph.pool.is_recorded  # the old graph is still there, and may be asked for again
    (got,) = graph(x)
    expected = F.dropout(tgl.ones(5, 33, device="cuda"), 0.4, generator=tgl.Generator(8)).numpy()
    np.testing.assert_array_equal(got, expected)


def test_after_a_first_call_that_failed_the_next_is_the_first():
    function = Failing(1)
    graph = Graph(function, function.generator)
    with pytest.raises(ValueError, match="could not convert"):
        graph(np.ones(3, np.float32))
    assert graph(np.ones((4, 2), np.float32))[0].shape == (4, 2) and graph.graph is None
    assert graph(np.ones((4, 2), np.float32))[0].shape == (4, 2) and graph.graph is not None


def test_other_threads_look_at_their_indices_meanwhile():
    xp, seen = get_device("cuda").xp, []

    def function(x):
        thread = threading.Thread(target=lambda: seen.append(xp.checks_values))
        thread.start()
        thread.join()
        return [x]

    Graph(function, tgl.Generator(0))(np.zeros(1))
    assert seen == [True] and xp.checks_values


def test_what_other_threads_draw_is_not_moved_by_a_capture():
    seen = []

    def function(x):
        thread = threading.Thread(target=lambda: seen.append(draws.moved()))
        thread.start()
        thread.join()
        seen.append(draws.moved())
        return [x + 1.0]

    graph = Graph(function, tgl.Generator(0))
    graph(np.zeros(1)), graph(np.zeros(1))
    assert [array is None for array in seen] == [True, True, True, False] and draws.moved() is None
