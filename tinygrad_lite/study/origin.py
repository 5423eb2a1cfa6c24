"""What anomaly mode found: the op, the line, what went in and what came out, said for a person."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..ops.registry import Op
from .finite import Holds, holds
from .source import Call

FEW = 4  # elements and callers that are shown

# By (op, phase): what the mathematics says, and the way out.
ADVICE = {
    ("log", "forward"): "log(0) is -infinity and the log of a negative number NaN: keep its argument above 0, by "
    "x.clamp(min=1e-12) say, or start from logits (log_softmax, cross_entropy).",
    ("divide", "forward"): "0/0 is NaN and x/0 infinite: add a small number to the divisor, or replace it with where() "
    "before dividing.",
    ("exp", "forward"): "exp overflows above 88.7 in float32, 709.7 in float64, 11.09 in float16: subtract the maximum "
    "first, as softmax and logsumexp do.",
    ("sqrt", "forward"): "the root of a negative number is NaN: a variance by subtraction can fall below 0; clamp it.",
    ("sqrt", "backward"): "the slope of sqrt at 0 is infinite, and where() behind it sends 0, which times infinity is NaN: "
    "choose before the root, where(x > 0, where(x > 0, x, 1.0).sqrt(), 0.0), or add a small number under it.",
    ("rsqrt", "forward"): "1/sqrt(0) is infinite: add a small number under it, as a norm's eps is.",
    ("power", "backward"): "the slope of x**p at 0 is infinite for p < 1: choose by where() before the power, not after.",
    ("log", "backward"): "the slope of log at 0 is infinite: choose by where() before the log, not after.",
    ("subtract", "forward"): "infinity minus infinity is NaN: find where both became infinite.",
    ("add", "forward"): "infinity plus -infinity is NaN: find where both became infinite.",
    ("multiply", "forward"): "0 times infinity is NaN, and so is the mean or the variance of too few elements.",
    ("softmax", "forward"): "a row that is -infinity throughout has no softmax: leave a key unmasked in each row.",
}  # fmt: skip
OF_NAN = {"add", "subtract", "multiply", "softmax", "log_softmax", "attention"}  # an infinity of theirs overflowed
ADVICE["log_softmax", "forward"] = ADVICE["attention", "forward"] = ADVICE["softmax", "forward"]
OVERFLOW = (
    "float16 ends at 65,504: scale the loss and let it be lowered (optim.LossScaler; tgl train does), or take bfloat16."
)


@dataclass
class Value:
    """An input: the op's name for it, the user's, and a copy of what it held, or the number that it was."""

    name: str
    label: str
    data: object

    @property
    def holds(self) -> Holds | None:
        """What it held; None where it was a number or None."""
        return holds(self.data) if isinstance(self.data, np.ndarray) else None

    def __str__(self):
        name = f"{self.name} ({self.label})" if self.label and self.label != self.name else self.name
        return f"{name}: {self.holds or repr(self.data)}"


@dataclass
class Origin:
    """Where it began.

    kind       "NaN", "infinity", or "written": something that backward needs was changed behind the engine's back
    phase      "forward" or "backward"
    cause      "op": the formula, or the rule; "input": a tensor that came in with a NaN; "arrival": the sum or the
               rounding of gradients on arrival at the op's input; "sum": a sum of gradients; "grad": a leaf's .grad, to
               which a second backward() added; "hook": a hook's result; "saved": what the forward pass, which was not
               looked at, left
    op, params, call   what ran, and where it was called: call.place, call.places; op is None for a leaf
    values     forward its inputs; backward the gradient that reached it, then what it had saved
    result     a copy of the array with the NaN or infinity; which: the number of the input concerned
    inner      in a fused op, the same within its readable twin; None where the twin's results are finite
    """

    kind: str
    phase: str
    cause: str
    op: Op | None
    params: dict
    call: Call | None
    values: list[Value]
    result: np.ndarray | None = None
    inner: Origin | None = None
    which: int | None = None
    shapes: list = field(default_factory=list)  # backward: (shape, dtype) of each input that gets a gradient, else None
    dtype: str | None = None  # backward: of the input that the gradient is for
    made: Call | None = None  # "input": where an op was given the NaN as a number; None where it came in from outside
    is_alone: bool = True  # "arrival": what this op sent overflows by itself, and not only with what others sent

    @property
    def place(self):
        """The user's line: of the op in the forward pass, also where its rule is at fault; None if it is not known."""
        return self.call.place if self.call is not None else None

    @property
    def path(self) -> str:
        """The module in which it ran, from the outermost's class: GPT.blocks.0.mlp; "" outside of all."""
        modules = self.call.modules if self.call is not None else ()
        if not modules:
            return ""
        names = {id(module): name for name, module in modules[0].named_modules(type(modules[0]).__name__)}
        return names.get(id(modules[-1]), type(modules[-1]).__name__)

    @property
    def name(self) -> str:
        """The op's name."""
        return self.op.name if self.op is not None else "leaf"

    @property
    def bad(self) -> np.ndarray:
        """Indices (n, axes) of the elements that are NaN, or infinite where none is NaN."""
        if self.result is None:
            return np.empty((0, 0), np.int64)
        wide = self.result.astype(np.float64)
        return np.argwhere(np.isnan(wide) if self.kind == "NaN" else np.isinf(wide))

    @property
    def advice(self) -> str | None:
        """What the mathematics says about it, where it is a known case."""
        if self.cause in ("arrival", "sum", "grad") and self.dtype == "float16":
            return OVERFLOW
        if self.cause != "op":
            return None
        told = ADVICE.get((self.name, self.phase))
        if self.phase == "forward" and self.name in OF_NAN and not self._is_of_nan():
            told = None
        return told or (self.inner.advice if self.inner is not None else None)

    def _is_of_nan(self):
        """Whether it is a NaN of what came in, and of nothing that overflowed on the way."""
        if self.kind != "NaN" or (self.inner is not None and self.inner.kind != "NaN"):
            return False
        arrays = [v.data.astype(np.float64) for v in self.values if isinstance(v.data, np.ndarray)]
        return self.name in ("add", "subtract", "multiply") or not any(np.isposinf(a).any() for a in arrays)

    def headline(self) -> str:
        """One line: what began, where."""
        op, first = self.name, {"NaN": "The first NaN", "infinity": "The first infinity"}.get(self.kind)
        if self.cause == "written":
            what = f"{self.values[0].name}, which backward needs"
            return f"{op}: {what}, was changed since the forward pass behind the engine's back"
        if self.cause == "input":
            value = self.values[self.which]
            if self.made is not None and (place := self.made.place) is not None:
                at = f"{_short(place.file)}:{place.line}"
                return f"A NaN that was written as a number: {value.label or value.name}, which {op} reads, has it from {at}"
            return f"NaN came in from outside: {value.label or value.name}, which {op} reads, holds it already"
        if self.cause == "saved":
            return (
                f"NaN was there before backward: what {op} saved holds it; run the forward pass in detect_anomaly() too"
            )
        if self.cause == "hook":
            return f"{first} is a hook's, on the gradient of {self._whose()}"
        if self.cause == "sum":
            return f"{first} is in the sum of the gradients that reached {self._whose()}"
        if self.cause == "grad":
            return f"{first} is in .grad of {self._whose()}, where this backward() added to what was there before"
        if self.phase == "forward":
            return f"{first} is the result of {op}"
        if self.cause == "arrival":
            sent = f"the gradient that {op} sends to {self._target()}"
            return f"{first} is {sent}, where it is added up and rounded to {self.dtype}"
        return f"{first} is in the backward pass: what the rule of {op} sends to {self._target()}"

    def _whose(self):
        if self.op is None:
            return self.values[0].label or f"a leaf of shape {self.result.shape}"
        return f"the result of {self.op.name}"

    def _target(self):
        if self.op is None or self.op.variadic:
            return f"input {self.which}"
        return self.op.inputs[self.which]

    def text(self) -> str:
        """All of it, for a terminal."""
        lines = [self.headline()]
        if self.op is None:
            pass  # a leaf has no line
        elif self.place is None:
            lines.append(
                "  its line is not known: the op ran outside of detect_anomaly(), in a checkpoint(), or in the backward "
                "pass of create_graph=True"
            )
        else:
            lines += _where(self.call)
            if self.path:
                lines.append(f"  in the module {self.path}, {type(self.call.modules[-1]).__name__}")
        lines += [f"  {value}" for value in self.values if value.data is not None]
        if self.cause == "written":
            lines.append("  change a copy (x = x.clone()), or write after backward()")
        elif self.result is not None:
            lines.append(f"  {self._result_name()}: {holds(self.result)}")
            lines.append(f"  {self._indices()}")
        if self.inner is not None:
            lines.append(f"  inside, in the readable twin of {self.name}: {self.inner.headline()}")
            lines += [f"  {line}" for line in _where(self.inner.call)]
            lines += [f"    {value}" for value in self.inner.values if value.data is not None]
        elif self.op is not None and self.op.is_fused and self.cause == "op":
            lines.append(
                "  inside: its readable twin gives no such value on the same inputs: it is in the kernel's rounding"
            )
        if self.advice:
            lines.append(f"  {self.advice}")
        return "\n".join(lines)

    def _result_name(self):
        if self.phase == "forward":
            return "result" if self.cause != "input" else f"result of {self.name}"
        return f"gradient for {self._target()}" if self.which is not None else "gradient"

    def _indices(self):
        bad = self.bad
        shown = [str([int(i) for i in index]) if len(index) else "the only element" for index in bad[:FEW]]
        more = f" and {len(bad) - FEW:,} more" if len(bad) > FEW else ""
        there = []
        for value in self.values:  # of inputs of the same shape, or that broadcast to it: what stood there
            held = value.data
            if isinstance(held, np.ndarray) and held.size and _stretches(held.shape, self.result.shape):
                name = value.label if value.label and self.phase == "forward" else value.name
                there.append(f"{name} = {_element(held, bad[0]):.6g}")
        at = f"; at the first {', '.join(there)}" if there and self._is_elementwise() else ""
        return f"{self.kind} at {', '.join(shown)}{more}{at}"

    def _is_elementwise(self):
        module = self.op.forward.__module__ if self.op is not None else ""
        return module.rpartition(".")[2] in ("elementwise", "activation")


class AnomalyError(RuntimeError):
    """A NaN or an infinity began, or what backward needs was overwritten: `origin` says all, `replay_file` where to."""

    def __init__(self, origin: Origin):
        super().__init__(origin)
        self.origin, self.replay_file, self.no_file = origin, None, None

    def __str__(self):
        text = self.origin.text()
        if self.replay_file is not None:
            text += f"\n  to run this op alone again: tgl replay {self.replay_file}"
        return text + (f"\n  {self.no_file}" if self.no_file else "")

    def save(self, path):
        """Write the op and its inputs to `path`, for `replay`. A file that cannot be written only says so."""
        from .replay_file import save

        try:
            self.replay_file = save(self.origin, Path(path))
        except (OSError, TypeError) as error:
            self.no_file = f"no replay file: {error}"


def _where(call):
    lines, places = [], call.places
    # Beyond the program itself stands who ran it: a notebook's kernel, a test runner.
    ends = next((i for i, place in enumerate(places) if place.function == "<module>"), len(places))
    places = places[: ends + 1]
    for number, place in enumerate(places[: FEW + 1]):
        if number == FEW:
            lines.append(f"    ... and {len(places) - FEW} more")
            break
        lines.append(f"  {'called from ' if number else ''}{_short(place.file)}:{place.line}, in {place.function}")
        if number == 0 and place.statement:  # what was typed at a prompt has none
            lines.append(f"    {place.statement}")
            if place.end > place.start and place.text != place.statement:
                lines.append(f"    {' ' * place.start}{'^' * (place.end - place.start)}")
    return lines


def _short(file):
    """A path from here, where it lies below."""
    relative = os.path.relpath(file) if os.path.isabs(file) else file
    return file if relative.startswith("..") else relative


def _stretches(shape, to):
    return len(shape) <= len(to) and all(n in (1, m) for n, m in zip(shape[::-1], to[::-1]))


def _element(array, index):
    index = index[len(index) - array.ndim :]
    return float(array[tuple(i if n > 1 else 0 for i, n in zip(index, array.shape))])
