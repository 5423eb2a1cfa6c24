"""The pool that runs CPU kernels and matrix products: Python threads over code that releases the GIL, never Numba's pool.

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

Ctrl-C, or what a handler of another signal raises, may come between any two lines of the caller. So nothing is counted: a token too many wakes a worker that finds
no job, a token too few leaves its chunks to the others, and the caller leaves only when every worker says that it is
out of the kernel.
"""

import _thread
import ctypes
import operator
import os
import threading

import numpy as np

from .config import settings

_threads = 0  # 0: not settled yet
_workers = []
_pool_busy = _thread.allocate_lock()


class _Worker:
    """One sleeping thread: `go` wakes it for `job`, `done` says that it is no longer `running`."""

    __slots__ = ("go", "done", "job", "running")

    def __init__(self):
        self.go = _thread.allocate_lock()
        self.done = _thread.allocate_lock()
        self.go.acquire()
        self.done.acquire()
        self.job, self.running = None, False
        threading.Thread(target=self._loop, name="tinygrad_lite kernel", daemon=True).start()

    def _loop(self):
        while True:
            self.go.acquire()
            self.running = True  # before the job is read: whoever takes it away afterwards waits for us
            job = self.job
            if job is not None:
                _drain(*job)
            job = None
            self.running = False
            if self.done.locked():
                self.done.release()

    def wake(self, job):
        """Ask for help with a job."""
        self.job = job
        if self.go.locked():  # else a token is there still, and the job will be found
            self.go.release()

    def leave(self):
        """Wait until this worker is out of its job, or take the job back if it has not woken up yet."""
        self.job = None
        self.go.acquire(False)
        while self.running:
            self.done.acquire()


def _drain(starts, step, n, kernel, args, errors):
    try:
        for start in starts:
            kernel(start, min(start + step, n), *args)
    except BaseException as error:  # raised in the caller, when all have left the kernel
        errors.append(error)


def parallel_for(kernel, n, grain, *args):
    """Run kernel(start, stop, *args) over chunks that together cover range(n), on all threads.

    grain: the least number of items worth a chunk, 10 to 20 microseconds of work. At or below one chunk the kernel runs
    in the caller: waking a thread costs some 3 microseconds, and before it helps, up to 50 if its core sleeps. So does
    a call that finds the pool busy with another Python thread's kernel, or that comes from a kernel, or in a forked
    child. What a chunk raises is raised here, when no thread is in the kernel any more; so is Ctrl-C.
    """
    threads = _threads or _settle()
    if n <= grain or threads == 1 or _pool_busy.locked():
        if n > 0:
            kernel(0, n, *args)
        return
    errors = []
    # `with`, and not acquire(False) in a try: between that call and the try, Ctrl-C would leave the lock taken for good
    with _pool_busy:
        step = max(grain, -(-n // (2 * threads)))  # two chunks a thread even out a core that others use too
        job = iter(range(0, n, step)), step, n, kernel, args, errors
        helpers = _workers[: min(threads, -(-n // step)) - 1]
        try:
            for worker in helpers:
                worker.wake(job)
            _drain(*job)
        except BaseException as interrupt:
            errors.append(interrupt)
        waiting = True
        while waiting:
            try:
                for worker in helpers:
                    worker.leave()
                waiting = False
            except BaseException as interrupt:  # others are writing still: leave only when they have finished
                errors.append(interrupt)
    if errors:
        try:
            raise errors[0]
        finally:
            errors.clear()  # else exception, traceback, frame and list hold each other, and the arrays


def get_num_threads():
    """The number of threads, the caller included, that share a kernel."""
    return _threads or _settle()


def set_num_threads(n):
    """Let n threads share each kernel and each matrix product from now on. Results do not change with n."""
    n = operator.index(n)
    if n < 1:
        raise ValueError(f"set_num_threads: expected at least 1, got {n}")
    _start(n)
    set_blas_threads(1)


def _settle():
    """First kernel or product: as many threads as this process may use cores, or TGL_NUM_THREADS; BLAS on one."""
    n = settings.num_threads
    if n is None:
        n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    _start(n)
    set_blas_threads(1)
    return _threads


def _start(n):
    """Have n - 1 workers asleep, or as many as the system lets us start: none while the interpreter exits, say."""
    global _threads
    with _pool_busy:
        try:
            while len(_workers) < n - 1:  # surplus ones sleep on: `parallel_for` wakes no more than n - 1
                _workers.append(_Worker())
        except RuntimeError:
            n = len(_workers) + 1
        _threads = n


def _openblas():
    """The functions set and get of the OpenBLAS that NumPy brings (all wheels but macOS's), or two Nones.

    It reads its environment when NumPy loads it, so afterwards only its own functions reach it. Accelerate, on macOS, has
    no threads that wait for each other.
    """
    root = os.path.dirname(np.__file__)
    for folder in (root + ".libs", os.path.join(root, ".dylibs")):
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            if "openblas" in name:
                library = ctypes.CDLL(os.path.join(folder, name))
                for symbol in ("scipy_openblas_{}_num_threads64_", "openblas_{}_num_threads"):
                    if hasattr(library, symbol.format("set")):
                        return [getattr(library, symbol.format(verb)) for verb in ("set", "get")]
    return None, None


def set_blas_threads(n):
    """Let NumPy's own BLAS use n threads. From the first kernel or product of ours on it has one.

    After a product on several threads OpenBLAS's spin for another 0.1 s, on cores that our threads then share with them:
    one such product a step halves the speed of all others. Setting it back around each product of ours instead was
    tried: no Python code can promise that Ctrl-C does not come between.
    """
    blas_set, _ = _openblas()
    if blas_set is not None:
        blas_set(n)


def get_blas_threads():
    """The number of threads of NumPy's own BLAS, or None where it is no OpenBLAS."""
    _, blas_get = _openblas()
    return None if blas_get is None else blas_get()


def _after_fork_in_child():
    """The workers did not survive the fork and a lock may have been held: run serially, from fresh state."""
    global _threads, _workers, _pool_busy
    _workers = []
    _pool_busy = _thread.allocate_lock()
    if _threads:
        _threads = 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
