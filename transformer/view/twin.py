"""A fused op opened: its readable twin, run on the inputs that were recorded, forward and back.

The kernels keep no attention weights, say: flash attention makes them block by block and throws them away. The twin is
the same op in primitive ones, from the same inputs and the same incoming gradient, to a rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tinygrad_lite import Tensor, as_tensor, no_grad
from tinygrad_lite.study import Trace
from tinygrad_lite.study.trace import BackwardStep, Event
from tinygrad_lite.tensor import functional

ATTENTION = ("attention", "attention_qkv")


@dataclass
class Twin:
    """The twin of one event: its trace, what the walk back did at each of its ops, how far it is from the kernel."""

    trace: Trace
    inputs: list  # the stand-ins for the event's inputs
    steps: dict[int, BackwardStep] = field(default_factory=dict)  # by the number of the twin's op
    difference: float = 0.0  # largest, of the output


def open_twin(event: Event, g=None) -> Twin | None:
    """Run an event's op again in primitive ops, and back from the gradient `g` that reached it, if one did.

    None for an op that is no fused one.
    """
    if not event.op.is_fused:
        return None
    parents = event.node.parents if event.node is not None else (None,) * len(event.xs)
    inputs = [_stand_in(x, parent is not None) for x, parent in zip(event.xs, parents, strict=True)]
    trace = Trace(open_fused=True, inside=event.op)
    for x, name in zip(inputs, event.op.inputs, strict=False):
        if type(x) is Tensor:
            trace.name(x, name)
    with trace:
        out = event.op.forward(functional, *inputs, **event.params)
    twin = Twin(trace, inputs)
    twin.difference = float(np.abs(out.numpy().astype(np.float64) - event.out.numpy()).max(initial=0.0))
    if g is not None and out.node is not None:
        for step in trace.backward(out, as_tensor(g, out.device)):
            if step.event is not None:
                twin.steps[step.event.index] = step
    return twin


def _stand_in(x, needs_gradient: bool):
    if type(x) is not Tensor:
        return x
    if not needs_gradient:
        with no_grad():
            return x.detach()
    return Tensor(x.data, requires_grad=True)


def attention_weights(twin: Twin) -> Event:
    """The op of an attention's twin whose output is the weights (B, H, T, S): what multiplies the values."""
    product = [e for e in twin.trace if e.op.name == "matmul"][-1]
    return twin.trace.event_of(product.xs[0])
