"""What ran forward, op by op, with the user's line of each, and the real walk back over it with its running sums.

    with Trace(model) as trace:
        loss = model(x, y)
    for step in trace.backward(loss):
        print(step.event, step.before, step.after)

Tracing is a state of the thread that the engine tests once per op anyway: where nobody traces, it costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..autograd.gradient import backward_walk
from ..autograd.mode import TRACE, mode
from ..autograd.node import Leaf, Node
from ..autograd.walk import Step, Walk
from ..nn.module import Module
from ..ops.registry import At, Op
from ..tensor import Tensor
from .source import Place, capture, capture_inside, target_of, user_frame


class Tracer:
    """A context manager: what happens in it comes to `on_forward`. The base of all that watches the engine.

    open_fused: fused ops run, and are seen, as their readable twins in primitive ops.
    """

    def __init__(self, open_fused: bool = False):
        self.open_fused = open_fused
        self._found = []

    def on_forward(self, op: Op, xs: tuple, params: dict, out: Tensor) -> Tensor | None:
        """Called by the engine after each op: its inputs, keyword parameters and output. A returned Tensor replaces it."""
        raise NotImplementedError

    def on_backward(self, walk: Walk) -> Iterator[Step]:
        """Called where `backward()` or `grad()` is: the steps of the walk, which are taken as they are asked for."""
        return iter(walk)

    def __enter__(self):
        self._found.append((mode.state, mode.tracer))
        mode.state, mode.tracer = TRACE, self
        return self

    def __exit__(self, *exc):
        mode.state, mode.tracer = self._found.pop()
        return False


class Event:
    """One op of the forward pass, as it was called.

    index     its number in the trace, from 0
    op        what ran: op.name, op.inputs, op.forward (the formula), op.rules
    xs        the inputs: Tensors, and numbers where the user gave numbers
    params    its keyword parameters, completed
    out       the result; out.node is None where nothing requires a gradient
    call      where it was called: call.place, call.places, call.modules
    """

    __slots__ = ("index", "op", "xs", "params", "out", "call", "_trace", "_versions")

    def __init__(self, index, op, xs, params, out, call, trace):
        self.index, self.op, self.xs, self.params, self.out, self.call = index, op, xs, params, out, call
        self._trace = trace
        self._versions = [_version(x) for x in (*xs, out)]

    @property
    def written(self) -> list[bool]:
        """For each input, and last for the output: whether it was written in place since the op ran."""
        return [_version(x) != v for x, v in zip((*self.xs, self.out), self._versions, strict=True)]

    @property
    def node(self) -> Node | None:
        """Its place in the recorded graph."""
        return self.out.node

    @property
    def place(self) -> Place | None:
        """The user's line."""
        return self.call.place

    @property
    def name(self) -> str:
        """What the user calls the result: the variable that it is assigned to, or the expression."""
        return self._trace.name_of(self.out)

    @property
    def path(self) -> str:
        """The dotted path of the module in which it ran, "" outside every module."""
        return self._trace.path_of(self.call.modules)

    def __repr__(self):
        shapes = ", ".join(str(x.shape) if type(x) is Tensor else repr(x) for x in self.xs)
        return f"<{self.op.name}({shapes}) -> {self.out.shape} at {self.place}>"


class BackwardStep(NamedTuple):
    """One step of the real walk back. All arrays are copies.

    event     the op of the forward pass; None at a leaf, and at ops that ran outside the trace
    node      its place in the graph
    g         the gradient that reached it, all of its consumers' shares summed
    sent      what its rules sent to each input, before broadcasting is undone: None where none is needed
    before    for each input, the sum that had arrived there before this step, None if nothing had
    after     the same after it; at a leaf (grad,), what its .grad holds now, and before what it held
    waiting   for each input, how many of its consumers have still to send
    """

    event: Event | None
    node: Node
    g: object
    sent: tuple
    before: tuple
    after: tuple
    waiting: tuple

    def __repr__(self):  # arrays of a whole layer are no answer to a name at a prompt
        return f"<step back through {self.event or self.node}: g {self.g.shape}, waiting {self.waiting}>"


class Trace(Tracer):
    """All ops that ran in the `with`, in order. Keeps every tensor that they read or made alive.

    model: gives parameters and modules their dotted names; those of other modules begin with the variable that holds
    the outermost, or with its class. open_fused as in `Tracer`. inside: an op whose formula is
    what runs in the `with`: places are then the formula's lines.
    """

    def __init__(self, model: Module | None = None, open_fused: bool = False, inside: Op | None = None):
        super().__init__(open_fused)
        self._formula = inside.forward.__code__ if inside is not None else None
        self.events: list[Event] = []
        self._by_out: dict[int, Event] = {}  # by id: the events keep the tensors alive
        self._by_node: dict[Node, Event] = {}
        self._blocks: dict[Node, Event] = {}  # of checkpoint(), whose result is another Tensor: the op that gave it
        self.gradients: dict[Node, object] = {}  # of the ops' results, copies, as far as backward has come
        self._names: dict[int, str] = {}
        self._inputs: dict[int, Tensor] = {}
        self._leaves: dict[Node, Tensor] = {}
        self._paths: dict[int, str] = {}
        if model is not None:
            for name, parameter in model.named_parameters():
                self.name(parameter, name)
            self._paths = {id(module): name for name, module in model.named_modules()}

    def __len__(self):
        return len(self.events)

    def __iter__(self):
        return iter(self.events)

    def __getitem__(self, index):
        return self.events[index]

    def on_forward(self, op, xs, params, out):
        call = capture() if self._formula is None else capture_inside(self._formula)
        event = Event(len(self.events), op, xs, params or {}, out, call, self)
        if call.modules and id(call.modules[0]) not in self._paths:
            self._adopt(call.modules[0], user_frame())
        for x in xs:
            if type(x) is Tensor and id(x) not in self._inputs and self.event_of(x) is None:
                self._found_input(x, user_frame())
        self.events.append(event)
        self._by_out[id(out)] = event
        if out.node is not None:
            self._by_node.setdefault(out.node, event)

    def _adopt(self, root, frame):
        """Name the parameters of a module that the trace was not told of, and the modules below it."""
        name = None
        while frame is not None and name is None:
            name = next((n for n, value in frame.f_locals.items() if value is root and n != "self"), None)
            frame = frame.f_back
        name = name or type(root).__name__
        for path, module in root.named_modules(name):
            self._paths.setdefault(id(module), path)
        for path, parameter in root.named_parameters(name):
            if id(parameter) not in self._names:
                self.name(parameter, path)

    def on_backward(self, walk):
        for step in walk:
            self._note(step.node, _copy(step.g.data if type(step.g) is Tensor else step.g))
            yield step

    def _note(self, node, g):
        if (event := self._by_node.get(node) or self._blocks.get(node)) is not None:
            self.gradients[event.node] = g

    def _found_input(self, x, frame):
        self._inputs[id(x)] = x
        if x.node is not None and x.node.op is None:
            self._leaves.setdefault(x.node, x)
        if id(x) not in self._names and frame is not None:
            found = next((name for name, value in frame.f_locals.items() if value is x), None)
            if found is not None:
                self._names[id(x)] = found

    # -- names --------------------------------------------------------------------------------------------
    def name(self, x: Tensor, name: str):
        """Call a tensor so in what is shown."""
        self._names[id(x)] = name
        self._inputs[id(x)] = x
        if x.node is not None and x.node.op is None:
            self._leaves.setdefault(x.node, x)

    def name_of(self, x) -> str:
        """A tensor's name: given, the variable it was assigned to, or the expression that made it; a number as it is."""
        if type(x) is not Tensor:
            return repr(x)
        if (name := self._names.get(id(x))) is not None:
            return name
        event = self.event_of(x)
        if event is None or not event.call.frames:
            return f"{'×'.join(map(str, x.shape)) or 'scalar'} tensor"
        return target_of(*event.call.frames[0]) or event.place.text

    def path_of(self, modules) -> str:
        """The dotted path of the innermost module that the trace's model knows, else the classes' names."""
        for module in reversed(modules):
            if id(module) in self._paths:
                return self._paths[id(module)]
        return ".".join(type(module).__name__ for module in modules)

    # -- lookups ------------------------------------------------------------------------------------------
    def event_of(self, x) -> Event | None:
        """The op that made a Tensor, or that a node stands for; None for inputs, parameters and numbers."""
        if type(x) is not Tensor:
            return self._by_node.get(x)
        event = self._by_out.get(id(x))
        if event is None and x.node is not None and x.node.op is not None and x.node.op.replay is not None:
            event = self._blocks.get(x.node) or next((e for e in reversed(self.events) if e.out.data is x.data), None)
            if event is not None:
                self._blocks[x.node] = event
        return event

    @property
    def inputs(self) -> list[Tensor]:
        """What was named or read and was not made in the trace: inputs, parameters, constants."""
        return list(self._inputs.values())

    def leaf_of(self, node: Leaf) -> Tensor | None:
        """The Tensor of a leaf's node."""
        return self._leaves.get(node)

    # -- backward -----------------------------------------------------------------------------------------
    def backward(self, output: Tensor, gradient=None, *, retain_graph: bool = True) -> Iterator[BackwardStep]:
        """The steps of the real backward pass, each taken when it is asked for; leaves' `.grad` fill as it goes.

        Raises what `Tensor.backward` raises. The same sums in the same order as `backward()`, to the last bit.
        """
        walk = backward_walk(output, gradient, retain_graph=retain_graph, stepped=True)
        return self._steps(walk)

    def _steps(self, walk):
        waiting = consumers(walk.order)
        steps = iter(walk)
        for node in walk.order:
            if node not in walk.pending:
                continue
            parents = node.parents if node.op is not None else ()
            if parents:
                before = tuple(_copy(walk.pending.get(p)) for p in parents)
            else:
                before = (_copy(node.grad.data if node.grad is not None else None),)
            step = next(steps)
            for parent in parents:
                if parent is not None:
                    waiting[parent] -= 1
            if parents:
                after = tuple(_copy(walk.pending.get(p)) for p in parents)
            else:
                after = (_copy(node.grad.data if node.grad is not None else None),)
            sent = tuple(_copy(s) for s in step.sent) if parents else ()
            left = tuple(waiting.get(p, 0) for p in parents)
            g = _copy(step.g)
            self._note(node, g)
            yield BackwardStep(self._by_node.get(node), node, g, sent, before, after, left)
        for _ in steps:  # nothing is left, but the generator ends as `backward()` ends it
            pass


def consumers(order) -> dict[Node, int]:
    """For each node of a walk, how many gradients it will be sent: one for each use as an input."""
    counts: dict[Node, int] = {}
    for node in order:
        for parent in node.parents:
            if parent is not None:
                counts[parent] = counts.get(parent, 0) + 1
    return counts


def _version(x) -> int:
    """How often a Tensor's memory was written in place; nobody counts before the first time."""
    cell = x.cell if type(x) is Tensor else None
    return cell[0] if cell is not None else 0


def _copy(x):
    if type(x) is At:
        return At(x.key, _copy(x.g), x.unique)
    return x.copy() if x is not None and hasattr(x, "copy") else x
