"""The pool that runs CPU kernels: Python threads over kernels that release the GIL, never Numba's own pool.

Why not prange. Numba's OpenMP pool spins after each parallel region and so does OpenBLAS's after each product, and on
the same cores each waits for the other to give way. Two matrix products (768 x 128 x 512) with an elementwise kernel
after each, 2 cores, best of 1000 in microseconds:

    prange, OpenMP as it comes          5825
    prange, OMP_WAIT_POLICY=PASSIVE     1083
    prange, Numba's workqueue           1114
    this pool                           1069

So a pool that sleeps is as fast as the best setting, and these threads ask for no environment variable, need no
libgomp, may be entered from several Python threads (workqueue aborts the process there), leave a forked child alive
(GNU OpenMP kills it), and take Numba's parfors pass out of every compilation (0.5 s instead of 0.8 s a kernel).

How work is dealt. A kernel computes items [start, stop) of a range; chunks come off one shared iterator, so whoever
is awake takes the next one and the caller never waits for a thread that is still waking up: it takes the wake-up token
back. Which thread computes a chunk never changes a result: kernels that reduce over items write one partial sum per
fixed chunk, whatever the number of threads.
"""

import _thread
import ctypes
import os
import threading

import numpy as np

_threads = 0  # 0: not settled yet
_workers = []
_pool_busy = _thread.allocate_lock()


class _Worker:
    """One sleeping thread: `go` wakes it for `job`, `done` answers."""

    __slots__ = ("go", "done", "job", "error")

    def __init__(self):
        self.go = _thread.allocate_lock()
        self.done = _thread.allocate_lock()
        self.go.acquire()
        self.done.acquire()
        self.job = self.error = None
        threading.Thread(target=self._loop, name="tinygrad_lite kernel", daemon=True).start()

    def _loop(self):
        while True:
            self.go.acquire()
            try:
                _drain(*self.job)
            except BaseException as error:  # handed to the caller, who is waiting for `done`
                self.error = error
            self.job = None
            self.done.release()

    def join(self):
        """Wait until this worker has left the job, or take the job back if it has not woken up yet."""
        if self.go.acquire(False):
            self.job = None
            return
        interrupted = None
        while True:
            try:
                self.done.acquire()
                break
            except KeyboardInterrupt as error:  # the kernel is still writing: leave only when it has finished
                interrupted = error
        error, self.error = self.error, None
        if error or interrupted:
            raise error or interrupted


def _drain(starts, step, n, kernel, args):
    for start in starts:
        kernel(start, min(start + step, n), *args)


def parallel_for(kernel, n, grain, *args):
    """Run kernel(start, stop, *args) over chunks that together cover range(n), on all threads.

    grain: the least number of items worth a chunk, 10 to 20 microseconds of work. At or below one chunk the kernel runs
    in the caller: waking a thread costs some 3 microseconds, and before it helps, up to 50 if its core sleeps. So does a call that finds the pool
    busy with another Python thread's kernel, or that comes from a kernel, or in a forked child.
    """
    threads = _threads or _settle()
    if n <= grain or threads == 1 or not _pool_busy.acquire(False):
        if n > 0:
            kernel(0, n, *args)
        return
    try:
        step = max(grain, -(-n // (2 * threads)))  # two chunks a thread even out a core that others use too
        job = iter(range(0, n, step)), step, n, kernel, args
        helpers = _workers[: -(-n // step) - 1]
        for worker in helpers:
            worker.job = job
            worker.go.release()
        failed = None
        try:
            _drain(*job)
        except BaseException as error:
            failed = error
        for worker in helpers:
            try:
                worker.join()
            except BaseException as error:
                failed = failed or error
        if failed:
            raise failed
    finally:
        _pool_busy.release()


def get_num_threads():
    """The number of threads, the caller included, that share a kernel."""
    return _threads or _settle()


def set_num_threads(n):
    """Let n threads share each kernel and each matrix product from now on. Results do not change with n."""
    n = int(n)
    if n < 1:
        raise ValueError(f"set_num_threads: expected at least 1, got {n}")
    _start(n)
    _set_blas_threads(n)


def _settle():
    """First kernel: as many threads as this process may use cores, or TGL_NUM_THREADS, which also holds for BLAS."""
    asked = os.environ.get("TGL_NUM_THREADS", "").strip()
    if not asked:
        _start(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    elif asked.isdigit() and int(asked) >= 1:
        set_num_threads(int(asked))
    else:
        raise ValueError(f"TGL_NUM_THREADS: expected a whole number of at least 1, got {asked!r}")
    return _threads


def _start(n):
    global _threads
    with _pool_busy:
        while len(_workers) < n - 1:
            _workers.append(_Worker())
        # surplus workers sleep in `go` for good: `parallel_for` wakes no more than it has threads for
        del _workers[max(n - 1, 0) :]
        _threads = n


def _set_blas_threads(n):
    """OpenBLAS reads its environment when NumPy loads it, so afterwards only its own function reaches it."""
    root = os.path.dirname(np.__file__)
    for folder in (root + ".libs", os.path.join(root, ".dylibs")):
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            if "openblas" in name:
                library = ctypes.CDLL(os.path.join(folder, name))
                for symbol in ("scipy_openblas_set_num_threads64_", "openblas_set_num_threads"):
                    if hasattr(library, symbol):
                        getattr(library, symbol)(n)
                        return


def _after_fork_in_child():
    """The workers did not survive the fork and a lock may have been held: run serially, from fresh state."""
    global _threads, _workers, _pool_busy
    _workers = []
    _pool_busy = _thread.allocate_lock()
    if _threads:
        _threads = 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
