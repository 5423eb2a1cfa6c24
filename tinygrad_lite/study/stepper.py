"""Step through a forward and a backward pass, one op at a time, in either direction.

    stepper = Stepper(lambda a, b: a * b + b**3, -4.0, 2.0)
    for moment in stepper:
        print(stepper)

Forward has run when the stepper stands at its first op: the trace holds what each op did. Backward is the engine's own
walk, and goes on by one node where a step is asked for that was not taken yet; going back looks at steps that were.
"""

from __future__ import annotations

import inspect

import numpy as np

from ..errors import function
from ..nn.module import Module
from ..tensor import Tensor
from .steps import Steps
from .trace import Trace


class Stepper(Steps):
    """The forward and the backward pass of fn(*inputs), to be stepped through.

    fn       any function of Tensors. Where it calls `loss.backward()` it is stopped, and backward is stepped from
             there; else backward starts at the Tensor that it returns
    inputs   Tensors as they are; floats and arrays of floats become Tensors that require a gradient; anything else is
             passed on
    model    names parameters and modules by their paths; fn itself, if fn is a Module
    gradient   what backward starts with; needed where the result has more than one element

    Leaves' `.grad` fill as the walk goes, to the same bits as `backward()` gives. `error` is what fn raised, if it did:
    the ops before can be looked at. Raises ValueError if no op ran.
    """

    def __init__(self, fn, *inputs, model: Module | None = None, gradient=None):
        function("Stepper", fn)
        trace = _Stopping(model if model is not None else fn if isinstance(fn, Module) else None)
        inputs = [_as_input(x) for x in inputs]
        for name, x in zip(_names(fn), inputs, strict=False):
            if type(x) is Tensor:
                trace.name(x, name)
        self.inputs, self.error = tuple(inputs), None
        output, stopped_with = self._run(fn, trace)
        if not len(trace):
            if self.error is not None:
                raise self.error
            raise ValueError(
                "Stepper: the function ran no op on a Tensor: give it Tensors, floats or arrays of floats; what runs in "
                "no_grad() or enable_grad() is not seen"
            )
        if self.error is None and not isinstance(output, Tensor):
            raise TypeError(
                f"Stepper: the function must return a Tensor or call backward() on one, got {type(output).__name__}"
            )
        super().__init__(trace, output, gradient if gradient is not None else stopped_with)

    def _run(self, fn, trace):
        """The result of fn, or the Tensor whose backward() it calls, and the gradient given there."""
        try:
            with trace:
                return fn(*self.inputs), None
        except _Backward as stop:
            root = stop.walk.order[0]
            event = trace.event_of(root)
            if event is None:
                raise ValueError(
                    "Stepper: backward() is called on a result that was made outside the function"
                ) from None
            return event.out, stop.walk.pending[root]
        except Exception as error:
            self.error = error
            return None, None


class _Stopping(Trace):
    """A trace that ends the function where it calls backward()."""

    def on_backward(self, walk):
        if not walk.accumulating:  # grad(): a part of the forward computation
            return iter(walk)
        raise _Backward(walk)


class _Backward(BaseException):
    """No Exception, which the function might catch."""

    def __init__(self, walk):
        self.walk = walk


def _as_input(x):
    if isinstance(x, Tensor) or not (isinstance(x, float) or (isinstance(x, np.ndarray) and x.dtype.kind == "f")):
        return x
    return Tensor(np.asarray(x, dtype=getattr(x, "dtype", np.float64)), requires_grad=True)


def _names(fn):
    """The names of the function's positional parameters."""
    try:
        parameters = inspect.signature(getattr(fn, "forward", fn)).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
