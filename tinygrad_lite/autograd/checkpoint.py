"""Activation checkpointing: keep a block's inputs, compute its inside again when backward arrives.

Chen et al. 2016, "Training deep nets with sublinear memory cost", arXiv:1604.06174. The block is recorded at
the first run as well, and its record thrown away when it returns: that shows which tensors from outside it
depends on, arguments and closures alike, so that gradients reach them all. It costs no memory at the peak,
since backward holds one block's inside anyway.
"""

from __future__ import annotations

from ..errors import function
from ..ops.registry import Op
from ..random import generators_used
from ..tensor import Tensor, functional, wrap
from .mode import enable_grad, mode
from .node import Node, next_seq
from .walk import Walk


def checkpoint(fn, *args, **kwargs):
    """fn(*args, **kwargs), keeping for backward the arguments alone instead of all that fn computes on the way.

    fn takes anything and returns one Tensor; it is called again in backward, with the generators that it draws
    from as they were, so that dropout drops the same elements. Gradients reach Tensors among args and those that fn closes
    over. May be nested, and differentiated again. Raises TypeError if fn returns something else.
    """
    function("checkpoint", fn)
    if not mode.state:
        return fn(*args, **kwargs)
    start = next_seq()
    with generators_used() as generators:
        out = fn(*args, **kwargs)
    if not isinstance(out, Tensor):
        raise TypeError(
            f"checkpoint: fn must return one Tensor, got {type(out).__name__}: checkpoint each result, or stack them"
        )
    if out.node is None or out.node.seq < start:
        return out
    parents, watch = _outside(out.node, start)
    saved = (fn, args, kwargs, generators)
    return wrap(out.data, Node(_REPLAY, parents, saved, {}, out.data, out.device, watch), out.device)


def _outside(node, start):
    """The nodes made before `start` that `node` rests on, and every version that the nodes since then watch."""
    found, watch, seen, stack = [], {}, {node}, [node]
    while stack:
        node = stack.pop()
        for cell, version in node.watch or ():
            watch.setdefault(id(cell), (cell, version))
        for parent in node.parents:
            if parent is not None and parent not in seen:
                seen.add(parent)
                (found if parent.seq < start else stack).append(parent)
    return tuple(found), tuple(watch.values()) or None


def _replay(walk, node, g):
    """Record the block again and walk it, down to the nodes that it depends on from outside."""
    fn, args, kwargs, generators = node.saved
    start, found_states = next_seq(), {generator: generator.get_state() for generator in generators}
    try:
        for generator, state in generators.items():
            generator.set_state(state)
        with enable_grad():
            out = fn(*args, **kwargs)
    finally:
        for generator, state in found_states.items():
            generator.set_state(state)
    if not isinstance(out, Tensor):
        raise TypeError(f"checkpoint: fn, called again in backward, returned {type(out).__name__} and no Tensor")
    outside = _outside(out.node, start)[0] if out.node is not None else ()
    if out.shape != node.shape or not set(outside) <= set(node.parents):
        raise RuntimeError(
            "checkpoint: fn did something else when it was called again in backward: it must depend on its arguments, "
            "on closed-over tensors that do not change, and on generators only"
        )
    wanted = {p for p in outside if walk.wanted is None or p in walk.wanted}
    found = {}
    if wanted:
        inner = Walk(
            [out.node], [g], wrap=wrap, functional=functional, create_graph=walk.create_graph,
            targets=wanted, stop=set(outside),
        )  # fmt: skip
        found = {step.node: step.g for step in inner if step.node in wanted}
    for parent, gx in found.items():
        walk._arrive(parent, gx, node.op)
    return tuple(found.get(p) for p in node.parents)


def _formula(xp, *xs):
    raise RuntimeError("checkpoint: this op has no formula of its own: it calls the function that it was given")


_formula.__name__ = "checkpoint"
_REPLAY = Op(_formula, (), is_fused=True)  # not in the registry: it is no formula
_REPLAY.replay = _replay
