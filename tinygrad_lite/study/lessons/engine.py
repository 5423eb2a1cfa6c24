"""The real engine with one thing changed: classes derived from the real walk, and a `with` that puts them to work."""

from __future__ import annotations

from ...autograd.walk import Step, Walk
from ..trace import Tracer


class Engine(Tracer):
    """Inside, backward() walks as `kind` does, which is Walk or derives from it. Nothing else changes.

    Fused ops run as their readable twins: a kernel may add to a sum by itself, and `kind` would not hear of it.
    walks: those that were made, in order; steps: the steps of the last one.
    """

    def __init__(self, kind: type[Walk] = Walk):
        super().__init__(open_fused=True)
        self.kind, self.walks, self.steps = kind, [], []

    def on_forward(self, op, xs, params, out):
        pass

    def on_backward(self, walk: Walk):
        walk.__class__ = self.kind
        walk.earlier = self.walks[-1] if self.walks else None
        self.walks.append(walk)
        self.steps = []
        return self._seen(walk)

    def _seen(self, walk) -> list[Step]:
        for step in walk:
            self.steps.append(step)
            yield step


def run_on(kind: type[Walk], fn, *args):
    """(what fn(*args) gave, the engine) with backward() as `kind` does it."""
    with Engine(kind) as engine:
        result = fn(*args)
    return result, engine


def slope(fn, at, step: float = 1e-3) -> float:
    """The derivative of a function of a number by central differences: the judge that needs no engine."""
    return (float(fn(at + step)) - float(fn(at - step))) / (2 * step)
