"""What a tape holds is what the functions did, of one thread, in their order."""

import threading
import time

import numpy as np
import pytest

import tinygrad_lite as tgl
from tinygrad_lite import Tensor, as_tensor, no_grad, tape, threads
from tinygrad_lite.device import CPU
from tinygrad_lite.tape import Repeat, recording


def test_a_replay_computes_from_what_the_arrays_hold_now():
    x = Tensor(np.arange(6.0).reshape(2, 3))
    with tape.recording(1 << 20) as recorded:
        y = tgl.exp(x).sum()
    x.data[...] = 1.0
    recorded.replay()
    np.testing.assert_array_equal(y.data, np.exp(np.ones((2, 3))).sum())


def test_what_other_threads_do_meanwhile_is_not_noted():
    def work():
        tgl.exp(Tensor(np.ones(3)))

    with tape.recording(1 << 20) as recorded:
        other = threading.Thread(target=work)
        other.start()
        other.join()
        assert not recorded.calls
        work()
    assert len(recorded.calls) == 1


def test_a_full_tape_lets_go_of_everything():
    with tape.recording(1000) as recorded:
        tgl.exp(Tensor(np.ones(100, np.float32)))
        assert len(recorded.calls) == 1 and not recorded.is_full
        tgl.exp(Tensor(np.ones(1000, np.float32)))
        tgl.exp(Tensor(np.ones(1, np.float32)))
    assert recorded.is_full and not recorded.calls


def test_an_error_ends_the_recording_and_a_second_one_is_refused():
    xp = CPU.xp
    with pytest.raises(ZeroDivisionError), tape.recording(1 << 20):
        with pytest.raises(RuntimeError, match="under way"), tape.recording(1 << 20):
            pass
        raise ZeroDivisionError
    assert CPU.xp is xp and threads.tape is None


def test_views_are_not_copied_and_a_host_function_stands_for_what_it_launches():
    a, out = np.arange(4.0), np.empty(4)

    def double(x, to):
        CPU.xp.assign(to, CPU.xp.add(x, x))

    with tape.recording(1 << 20) as recorded:
        CPU.xp.reshape(a, shape=(2, 2))
        assert not recorded.calls
        threads.host(double, a, out)
    assert [function for function, _ in recorded.calls] == [double]
    a += 1.0
    recorded.replay()
    np.testing.assert_array_equal(out, 2 * a)


def test_a_function_is_run_recorded_proven_and_replayed():
    runs, weight = [], np.random.default_rng(9).standard_normal((8, 8))

    def function(x):
        runs.append(1)
        with no_grad():
            return [(as_tensor(x) @ as_tensor(weight)).data]

    repeat = Repeat(function)
    for i in range(6):
        x = np.random.default_rng(i).standard_normal((4, 8))
        np.testing.assert_array_equal(repeat(x)[0], x @ weight)
        assert repeat.is_proven == (i >= 2)
    assert len(runs) == 3


def test_a_function_of_which_a_tape_misses_something_is_run_each_time():
    repeat = Repeat(lambda x: [np.array(x * float(x.sum()))])  # NumPy behind the engine's back
    for i in range(5):
        x = np.random.default_rng(i).standard_normal(3)
        np.testing.assert_array_equal(repeat(x)[0], x * float(x.sum()))
    assert not repeat.is_proven


def test_a_result_that_a_replay_leaves_as_it_was_is_no_proof():
    repeat = Repeat(lambda x: [np.sign(x)])
    for x in (1.0, 2.0, 3.0, -1.0):
        np.testing.assert_array_equal(repeat(np.array([x]))[0], [np.sign(x)])


def test_a_function_is_run_while_another_recording_is_under_way():
    repeat = Repeat(lambda x: [CPU.xp.add(x, x)])
    repeat(np.ones(3))
    with recording(1 << 20) as recorded:
        np.testing.assert_array_equal(repeat(np.full(3, 2.0))[0], np.full(3, 4.0))
    assert recorded.calls and not repeat.is_proven
    for i in range(4):
        repeat(np.full(3, float(i)))
    with recording(1 << 20) as recorded:
        np.testing.assert_array_equal(repeat(np.full(3, 2.0))[0], np.full(3, 4.0))
    assert recorded.calls and repeat.is_proven


def test_what_was_recorded_again_is_no_proof():
    repeat = Repeat(lambda x: [CPU.xp.multiply(x, float(x.sum()))])
    for x in (1.0, 1.0, 1.0, 1.0, 2.0, 3.0):
        np.testing.assert_array_equal(repeat(np.full(2, x))[0], np.full(2, 2 * x * x))
    assert not repeat.is_proven


def test_a_proof_that_fails_leaves_right_what_else_the_function_writes_to():
    memory = np.zeros(2)

    def function(x):
        CPU.xp.add(x, float(x.sum()), out=memory)
        return [CPU.xp.multiply(memory, 1.0)]

    repeat = Repeat(function)
    for x in (1.0, 2.0, 3.0):
        repeat(np.full(2, x))
        assert (memory == 3 * x).all()
    assert not repeat.is_proven


def test_recordings_that_begin_at_once_in_two_threads_leave_nothing_behind(monkeypatch):
    xp, made, barrier = CPU.xp, tape.Tape, threading.Barrier(2)

    def meet(most):  # another thread begins between the look whether one is under way and the first note
        try:
            barrier.wait(0.2)
            time.sleep(0.1 * is_second())
        except threading.BrokenBarrierError:
            pass
        return made(most)

    def is_second():
        return threading.current_thread() is workers[1]

    def function(x):
        time.sleep(0.2 + 0.2 * is_second())
        return [CPU.xp.add(x, x)]

    def work(repeat):
        for x in range(3):
            right.append((repeat(np.full(3, float(x)))[0] == 2 * x).all())

    monkeypatch.setattr(tape, "Tape", meet)
    right, workers = [], [threading.Thread(target=work, args=(Repeat(function),)) for _ in range(2)]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert right == [True] * 6 and CPU.xp is xp and threads.tape is None
    finally:
        CPU.xp, threads.tape = xp, None
