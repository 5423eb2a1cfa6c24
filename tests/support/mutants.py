"""Wrong backward rules, made mechanically from the right ones, and whether the gradient checks find them.

Every rule of the registry, and every input of every kernel, times every kind of fault. A mutant is

    caught          a case of its op fails with a verdict that names a fault
    raised          it never gets as far as a gradient: a rule's shape or axis arithmetic breaks. Seen by any run,
                    so no credit to the checks
    equivalent      no case fails, and its gradients equal the original's, to first and second order, on many
                    draws of the cases, also on draws wider than the cases'
    not applicable  the fault cannot be made in this rule, for a reason given
    survived        none of these: the cases are too weak, or the check is
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from inspect import Parameter, Signature
from itertools import product
from typing import NamedTuple

import numpy as np
from support.dropped_terms import without_a_term

from tinygrad_lite import grad, kernels
from tinygrad_lite.gradcheck.registry import check_case, computing, function_of, tensors_of
from tinygrad_lite.gradcheck.report import DTYPE, MISSING, OVERLAP, RANDOM, WRONG
from tinygrad_lite.ops import registry
from tinygrad_lite.ops.registry import At, Case, Op
from tinygrad_lite.tensor import Tensor, wrap

FAULTS = (WRONG, MISSING, DTYPE, RANDOM, OVERLAP)  # a kink or an inconclusive check catches nothing


SEEDS = 3  # draws of each case: an element whose gradient is 0 in one draw is not in another


STATUSES = ("caught", "raised", "equivalent", "not applicable", "survived")


class Mutant(NamedTuple):
    """One fault in one rule. install() is a context in which the fault is there; reason: why there is none."""

    op: Op
    target: str
    kind: str
    path: str
    install: Callable | None
    reason: str = ""

    def __str__(self):
        return f"{self.op.name}.{self.target} ({self.path}): {self.kind}"


class Outcome(NamedTuple):
    """What became of a mutant."""

    mutant: Mutant
    status: str  # one of STATUSES
    detail: str = ""


# -- changes of a gradient ----------------------------------------------------------------------------------
def _on(gx, change):
    """change(gx), or of what an At places."""
    if gx is None:
        return None
    return gx._replace(g=change(gx.g)) if type(gx) is At else change(gx)


def _like(gx, array):
    """A NumPy array in gx's form: an array, or a Tensor that backward sees as a constant."""
    return wrap(array, None, gx.device) if type(gx) is Tensor else array


def _rolled(xp, gx):
    return xp.reshape(xp.roll(xp.reshape(gx, shape=(-1,)), shift=(1,), axis=(0,)), shape=tuple(gx.shape))


def _one_zero(gx):
    mask = np.ones(gx.shape, gx.dtype)
    if mask.size:
        mask.reshape(-1)[2 * mask.size // 3] = 0.0
    return gx * _like(gx, mask)


def _wrong_below_zero(xp, gx, x):
    if type(gx) is At:
        key = tuple(k.data if isinstance(k, Tensor) else k for k in gx.key)
        return gx._replace(g=_wrong_below_zero(xp, gx.g, xp.getitem(x, key=key)))
    return xp.where(xp.less(x, 0.0), gx * 1.5, gx)


def _second_order(xp, gx, m):
    # The value of gx; the derivative of gx + m.
    return gx + m - xp.stop_gradient(m)


class Previous:
    """The incoming gradient of the call before, where it has the same shape and kind."""

    def __init__(self):
        self.kept = {}

    def __call__(self, g):
        key = type(g), tuple(g.shape)
        before = self.kept.get(key, g)
        self.kept[key] = g
        return before


def _changes():
    """Kind of fault -> (names the rule must also be given, change(xp, g, values, original))."""
    previous = Previous()
    return {
        "negated": lambda xp, g, v, f: _on(f(g), lambda gx: -gx),
        "times 2": lambda xp, g, v, f: _on(f(g), lambda gx: gx * 2.0),
        "times 1.01": lambda xp, g, v, f: _on(f(g), lambda gx: gx * 1.01),
        "all zeros": lambda xp, g, v, f: _on(f(g), lambda gx: gx * 0.0),
        "rolled by one": lambda xp, g, v, f: _on(f(g), lambda gx: _rolled(xp, gx)),
        "one element zeroed": lambda xp, g, v, f: _on(f(g), _one_zero),
        "g replaced by ones": lambda xp, g, v, f: f(xp.full_like(g, 1.0)),
        "g of the call before": lambda xp, g, v, f: f(previous(g)),
        "wrong on x < 0 only": lambda xp, g, v, f: _wrong_below_zero(xp, f(g), v["x"]),
        "wrong at second order only, in g": lambda xp, g, v, f: _on(f(g), lambda gx: _second_order(xp, gx, gx * 0.5)),
        "wrong at second order only, in x": lambda xp, g, v, f: _held(xp, f(g), f(xp.stop_gradient(g))),
    }


def _held(xp, gx, still):
    part = still.g if type(still) is At else still
    return _on(gx, lambda gx: _second_order(xp, gx, part * 0.5))


# -- rules --------------------------------------------------------------------------------------------------
@contextmanager
def replaced(op: Op, index: int, fn):
    """Inside, fn is the rule of input `index`."""
    rules, reads = dict(op.rules), op.reads
    op._add_rule(index, fn)
    registry._install(op)
    try:
        yield
    finally:
        op.rules.clear()
        op.rules.update(rules)
        op.reads = reads
        op._kept.clear()
        registry._install(op)


def _wrapped(op: Op, index: int, change, extra: dict[str, str]):
    """A rule that hands the original to change(xp, g, values, original); extra: what it also reads, by name."""
    original = op.rules[index].fn
    names = list(inspect.signature(original).parameters)[2:]

    def body(xp, g, got):
        values = {alias: got[name] for alias, name in extra.items()}
        if "x" in values and type(values["x"]) is tuple:
            values["x"] = values["x"][got["index"]]
        return change(xp, g, values, lambda g: original(xp, g, *[got[n] for n in names]))

    return _asking(names + [n for n in extra.values() if n not in names], body)


def _asking(asked: list[str], body):
    """A rule that asks for the names given and computes body(xp, g, {name: value})."""

    def rule(xp, g, /, *args, **named):
        return body(xp, g, dict(zip(asked, args, strict=False)) | named)

    rule.__signature__ = Signature([Parameter(n, Parameter.POSITIONAL_OR_KEYWORD) for n in ("_xp", "_g", *asked)])
    return rule


def rule_mutants(op: Op):
    """Every mutant of every rule of a primitive."""
    for index in op.rules:
        name = op.inputs[index]
        for kind in _changes():
            extra = {}
            if kind == "wrong on x < 0 only":
                extra = {"x": name, "index": "index"} if op.variadic else {"x": name}
            yield Mutant(op, name, kind, "rules", _installer(op, index, kind, extra))
        yield _swapped(op, index)
        yield from _dropped_terms(op, index)


def _installer(op, index, kind, extra):
    # The change is made afresh at each installation: some remember what they were called with.
    return lambda: replaced(op, index, _wrapped(op, index, _changes()[kind], extra))


def _swapped(op: Op, index: int) -> Mutant:
    name, kind = op.inputs[index], "another input's gradient"
    if op.variadic:
        if all(len(case.inputs) < 2 for case in op.cases):
            return Mutant(op, name, kind, "rules", None, "one input")
        original = op.rules[index].fn
        names = list(inspect.signature(original).parameters)[2:]
        shapes = op.inputs[0] + "_shape"

        def body(xp, g, got):
            other = got | {"index": (got["index"] + 1) % len(got[shapes])}
            return original(xp, g, *[other[n] for n in names])

        rule = _asking(names + [n for n in (shapes,) if n not in names], body)
        return Mutant(op, name, kind, "rules", lambda: replaced(op, index, rule))
    others = [i for i in op.rules if i != index]
    if not others:
        return Mutant(op, name, kind, "rules", None, "one input")
    other = min((i for i in others if i > index), default=others[0])
    return Mutant(op, name, kind, "rules", lambda: replaced(op, index, op.rules[other].fn))


# -- dropped terms -----------------------------------------------------------------------------------------
def _dropped_terms(op: Op, index: int):
    count = 0
    for text, made in without_a_term(op.rules[index].fn):
        count += 1
        yield Mutant(
            op, op.inputs[index], f"a term dropped: {text}", "rules", lambda made=made: replaced(op, index, made)
        )
    if not count:
        yield Mutant(op, op.inputs[index], "a term dropped", "rules", None, "the rule has no sum or difference")


# -- kernels ------------------------------------------------------------------------------------------------
class _WrongKernel:
    """A kernel whose backward's output `index` is changed."""

    def __init__(self, kernel, index: int, change):
        self.kernel, self.index, self.change = kernel, index, change
        self.FORWARD_TAKES_NEEDS = getattr(kernel, "FORWARD_TAKES_NEEDS", False)
        self.TAKES_STRIDES = getattr(kernel, "TAKES_STRIDES", False)
        self.DTYPES, self.supports, self.ADDS = kernel.DTYPES, kernel.supports, ()

    def forward(self, *arrays, **params):
        out, kept = self.kernel.forward(*arrays, **params)
        return out, (kept, arrays)

    def backward(self, g, saved, needs, into, **params):
        kept, arrays = saved
        return self.change(self.kernel, g, kept, arrays, needs, into, params, self.index)


def _sent(f):
    """A change of one output of backward: f(gx, x)."""

    def change(kernel, g, kept, arrays, needs, into, params, i):
        sent = list(kernel.backward(g, kept, needs, into, **params))
        if sent[i] is not None:
            sent[i] = f(sent[i], arrays[i])
        return tuple(sent)

    return change


def _given(f):
    """A change of the g that output i is computed from."""

    def change(kernel, g, kept, arrays, needs, into, params, i):
        alone = tuple(need and k == i for k, need in enumerate(needs))
        other = tuple(need and k != i for k, need in enumerate(needs))
        mine = kernel.backward(np.require(f(g), requirements="C"), kept, alone, into, **params)
        rest = kernel.backward(g, kept, other, into, **params)
        return tuple(mine[k] if k == i else rest[k] for k in range(len(needs)))

    return change


def _kernel_changes():
    previous = Previous()
    return {
        "negated": _sent(lambda gx, x: -gx),
        "times 2": _sent(lambda gx, x: gx * 2.0),
        "times 1.01": _sent(lambda gx, x: gx * 1.01),
        "all zeros": _sent(lambda gx, x: gx * 0.0),
        "rolled by one": _sent(lambda gx, x: np.roll(gx.ravel(), 1).reshape(gx.shape)),
        "one element zeroed": _sent(lambda gx, x: _one_zero(gx)),
        "g replaced by ones": _given(np.ones_like),
        "g of the call before": _given(previous),
        "wrong on x < 0 only": _sent(lambda gx, x: np.where(x < 0, gx * 1.5, gx)),
        "another input's gradient": _neighbour,
    }


def _neighbour(kernel, g, kept, arrays, needs, into, params, i):
    sent = list(kernel.backward(g, kept, needs, into, **params))
    others = [k for k in range(len(sent)) if k != i and sent[k] is not None]
    sent[i] = sent[min((k for k in others if k > i), default=others[0])]
    return tuple(sent)


@contextmanager
def kernel_replaced(op: Op, kernel):
    """Inside, the CPU kernel of a fused op is another."""
    key = "cpu", op.name
    before = kernels._found.get(key)
    kernels._found[key] = kernel
    try:
        yield
    finally:
        kernels._found[key] = before


def kernel_mutants(op: Op):
    """Every mutant of a fused op's CPU kernel."""
    kernel = kernels.lookup("cpu", op.name)
    inputs = [i for i, name in enumerate(op.inputs) if name not in op.integer_inputs]
    for i in inputs:
        name = op.inputs[i]
        for kind in _kernel_changes():
            if kernel is None:
                yield Mutant(op, name, kind, "kernel", None, "no CPU kernel: the twin is made of primitives")
            elif kind == "another input's gradient" and len(inputs) < 2:
                yield Mutant(op, name, kind, "kernel", None, "one input")
            else:
                yield Mutant(op, name, kind, "kernel", _kernel_installer(op, kernel, i, kind))
        yield Mutant(op, name, "a term dropped", "kernel", None, "compiled loops, not a formula")
        second = "second derivatives come from the twin, made of primitives"
        yield Mutant(op, name, "wrong at second order only", "kernel", None, second)


def _kernel_installer(op, kernel, i, kind):
    return lambda: kernel_replaced(op, _WrongKernel(kernel, i, _kernel_changes()[kind]))


def mutants_of(op: Op):
    """Every mutant of an op."""
    yield from kernel_mutants(op) if op.is_fused else rule_mutants(op)


# -- judging ------------------------------------------------------------------------------------------------
def judge(mutant: Mutant) -> Outcome:
    """Install the fault, run the op's cases to first and second order, and say what became of it."""
    if mutant.install is None:
        return Outcome(mutant, "not applicable", mutant.reason)
    op, subtle = mutant.op, mutant.kind.startswith("wrong at second order only")
    for seed, case in product(range(SEEDS), op.cases):
        try:
            with mutant.install():
                row = check_case(op, case, seed, path=mutant.path)
        except Exception as error:
            return Outcome(mutant, "raised", f"{type(error).__name__}: {error}")
        if subtle and row.first.verdict != "ok":
            return Outcome(mutant, "survived", f"not right at first order: {row.first}")
        if row.verdict in FAULTS:
            return Outcome(mutant, "caught", row.verdict)
    equal, finite = _equals_original(mutant)
    if not equal:
        return Outcome(mutant, "survived", f"{len(op.cases)} cases pass, {SEEDS} draws of each")
    if mutant.kind == "wrong on x < 0 only" and not finite:
        return Outcome(mutant, "not applicable", "x < 0 is outside the domain")
    return Outcome(mutant, "equivalent")


def _equals_original(mutant: Mutant, draws: int = 20) -> tuple[bool, bool]:
    """(gradients equal the original's on every draw, some draw with negative elements was finite)."""
    op, finite = mutant.op, False
    for case in op.cases:
        wide = Case(*case.inputs, low=-3.0, high=3.0, distinct=case.distinct)
        wide.params = case.params
        for chosen in (case, wide):
            for seed in range(draws):
                with computing(mutant.path), np.errstate(all="ignore"):
                    right = _gradients(op, chosen, seed)
                    with mutant.install():
                        wrong = _gradients(op, chosen, seed)
                if not all(np.isfinite(a).all() for a in right):
                    continue
                finite |= chosen is wide
                for a, b in zip(right, wrong, strict=True):
                    if a.shape != b.shape or not np.allclose(
                        a, b, rtol=1e-10, atol=1e-12 * max(1.0, np.abs(a).max(initial=0))
                    ):
                        return False, finite
    return True, finite


def _gradients(op: Op, case: Case, seed: int) -> list[np.ndarray]:
    """First- and second-order gradients with random incoming ones; two walks, so that a remembered g shows."""
    rng = np.random.default_rng(seed)
    xs = tensors_of(op, case, rng)
    fn, tracked = function_of(op, case), [x for x in xs if isinstance(x, Tensor) and x.requires_grad]
    found = []
    for _ in range(2):
        out = fn(*xs)
        found.append(out.detach())  # outside its domain an op may have gradients, but no value
        v = Tensor(rng.standard_normal(out.shape), requires_grad=True)
        found += grad(out, tracked, [v], retain_graph=True, allow_unused=True)
        gs = [g for g in grad(out, tracked, [v], create_graph=True, allow_unused=True) if g is not None]
        found += gs
        gs = [g for g in gs if g.node is not None]
        if gs:
            ws = [Tensor(rng.standard_normal(g.shape)) for g in gs]
            found += grad(gs, [*tracked, v], ws, allow_unused=True)
    return [np.zeros(()) if g is None else g.numpy() for g in found]


def summary(outcomes: list[Outcome]) -> dict[str, dict[str, int]]:
    """Counts by kind of fault and status; dropped terms together."""
    counts: dict[str, dict[str, int]] = {}
    for mutant, status, _ in outcomes:
        row = counts.setdefault(mutant.kind.partition(":")[0], {})
        row[status] = row.get(status, 0) + 1
    return counts


def table(outcomes: list[Outcome]) -> str:
    """The counts as text; below it how many each verdict caught, and everything that was not caught, one a line."""
    counts, lines = summary(outcomes), []
    width = max(map(len, counts))
    for name, row in {
        "kind of fault": dict(zip(STATUSES, STATUSES, strict=True)),
        **counts,
        "all": _total(counts),
    }.items():
        lines.append(f"{name:{width}}" + "".join(f"{row.get(status, 0):>16}" for status in STATUSES))
    verdicts = Counter(o.detail for o in outcomes if o.status == "caught")
    lines += ["", "caught as: " + ", ".join(f"{verdict} {n}" for verdict, n in verdicts.most_common())]
    for status in ("raised", "equivalent", "survived"):
        lines += ["", f"{status}:", *[f"  {o.mutant} {o.detail}".rstrip() for o in outcomes if o.status == status]]
    reasons = Counter((o.mutant.kind.partition(":")[0], o.detail) for o in outcomes if o.status == "not applicable")
    lines += ["", "not applicable:", *[f"  {n:4} {kind}: {reason}" for (kind, reason), n in reasons.most_common()]]
    return "\n".join(lines)


def _total(counts):
    return {status: sum(row.get(status, 0) for row in counts.values()) for status in STATUSES}
