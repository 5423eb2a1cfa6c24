"""What is to be seen at one step of a stepper, as data: a heading, the user's line, and sections of lines.

Text for pipes, HTML for notebooks and the terminal's screen are made of the same `Sheet`.
"""

from __future__ import annotations

import html
import inspect
import os
import re
from typing import NamedTuple

import numpy as np

from ..autograd.node import FREED
from ..autograd.record import is_exact, widen
from ..autograd.walk import _unbroadcast
from ..dtypes import HALF
from ..ops.registry import At
from ..tensor import Tensor
from .formula import INLINE, number, source_of, summary, worked

GRID = 64  # elements of a matrix that are still shown one by one
WRITTEN = "  was written in place later: these are not the numbers that the op had"


class Section(NamedTuple):
    """Lines under a title. kind: "plain", "code", or "sum" for the running sum at a shared node."""

    title: str
    lines: list[str]
    kind: str = "plain"


class Sheet(NamedTuple):
    """One step. where: file:line and function; statement[start:end]: the op's expression; path: the module's."""

    heading: str
    where: str
    statement: str
    start: int
    end: int
    path: str
    sections: list[Section]

    def __str__(self):
        lines = [self.heading]
        if self.where:
            lines += [f"  {self.where}" + (f"   module {self.path}" if self.path else "")]
        if self.statement:
            lines += ["    " + self.statement, "    " + " " * self.start + "^" * max(self.end - self.start, 1)]
        for section in self.sections:
            lines.append(f"  {section.title}")
            lines += ["    " + line for line in section.lines]
        return "\n".join(lines)

    def html(self) -> str:
        """For a notebook: follows its light or dark theme."""

        def block(text):
            return f'<pre style="margin:.1em 0 .1em 1em;white-space:pre-wrap">{text}</pre>'

        escape, rows = html.escape, [f"<b>{html.escape(self.heading)}</b>"]
        if self.where:
            path = f" &middot; module {escape(self.path)}" if self.path else ""
            rows.append(f'<div style="opacity:.7">{escape(self.where)}{path}</div>')
        if self.statement:
            parts = self.statement[: self.start], self.statement[self.start : self.end], self.statement[self.end :]
            before, marked, after = map(escape, parts)
            rows.append(block(f"{before}<mark>{marked}</mark>{after}"))
        for section in self.sections:
            lines = escape("\n".join(section.lines))
            tint = "background:rgba(255,170,0,.15);border-left:3px solid orange;" if section.kind == "sum" else ""
            rows.append(
                f'<div style="{tint}margin-top:.4em;padding-left:.3em">{escape(section.title)}{block(lines)}</div>'
            )
        style = "border:1px solid rgba(128,128,128,.4);border-radius:6px;padding:.6em;max-width:60em"
        return f'<div style="{style}">{"".join(rows)}</div>'


def sheet_of(steps, moment) -> Sheet:
    """The sheet of one moment of `Steps`."""
    event = moment.event
    sections = _backward(steps, moment) if moment.is_backward else _forward(steps, event)
    place = event.place if event is not None else None
    heading = heading_of(steps, moment)
    if place is None:
        return Sheet(heading, "", "", 0, 0, "", sections)
    end = place.end or len(place.statement)
    where = f"{shown_path(place.file)}:{place.line}"
    where += f" in {place.function}" if place.function != "<module>" else ""
    return Sheet(heading, where, place.statement, place.start, end, event.path, sections)


def heading_of(steps, moment) -> str:
    """Which step it is and what happens in it, in one line."""
    if not moment.is_backward:
        what = f"{moment.op.name} makes {steps.label(moment.event.out)}"
        return f"Forward, op {moment.number + 1} of {len(steps.trace)}: {what}"
    count, node = len(steps.order), moment.step.node
    what = (
        f"back through {moment.op.name}, which made {steps.label(node)}" if moment.op else f"leaf {steps.label(node)}"
    )
    return f"Backward, step {moment.number + 1} of {count}: {what}"


def shown_path(file: str) -> str:
    """A path relative to the current directory where that is shorter."""
    if file.startswith("<"):
        return file
    try:
        relative = os.path.relpath(file)
    except ValueError:  # another drive
        return file
    return relative if len(relative) < len(file) else file


# -- forward ------------------------------------------------------------------------------------------------
def _forward(steps, event):
    op, xp = event.op, event.out.device.xp
    sections, written = [_formula(op)], event.written
    values = _arguments(event) if not op.variadic and not any(written) else {}
    if lines := worked(op.forward, xp, values) if values else []:
        how = " (the readable twin's; the kernel rounds in its own order)" if op.is_fused else ""
        how = how or (f" (in float32, then rounded to {event.out.dtype})" if _is_widened(event) else "")
        sections.append(Section(f"With this step's numbers{how}", lines, "code"))
    names, lines = _input_names(event), []
    for name, x, is_written in zip(names, event.xs, written, strict=False):
        called = steps.label(x)
        lines += _value(f"{name} = {called}" if type(x) is Tensor else f"{name}", x)
        lines += [WRITTEN] if is_written else []
    lines += [f"{name} = {value!r}" for name, value in event.params.items()]
    sections.append(Section("Inputs", lines))
    uses = steps.uses.get(event.node, 0) if event.node is not None else 0
    used = f"   (used {uses} times: in backward {uses} gradients meet here)" if uses > 1 else ""
    lines = _value(steps.label(event.out), event.out) + ([WRITTEN] if written[-1] else [])
    sections.append(Section(f"Output{used}", lines))
    return sections


def _formula(op) -> Section:
    source = source_of(op.forward)
    lines = summary(op).split("\n")
    if source is not None:
        lines += ["| " + line for line in source.text.split("\n")]
        kind = "the readable twin" if op.is_fused else "what runs"
        title = f"Formula of {op.name}, {kind} ({shown_path(source.file)}:{source.line})"
    else:
        title = f"Formula of {op.name}"
    return Section(title, lines, "code")


def _arguments(event) -> dict:
    arrays = [x.data if type(x) is Tensor else x for x in event.xs]
    if _is_widened(event):
        arrays = [widen(a) for a in arrays]
    return {**dict(zip(event.op.inputs, arrays, strict=True)), **event.params}


def _is_widened(event) -> bool:
    """Whether it is half precision that the engine computes in float32."""
    arrays = [x.data if type(x) is Tensor else x for x in event.xs]
    return event.out.dtype in HALF and not event.op.is_fused and not is_exact(event.op, arrays, event.out.device.xp)


def _input_names(event):
    op = event.op
    return [f"{op.inputs[0]}[{i}]" for i in range(len(event.xs))] if op.variadic else op.inputs


# -- backward -----------------------------------------------------------------------------------------------
def _backward(steps, moment):
    step, op = moment.step, moment.op
    if op is None:
        return _leaf(steps, step)
    event, uses = moment.event, steps.uses.get(step.node, 0)
    called = steps.label(step.node)
    came = f"the sum of {uses} shares" if uses > 1 else "from its only use" if uses else "here backward starts"
    lines = _value("g", step.g) + _hooked(step.node)
    sections = [Section(f"The arriving gradient g = {_slope(steps, called)}: {came}", lines)]
    if op.is_fused:
        sections.append(Section(f"The rule of {op.name}", _kernel(step.node), "code"))
    names = _input_names(event) if event is not None else [f"input {i}" for i in range(len(step.node.parents))]
    for i, parent in enumerate(step.node.parents):
        if parent is None or step.sent[i] is None:
            continue
        name, target = names[i], steps.label(event.xs[i] if event is not None else parent)
        if not op.is_fused:
            sections.append(_rule(step, i, name, target))
        sections.append(_arrival(steps, moment, i, name, target))
    return sections


def _hooked(node) -> list[str]:
    hooks = len(node.extra.hooks) if node.extra is not None else 0
    return [f"as it is after {hooks} hook{'s' * (hooks > 1)} on this tensor: what was sent may differ"] if hooks else []


def _kernel(node) -> list[str]:
    if node.op.replay is not None:
        return ["what was not kept runs forward again, is walked back, and its inputs are sent their gradients"]
    where = f" ({shown_path(node.saved[2].__file__)}, backward)" if node.saved is not FREED else ""
    return [f"a kernel computes all shares at once{where}", "`open` shows the readable twin and its rules"]


def _slope(steps, name) -> str:
    """d result / d name, as it is written."""
    result, is_name = steps.label(steps.output), re.compile(r"[\w.]+( \[op \d+\])?").fullmatch
    return f"d {result if is_name(result) else 'result'} / d {name if is_name(name) else f'({name})'}"


def _rule(step, i, name, target) -> Section:
    node = step.node
    op, title = node.op, f"The local rule of {node.op.name} for {name}, here {target}"
    rule = op.rule_of(i)
    source = source_of(rule.fn)
    lines = ["| " + line for line in source.text.split("\n")] if source is not None else []
    if source is not None:
        title += f" ({shown_path(source.file)}:{source.line})"
    if node.saved is not FREED:
        g, saved = step.g, node.saved
        if node.dtype in HALF and not is_exact(op, saved, node.device.xp):  # as the walk does
            g, saved = widen(g), [tuple(map(widen, s)) if type(s) is tuple else widen(s) for s in saved]
        values = {op.reads[p]: saved[p] for p in rule.picks} | {p: node.params[p] for p in rule.params}
        values |= {"index": i} if rule.wants_index else {}
        first = list(inspect.signature(rule.fn).parameters)[1]
        numbers = worked(rule.fn, node.device.xp, {first: g, **values})
        lines += ["with this step's numbers:", *numbers] if numbers else []
    return Section(title, lines, "code")


def _arrival(steps, moment, i, name, target) -> Section:
    """What is sent to input i, and what that makes of the sum there."""
    step = moment.step
    parent, sent, before, after = step.node.parents[i], step.sent[i], step.before[i], step.after[i]
    uses, left = steps.uses[parent], step.waiting[i]
    times = step.node.parents.count(parent)
    lines = _value("sent", sent)
    if type(sent) is not At and sent.shape != parent.shape:
        share = _unbroadcast(parent.device.xp, sent, parent.shape, step.node.op)
        lines.append(f"{target} was broadcast from {parent.shape} to {sent.shape}: the copies' gradients add up")
        lines += _value("its share", share)
    if uses == 1:
        return Section(f"Sent to {name}, here {target}: its only use, so this is its whole gradient", lines)
    lines += _value("sum before", before) if before is not None else ["sum before: nothing has arrived yet"]
    lines += _value("sum after ", after)
    if times > 1:
        lines.append(f"{target} is {times} inputs of this op: the sum after has {times} shares of this step in it")
    shares = [s for s, p in zip(step.sent, step.node.parents, strict=True) if p is parent]
    sum_line = _sum_line(before, shares, after)
    lines += [sum_line] if sum_line else []
    came = uses - left
    lines.append(
        f"{came} of {uses} shares are there"
        + (f"; it waits for {left} more{_from(steps, moment, parent)}" if left else ": its gradient is complete")
    )
    if before is not None or times > 1:
        lines.append(f"Shares add up, += and not =: a change of {target} reaches the result through all {uses} uses")
    return Section(f"The running sum at {target}, a shared node ({name} here)", lines, "sum")


def _sum_line(before, shares, after):
    parts = [*([before] if before is not None else []), *shares]
    if len(parts) < 2 or any(type(x) is At or x is None or x.size > INLINE or x.shape != after.shape for x in parts):
        return None
    return f"{' + '.join(map(number, parts))} = {number(after)}"


def _from(steps, moment, node) -> str:
    """Which ops are still to send a gradient to a node, once this step is done."""
    passed = {step.node for step in steps.steps[: moment.number + 1]}
    users = [user for user in steps.users_of(node) if user not in passed]
    shown = ", ".join(steps.label(user) for user in dict.fromkeys(users[:3]))
    return f", from {shown}" + (" ..." if len(users) > 3 else "")


def _leaf(steps, step):
    name, (before,), (after,) = steps.label(step.node), step.before, step.after
    uses = steps.uses.get(step.node, 0)
    came = f"the sum of {uses} shares" if uses > 1 else "one share"
    sections = [Section(f"{_slope(steps, name)} is complete: {came}", _value("g", step.g) + _hooked(step.node))]
    lines = _value(".grad before", before) if before is not None else [".grad before: None"]
    if before is not None:
        lines.append("backward() adds to what is there: zero the gradients between two steps of training")
    sections.append(Section(f"{name}.grad", lines + _value(".grad after ", after)))
    return sections


# -- values -------------------------------------------------------------------------------------------------
def _value(name, x) -> list[str]:
    """A name, type and shape, and the numbers: all where they are few, else their range."""
    if type(x) is At:
        key = ", ".join(_key(k) for k in (x.key if type(x.key) is tuple else (x.key,)))
        return [f"{name}: zeros everywhere, and at [{key}]", *_value("   added", x.g)]
    array = x.data if type(x) is Tensor else x
    if not hasattr(array, "dtype"):
        return [f"{name} = {number(array)}" if not name.endswith(number(array)) else name]
    array = array.get() if hasattr(array, "get") else array
    head = f"{name}: {array.dtype} {tuple(array.shape)}" if array.ndim else f"{name}: {array.dtype}"
    if array.size <= INLINE:
        return [f"{head}  {number(array)}"]
    if array.size <= GRID and array.ndim <= 2:
        text = np.array2string(array, precision=4, suppress_small=True, max_line_width=100)
        return [head, *["  " + line for line in text.split("\n")]]
    return [f"{head}  {statistics(array)}"]


def _key(k):
    if type(k) is slice:
        steps = [k.step] if k.step not in (None, 1) else []
        return ":".join("" if n is None else str(n) for n in (k.start, k.stop, *steps))
    if not hasattr(k, "dtype"):
        return repr(k)
    return number(k) if k.size <= INLINE else f"{k.dtype} {k.shape}"


def statistics(array) -> str:
    """Range, mean and norm of an array, and how many of its elements are not finite."""
    if array.dtype.kind not in "fV":  # integers and booleans
        return f"from {array.min()} to {array.max()}"
    wide = array.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    lost = f", {wide.size - finite.size} not finite" if finite.size < wide.size else ""
    if not finite.size:
        return f"none of {wide.size} is finite"
    norm = np.sqrt((finite**2).sum())
    return f"from {finite.min():.4g} to {finite.max():.4g}, mean {finite.mean():.4g}, norm {norm:.4g}{lost}"
