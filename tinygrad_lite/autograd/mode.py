"""Whether ops record: a state of the thread, read once per op."""

from __future__ import annotations

import functools
import inspect
import threading

NO_GRAD, GRAD, TRACE = 0, 1, 2


class _Mode(threading.local):
    # A class attribute of a `threading.local` subclass is each thread's default: no set-up per thread.
    state = GRAD
    tracer = None


mode = _Mode()


class _SetState:
    """A context manager and a decorator, with or without (), that sets the state and puts back what it found."""

    state: int

    def __new__(cls, fn=None):
        made = super().__new__(cls)
        if fn is None:
            return made
        made.__init__()
        return made(fn)

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
        if not callable(fn):
            raise TypeError(f"{type(self).__name__}: decorates a function, got {type(fn).__name__}")
        if inspect.isgeneratorfunction(fn):
            return self._stepwise(fn)

        @functools.wraps(fn)
        def inner(*args, **kwargs):
            with type(self)():
                return fn(*args, **kwargs)

        return inner

    def _stepwise(self, fn):
        """A generator function whose body runs in this state, and whose consumer, between the steps, in his own."""

        @functools.wraps(fn)
        def inner(*args, **kwargs):
            steps = fn(*args, **kwargs)
            resume, value = steps.send, None
            try:
                while True:
                    with type(self)():
                        item = resume(value)
                    try:
                        resume, value = steps.send, (yield item)
                    except GeneratorExit:
                        raise
                    except BaseException as error:
                        resume, value = steps.throw, error
            except StopIteration as end:
                return end.value
            finally:
                with type(self)():
                    steps.close()

        return inner


class no_grad(_SetState):
    """Record nothing inside: `with no_grad():`, `@no_grad()` or `@no_grad`. Holds for this thread only."""

    state = NO_GRAD


class enable_grad(_SetState):
    """Record inside, also within `no_grad`."""

    state = GRAD


def is_grad_enabled() -> bool:
    """Whether ops of this thread record."""
    return mode.state != NO_GRAD
