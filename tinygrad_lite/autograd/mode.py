"""Whether ops record: a state of the thread, read once per op."""

from __future__ import annotations

import functools
import threading

NO_GRAD, GRAD, TRACE = 0, 1, 2


class _Mode(threading.local):
    # A class attribute of a `threading.local` subclass is each thread's default: no set-up per thread.
    state = GRAD
    tracer = None


mode = _Mode()


class _SetState:
    """A context manager and a decorator that sets the state and puts back what it found."""

    state: int

    def __init__(self):
        self.found: list[int] = []

    def __enter__(self):
        self.found.append(mode.state)
        mode.state = self.state
        return self

    def __exit__(self, *exc):
        mode.state = self.found.pop()
        return False

    def __call__(self, fn):
        @functools.wraps(fn)
        def inner(*args, **kwargs):
            with type(self)():
                return fn(*args, **kwargs)

        return inner


class no_grad(_SetState):
    """Record nothing inside: `with no_grad():` or `@no_grad()`. Holds for this thread only."""

    state = NO_GRAD


class enable_grad(_SetState):
    """Record inside, also within `no_grad`."""

    state = GRAD


def is_grad_enabled() -> bool:
    """Whether ops of this thread record."""
    return mode.state != NO_GRAD
