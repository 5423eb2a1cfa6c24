"""Functions that take turns: one at a time, and afterwards nobody has the turn, whatever came between."""

import os
import signal
import threading
import time

import pytest
from kernels.checks import python

from tinygrad_lite.turns import Turns


def test_one_function_runs_at_a_time_and_gives_its_result():
    turns, inside, most, found = Turns(), [], [], []

    def work(value):
        inside.append(value)
        most.append(len(inside))
        time.sleep(0.002)  # so that another thread would come between
        inside.remove(value)
        return value

    threads = [threading.Thread(target=lambda n=n: found.append(turns.run(work, n))) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(6)) and max(most) == 1 and not turns.locked()


def test_an_error_ends_the_turn():
    turns = Turns()
    with pytest.raises(ZeroDivisionError):
        turns.run(lambda: 1 / turns.locked() / 0)
    assert not turns.locked()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer signals here")
def test_an_interrupt_at_any_moment_ends_the_turn_and_no_other_threads():
    # In an interpreter of its own: an interrupt inside a coverage tracer leaves the tracer's lock taken.
    text = """
        import signal, threading
        from tinygrad_lite.turns import Turns

        def interrupt(*_):
            raise InterruptedError

        turns, hits = Turns(), 0
        signal.signal(signal.SIGALRM, interrupt)
        for i in range(3000):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-6 + (i % 100) * 1e-6)
                while True:
                    turns.run(len, ())
            except InterruptedError:
                hits += 1
            assert not turns.locked()
        ready, done = threading.Event(), threading.Event()
        other = threading.Thread(target=turns.run, args=(lambda: ready.set() or done.wait(),))
        other.start()
        ready.wait()
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            turns.run(len, ())
        except InterruptedError:
            hits += turns.locked()
        done.set()
        other.join()
        print(hits, turns.locked())
    """
    assert python(text) == "3001 False"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_may_begin_anew():
    text = """
        import os, threading
        from tinygrad_lite.turns import Turns

        turns, ready, done = Turns(), threading.Event(), threading.Event()
        other = threading.Thread(target=turns.run, args=(lambda: ready.set() or done.wait(),))
        other.start()
        ready.wait()
        child = os.fork()
        if child == 0:
            turns.renew()
            os._exit(turns.run(len, "abc") + turns.locked())
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), turns.locked())
        done.set()
        other.join()
    """
    assert python(text) == "3 True"
