"""The half of the thread pool that is machine code: publishing a job, dealing its chunks, and waiting for the next.

Why threads spin for a moment. A core that has nothing to do halts, and waking it takes 35 to 140 microseconds on the
virtual machines this was measured on, and so does waking a thread that waits for the interpreter's lock. A step of a
small GPT (0.8 million parameters) has some 90 kernels and products, most of 50 to 1000 microseconds. So a worker that has finished a job watches for
the next one for PATIENCE microseconds before it sleeps, without the interpreter's lock, in code that never asks for it:
neither between jobs nor between chunks.

The state is a block of words, by address; those that many threads write are 128 bytes apart.

    GATE     job number, whether it is open, and how many workers are inside, in one word
    NEXT     the first item that nobody has taken yet
    ENTRY, JOB, ITEMS, STEP     what the open job computes: entry(job, start, stop) for chunks of STEP items
    HELPERS  workers with a lower number may join
    IDLE     spins before a worker sleeps
    LEAVE    1: workers go to sleep at once
    YIELD    the address of the system's function that gives the core to another thread, or 0

A worker joins by adding 1 to the gate with a compare-and-swap, which fails if the job was closed meanwhile, so between
joining and leaving the job's words and the caller's stack stay as they are. The caller takes chunks itself, closes the
gate, and waits until nobody is inside: it never waits for a worker that has not begun.
"""

import linecache

import numba

from ..native.atomics import (
    FAILED,
    call_entry,
    call_nullary,
    compare_swap,
    fetch_add,
    load,
    pack,
    pack_at,
    pause,
    store,
)
from ..native.compile import compiled, inline

LINE = 128
GATE, NEXT, ENTRY = 0, LINE, 2 * LINE
JOB, ITEMS, STEP = ENTRY + 8, ENTRY + 16, ENTRY + 24
HELPERS, IDLE, LEAVE, YIELD = 3 * LINE, 3 * LINE + 8, 3 * LINE + 16, 3 * LINE + 24
SLEEPS = 4 * LINE  # one line a worker: 1 while it sleeps or is about to
OPEN, NUMBER = 1 << 16, 1 << 17  # below OPEN: how many workers are inside

PATIENCE = 300  # microseconds
BEFORE_YIELD = 2000  # spins of the caller before it offers its core to the worker it waits for


@inline
def _drain(state, entry, job, items, step):
    while True:
        start = fetch_add(state + NEXT, step)
        if start >= items:
            return
        call_entry(entry, job, start, min(start + step, items))


@inline
def _share(state, entry, job, items, step):
    """Compute all chunks, with whoever joins, and return when nobody is inside any more."""
    if step >= items:
        call_entry(entry, job, 0, items)
        return
    store(state + ENTRY, entry)
    store(state + JOB, job)
    store(state + ITEMS, items)
    store(state + STEP, step)
    store(state + NEXT, 0)
    store(state + GATE, (load(state + GATE) // NUMBER + 1) * NUMBER + OPEN)
    _drain(state, entry, job, items, step)
    fetch_add(state + GATE, -OPEN)
    spins = 0
    while load(state + GATE) % OPEN:
        pause()
        spins += 1
        if spins > BEFORE_YIELD and load(state + YIELD):
            call_nullary(load(state + YIELD))


def _serve(state, worker):
    """Join jobs as they come; return when none has come for a while."""
    sleeps = state + SLEEPS + worker * LINE
    store(sleeps, 0)
    done, idle = -1, 0
    while idle < load(state + IDLE) and not load(state + LEAVE):
        gate = load(state + GATE)
        if gate & OPEN and gate // NUMBER != done and worker < load(state + HELPERS):
            if compare_swap(state + GATE, gate, gate + 1):
                done, idle = gate // NUMBER, 0
                _drain(state, load(state + ENTRY), load(state + JOB), load(state + ITEMS), load(state + STEP))
                fetch_add(state + GATE, -1)
        else:
            pause()
            idle += 1
    store(sleeps, 1)


def _spin(state, count):
    """What a worker does while nothing comes, `count` times: to find out how long that takes."""
    for _ in range(count):
        if load(state + GATE) & OPEN and load(state + HELPERS) > count and load(state + LEAVE):
            return
        pause()


def _run_jobs(state, jobs):
    """Do jobs (entry, job, items, step), the rows of a table, one after the other; whether one failed."""
    failed = 0
    for i in range(jobs.shape[0]):
        _share(state, jobs[i, 0], jobs[i, 1], jobs[i, 2], jobs[i, 3])
        failed |= load(jobs[i, 1] + FAILED)
        store(jobs[i, 1] + FAILED, 0)
    return failed


serve, spin = (compiled(f, (numba.types.intp, numba.types.intp)) for f in (_serve, _spin))
run_jobs = compiled(_run_jobs, (numba.types.intp, numba.types.Array(numba.types.int64, 2, "C", readonly=True)))


def launcher(argument_types):
    """Compiled launch(state, kernel, items, step, *arguments) -> failed, for kernels that take these types."""
    text = """
def launch_{count}(state, kernel, items, step, {names}):
    entry, job, failed = pack(kernel, ({names},))
    share(state, entry, job, items, step)
    return load(failed)
"""
    return _with_arguments(text, "launch", 4, argument_types)


def binder(argument_types):
    """Compiled bind(job, kernel, *arguments) -> entry, which writes a job for run_jobs at an address (atomics.pack_at)."""
    text = """
def bind_{count}(job, kernel, {names}):
    return pack_at(job, kernel, ({names},))
"""
    return _with_arguments(text, "bind", 2, argument_types)


def _with_arguments(text, name, words, argument_types):
    """A function that takes these after `words` integers. Numba's *args would cost a tuple a call, and match types slowly."""
    count = len(argument_types)
    text = text.format(count=count, names=", ".join(f"a{i}" for i in range(count)))
    scope = {"__name__": __name__, "pack": pack, "pack_at": pack_at, "share": _share, "load": load}
    # Numba asks for the text of what it keeps on disk. The place named must be a file, whose lines it would take for the
    # function's: past the end there are none. (At line 2 stands prose, at which Python's tokenizer raises from 3.12 on.)
    past_the_end = "\n" * len(linecache.getlines(__file__))
    exec(compile(past_the_end + text, __file__, "exec"), scope)
    return compiled(scope[f"{name}_{count}"], (*[numba.types.intp] * words, *argument_types))
