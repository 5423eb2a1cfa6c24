"""What an op is: a forward formula, one backward rule per input, and the cases that prove them.

This file knows arrays only through the namespace. An op is written once, over an array namespace `xp`:

    @primitive(Case((2, 3), (3,)), Case((), (4,)))
    def multiply(xp, x, y):
        "Elementwise product, broadcasting."
        return xp.multiply(x, y)

    multiply.vjp(x=lambda xp, g, y: g * y,
                 y=lambda xp, g, x: g * x)

A rule is given what its parameter names ask for: an input, `out`, a keyword parameter of the op, or the
metadata `x_shape` and `x_dtype` of an input, which keep no array alive. Names are read once, here; at run
time only what the rules that can run have asked for is saved.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any, NamedTuple

from ..xp import Namespace

OPS: dict[str, Op] = {}

# The layer above installs `bind(op) -> callable over Tensors` here: an op registered later, by a user
# say, becomes callable in the same way as ours.
_binder: Callable[[Op], Callable] | None = None


class At(NamedTuple):
    """A rule's way to say "add g at `key` of zeros": only the accumulator materialises it, in place.

    `unique` promises that no element is named twice, so that `buffer[key] += g` is right.
    """

    key: Any
    g: Any
    unique: bool = True


class Ints(NamedTuple):
    """A case's input of integers in [0, high)."""

    shape: tuple[int, ...]
    high: int


class Bools(NamedTuple):
    """A case's input of booleans."""

    shape: tuple[int, ...]


class Values(NamedTuple):
    """A case's input written out, as nested tuples: floats, or integers where all are."""

    rows: tuple


class Case:
    """One gradient-check case: an input is a shape (floats uniform in [low, high)), `Ints`, `Bools`, `Values` or a number.

    `distinct=True` spaces the values so that a kink (a tie in max, relu at 0) is never near a sample.
    """

    __slots__ = ("inputs", "params", "low", "high", "distinct")

    def __init__(self, *inputs, low: float = -2.0, high: float = 2.0, distinct: bool = False, **params):
        self.inputs, self.params, self.low, self.high, self.distinct = inputs, params, low, high, distinct

    def __repr__(self):
        shown = [repr(shape) for shape in self.inputs] + [f"{k}={v!r}" for k, v in self.params.items()]
        return f"Case({', '.join(shown)})"

    def sample(self, rng, dtype="float64") -> list:
        """Draw the inputs as NumPy arrays."""
        return [self._draw(spec, rng, dtype) for spec in self.inputs]

    def _draw(self, spec, rng, dtype):
        if isinstance(spec, (int, float)):
            return spec
        if isinstance(spec, Values):
            return _written_out(spec.rows, rng, dtype)
        if isinstance(spec, Ints):
            return rng.integers(0, spec.high, spec.shape)
        if isinstance(spec, Bools):
            return rng.random(spec.shape) < 0.5
        if not self.distinct:
            return rng.uniform(self.low, self.high, spec).astype(dtype)
        count = 1
        for n in spec:
            count *= n
        step = (self.high - self.low) / max(count, 1)
        values = self.low + step * (rng.permutation(count) + 0.5 + rng.uniform(-0.2, 0.2, count))
        return values.reshape(spec).astype(dtype)


def _written_out(rows, rng, dtype):
    shape, first = (), rows
    while isinstance(first, tuple):
        shape, first = (*shape, len(first)), first[0]
    out = rng.integers(0, 1, shape) if isinstance(first, int) else rng.uniform(0.0, 1.0, shape).astype(dtype)
    out[...] = rows
    return out


class Rule(NamedTuple):
    """A backward rule and where its arguments come from."""

    fn: Callable
    picks: tuple[int, ...]  # positions in the node's `saved`
    params: tuple[str, ...]  # keyword parameters of the op that it reads
    wants_index: bool  # a rule of a variadic op is told which input it serves


class Op:
    """An op: calling it on Tensors computes, records and can be differentiated."""

    def __init__(
        self,
        forward,
        cases,
        *,
        is_fused=False,
        exact=False,
        to_float=False,
        views=False,
        integer_inputs=(),
        wide_result=False,
    ):
        self.name, self.forward, self.cases, self.is_fused = forward.__name__.rstrip("_"), forward, cases, is_fused
        self.__doc__, self.__wrapped__ = forward.__doc__, forward
        ps = list(signature(forward).parameters.values())[1:]
        self.inputs = tuple(p.name for p in ps if p.kind is not Parameter.KEYWORD_ONLY)
        self.variadic = any(p.kind is Parameter.VAR_POSITIONAL for p in ps)
        self.params = tuple(p.name for p in ps if p.kind is Parameter.KEYWORD_ONLY)
        self.defaults = {p.name: p.default for p in ps if p.name in self.params and p.default is not Parameter.empty}
        self.exact = exact  # a result is rounded once at most, a gradient not at all: half precision needs no detour
        self.to_float = to_float  # integers become the default float first, as exp of an integer does
        self.views = views  # the result may share memory with the first input
        self.wide_result = wide_result  # of half precision the result is float32: a loss of three digits is of no use
        self.integer_inputs = frozenset(integer_inputs)  # indices, masks: never promoted
        self.check = None
        self.rules: dict[int, Rule] = {}
        self.reads: tuple[str, ...] = ()
        self._kept: dict[int, tuple[bool, ...]] = {}
        self.call = None
        self.replay = None  # a walk of its own, `replay(walk, node, g)`: checkpoints have one

    def __call__(self, *args, **params):
        return self.call(*args, **params)

    def __repr__(self):
        return f"<op {self.name}({', '.join(self.inputs + self.params)})>"

    def vjp(self, **rules: Callable) -> Op:
        """Give the backward rule of each input by name; an input without one has no gradient."""
        for name, fn in rules.items():
            if name not in self.inputs:
                raise ValueError(f"{self.name}.vjp: {name!r} is not an input; its inputs are {self.inputs}")
            self._add_rule(self.inputs.index(name), fn)
        return _install(self)

    def validate(self, check: Callable) -> Callable:
        """Register `check(*arrays, **params) -> params`: raises on misuse, returns the parameters normalised."""
        self.check = check
        _install(self)
        return check

    def _add_rule(self, index: int, fn: Callable):
        picks, params, wants_index = [], [], False
        for name in list(signature(fn).parameters)[2:]:
            if name in self.params:
                params.append(name)
            elif name == "index" and self.variadic:
                wants_index = True
            elif (
                name == "out"
                or name in self.inputs
                or name.removesuffix("_shape").removesuffix("_dtype") in self.inputs
            ):
                if name not in self.reads:
                    self.reads += (name,)
                picks.append(self.reads.index(name))
            else:
                raise ValueError(
                    f"{self.name}.vjp: a rule asks for {name!r}; it can ask for an input {self.inputs}, 'out', "
                    f"a parameter {self.params}, or an input's name with _shape or _dtype"
                )
        self.rules[index] = Rule(fn, tuple(picks), tuple(params), wants_index)
        self._kept.clear()

    def rule_of(self, index: int) -> Rule | None:
        """The rule of input number `index`; a variadic op has one for all."""
        return self.rules.get(0 if self.variadic else index)

    def kept(self, mask: int) -> tuple[bool, ...]:
        """For each name in `reads`: does a rule that can run need it? Bit i of mask: input i needs a gradient."""
        kept = self._kept.get(mask)
        if kept is None:
            picks = {p for i, rule in self.rules.items() if self.variadic or mask >> i & 1 for p in rule.picks}
            kept = self._kept[mask] = tuple(i in picks for i in range(len(self.reads)))
        return kept


def primitive(*cases: Case, **traits):
    """Decorator: register the formula `fn(xp, *arrays, **params)` as an op with one output.

    Traits: exact, to_float, views, integer_inputs (see `Op`).
    """
    return lambda fn: _register(Op(fn, cases, **traits))


def fused(*cases: Case, **traits):
    """Decorator: register a readable reference, in primitive ops, whose fast twin is kernels/<device>/<name>.py."""
    return lambda fn: _register(Op(fn, cases, is_fused=True, to_float=True, **traits))


def set_binder(binder: Callable[[Op], Callable]):
    """Called once by the tensor layer: makes every op, present and future, callable."""
    global _binder
    _binder = binder
    for op in OPS.values():
        _install(op)


def _register(op: Op) -> Op:
    if op.name in OPS:
        raise ValueError(f"op {op.name!r} is already registered: choose another name")
    OPS[op.name] = op
    Namespace.formulas[op.name] = op.forward  # formulas may call other ops by name, on arrays too
    return _install(op)


def _install(op: Op) -> Op:
    if _binder is not None:
        op.call = _binder(op)
    return op
