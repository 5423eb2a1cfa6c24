"""The walk back: from outputs to leaves, each node once, in reverse order of creation.

`walk` is a generator of steps, and `backward()` drains it: what a stepper pauses is what trains, to the last bit.
Plain backward runs the rules on arrays; `create_graph` runs the same rules on Tensors, by handing them the functional
namespace, so that the gradients can be differentiated again.

Where nobody looks at the steps, a kernel may add its gradient to what has already arrived at a parent (`ADDS` in
kernels/__init__.py): the stream of residuals of a GPT is joined by a norm's gradient twice a block, and a sum of its
own reads both again. What the kernel gives is then the sum; a walk that is `stepped` runs it once more, alone.
"""

from __future__ import annotations

from operator import attrgetter
from typing import NamedTuple

from ..config import settings
from ..dtypes import HALF
from ..kernels import lookup
from ..ops.registry import At
from .node import FREED, SHARED, Leaf, Node
from .record import is_exact, widen

_by_seq = attrgetter("seq")
_new_tuple = tuple.__new__  # Step(...) through it costs half: benchmarks/overhead.py


class Step(NamedTuple):
    """One step of the walk: a node, the gradient that reached it, and what its rules sent to its parents."""

    node: Node
    g: object
    sent: tuple


def topological(roots, stop=(), targets=None) -> list[Node]:
    """All nodes that the roots depend on, newest first; with `targets`, only those on a way to a target."""
    seen, stack = set(roots), list(roots)
    while stack:
        node = stack.pop()
        if stop and node in stop:
            continue
        for parent in node.parents:
            if parent is not None and parent not in seen:
                seen.add(parent)
                if parent.parents:
                    stack.append(parent)
    if targets is None:
        return sorted(seen, key=_by_seq, reverse=True)
    order, leading = sorted(seen, key=_by_seq), set(targets)
    for node in order:
        if node not in leading and not leading.isdisjoint(node.parents):
            leading.add(node)
    return [node for node in reversed(order) if node in leading]


class Walk:
    """One walk back. Iterate over it: each item is a `Step`.

    roots, gs       nodes to start from and their gradients (arrays, or Tensors under create_graph)
    wrap            Tensor from (array, node, device); functional: the namespace of ops over Tensors
    create_graph    run the rules on Tensors
    retain_graph    keep what nodes saved; else it is freed as the walk passes
    targets         nodes whose gradients are asked for: only rules on a way to one of them run
    stop            nodes at which the walk ends
    accumulating    add what reaches a leaf to its `.grad`
    stepped         somebody looks at what each step sent: a kernel that adds it to a sum is run for it once more
    """

    def __init__(self, roots, gs, *, wrap, functional, create_graph=False, retain_graph=False, targets=None, stop=(),
                 accumulating=False, stepped=False):  # fmt: skip
        self.wrap, self.functional, self.create_graph = wrap, functional, create_graph
        self.retain_graph = retain_graph or create_graph
        self.stop, self.accumulating, self.stepped = stop, accumulating, stepped
        self.wanted = None
        self.order = topological(roots, stop, targets)
        if targets is not None:
            self.wanted = set(self.order)
        self.pending: dict[Node, object] = {}  # gradients that have arrived, summed
        self.owned: set[Node] = set()  # of these, the sums in a buffer that nobody else sees
        for node, g in zip(roots, gs, strict=True):
            self._arrive(node, g, None)

    def __iter__(self):
        stop, create_graph, accumulating, retain = self.stop, self.create_graph, self.accumulating, self.retain_graph
        arrived, rules = self.pending.pop, self._rules
        for node in self.order:
            g = arrived(node, None)
            if g is None:
                continue
            if stop and node in stop:  # its hooks belong to the walk that goes on from here
                yield Step(node, g, ())
                continue
            extra = node.extra
            if extra is not None:
                g = self._call_hooks(node, extra, g)
            op = node.op
            if op is None:
                if accumulating:
                    accumulate(node, g, self)
                yield _new_tuple(Step, (node, g, ()))
                continue
            saved = node.saved
            if saved is FREED:
                raise RuntimeError(
                    f"{op.name}: this part of the graph was already walked and what it saved is freed: "
                    "pass retain_graph=True to the first backward(), or compute the output again"
                )
            if node.watch is not None:
                self._check_versions(node)
            if op.is_fused:
                walk = op.replay or (Walk._fused_graph if create_graph else Walk._fused)
                sent = walk(self, node, g)
            else:
                sent = rules(node, g)
            if not retain:
                node.saved = FREED
            yield _new_tuple(Step, (node, g, sent))

    def _check_versions(self, node):
        for cell, version in node.watch:
            if cell[0] != version:
                raise RuntimeError(
                    f"{node.op.name}: a tensor that backward needs was changed in place {cell[0] - version} time(s) since "
                    "it was used: change a copy (x = x.clone()), or write after backward()"
                )

    # -- one node -----------------------------------------------------------------------------------------
    def _rules(self, node, g):
        op, params, saved = node.op, node.params, node.saved
        if self.create_graph:
            xp, saved = self.functional, self._as_tensors(node)
        else:
            xp = node.device.xp
            if node.dtype.itemsize == 2 and node.dtype in HALF and not is_exact(op, saved, node.device.xp):
                g, saved = widen(g), [tuple(map(widen, s)) if type(s) is tuple else widen(s) for s in saved]
        sent, wanted, variadic = [], self.wanted, op.variadic
        for i, parent in enumerate(node.parents):
            if parent is None or (wanted is not None and parent not in wanted):
                sent.append(None)
                continue
            fn, picks, names, wants_index = op.rules[0 if variadic else i]
            if names or wants_index:
                named = {name: params[name] for name in names}
                if wants_index:
                    named["index"] = i
                gx = fn(xp, g, **named, **{op.reads[p]: saved[p] for p in picks})
            else:
                gx = fn(xp, g, *[saved[p] for p in picks])
            sent.append(gx)
            if gx is not None:
                self._arrive(parent, gx, op)
        return sent

    def _as_tensors(self, node):
        """What a node saved, as Tensors that stand in the graph where the originals stood."""
        wrap, device, ndarray = self.wrap, node.device, node.device.xp.ndarray
        values = []
        for name, value in zip(node.op.reads, node.saved, strict=True):
            if name == "out":
                value = wrap(value, node, device) if value is not None else None
            elif type(value) is tuple and name in node.op.inputs:  # a variadic op's inputs
                value = tuple(
                    [wrap(v, p, device) if type(v) is ndarray else v for v, p in zip(value, node.parents, strict=True)]
                )
            elif type(value) is ndarray:
                value = wrap(value, node.parents[node.op.inputs.index(name)], device)
            values.append(value)
        return values

    def _fused(self, node, g):
        arrays, kept, kernel = node.saved
        wanted, parents, pending = self.wanted, node.parents, self.pending
        needs = tuple([p is not None and (wanted is None or p in wanted) for p in parents])
        g = node.device.xp.contiguous(g if g.dtype in kernel.DTYPES else widen(g))
        into, onto = [None] * len(parents), [None] * len(parents)
        for i, parent in enumerate(parents):
            if not needs[i] or parents.count(parent) > 1:
                continue
            # A kernel that computes in float32 for half precision leaves buffers and sums to the rounded result.
            previous, dtype = pending.get(parent), arrays[i].dtype
            if previous is None:
                # The first arrival into a parameter's gradient overwrites its buffer: no copy afterwards.
                if type(parent) is Leaf and parent.buffer is not None and parent.grad is None:
                    into[i] = parent.buffer if parent.buffer.dtype == dtype else None
            elif i in kernel.ADDS and previous.dtype == dtype and previous.flags.c_contiguous:
                onto[i] = pending.pop(parent)  # the sum arrives in its place
        adding, nothing = {"onto": tuple(onto)} if kernel.ADDS else {}, (None,) * len(parents)
        shown = None
        if self.stepped and any(a is not None for a in onto):  # what the rules themselves sent, for whoever looks
            shown = kernel.backward(g, kept, needs, nothing, onto=nothing, **node.params)
        sent = kernel.backward(g, kept, needs, tuple(into), **adding, **node.params)
        for parent, gx, need in zip(parents, sent, needs, strict=True):
            if need:
                self._arrive(parent, gx, node.op, fresh=gx is not g)
        return sent if shown is None else shown

    def _fused_graph(self, node, g):
        """Differentiate the readable twin; the inner walk stops at stand-ins for the op's inputs."""
        arrays, functional, wrap, device = node.saved[0], self.functional, self.wrap, node.device
        inputs = []
        for array, parent in zip(arrays, node.parents, strict=True):
            if type(array) is not device.xp.ndarray:
                inputs.append(array)
                continue
            x = wrap(array, parent, device)
            if parent is not None:
                x = functional.identity(functional.astype(x, dtype=parent.dtype) if array.dtype != parent.dtype else x)
            inputs.append(x)
        nodes = [x.node if p is not None else None for x, p in zip(inputs, node.parents, strict=True)]
        out = node.op.forward(functional, *inputs, **node.params)
        stop = {n for n in nodes if n is not None}
        found = {}
        if out.node is not None:
            inner = Walk([out.node], [g], wrap=wrap, functional=functional, create_graph=True, targets=stop, stop=stop)
            found = {step.node: step.g for step in inner if step.node in stop}
        sent = []
        for n, parent in zip(nodes, node.parents, strict=True):
            gx = found.get(n)
            if parent is None or (self.wanted is not None and parent not in self.wanted):
                gx = None
            sent.append(gx)
            if gx is not None:
                self._arrive(parent, gx, node.op)
        return sent

    # -- sums ---------------------------------------------------------------------------------------------
    def _arrive(self, node, g, op, fresh=False):
        """Add g to what has arrived at node. `fresh`: nobody else holds g's memory."""
        pending = self.pending
        previous = pending.get(node)
        if type(g) is At:
            self._arrive_at(node, g, previous)
            return
        if g.shape != node.shape:
            g = _unbroadcast(self._xp(node), g, node.shape, op)
        if g.dtype is not node.dtype and g.dtype != node.dtype:
            if node.dtype not in HALF:
                name = op.name if op else "backward"
                raise TypeError(f"{name}: a gradient must have its tensor's type {node.dtype}, got {g.dtype}")
            g = self._xp(node).astype(g, dtype=node.dtype)
        if previous is None:
            pending[node] = g
            if fresh and not self.create_graph:
                self.owned.add(node)
        elif self.create_graph:
            pending[node] = previous + g
        elif node in self.owned:
            node.device.xp.add_into(previous, g)
        else:
            xp = node.device.xp
            pending[node] = xp.asarray(xp.add(previous, g))
            self.owned.add(node)

    def _arrive_at(self, node, at, previous):
        key, g, unique = at
        if self.create_graph:
            key = (
                tuple([getattr(k, "data", k) if hasattr(k, "cell") else k for k in key]) if type(key) is tuple else key
            )
            placed = self.functional.scatter(g, key=key, shape=node.shape, unique=unique)
            self.pending[node] = placed if previous is None else previous + placed
            return
        xp = node.device.xp
        rows = None  # the kernel that adds rows, where it can: NumPy's add.at is 19 times slower
        if not unique and len(node.shape) == 2 and type(key) is tuple and len(key) == 1 and settings.use_fused:
            rows = lookup(node.device.name, "scatter_add_rows")
            rows = rows if rows is not None and node.dtype in rows.DTYPES else None
        if not unique and node.dtype in HALF and rows is None:  # elements named often add up in float32
            placed = xp.scatter(widen(g), key=key, shape=node.shape, unique=False).astype(node.dtype)
            self.pending[node] = placed if previous is None else xp.asarray(previous + placed)
            self.owned.add(node)
            return
        if previous is None or node not in self.owned:
            buffer = xp.zeros(node.shape, node.dtype)
            if previous is not None:
                xp.add_into(buffer, previous)
            self.pending[node] = previous = buffer
            self.owned.add(node)
        g = g.astype(node.dtype) if g.dtype != node.dtype else g
        if rows is not None:
            rows.scatter_add_rows(previous, key[0].reshape(-1), xp.contiguous(g).reshape(-1, node.shape[1]))
            return
        xp.add_at(previous, key, g, unique)

    def _xp(self, node):
        return self.functional if self.create_graph else node.device.xp

    def _call_hooks(self, node, extra, g):
        wrap = self.wrap
        for hook in tuple(extra.hooks.values()):
            given = g
            if not self.create_graph:
                given = wrap(g, None, node.device)
                given.cell = SHARED  # other branches may hold this memory: a hook returns what it wants instead
            changed = hook(given)
            if changed is not None:
                if not hasattr(changed, "cell"):
                    raise TypeError(f"hook: must return None or a Tensor, got {type(changed).__name__}")
                if (changed.shape, changed.dtype, changed.device) != (node.shape, node.dtype, node.device):
                    raise ValueError(
                        f"hook: must return a gradient as its tensor, {node.dtype} {node.shape} on {node.device.name}, got "
                        f"{changed.dtype} {changed.shape} on {changed.device.name}"
                    )
                g = changed if self.create_graph else changed.data
                self.owned.discard(node)
        if extra.retain:
            kept = g if self.create_graph else wrap(node.device.xp.array_copy(g), None, node.device)
            extra.grad = kept if extra.grad is None else extra.grad + kept
        return g


def accumulate(leaf: Leaf, g, walk: Walk):
    """Add a gradient that has reached a leaf to its `.grad`, which is always its own writable buffer."""
    if walk.create_graph:
        leaf.grad = g if leaf.grad is None else leaf.grad + g
        return
    held = leaf.grad
    if held is not None:
        if held.node is not None or not leaf.device.xp.is_own(held.data):
            leaf.grad = walk.wrap(held.data + g, None, leaf.device)
        else:
            leaf.device.xp.add_into(held.data, g)
        return
    data = leaf.buffer
    if data is None:
        xp = leaf.device.xp
        data = g if leaf in walk.owned and xp.is_own(g) else xp.array_copy(g)
    elif data is not g:
        leaf.device.xp.assign(data, g)
    leaf.grad = walk.wrap(data, None, leaf.device)


def _unbroadcast(xp, g, shape, op):
    """Undo broadcasting: sum the axes that were added or stretched."""
    extra = len(g.shape) - len(shape)
    stretched = tuple(i + extra for i, n in enumerate(shape) if n == 1 and extra >= 0 and g.shape[i + extra] != 1)
    same = extra >= 0 and all(n == g.shape[i + extra] or n == 1 for i, n in enumerate(shape))
    if not same:
        name = op.name if op else "backward"
        raise ValueError(f"{name}: a gradient of shape {tuple(g.shape)} does not reduce to the input's shape {shape}")
    axes = tuple(range(extra)) + stretched
    g = xp.sum(g, axis=axes, keepdims=False)
    return g if g.shape == shape else xp.reshape(g, shape=shape)
