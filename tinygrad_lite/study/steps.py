"""The steps of a pass forward and back, and a place among them; and those of a fused op opened into its twin."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..autograd.node import Node
from ..autograd.walk import topological
from ..dtypes import is_float
from ..gradcheck import gradcheck
from ..ops.registry import At
from ..tensor import Tensor, functional, wrap
from .breakpoints import Breakpoint
from .order import why as explained
from .sheet import sheet_of
from .trace import BackwardStep, Event, Trace, consumers

FULL_CHECK = 64  # elements of a node's inputs up to which every entry of its Jacobian is checked
LABEL = 40  # characters of an expression that stands for an unnamed tensor


class Moment(NamedTuple):
    """Where a stepper stands: an op of the forward pass, or a step of the backward pass.

    number   from 0, forward and backward each
    event    the op as it ran forward; None at a leaf of backward
    step     the backward step; None in the forward pass
    """

    number: int
    event: Event | None
    step: BackwardStep | None

    def __repr__(self):
        return (
            f"<backward {self.number}: {self.step}>"
            if self.step is not None
            else f"<forward {self.number}: {self.event}>"
        )

    @property
    def is_backward(self) -> bool:
        """Whether it is a step of the backward pass."""
        return self.step is not None

    @property
    def op(self):
        """The op; None at a leaf."""
        return self.event.op if self.event is not None else self.step.node.op


class Steps:
    """The ops of a trace and the steps of the walk back from one of its results, with a place among them.

    trace: what ran. output: where backward starts, with `gradient`, or with 1 where output has one element; None where
    there is no backward pass to take.
    """

    def __init__(self, trace: Trace, output: Tensor | None, gradient=None):
        self.trace, self.output, self.gradient = trace, output, gradient
        self.steps: list[BackwardStep] = []  # those taken so far
        self.breakpoints: list[Breakpoint] = []
        self.at = 0
        self._walk = self._order = self._uses = None
        self._ended = self.is_broken = False
        self._labels: tuple[int, dict[str, int]] = (0, {})

    # -- moving -------------------------------------------------------------------------------------------
    @property
    def now(self) -> Moment:
        """Where it stands."""
        return self.moment(self.at)

    def __len__(self):
        return len(self.trace) + len(self.steps)

    def __iter__(self):
        """Each moment from here to the end, the stepper standing there."""
        moment = self.now
        while moment is not None:
            yield moment
            moment = self.next()

    def moment(self, at: int) -> Moment:
        """Step number `at`, counted from 0 over forward and what was taken of backward."""
        forward = len(self.trace)
        if at < forward:
            return Moment(at, self.trace[at], None)
        step = self.steps[at - forward]
        return Moment(at - forward, step.event, step)

    def next(self) -> Moment | None:
        """One op on, in backward one step of the real walk; None, and no move, at the end.

        Raises what `backward()` raises, where the walk cannot begin or go on.
        """
        if self.at + 1 >= len(self) and not self._take():
            return None
        self.at += 1
        return self.now

    def back(self) -> Moment | None:
        """One op back, over what is recorded; None, and no move, at the first."""
        if not self.at:
            return None
        self.at -= 1
        return self.now

    def go_on(self) -> Breakpoint | None:
        """On to the next breakpoint, which is returned, or to the end."""
        return self._until_break(self.next)

    def go_back(self) -> Breakpoint | None:
        """Back to the last breakpoint before here, or to the first op."""
        return self._until_break(self.back)

    def go_to(self, at: int) -> Moment:
        """To step number `at`, counted from 0 over forward and backward, or as far as there are any."""
        while at >= len(self) and self._take():
            pass
        self.at = min(max(at, 0), len(self) - 1)
        return self.now

    def start(self) -> Moment:
        """To the first op."""
        return self.go_to(0)

    def end(self) -> Moment:
        """Through all of backward: every leaf has its gradient."""
        while self._take():
            pass
        return self.go_to(len(self) - 1)

    def start_of_backward(self) -> Moment:
        """To the first step of the backward pass."""
        return self.go_to(len(self.trace))

    @property
    def has_ended(self) -> bool:
        """Whether the walk back has come to its end: every leaf has its gradient."""
        return self._ended and not self.is_broken

    def backward_of(self, event: Event) -> BackwardStep | None:
        """The step back over an op, if it was taken already."""
        return next((step for step in self.steps if step.event is event), None)

    def _until_break(self, move):
        while (moment := move()) is not None:
            for point in self.breakpoints:
                if point.fires(self, moment):
                    return point
        return None

    def _take(self) -> bool:
        """Take one more step of the real walk; whether there was one."""
        if self._ended or self.output is None:
            if self.is_broken:
                raise RuntimeError("the backward pass was interrupted in the middle of a step: begin again")
            return False
        if self._walk is None:
            self._walk = self.trace.backward(self.output, self.gradient)  # may refuse: then nothing is changed
        self._ended = self.is_broken = True
        step = next(self._walk, None)
        self.is_broken = False
        if step is not None:
            self._ended = False
            self.steps.append(step)
        return step is not None

    # -- breakpoints --------------------------------------------------------------------------------------
    def stop_at(self, text: str) -> Breakpoint:
        """Add a breakpoint: an op's name, a tensor's name, a source line, or a condition. See `breakpoints`."""
        point = Breakpoint.parse(text)
        self.breakpoints.append(point)
        return point

    # -- the graph ----------------------------------------------------------------------------------------
    @property
    def order(self) -> list[Node]:
        """The nodes of the backward pass, in the order in which the walk takes them."""
        if self._order is None:
            self._order = topological([self.output.node]) if getattr(self.output, "node", None) is not None else []
        return self._order

    @property
    def uses(self) -> dict[Node, int]:
        """For each node of the backward pass, how many gradients it is sent in all."""
        if self._uses is None:
            self._uses = consumers(self.order)
        return self._uses

    def waiting(self, moment: Moment) -> dict[Node, int]:
        """For each node that is not yet passed when the walk takes this step, how many gradients it still waits for."""
        left = dict(self.uses)
        for node in self.order:
            left.setdefault(node, 0)
        for step in self.steps[: moment.number]:
            left.pop(step.node, None)
            for parent in step.node.parents:
                if parent in left:
                    left[parent] -= 1
        return left

    def users_of(self, node: Node) -> list[Node]:
        """The nodes that send a gradient to this one, in the order in which they do; one twice that uses it twice."""
        return [user for user in self.order for parent in user.parents if parent is node]

    def label(self, x) -> str:
        """What the user calls a Tensor, a number or a node; with the op's number where several share the name."""
        event = self.trace.event_of(x)
        if event is None:
            if isinstance(x, Node):
                leaf = self.trace.leaf_of(x) if x.op is None else None
                return self.trace.name_of(leaf) if leaf is not None else f"{x.op.name if x.op else 'leaf'} {x.shape}"
            return self.trace.name_of(x)
        name = event.name
        if self._labels[0] != len(self.trace):
            counts: dict[str, int] = {}
            for each in [event.name for event in self.trace] + [self.trace.name_of(x) for x in self.trace.inputs]:
                counts[each] = counts.get(each, 0) + 1
            self._labels = len(self.trace), counts
        return f"{_short(name)} [op {event.index + 1}]" if self._labels[1].get(name, 0) > 1 else _short(name)

    # -- inside one node ----------------------------------------------------------------------------------
    def open(self) -> Twin:
        """Steps through the readable twin of the fused op that it stands at, on the same inputs and gradient.

        Raises ValueError where the op is not fused.
        """
        moment = self.now
        op, event = moment.op, moment.event
        if event is None or not op.is_fused or op.replay is not None:
            name = f"{op.name} has no twin: its formula is all there is" if event else "this is no op of the trace"
            name = "a leaf has no inside" if op is None else name
            raise ValueError(f"open: {name}; only a fused op has a twin to open")
        return Twin(event, moment.step or self.backward_of(event), moment.is_backward)

    def check(self):
        """Gradcheck of this op alone, at the inputs that it had: finite differences against its backward rules.

        Returns a GradcheckResult. Raises ValueError where the op has no gradient.
        """
        event = self.now.event
        if event is None:
            raise ValueError("check: a leaf has no rule to check; stand at an op")
        op, params, xs = event.op, event.params, []
        for i, x in enumerate(event.xs):
            has_rule = op.is_fused or op.rule_of(i) is not None
            if type(x) is Tensor:
                x = x.detach().clone()
                if has_rule and is_float(x.dtype) and (op.variadic or op.inputs[i] not in op.integer_inputs):
                    x.requires_grad_()
            xs.append(x)
        checked = sum(x.size for x in xs if type(x) is Tensor and x.node is not None)
        if not checked:
            raise ValueError(f"check: {op.name} has no gradient, so there is nothing to check")
        mode = "full" if checked <= FULL_CHECK else "fast"
        return gradcheck(lambda *xs: op.call(*xs, **params), xs, mode=mode, raise_exception=False)

    def why(self) -> str:
        """The topological order explained at this step: why this node and not that one."""
        return explained(self, self.now)

    # -- showing ------------------------------------------------------------------------------------------
    def sheet(self):
        """What is to be seen at this step: a `Sheet`."""
        return sheet_of(self, self.now)

    def __str__(self):
        return str(self.sheet())

    def _repr_html_(self):
        return self.sheet().html()


class Twin(Steps):
    """A fused op opened: its readable twin run on the inputs that the kernel had, and walked with the same gradient.

    event: the fused op. It starts at the twin's backward pass, where the kernel's own was stood at.
    """

    def __init__(self, event: Event, step: BackwardStep | None, in_backward: bool):
        self.event, self.kernel_step = event, step
        op, trace = event.op, Trace(inside=event.op)
        self.stand_ins = []
        for name, x in zip(op.inputs * (len(event.xs) if op.variadic else 1), event.xs, strict=True):
            if type(x) is Tensor:
                stands = wrap(x.data, None, x.device)
                if x.node is not None and name not in op.integer_inputs:
                    stands.requires_grad_()
                trace.name(stands, name)
                x = stands
            self.stand_ins.append(x)
        with trace:
            output = op.forward(functional, *self.stand_ins, **event.params)
        super().__init__(trace, output, None if step is None else _tensor_of(step, output))
        if in_backward:
            self.start_of_backward()

    def _take(self):
        return self.kernel_step is not None and super()._take()

    def differences(self) -> dict[str, float]:
        """Largest differences from the kernel: of the result, and of each input's gradient once the twin's is there."""
        found = {"output": _largest_difference(self.trace[-1].out.data, self.event.out.data)}
        if self.kernel_step is None or not self._ended:
            return found
        for name, stands, sent in zip(self.event.op.inputs, self.stand_ins, self.kernel_step.sent, strict=False):
            if type(stands) is Tensor and stands.grad is not None and sent is not None and type(sent) is not At:
                found[f"gradient of {name}"] = _largest_difference(stands.grad.data, sent)
        return found


def _short(name):
    """A long expression by its beginning."""
    if len(name) <= LABEL:
        return name
    called = name.partition("(")[0]
    return f"{called}(...)" if called and len(called) < LABEL else f"{name[: LABEL - 3]}..."


def _tensor_of(step, output):
    return wrap(step.g.astype(output.dtype) if step.g.dtype != output.dtype else step.g, None, output.device)


def _largest_difference(a, b) -> float:
    if a.shape != b.shape:
        return math.inf
    if not a.size:
        return 0.0
    a, b = a.astype("float64"), b.astype("float64")
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):  # inf - inf
        return float(np.abs(np.where(same, 0.0, a - b)).max())  # NaN where one alone is NaN
