"""What a graph picture shows: a box for each value and for each folded module, and what leads where.

From a trace everything is known: names, lines, values, modules, and gradients once backward has passed. From a tensor
alone the recorded graph is: values where some rule saved them or a variable of the caller's still holds them, gradients
where they were kept. What is not known is left out; before backward there are no gradients, which is not the same as 0.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np

from ..autograd.node import FREED, Leaf
from ..autograd.walk import topological
from ..tensor import Tensor
from .trace import Trace

SYMBOLS = {"add": "+", "subtract": "−", "multiply": "×", "divide": "÷", "power": "**", "matmul": "@", "negative": "−"}
FEW = 4  # elements that are written out
NAME = 30  # characters of a name


@dataclass
class Box:
    """One box. kind: "leaf", "constant", "op", "fused", "module", "rest"; rows: (what, text); tip: shown on hovering."""

    kind: str
    name: str
    op: str = ""
    rows: list = field(default_factory=list)
    tip: str = ""
    is_output: bool = False


class Graph:
    """Boxes, and edges (from, to, how often) between their numbers."""

    def __init__(self):
        self.boxes: list[Box] = []
        self._edges: dict[tuple[int, int], int] = {}

    @property
    def edges(self) -> list[tuple[int, int, int]]:
        """(from, to, how many times it is used there), each pair once."""
        return [(u, v, n) for (u, v), n in self._edges.items()]

    def add(self, box: Box) -> int:
        """The number of a new box."""
        self.boxes.append(box)
        return len(self.boxes) - 1

    def connect(self, u: int, v: int):
        """An edge, or one use more of it."""
        if u != v:
            self._edges[u, v] = self._edges.get((u, v), 0) + 1


# -- from a trace -----------------------------------------------------------------------------------------
def of_trace(trace: Trace, output: Tensor | None, open_, most: int) -> Graph:
    """The graph of what leads to `output`, or of all that ran; modules folded, but those whose path `open_` names."""
    _check_open(trace, open_)
    events = _leading(trace, output)
    last = trace.event_of(output) if output is not None else events[-1]
    keys = _folded(events, open_)
    if len(set(keys)) > most:  # the last ones, and one box for all before
        cut = len(events)
        seen = set()
        while cut and len(seen | {keys[cut - 1]}) <= most:
            cut -= 1
            seen.add(keys[cut])
        keys = [("rest", "", 0)] * cut + keys[cut:]
    graph, at, members = Graph(), {}, {}
    shared = Counter(event.call.frames[:1] for event in events)  # a line that ran several ops names none of them
    for event, key in zip(events, keys, strict=True):
        members.setdefault(key, []).append(event)
    for event, key in zip(events, keys, strict=True):
        if key not in at:
            box = (
                _op_box(trace, event, shared[event.call.frames[:1]] > 1)
                if key[0] == "op"
                else _folded_box(trace, key, members[key])
            )
            at[key] = graph.add(box)
        if event is last:
            graph.boxes[at[key]].is_output = True
    of_event = {event.index: key for event, key in zip(events, keys, strict=True)}
    inputs, users = {}, {}
    for event, key in zip(events, keys, strict=True):
        for x in event.xs:
            if type(x) is not Tensor:
                continue
            made = trace.event_of(x)
            if made is not None and made.index in of_event:
                graph.connect(at[of_event[made.index]], at[key])
            else:
                inputs[id(x)] = x
                users.setdefault(id(x), []).append(key)
    for i, keys_of in users.items():
        x = inputs[i]
        is_hidden = len(set(keys_of)) == 1 and keys_of[0][0] != "op" and (x.node is not None or not keys_of[0][1])
        if not is_hidden:  # a parameter of one folded module is in it
            number = graph.add(_input_box(trace.name_of(x), x))
            for key in keys_of:
                graph.connect(number, at[key])
    return graph


def _leading(trace, output):
    """The events that output depends on, in order; all, for None."""
    if output is None:
        return list(trace)
    last = trace.event_of(output)
    if last is None:
        raise ValueError("draw_graph: this tensor is not the result of an op of the trace: make it inside the `with`")
    found, stack = {last.index}, [last]
    while stack:
        for x in stack.pop().xs:
            made = trace.event_of(x) if type(x) is Tensor else None
            if made is not None and made.index not in found:
                found.add(made.index)
                stack.append(made)
    return [trace[i] for i in sorted(found)]


def _folded(events, open_):
    """For each event the box it belongs to: itself, or a module and which of its calls.

    A call ends where something else ran: what is folded is an unbroken stretch of time, so that no cycle comes of it.
    """
    keys, before, calls, roots = [], None, {}, {}
    for event in events:
        found = None
        for module, path in _paths(event.call.modules, roots):
            if path and not _is_open(path, open_):
                found = (id(module), path)
                break
        if found is None:
            keys.append(("op", event.index, 0))
        else:
            if found != before:
                calls[found] = calls.get(found, 0) + 1
            keys.append(("module", *found, calls[found]))
        before = found
    return keys


def _paths(modules, roots):
    """(module, dotted path from the outermost one) for the modules that were being called; the outermost's is "".

    roots: what was found of outermost modules so far, by id: the events keep them alive.
    """
    if not modules:
        return []
    root = modules[0]
    if id(root) not in roots:
        roots[id(root)] = {id(m): name for name, m in root.named_modules()}
    names = roots[id(root)]
    found = [(m, names.get(id(m), type(m).__name__)) for m in modules]
    # A layer that is called by itself is no model around others: it is a box.
    return [(m, p or ("" if len(names) > 1 else type(m).__name__)) for m, p in found]


def _check_open(trace, open_):
    """Raise for a name that no module has which ran."""
    roots = {}
    paths = sorted({path for event in trace for _, path in _paths(event.call.modules, roots) if path})
    for pattern in open_:
        if pattern != "all" and not any(fnmatchcase(path, pattern) for path in paths):
            there = f": there are {', '.join(paths[:8])}{' ...' if len(paths) > 8 else ''}" if paths else ""
            raise ValueError(f"draw_graph: open: no module {pattern!r} ran{there}")


def _is_open(path, open_):
    """Whether a module is opened: it is named, or something within it is."""
    return any(pattern == "all" or fnmatchcase(path, pattern) or pattern.startswith(f"{path}.") for pattern in open_)


def _op_box(trace, event, is_one_of_many):
    out, node = event.out, event.node
    place = event.place
    tip = [f"{event.op.name}({', '.join(trace.name_of(x) for x in event.xs)})"]
    if event.params:
        tip.append(", ".join(f"{k}={v!r}" for k, v in event.params.items()))
    if place is not None:
        tip += [place.statement, str(place)]
    rows = _shape_row(out.data) + [("data", _value(out.device.to_host(out.data)))]
    if event.written[-1]:  # the value is what stands there now
        rows.append(("", "written in place since"))
    rows += _gradient_row(trace.gradients.get(node) if node is not None else None, out.device)
    name, symbol = event.name, _symbol(event.op, event.xs)
    is_long = len(name) > NAME and not name.replace(".", "").isidentifier()  # an expression: it is in the tip
    if is_long or (is_one_of_many and not name.isidentifier()) or name == symbol:
        name, symbol = symbol, ""
    return Box("fused" if event.op.is_fused else "op", name, symbol, rows, "\n".join(tip))


def _folded_box(trace, key, events):
    last = events[-1]
    ops = f"{len(events):,} op{'s' * (len(events) != 1)}"
    if key[0] == "rest":
        return Box("rest", "earlier", "", [("", f"{ops} not drawn")], "raise most= to draw them, or open fewer modules")
    _, identity, path, call = key
    module = next(m for m in last.call.modules if id(m) == identity)
    count = module.num_parameters()
    rows = [("", ops + (f", {count:,} parameters" if count else ""))]
    rows += _shape_row(last.out.data) + [("data", _value(last.out.device.to_host(last.out.data)))]
    rows += _gradient_row(trace.gradients.get(last.node) if last.node is not None else None, last.out.device)
    tip = f"{module}\nopen it: draw_graph(..., open=[{path!r}])"
    return Box("module", path + (f", call {call}" if call > 1 else ""), type(module).__name__, rows, tip)


def _input_box(name, x):
    rows = _shape_row(x.data) + [("data", _value(x.device.to_host(x.data)))]
    if type(x.node) is Leaf:
        rows += _gradient_row(x.grad.data if x.grad is not None else None, x.device)
    return Box("leaf" if x.node is not None else "constant", name, "", rows)


# -- from a tensor ----------------------------------------------------------------------------------------
def of_tensor(output: Tensor, names: dict, most: int) -> Graph:
    """The recorded graph of a tensor. names: the caller's variables, by name, whose tensors may stand in it."""
    if output.node is None:
        raise ValueError(
            "draw_graph: this tensor has no graph: call requires_grad_() on an input before the computation, or draw a "
            "Trace of it"
        )
    order = topological([output.node])[::-1]
    known = {}
    for name, x in names.items():
        if type(x) is Tensor and x.node is not None and not name.startswith("_"):
            known.setdefault(x.node, (name, x.data))
    known.setdefault(output.node, ("output", output.data))
    values = _saved_values(order)
    values.update({node: data for node, (_, data) in known.items()})
    graph, at = Graph(), {}
    rest = [node for node in order if node.op is not None][: -most or None]
    if rest:
        number = graph.add(
            Box("rest", "earlier", "", [("", f"{len(rest):,} ops not drawn")], "raise most= to draw them")
        )
        at.update(dict.fromkeys(rest, number))
    users = {parent for node in order if node.op is not None and node not in at for parent in node.parents}
    for node in order:
        if node in at or (node.op is None and rest and node not in users):
            continue
        at[node] = graph.add(_node_box(node, known.get(node), values.get(node), node is output.node))
    for node in order:
        for parent in node.parents:
            if parent in at and node in at:
                graph.connect(at[parent], at[node])
    return graph


def _saved_values(order):
    """What rules saved of other nodes' results, and of their own."""
    found = {}
    for node in order:
        if node.op is None or node.saved is FREED or node.op.replay is not None:
            continue
        if node.op.is_fused:
            pairs = zip(node.parents, node.saved[0], strict=True)
            found.update((p, a) for p, a in pairs if p is not None and getattr(a, "shape", None) == p.shape)
            continue
        for name, value in zip(node.op.reads, node.saved, strict=True):
            if name == "out":
                if value is not None:
                    found[node] = value
            elif name in node.op.inputs and not node.op.variadic:
                parent = node.parents[node.op.inputs.index(name)]
                if parent is not None and value is not None:
                    found[parent] = value
    return found


def _node_box(node, known, value, is_output):
    name = known[0] if known is not None else ""
    rows = [("", _shape(node.shape, node.dtype))] if node.shape else []
    if value is not None:
        rows.append(("data", _value(node.device.to_host(value))))
    kept = node.grad if node.op is None else node.extra.grad if node.extra is not None else None
    rows += _gradient_row(None if kept is None else kept.data, node.device)
    if node.op is None:
        return Box("leaf", name or "leaf", "", rows)
    xs = list(node.parents)
    if not node.op.is_fused and node.saved is not FREED and not node.op.variadic:
        for read, saved in zip(node.op.reads, node.saved, strict=True):  # a number that the user wrote
            if isinstance(saved, (int, float)) and read in node.op.inputs:
                xs[node.op.inputs.index(read)] = saved
    box = Box("fused" if node.op.is_fused else "op", name or node.op.name, _symbol(node.op, xs), rows, node.op.name)
    noted = getattr(node, "noted", None)
    if noted is not None and noted[0].place is not None:
        box.tip = f"{noted[0].place.statement}\n{noted[0].place}"
    if not name:
        box.name, box.op = box.op, ""
    box.is_output = is_output
    return box


# -- what stands in a box ---------------------------------------------------------------------------------
def _symbol(op, xs):
    """The op as a user writes it, with the number beside it if there is one."""
    symbol = SYMBOLS.get(op.name, op.name)
    if len(xs) == 2 and op.name in SYMBOLS:
        x, y = (f"{x:g}" if isinstance(x, (int, float)) else "" for x in xs)
        return f"{x} {symbol} {y}".strip()
    return symbol


def _shape(shape, dtype):
    return "×".join(map(str, shape)) + ("" if str(dtype) == "float32" else f" {dtype}")


def _shape_row(data):
    return [("", _shape(data.shape, data.dtype))] if data.ndim else []


def _gradient_row(g, device):
    return [] if g is None else [("grad", _value(np.asarray(device.to_host(g))))]


def _value(array):
    """A number, a few of them, or the root of their mean square."""
    if not array.size:
        return "empty"
    if array.dtype.kind not in "fiub":  # bfloat16
        array = array.astype(np.float32)
    if array.size == 1:
        return _number(array.reshape(-1)[0], 6)
    if array.size <= FEW:
        return "[" + ", ".join(_number(x) for x in array.reshape(-1)) + "]"
    if array.dtype.kind != "f":
        return f"{array.min()} to {array.max()}"
    wide = array.astype(np.float64)
    bad = int((~np.isfinite(wide)).sum())
    if bad:
        return f"{bad:,} not finite"
    return f"rms {_number(np.sqrt(np.mean(wide * wide)))}"


def _number(x, digits=4):
    return str(x) if x.dtype.kind in "iub" else f"{float(x):.{digits}g}".replace("-", "−")
