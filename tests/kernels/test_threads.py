"""The pool of threads under the kernels: forks, several callers, errors, Ctrl-C, the end of the interpreter."""

import os
import signal
import threading

import numpy as np
import pytest
from kernels.checks import kernel_threads, python

from tinygrad_lite import threads
from tinygrad_lite.kernels import lookup


def test_a_forked_child_runs_kernels():
    text = """
        import os, sys
        import numpy as np
        from tinygrad_lite.kernels import lookup
        from tinygrad_lite import threads
        threads.set_num_threads(3)
        x = np.ones((4000, 64), np.float32)
        gelu = lambda: lookup("cpu", "gelu").forward(x, approximate="none")[0]
        qkv = np.ones((4, 64, 96), np.float32)
        attend = lambda: lookup("cpu", "attention_qkv").forward(qkv, heads=4, kv_heads=4, causal=True, scale=1.0)[0]
        expected, attended = gelu(), attend()
        child = os.fork()
        if child == 0:
            same = np.array_equal(gelu(), expected) and np.array_equal(attend(), attended)
            os._exit(0 if same and threads.get_num_threads() == 1 else 3)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), np.array_equal(gelu(), expected))
    """
    if not hasattr(os, "fork"):
        pytest.skip("no fork here")
    assert python(text) == "0 True"


def test_kernels_may_be_called_from_many_threads_at_once():
    x = np.random.default_rng(0).standard_normal((2000, 64)).astype(np.float32)
    kernel = lookup("cpu", "gelu")
    expected, wrong = kernel.forward(x, approximate="none")[0], []

    def work():
        for _ in range(20):
            if not np.array_equal(kernel.forward(x, approximate="none")[0], expected):
                wrong.append(1)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_parallel_for_covers_the_range_once_and_raises_what_a_chunk_raised():
    for n in (0, 1, 7, 100):
        for grain in (1, 3, 200):
            seen = np.zeros(n, int)

            def mark(start, stop, seen=seen):
                seen[start:stop] += 1

            threads.parallel_for(mark, n, grain)
            assert (seen == 1).all()

    def fail(start, stop):
        raise ArithmeticError(start)

    for _ in range(20):
        with pytest.raises(ArithmeticError):
            threads.parallel_for(fail, 100, 1)
    test = np.zeros(10, int)
    threads.parallel_for(lambda start, stop: test.__setitem__(slice(start, stop), 1), 10, 1)
    assert test.all()


def test_the_number_of_threads_comes_from_the_environment():
    text = "from tinygrad_lite import threads; print(threads.get_num_threads())"
    assert python(text, TGL_NUM_THREADS="3") == "3"
    with pytest.raises(AssertionError, match="TGL_NUM_THREADS: expected a whole number"):
        python(text, TGL_NUM_THREADS="many")
    with pytest.raises(ValueError, match="at least 1"):
        threads.set_num_threads(0)
    with pytest.raises(TypeError):
        threads.set_num_threads(2.5)


def test_an_error_in_a_chunk_is_raised_after_every_thread_has_left():
    inside, lock = [0], threading.Lock()

    def chunk(start, stop):
        with lock:
            inside[0] += 1
        try:
            if start == 0:
                raise ArithmeticError(start)
            threading.Event().wait(0.01)
        finally:
            with lock:
                inside[0] -= 1

    with kernel_threads(3):
        for _ in range(5):
            with pytest.raises(ArithmeticError):
                threads.parallel_for(chunk, 60, 1)
            assert inside == [0]


def test_threads_are_kept_and_not_made_again():
    with kernel_threads(3):
        before = threading.active_count()
        for count in (1, 3, 2, 3):
            with kernel_threads(count):
                threads.parallel_for(lambda start, stop: None, 100, 1)
        assert threading.active_count() == before


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer signals here")
def test_an_interrupt_at_any_moment_leaves_the_pool_whole():
    """1,000 signals at spread moments of a call: afterwards nobody is in a kernel, and results are right."""
    # In an interpreter of its own: an interrupt inside a coverage tracer leaves the tracer's lock taken.
    text = """
        import signal
        import numpy as np
        from tinygrad_lite.kernels import lookup
        from tinygrad_lite import threads

        class Interrupt(Exception):
            pass

        def interrupt(*_):
            raise Interrupt

        threads.set_num_threads(3)
        x = np.random.default_rng(0).standard_normal((1500, 64)).astype(np.float32)
        kernel = lookup("cpu", "gelu")
        expected, hits = kernel.forward(x, approximate="none")[0], 0
        signal.signal(signal.SIGALRM, interrupt)
        for i in range(1000):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-6 + (i % 100) * 2e-6)
                while True:
                    kernel.forward(x, approximate="none")
            except Interrupt:
                hits += 1
            assert not threads._pool_busy.locked() and not any(worker.running for worker in threads._workers)
            if i % 20 == 0:
                np.testing.assert_array_equal(kernel.forward(x, approximate="none")[0], expected)
        print(hits)
    """
    assert python(text) == "1000"


def test_a_job_and_its_arrays_are_let_go():
    x, kept = np.ones(4_000_00, np.float32), []

    class Watched(np.ndarray):
        def __del__(self):
            kept.append(1)

    def fail(start, stop, array):
        raise ArithmeticError(start)

    with kernel_threads(3):
        threads.parallel_for(lambda start, stop, array: None, 100, 1, x.view(Watched))
        with pytest.raises(ArithmeticError):
            threads.parallel_for(fail, 100, 1, x.view(Watched))
    assert len(kept) >= 2


def test_kernels_run_while_the_interpreter_exits():
    text = """
        import atexit
        import numpy as np
        from tinygrad_lite.kernels import lookup
        x = np.ones((4000, 64), np.float32)
        atexit.register(lambda: print(lookup("cpu", "gelu").forward(x, approximate="tanh")[0].shape))
    """
    assert python(text, TGL_NUM_THREADS="3") == "(4000, 64)"


def test_where_no_thread_can_be_started_the_caller_works_alone(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads._Worker, "__init__", refuse)
    before, have = threads.get_num_threads(), len(threads._workers)
    threads._start(have + 5)
    assert threads.get_num_threads() == have + 1
    threads._start(before)


def test_a_kernel_inside_a_kernel_runs_in_its_caller():
    seen = np.zeros((40, 50), int)

    def inner(start, stop, row):
        seen[row, start:stop] += 1

    def outer(start, stop):
        for row in range(start, stop):
            threads.parallel_for(inner, 50, 1, row)

    with kernel_threads(3):
        threads.parallel_for(outer, 40, 1)
    assert (seen == 1).all()
