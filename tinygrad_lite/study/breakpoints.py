"""Where a stepper stops: at an op, a tensor, a line of source, or where a condition holds.

multiply            the op of this name
blocks.0.norm1.weight, d      the tensor of this name: where it is made, used, or sent its gradient
:12   model.py:12   the line of source, of any file or of those that end so
g.norm() > 10       a condition: of the arriving gradient `g`, the op's inputs by the names that its formula has,
                    `out`, and the words `op`, `name`, `path`, `line`, `phase` ("forward" or "backward")
op:exp  tensor:exp  where a word could be both
"""

from __future__ import annotations

import ast
import os
import re
from typing import NamedTuple

from ..ops.registry import OPS
from ..tensor import Tensor, wrap

_WORDS = {"g", "out", "op", "name", "path", "line", "phase"}


class Breakpoint(NamedTuple):
    """kind: "op", "tensor", "line" or "condition"; text as it was given."""

    kind: str
    text: str
    what: object

    @classmethod
    def parse(cls, text: str) -> Breakpoint:
        """A breakpoint from its text. Raises ValueError if it can be none."""
        text = text.strip()
        if not text:
            raise ValueError("break: expected an op, a tensor's name, file.py:line or a condition, got nothing")
        kind, colon, name = text.partition(":")
        if colon and kind in ("op", "tensor"):
            if kind == "op" and name not in OPS:
                raise ValueError(f"break: there is no op {name!r}")
            return cls(kind, text, name)
        if found := re.fullmatch(r"(?:(.*):)?(\d+)", text):
            return cls("line", text, (found[1] or "", int(found[2])))
        if re.fullmatch(r"[\w.]+", text):
            return _name(cls, text)
        return cls("condition", text, _condition(text))

    def fires(self, steps, moment) -> bool:
        """Whether a stepper stops at this moment. Raises ValueError if the condition itself fails."""
        event = moment.event
        if self.kind == "op":
            return moment.op is not None and moment.op.name == self.what
        if self.kind == "tensor":
            return self.what in _tensors(steps, moment)
        if self.kind == "line":
            file, line = self.what
            places = event.call.places if event is not None else ()
            return any(p.line == line and _ends(p.file, file) for p in places)
        return self._holds(steps, moment)

    def is_somewhere(self, steps) -> bool:
        """Whether an op, a tensor or a line of this name is in the forward pass; of a condition nobody knows before."""
        if self.kind == "condition":
            return True
        return any(self.fires(steps, steps.moment(at)) for at in range(len(steps.trace)))

    def _holds(self, steps, moment):
        names, code = self.what
        scope = _scope(steps, moment)
        if not names <= scope.keys():  # of the gradient, say, in the forward pass
            return False
        try:
            return bool(eval(code, {"abs": abs, "max": max, "min": min, "any": any, "all": all, "len": len}, scope))
        except Exception as error:
            raise ValueError(f"break: {self.text}: {type(error).__name__}: {error}") from None

    def __str__(self):
        return f"{self.kind} {self.text.removeprefix(self.kind + ':')}"


def _name(cls, text):
    return cls("op" if text in OPS else "tensor", text, text)


def _condition(text):
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError as error:
        raise ValueError(f"break: {text!r} is no condition: {error.msg}; write g.norm() > 10, say") from None
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names -= {"abs", "max", "min", "any", "all", "len"}
    inputs = {name for op in OPS.values() for name in op.inputs}
    if unknown := sorted(names - _WORDS - inputs):
        raise ValueError(
            f"break: a condition knows {', '.join(sorted(_WORDS))} and the inputs of the op by its formula's names; "
            f"it does not know {', '.join(unknown)}"
        )
    return frozenset(names), compile(tree, "<break>", "eval")


def _scope(steps, moment):
    event, step = moment.event, moment.step
    scope = {"phase": "backward" if step is not None else "forward", "op": moment.op.name if moment.op else "leaf"}
    if step is not None:
        scope["g"] = wrap(step.g, None, step.node.device)
        scope["name"] = steps.label(step.node)
    if event is not None:
        scope |= {"out": event.out.detach(), "name": event.name, "path": event.path}
        scope["line"] = event.place.line if event.place else 0
        if not event.op.variadic:
            for name, x in zip(event.op.inputs, event.xs, strict=True):
                scope[name] = x.detach() if type(x) is Tensor else x
    return scope


def _tensors(steps, moment):
    """The names of what is touched: the result, and the inputs; in backward those that are sent a gradient."""
    trace, event, step = steps.trace, moment.event, moment.step
    if event is None:
        leaf = trace.leaf_of(step.node)
        return {trace.name_of(leaf)} if leaf is not None else set()
    sent = [True] * len(event.xs) if step is None else [s is not None for s in step.sent]
    named = [trace.name_of(x) for x, is_sent in zip(event.xs, sent, strict=True) if is_sent and type(x) is Tensor]
    return {event.name, *named}


def _ends(file, wanted):
    if not wanted:
        return True
    file, wanted = file.replace(os.sep, "/"), wanted.replace(os.sep, "/")
    return file == wanted or file.endswith("/" + wanted)
