"""Where a NaN or an infinity began: `with detect_anomaly():` looks at each result, forward and backward.

The origin is the first op whose output holds a NaN while no input does, or an infinity while all inputs are finite. So
a mask's -infinity, which the user passed, is none, nor is what it gives; but infinity minus infinity is. All results are
looked at, so an input that holds a NaN already was made outside, and is then the origin itself: data with a NaN.

On the way back the same is asked of each rule: of the gradient that reached it and of what was saved, against what it
sends; and of the sums and roundings on arrival, which overflow in float16 where no rule did.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..autograd.mode import NO_GRAD, enable_grad
from ..autograd.node import FREED
from ..autograd.walk import _unbroadcast
from ..device import CPU
from ..dtypes import is_float
from ..nn.module import Module
from ..ops.registry import At, Op
from ..tensor import Tensor, functional, wrap
from ..tensor.reductions import UNDEFINED
from .finite import fingerprint, holds, is_finite
from .origin import AnomalyError, Origin, Value
from .source import capture, capture_inside, user_frame
from .trace import Tracer


class detect_anomaly(Tracer):
    """Inside, the first NaN or infinity raises AnomalyError, which names the op, the line, the shapes and the values.

        with detect_anomaly():
            loss = model(x, y)
            loss.backward()

    replay_file   where the op is written with its inputs, to be run again alone by `replay` or `tgl replay`, once the
                  error leaves the `with`; None for no file
    on_origin     called with the `Origin` before the error is raised: to look around, or to step through it

    It holds for this thread, and not in a no_grad() or enable_grad() within it. What backward needs is checksummed, so
    that a write behind the engine's back, through .data say, is found too. Nothing is kept alive beyond what backward
    keeps. NumPy's own warnings of overflow and division are silent inside.
    """

    def __init__(
        self, replay_file: str | Path | None = "anomaly.npz", on_origin: Callable[[Origin], object] | None = None
    ):
        if on_origin is not None and not callable(on_origin):
            raise TypeError(f"detect_anomaly: on_origin must be callable, got {type(on_origin).__name__}")
        super().__init__()
        self.replay_file, self.on_origin = replay_file, on_origin
        self._errstates = []

    def __enter__(self):
        self._errstates.append(np.seterr(all="ignore"))
        return super().__enter__()

    def __exit__(self, kind, error, traceback):
        super().__exit__(kind, error, traceback)
        np.seterr(**self._errstates.pop())
        if isinstance(error, AnomalyError) and self.replay_file is not None and error.replay_file is None:
            error.save(self.replay_file)
        return False

    def _call(self):
        return capture(0)  # the engine's own frames are left out

    def _raise(self, origin):
        if self.on_origin is not None:
            with enable_grad():  # what it computes is not looked at: it would be called again
                self.on_origin(origin)
        raise AnomalyError(origin)

    # -- forward ------------------------------------------------------------------------------------------
    def on_forward(self, op, xs, params, out):
        wrote = False  # a NaN, as a number
        if not self._is_checked_view(op, xs) and not is_finite(out.data):
            wrote = self._judge_forward(op, xs, params, out)
        if self._found[-1][0] == NO_GRAD:  # entered there: looked at, and recorded as little as before
            out.node = None
        node = out.node
        if node is not None and node.op is op:
            node.noted = self._call(), self._fingerprints(node, out.data), wrote

    @staticmethod
    def _is_checked_view(op, xs):
        """Whether the result is a view of what another op gave, which was looked at then."""
        return op.views and type(xs[0]) is Tensor and xs[0].node is not None and xs[0].node.op is not None

    def _judge_forward(self, op, xs, params, out):
        """Raise, unless what is not finite came with a number of the program's; whether that was a NaN."""
        result = holds(out.device.to_host(out.data))
        given = [(x, holds(x.device.to_host(x.data))) for x in xs if type(x) is Tensor]
        if result.nan:
            spoilt = next((x for x, held in given if held.nan), None)
            if spoilt is None and any(_is_nan(x) for x in (*xs, *params.values())):
                return True
            self._raise(self._forward_origin(op, xs, params, out, "NaN", spoilt))
        constants = (*(x for x in xs if type(x) is not Tensor), *params.values())
        if all(held.is_finite for _, held in given) and not any(map(_is_infinite, constants)):
            self._raise(self._forward_origin(op, xs, params, out, "infinity"))
        return False

    def _forward_origin(self, op, xs, params, out, kind, spoilt=None):
        call = self._call()
        names = op.inputs * len(xs) if op.variadic else op.inputs
        values = [
            Value(name, _label(x, call), _host(x.device, x.data)) if type(x) is Tensor else Value(name, "", x)
            for name, x in zip(names, xs, strict=True)
        ]  # fmt: skip
        inner = None
        if op.is_fused and spoilt is None:
            inner = open_twin(op, [x.data if type(x) is Tensor else x for x in xs], params, out.device)
        at = next((i for i, x in enumerate(xs) if x is spoilt), None) if spoilt is not None else None
        noted = getattr(spoilt.node, "noted", None) if spoilt is not None else None
        return Origin(
            kind=kind, phase="forward", cause="op" if spoilt is None else "input", op=op, params=dict(params),
            call=call, values=values, result=_host(out.device, out.data), inner=inner, which=at,
            made=noted[0] if noted is not None and noted[2] else None,
        )  # fmt: skip

    # -- what backward needs ------------------------------------------------------------------------------
    @staticmethod
    def _reachable(node, out=None):
        """(name, array) of what a node saved and a user can reach: of what a kernel keeps, its result only."""
        op, saved, ndarray = node.op, node.saved, node.device.xp.ndarray
        if saved is FREED or op.replay is not None:
            return []
        found = [(name, a) for name, a in _named(op, saved) if isinstance(a, ndarray)]
        if op.is_fused and out is not None and type(saved[1]) is tuple:
            found += [("out", a) for a in saved[1] if a is out]
        return found

    def _fingerprints(self, node, out):
        lib = node.device.xp.lib
        return [(name, a, fingerprint(a, lib)) for name, a in self._reachable(node, out)]

    def _verify(self, node):
        """Raise if something that the node saved is no longer what it was."""
        call, before, _ = node.noted
        if node.watch is not None and any(cell[0] != version for cell, version in node.watch):
            return  # written through the engine, which has an error of its own for that
        for name, array, was in before:
            if fingerprint(array, node.device.xp.lib) != was:
                self._raise(Origin(
                    kind="written", phase="backward", cause="written", op=node.op, params=dict(node.params or {}),
                    call=call, values=[Value(name, "", _host(node.device, array))],
                ))  # fmt: skip

    # -- backward -----------------------------------------------------------------------------------------
    def on_backward(self, walk):
        """The walk's steps, each looked at: what is saved before it, what arrived after it."""
        spoilt = {node for node, g in walk.pending.items() if not is_finite(_array(g))}  # the user's gradient
        unsure = {}  # gradients whose sum was not looked at on arrival: (node, number of its input) of what sent rows
        steps = iter(walk)
        for node in walk.order:
            if node not in walk.pending:
                continue
            if node in walk.stop or node.op is None:
                held = node.grad if walk.accumulating and node.op is None else None
                adds = held is not None and is_finite(held.data)
                step = next(steps)
                if node.extra is not None or node in unsure:
                    self._look_at_sum(node, step, spoilt, unsure.get(node, ()))
                if adds and node not in spoilt and not is_finite(node.grad.data):
                    self._raise(self._sum_origin(node, "grad", node.grad.data))
                yield step
                continue
            noted = getattr(node, "noted", None)
            if noted is not None and node.saved is not FREED:
                self._verify(node)
                if not walk.retain_graph:
                    node.noted = noted[0], (), noted[2]  # lets go of the arrays, as the walk does
            saved = node.saved
            step = next(steps)
            if node.extra is not None or node in unsure:
                self._look_at_sum(node, step, spoilt, unsure.get(node, ()))
            for i, (parent, sent) in enumerate(zip(node.parents, step.sent)):
                if parent is None or sent is None or parent in spoilt or parent not in walk.pending:
                    continue
                if type(sent) is At:  # a few rows of a large sum: the sum is looked at when it is complete
                    unsure.setdefault(parent, []).append((node, i))
                    arrived = sent.g
                else:
                    arrived = walk.pending[parent]
                if not is_finite(_array(arrived)):
                    self._judge_rule(node, i, step.g, saved, sent, _array(arrived))
                    spoilt.add(parent)
            yield step
        yield from steps

    def _look_at_sum(self, node, step, spoilt, senders):
        """What reached a node in several parts, or went through a hook. senders: who sent rows of it."""
        g = _array(step.g)
        if node in spoilt or is_finite(g):
            return
        spoilt.add(node)
        cause = "hook" if node.extra is not None and node.extra.hooks else "sum"
        origin = self._sum_origin(node, cause, g)
        if cause == "sum" and len(senders) == 1:  # the rows that one op read several times
            sender, i = senders[0]
            noted = getattr(sender, "noted", None)
            origin = replace(
                origin, cause="arrival", op=sender.op, params=dict(sender.params or {}), call=noted and noted[0],
                values=[], which=i, is_alone=False,
            )  # fmt: skip
        self._raise(origin)

    @staticmethod
    def _sum_origin(node, cause, g):
        g, noted = _host(node.device, g), getattr(node, "noted", None)
        values = [Value("leaf", _label_of_leaf(node), None)] if node.op is None else []
        return Origin(
            kind=_kind(holds(g)), phase="backward", cause=cause, op=node.op, params={}, call=noted and noted[0],
            values=values, result=g, dtype=str(node.dtype),
        )  # fmt: skip

    def _judge_rule(self, node, i, g, saved, sent, arrived):
        """Raise, if what a rule sent, or its sum on arrival, has its NaN or infinity from there."""
        device, op = node.device, node.op
        rule = _array(sent.g if type(sent) is At else sent)
        # Told by the name in `values`: the gradient that came, then what was saved.
        values = [Value("g", "the gradient that reached it", _host(device, _array(g)))]
        if saved is not FREED and op.replay is None:
            values += [
                Value(name, "", _host(device, a) if isinstance(a, device.xp.ndarray) else a)
                for name, a in _named(op, saved)
            ]
        given = [v.holds for v in values if v.holds is not None]
        made, total = holds(_host(device, rule)), holds(_host(device, arrived))
        noted = getattr(node, "noted", None)
        if made.is_finite:
            cause, kind = "arrival", _kind(total)
        elif made.nan and not any(held.nan for held in given):
            cause, kind = "op", "NaN"
        elif made.infinite and not made.nan and all(held.is_finite for held in given):
            cause, kind = "op", "infinity"
        elif made.nan and noted is None and not given[0].nan:
            cause, kind = "saved", "NaN"  # the forward pass ran outside
        else:
            return
        inner = None
        if cause == "op" and op.is_fused and op.replay is None:
            needs = [p is not None for p in node.parents]
            inner = open_twin(op, saved[0], node.params, device, g, needs)
        self._raise(
            Origin(
                kind=kind,
                phase="backward",
                cause=cause,
                op=op,
                params=dict(node.params or {}),
                call=noted and noted[0],
                values=values,
                inner=inner,
                which=i,
                result=_host(device, rule if cause == "op" else arrived),
                shapes=[None if p is None else (p.shape, str(p.dtype)) for p in node.parents],
                dtype=str(node.parents[i].dtype),
                is_alone=type(sent) is not At and not is_finite(_alone(device, rule, node.parents[i], op)),
            )  # fmt: skip
        )


class _Inside(detect_anomaly):
    """The same within a fused op's formula: places are the formula's lines."""

    def __init__(self, op: Op):
        super().__init__(replay_file=None)
        self.open_fused, self._formula = True, op.forward.__code__

    def _call(self):
        return capture_inside(self._formula, 0)


def open_twin(op: Op, arrays, params, device, g=None, needs=None) -> Origin | None:
    """Where the readable twin of a fused op makes the NaN or infinity, on the same arrays; None where it makes none."""
    xs = []
    for i, array in enumerate(arrays):
        if isinstance(array, device.xp.ndarray):
            array = wrap(array, None, device)
            if g is not None and needs[i] and is_float(array.dtype):
                array.requires_grad_()
        xs.append(array)
    try:
        with _Inside(op):
            out = op.forward(functional, *xs, **params)
            if g is not None:
                out.backward(wrap(_array(g).astype(out.dtype), None, device))
    except AnomalyError as error:
        return error.origin
    return None


def _named(op, saved):
    if not op.is_fused:
        return [
            (name, a)
            for name, value in zip(op.reads, saved, strict=True)
            for a in (value if type(value) is tuple and name in op.inputs else (value,))
        ]
    return list(zip(op.inputs * len(saved[0]) if op.variadic else op.inputs, saved[0], strict=True))


def _array(g):
    return g.data if type(g) is Tensor else g


def _host(device, array):
    """A copy as NumPy's array, also of a number of NumPy's."""
    return np.array(device.to_host(array))


def _alone(device, sent, parent, op):
    """What a rule sent, as it arrives where nothing else does: broadcasting undone, in the parent's type."""
    sent = _host(device, sent)
    sent = sent if sent.shape == parent.shape else _unbroadcast(CPU.xp, sent, parent.shape, op)
    return sent.astype(parent.dtype)


def _kind(held):
    return "NaN" if held.nan else "infinity"


def _is_nan(x):
    return isinstance(x, float) and math.isnan(x) and x is not UNDEFINED


def _is_infinite(x):
    return isinstance(x, float) and math.isinf(x)


def _variables():
    """What the program calls things, where it calls the library: (name, value), locals first."""
    frame = user_frame(0)
    return () if frame is None else [*frame.f_locals.items(), *frame.f_globals.items()]


def _label_of_leaf(node):
    """What the user calls a leaf: the variable that holds it, or its dotted name in a module that one holds."""
    for name, value in _variables():
        if isinstance(value, Tensor) and value.node is node:
            return name
        if isinstance(value, Module):
            found = next((path for path, p in value.named_parameters(name) if p.node is node), None)
            if found is not None:
                return found
    return ""


def _label(x, call):
    """What the user calls an input: a parameter's dotted name, or the variable that holds it."""
    if call.modules:
        for name, parameter in call.modules[0].named_parameters():
            if parameter is x:
                return f"{type(call.modules[0]).__name__}.{name}"
    return next((name for name, value in _variables() if value is x), "")
