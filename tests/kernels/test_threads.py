"""The threads that share kernels: forks, several callers, errors, Ctrl-C, the end of the interpreter."""

import os
import platform
import signal
import sys
import threading
import time

import numpy as np
import pytest
from kernels.checks import kernel_threads, python

from tinygrad_lite import threads
from tinygrad_lite.kernels import lookup
from tinygrad_lite.native.compile import jit


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
        attend = lambda: lookup("cpu", "attention_qkv").forward(qkv, heads=4, kv_heads=4, causal=True, window=None, scale=1.0)[0]
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


@jit("i i W1")
def _mark(start, stop, seen):
    for i in range(start, stop):
        seen[i] += 1


@jit("i i i")
def _allocate(start, stop, size):
    np.empty(size)[0] = 1.0


MARK, ALLOCATE = (kernel[np.dtype(np.float32)] for kernel in (_mark, _allocate))


def test_parallel_for_covers_the_range_once():
    for count in (1, 2, 3, 5):
        with kernel_threads(count):
            for n in (0, 1, 7, 100, 5000):
                for grain in (1, 3, 200):
                    seen = np.zeros(n, np.int64)
                    threads.parallel_for(MARK, n, grain, seen)
                    assert (seen == 1).all()


def test_jobs_in_quick_succession_are_each_done_once():
    seen = np.zeros(64, np.int64)
    with kernel_threads(4):
        for _ in range(20_000):
            threads.parallel_for(MARK, 64, 8, seen)
    assert (seen == 20_000).all()


def test_a_kernel_that_finds_no_memory_says_so_and_leaves_the_pool_whole():
    for count in (1, 3):
        with kernel_threads(count):
            for _ in range(5):
                with pytest.raises(MemoryError, match="no memory for its scratch arrays"):
                    threads.parallel_for(ALLOCATE, 60, 1, 1 << 58)
            seen = np.zeros(100, np.int64)
            threads.parallel_for(MARK, 100, 1, seen)
            assert (seen == 1).all()


def test_jobs_in_a_row_are_each_done_once_in_every_run_whatever_the_number_of_threads():
    seen = [np.zeros(n, np.int64) for n in (1, 64, 1000)]
    jobs = threads.Jobs([(MARK, x.size, grain, x) for x in seen for grain in (1, 7, 5000)])
    for done, count in enumerate((1, 2, 3, 5, 2), 1):
        with kernel_threads(count):
            jobs.run()
        assert all((x == 3 * done).all() for x in seen)


def test_jobs_keep_their_arrays_and_count_no_references():
    seen = np.zeros(64, np.int64)
    held = sys.getrefcount(seen)
    jobs = threads.Jobs([(MARK, 64, 4, seen)] * 2)
    with kernel_threads(3):
        for _ in range(100):
            jobs.run()
    assert (seen == 200).all() and sys.getrefcount(seen) == held + 1
    assert not jobs._memory[[2, 3]].any()  # the array's owner, whom its record does not name
    del jobs
    assert sys.getrefcount(seen) == held


def test_a_job_that_finds_no_memory_says_so_each_time():
    for count in (1, 3):
        with kernel_threads(count):
            seen = np.zeros(100, np.int64)
            jobs = threads.Jobs([(ALLOCATE, 60, 1, 1 << 58), (MARK, 100, 1, seen)])
            for _ in range(3):
                with pytest.raises(MemoryError, match="no memory for its scratch arrays"):
                    jobs.run()
            threads.Jobs([(MARK, 100, 1, seen)]).run()
            assert seen.min() == seen.max() > 0


@jit("i i R1 W1")
def ALLOCATE_AND_MARK(start, stop, size, seen):
    seen[start:stop] += np.empty(size[0], np.int64).size


def test_a_job_that_found_no_memory_is_done_once_there_is_some():
    size, seen = np.array([1]), np.zeros(60, np.int64)
    jobs = threads.Jobs([(ALLOCATE_AND_MARK[np.dtype(np.float32)], 60, 1, size, seen)])
    with kernel_threads(3):
        size[0] = 1 << 58
        with pytest.raises(MemoryError):
            jobs.run()
        size[0] = 1
        jobs.run()
    assert (seen == 1).all()


def test_jobs_run_from_many_threads_at_once_and_in_a_forked_child():
    text = """
        import os, threading
        import numpy as np
        from tinygrad_lite import tape, threads
        from tinygrad_lite.kernels import lookup
        threads.set_num_threads(3)
        x = np.random.default_rng(0).standard_normal((3000, 64)).astype(np.float32)
        expected = lookup("cpu", "gelu").forward(x, approximate="none")[0]

        def record():
            with tape.recording(1 << 30) as recorded:
                out = lookup("cpu", "gelu").forward(x, approximate="none")[0]
            return recorded, out

        tapes = [record() for _ in range(3)]

        def work(recorded, out, wrong):
            for _ in range(50):
                out[...] = 0
                recorded.replay()
                if not np.array_equal(out, expected):
                    wrong.append(1)

        wrong = []
        workers = [threading.Thread(target=work, args=(*pair, wrong)) for pair in tapes]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if hasattr(os, "fork"):
            if not os.fork():
                work(*tapes[0], wrong)
                os._exit(len(wrong))
            wrong += [1] * os.waitstatus_to_exitcode(os.wait()[1])
        print(len(wrong))
    """
    assert python(text) == "0"


def test_the_number_of_threads_comes_from_the_environment():
    text = "from tinygrad_lite import threads; print(threads.get_num_threads())"
    assert python(text, TGL_NUM_THREADS="3") == "3"
    with pytest.raises(AssertionError, match="TGL_NUM_THREADS: expected a whole number"):
        python(text, TGL_NUM_THREADS="many")
    with pytest.raises(ValueError, match="at least 1"):
        threads.set_num_threads(0)
    with pytest.raises(TypeError):
        threads.set_num_threads(2.5)


def test_threads_are_kept_and_not_made_again():
    with kernel_threads(3):
        before = threading.active_count()
        for count in (1, 3, 2, 3):
            with kernel_threads(count):
                threads.parallel_for(MARK, 100, 1, np.zeros(100, np.int64))
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
            assert not threads._pool_busy.locked() and threads._state.words[0] % (1 << 16) == 0
            if i % 20 == 0:
                np.testing.assert_array_equal(kernel.forward(x, approximate="none")[0], expected)
        print(hits)
    """
    assert python(text) == "1000"


def test_arrays_are_let_go_after_a_job():
    kept = []

    class Watched(np.ndarray):
        def __del__(self):
            kept.append(1)

    with kernel_threads(3):
        threads.parallel_for(MARK, 100, 1, np.zeros(100, np.int64).view(Watched))
    assert kept


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer signals here")
def test_a_signals_handler_may_compute_while_the_threads_are_started():
    text = """
        import signal, sys
        import tinygrad_lite.native.atomics
        from tinygrad_lite import threads
        seen = []
        signal.signal(signal.SIGALRM, lambda *_: seen.append(threads.get_num_threads()))
        signal.setitimer(signal.ITIMER_REAL, 0.003, 0.003)
        threads.set_num_threads(3)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(threads.get_num_threads(), set(seen) <= {1, 3} and len(seen) > 0)
    """
    assert python(text) == "3 True"


def test_workers_sleep_when_no_job_comes():
    with kernel_threads(3):
        threads.parallel_for(MARK, 100, 1, np.zeros(100, np.int64))
        until = time.monotonic() + 10
        while not all(threads._state.words[worker.sleeps] for worker in threads._workers) and time.monotonic() < until:
            time.sleep(0.005)
        began = time.process_time()
        time.sleep(0.1)
        assert time.process_time() - began < 0.05


def test_memory_freed_by_one_step_is_the_next_ones():
    """Page faults: an array of 12 MB is 3,000 pages, and each step of training makes and frees hundreds of arrays."""
    text = """
        import resource
        import numpy as np
        from tinygrad_lite import threads
        threads.get_num_threads()
        for _ in range(3):
            arrays = [np.ones(3_000_000, np.float32) for _ in range(4)]
            del arrays
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            arrays = [np.ones(3_000_000, np.float32) for _ in range(4)]
            del arrays
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 3000)
    """
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        pytest.skip("only glibc's allocator is told to keep what is freed")
    assert python(text) == "True"


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

    monkeypatch.setattr(threads._Worker, "__init__", lambda self, state, number: refuse(self))
    before, have = threads.get_num_threads(), len(threads._workers)
    threads._start(have + 5)
    assert threads.get_num_threads() == have + 1
    threads._start(before)
