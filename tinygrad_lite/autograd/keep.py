"""What a node keeps for backward: of an op's inputs and result only what the rules that can run will read."""

from __future__ import annotations

from ..dtypes import default_float
from .node import SHARED, Node


def watched(tensors):
    """Version cells of what could still be written in place: constants, leaves, and views of leaves."""
    watch = None
    for x in tensors:
        cell, node = x.cell, x.node
        if cell is None and (node is None or node.op is None):
            cell = x.cell = [0]
        if cell is not None and cell is not SHARED:
            watch = (*(watch or ()), (cell, cell[0]))
    return watch


def _source(op, name):
    if name == "out":
        return "out", 0
    if name in op.inputs:
        return "array", op.inputs.index(name)
    stem, _, kind = name.rpartition("_")
    return kind, op.inputs.index(stem)


def recorder(op):
    """A function that gives `out` its node, if any input that has a rule needs a gradient."""
    if (found := _RECORDERS.get(op)) is not None and found[0] == (len(op.rules), op.reads):
        return found[1]
    sources = [_source(op, name) for name in op.reads]
    variadic, rules, kept_of = op.variadic, op.rules, op.kept
    has_rule = [i in rules for i in range(len(op.inputs))]
    first, second = (*has_rule, False, False)[:2]
    plans = {}  # by mask, what to save; None where no rule that can run reads it

    def record_any(op, xs, params, out):
        mask, parents = 0, []
        for i, x in enumerate(xs):
            node = getattr(x, "node", None) if variadic or has_rule[i] else None
            if node is not None:
                mask |= 1 << i
            parents.append(node)
        if mask:
            keep(op, xs, params, out, mask, tuple(parents))

    def record_two(op, xs, params, out):
        x, y = xs
        p = getattr(x, "node", None) if first else None
        q = getattr(y, "node", None) if second else None
        mask = (p is not None) + 2 * (q is not None)
        if mask:
            keep(op, xs, params, out, mask, (p, q))

    def record_one(op, xs, params, out):
        if first and (p := xs[0].node) is not None:
            keep(op, xs, params, out, 1, (p,))

    def keep(op, xs, params, out, mask, parents):
        plan = plans.get(mask)
        if plan is None:
            plan = plans[mask] = [s if kept else None for s, kept in zip(sources, kept_of(mask), strict=True)]
        if not plan:
            out.node = Node(op, parents, (), params, out.data, out.device)
            return
        saved, watch = [], None
        for source in plan:
            if source is None:
                saved.append(None)
                continue
            kind, i = source
            if kind == "out":
                saved.append(out.data)
            elif variadic:
                saved.append(tuple([_part(kind, x) for x in xs]))
                if kind == "array":
                    watch = watched(xs)
            elif kind == "array" and hasattr(x := xs[i], "cell"):
                saved.append(x.data)
                cell, node = x.cell, x.node
                if cell is None and (node is None or node.op is None):  # a constant or a leaf
                    cell = x.cell = [0]
                if cell is not None and cell is not SHARED:  # may be written in place later, or is a view of such
                    watch = (*(watch or ()), (cell, cell[0]))
            else:
                saved.append(_part(kind, xs[i]))
        out.node = Node(op, parents, tuple(saved), params, out.data, out.device, watch)

    record = record_any if variadic or len(op.inputs) > 2 else record_two if len(op.inputs) == 2 else record_one
    _RECORDERS[op] = (len(op.rules), op.reads), record
    return record


_RECORDERS: dict = {}


def _part(kind, x):
    data = getattr(x, "data", x) if hasattr(x, "cell") else x
    if kind == "array":
        return data
    if kind == "shape":
        return getattr(data, "shape", ())
    return getattr(data, "dtype", default_float)
