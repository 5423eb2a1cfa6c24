"""The threads that run CPU kernels and matrix products: Python threads in code that holds no lock, never Numba's pool.

Why not prange. Numba's OpenMP pool spins after each parallel region and so does OpenBLAS's after each product, and on
the same cores each waits for the other to give way. Two matrix products (768 x 128 x 512) with an elementwise kernel
after each, 2 cores, best of 1000 in microseconds:

    prange, OpenMP as it comes          5825
    prange, OMP_WAIT_POLICY=PASSIVE     1083
    prange, Numba's workqueue           1114

These threads ask for no environment variable, need no libgomp, may be entered from several Python threads (workqueue
aborts the process there), leave a forked child alive (GNU OpenMP kills it), and take Numba's parfors pass out of every
compilation (0.5 s instead of 0.8 s a kernel). They spin too, but for a moment, and never for each other:
`native/pool.py` says how a job is dealt and why.

How work is dealt. A kernel computes items [start, stop) of a range; whoever is awake takes the next chunk, and the
caller never waits for a thread that is still waking up. Which thread computes a chunk never changes a result: kernels
that reduce over items write one partial sum per fixed chunk, whatever the number of threads.

Ctrl-C cannot come while a kernel runs: a launch is one call of compiled code. It is raised after it.
"""

from __future__ import annotations

import _thread
import atexit
import ctypes
import functools
import operator
import os
import threading
import time

import numpy as np

from .config import MOST_THREADS, settings
from .native.allocator import keep_freed_memory
from .native.blas import gemm_address, get_blas_threads, set_blas_threads
from .turns import Turns

__all__ = [
    "gemm_address",
    "get_blas_threads",
    "get_num_threads",
    "has_compiler",
    "parallel_for",
    "set_blas_threads",
    "set_num_threads",
]

# that this process may use
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

_threads = 0  # 0: not settled yet
_workers = []
_pool_busy = Turns()
_state = None  # the words of native/pool.py
tape = None  # where launches are noted down, while some thread records (tape.py)


class _State:
    """The words that threads share, and their address."""

    def __init__(self):
        from .native import pool

        size = pool.SLEEPS + MOST_THREADS * pool.LINE
        self.memory = ctypes.create_string_buffer(size + pool.LINE)
        skip = -ctypes.addressof(self.memory) % pool.LINE
        self.address = ctypes.addressof(self.memory) + skip
        self.words = (ctypes.c_int64 * (size // 8)).from_buffer(self.memory, skip)
        spins, looks = 1000, []
        for _ in range(5):
            began = time.perf_counter()
            pool.spin(self.address, spins)
            looks.append(time.perf_counter() - began)
        self[pool.IDLE] = int(pool.PATIENCE * 1e-6 / min(looks) * spins)
        self[pool.YIELD] = _yield_address()

    def __setitem__(self, offset, value):
        self.words[offset // 8] = value


def _yield_address():
    """The system's function that lets another thread have this core, or 0."""
    try:
        library = ctypes.CDLL("kernel32") if os.name == "nt" else ctypes.CDLL(None)
        function = library.SwitchToThread if os.name == "nt" else library.sched_yield
        return ctypes.cast(function, ctypes.c_void_p).value
    except (OSError, AttributeError):
        return 0


class _Worker:
    """One thread: asleep at `go` until it is woken, then at work until no job has come for a while."""

    __slots__ = ("go", "sleeps")

    def __init__(self, state, number):
        from .native.pool import LINE, SLEEPS

        self.go = _thread.allocate_lock()
        self.go.acquire()
        self.sleeps = (SLEEPS + number * LINE) // 8
        state.words[self.sleeps] = 1
        threading.Thread(target=_work, args=(self.go, state, number), name="tinygrad_lite kernel", daemon=True).start()


def _work(go, state, number):
    from .native.pool import serve

    while True:
        go.acquire()
        serve(state.address, number)


def parallel_for(kernel, n, grain, *args):
    """Run kernel(start, stop, *args), a `native.compile.Compiled`, over chunks that together cover range(n).

    grain: the least number of items worth a chunk, 10 to 20 microseconds of work. At or below one chunk the kernel runs
    in the caller alone. So does a call that finds the pool busy with another Python thread's kernel, or that comes in a
    child forked after the first kernel. Raises MemoryError if a kernel found no memory for what it keeps aside.
    """
    if n <= 0:
        return
    if tape is not None:
        tape.note(parallel_for, kernel, n, grain, *args)
    threads = _threads or _settle()
    if callable(kernel):  # NUMBA_DISABLE_JIT=1: plain Python
        kernel(0, n, *args)
    elif n <= grain or threads == 1 or _pool_busy.locked():
        _check(kernel.launch(0, kernel.address, n, n, *args))
    else:
        state = _state  # a fork in a signal's handler takes it away
        step = _step(n, grain, threads)
        helpers = min(threads, -(-n // step)) - 1
        _check(_pool_busy.run(_launch, state, helpers, kernel.launch, kernel.address, n, step, *args))


class Jobs:
    """Launches (kernel, n, grain, *args) in a row, which `run` makes again: one call of compiled code for all.

    From Python each costs some 5 microseconds: its arrays are handed over. It keeps the arrays.
    """

    def __init__(self, launches):
        self._launches, words = launches, [_job_words(args) for _, _, _, *args in launches]
        self._memory, self._table = np.zeros(sum(words), np.int64), np.empty((len(launches), 4), np.int64)
        self._threads, at = 0, self._memory.ctypes.data
        for row, (kernel, n, _, *args), size in zip(self._table, launches, words, strict=True):
            row[:] = kernel.bind(at, kernel.address, *args), at, n, n
            at += 8 * size

    def run(self):
        """Make the launches again. Raises MemoryError as parallel_for."""
        threads = _threads or _settle()
        if threads == 1 or _pool_busy.locked():
            for launch in self._launches:
                parallel_for(*launch)
            return
        from .native.pool import run_jobs

        if threads != self._threads:
            self._threads = threads
            self._table[:, 3] = [n if n <= grain else _step(n, grain, threads) for _, n, grain, *_ in self._launches]
        _check(_pool_busy.run(_launch, _state, threads - 1, run_jobs, self._table))


def _job_words(args):
    """How many words a job takes: its kernel, whether it failed, and Numba's records of arrays, and scalars."""
    return 2 + sum(5 + 2 * x.ndim if isinstance(x, np.ndarray) else 1 for x in args)


def _step(n, grain, threads):
    return max(grain, -(-n // (2 * threads)))  # two chunks a thread even out a core that others use too


def _launch(state, helpers, launch, *args):
    """launch(address of the state, *args) with so many workers awake."""
    _wake(state.words, helpers)
    return launch(state.address, *args)


def _wake(words, count):
    for worker in _workers[:count]:
        if words[worker.sleeps] and worker.go.locked():  # else a token is there still
            worker.go.release()


def host(function, *args):
    """function(*args), which writes into arrays that it is given: what a kernel leaves to NumPy and data decide."""
    if tape is None:
        function(*args)
    else:
        tape.note_whole(function, *args)


def _check(failed):
    if failed:
        raise MemoryError("a compiled kernel found no memory for its scratch arrays: use smaller shapes")


def get_num_threads():
    """The number of threads, the caller included, that share a kernel."""
    return _threads or _settle()


def set_num_threads(n):
    """Let n threads share each kernel and each matrix product from now on. Results do not change with n."""
    n = operator.index(n)
    if not 1 <= n <= MOST_THREADS:
        raise ValueError(f"set_num_threads: expected at least 1 and at most {MOST_THREADS}, got {n}")
    _start(n)


def _settle():
    """First kernel or product: as many threads as this process may use cores, or TGL_NUM_THREADS."""
    n = settings.num_threads
    if n is None:
        n = CORES
    _start(n)
    return _threads


def _start(n):
    """Have n - 1 workers, or as many as the system lets us start: none while the interpreter exits, say.

    BLAS keeps to the thread that calls it, and freed memory stays with the process.
    """
    global _threads
    _threads = 1  # what a signal's handler computes meanwhile runs alone, and never asks for this lock
    try:
        set_blas_threads(1)
        keep_freed_memory()
        if n > 1 and has_compiler():
            from .native import pool  # noqa: F401 - compiled before the lock is taken
        _pool_busy.run(_appoint, n)
    except BaseException:  # Ctrl-C: the next kernel settles it
        _threads = 0
        raise


@functools.cache
def has_compiler():
    """Whether kernels are machine code: not with NUMBA_DISABLE_JIT=1, nor without Numba."""
    try:
        import numba
    except ModuleNotFoundError:
        return False
    return not numba.config.DISABLE_JIT


def _appoint(n):
    global _threads
    if n > 1:
        n = _hire(n)
    elif _state is not None:
        from .native.pool import HELPERS

        _state[HELPERS] = 0
    _threads = n


def _hire(n):
    global _state
    if not has_compiler():
        return 1
    from .native import pool

    if _state is None:
        _state = _State()
    try:
        while len(_workers) < n - 1:  # surplus ones sleep on
            _workers.append(_Worker(_state, len(_workers)))
    except RuntimeError:
        n = len(_workers) + 1
    _state[pool.HELPERS] = n - 1
    return n


def _dismiss():
    """Let the workers sleep for good."""
    if _state is not None:
        from .native.pool import LEAVE

        _state[LEAVE] = 1


atexit.register(_dismiss)  # no thread may be in compiled code when the process takes it down


def _after_fork_in_child():
    """The workers did not survive the fork and a lock may have been held: run serially, from fresh state."""
    global _threads, _workers, _state
    _workers = []
    _pool_busy.renew()
    _state = None
    if _threads:
        _threads = 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
