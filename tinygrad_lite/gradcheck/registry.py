"""Every case of every op: what `tgl gradcheck` prints and what the tests are generated from."""

from __future__ import annotations

import time
from contextlib import contextmanager
from difflib import get_close_matches
from typing import NamedTuple

import numpy as np

from ..config import settings
from ..device import CPU
from ..dtypes import as_dtype, is_float
from ..kernels import lookup
from ..ops.registry import OPS, Case, Op
from ..tensor import wrap
from .check import each_order
from .report import GradcheckResult


class Row(NamedTuple):
    """One case of one op, on one path, with one seed."""

    op: str
    case: str
    path: str  # "rules", or for a fused op "kernel" or "twin"
    seed: int
    first: GradcheckResult
    second: GradcheckResult | None
    ms: float

    @property
    def verdict(self) -> str:
        """The first verdict that is not "ok"."""
        return self.first.verdict if self.first.verdict != "ok" or self.second is None else self.second.verdict


def differentiable(names=None) -> list[Op]:
    """The ops that have a gradient, in the order of registration; those named, if names are given."""
    for name in names or ():
        if name not in OPS:
            near = get_close_matches(name, OPS) or [n for n in OPS if name in n]
            hint = f"did you mean {' or '.join(near[:3])}?" if near else "tinygrad_lite.ops.registry.OPS lists them all"
            raise ValueError(f"gradcheck: there is no op {name!r}: {hint}")
        if not (OPS[name].rules or OPS[name].is_fused):
            raise ValueError(f"gradcheck: {name} has no gradient, so there is nothing to check")
    return [op for op in OPS.values() if (op.rules or op.is_fused) and (names is None or op.name in names)]


def cases_of(names=None) -> list[tuple[Op, Case, str]]:
    """(op, case, path) for every case of every op that has a gradient, on every path; of those named, if any are."""
    return [(op, case, path) for op in differentiable(names) for case in op.cases for path in paths_of(op)]


def function_of(op: Op, case: Case):
    """The op with the case's parameters, as a function of its inputs."""
    return lambda *xs: op(*xs, **case.params)


def tensors_of(op: Op, case: Case, rng, dtype="float64", device=CPU) -> list:
    """The case's inputs as Tensors; those that have a backward rule require a gradient. Scalars stay scalars."""
    tensors = []
    for i, array in enumerate(case.sample(rng, as_dtype(dtype))):
        if not isinstance(array, np.ndarray):
            tensors.append(array)
            continue
        x = wrap(device.xp.asarray(array), None, device)
        if wants_gradient(op, i, array.dtype):
            x.requires_grad_()
        tensors.append(x)
    return tensors


def wants_gradient(op: Op, i: int, dtype) -> bool:
    """Whether input i, of this type, has a gradient."""
    name = op.inputs[0 if op.variadic else i]
    return is_float(dtype) and name not in op.integer_inputs


def paths_of(op: Op, device: str = "cpu") -> tuple[str, ...]:
    """The ways an op can be computed: by its rules; a fused op by its kernel, if there is one, and by its twin."""
    if not op.is_fused:
        return ("rules",)
    return ("kernel", "twin") if lookup(device, op.name) is not None else ("twin",)


@contextmanager
def computing(path: str):
    """Inside, fused ops take their kernels ("kernel") or their readable twins ("twin")."""
    before = settings.use_fused
    if path != "rules":
        settings.use_fused = path == "kernel"
    try:
        yield
    finally:
        settings.use_fused = before


def check_case(op: Op, case: Case, seed: int = 0, *, path="rules", order=2, mode="full", dtype="float64") -> Row:
    """Gradients of one case to first order and, with order=2, second: second only where first is right."""
    start = time.perf_counter()
    with computing(path):
        fn, inputs = function_of(op, case), tensors_of(op, case, np.random.default_rng(seed), dtype)
        first, second = each_order(fn, inputs, order, mode, seed)
    return Row(op.name, repr(case), path, seed, first, second, (time.perf_counter() - start) * 1e3)


def check_registry(names=None, seeds: int = 1, order: int = 2, *, mode="full", dtype="float64") -> list[Row]:
    """Check every case of every op that has a gradient, `seeds` draws of each, on every path.

    names: only these ops; ValueError for one that is unknown. order: 1, or 2 for gradients of gradients too.
    """
    if order not in (1, 2):
        raise ValueError(f"gradcheck: order must be 1 or 2, got {order!r}")
    return [
        check_case(op, case, seed, path=path, order=order, mode=mode, dtype=dtype)
        for op, case, path in cases_of(names)
        for seed in range(seeds)
    ]


def grouped(rows: list[Row]) -> list[dict]:
    """The rows as plain data, the seeds of a case together: the largest relative errors, the first bad verdict."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault((row.op, row.case, row.path), []).append(row)
    return [
        {
            "op": op,
            "case": case,
            "path": path,
            "first-order error": max(r.first.max_error for r in group),
            "second-order error": max((r.second.max_error for r in group if r.second is not None), default=None),
            "verdict": next((r.verdict for r in group if r.verdict != "ok"), "ok"),
            "ms": round(sum(r.ms for r in group), 2),
        }
        for (op, case, path), group in groups.items()
    ]
