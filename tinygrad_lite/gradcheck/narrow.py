"""Gradients computed in a type narrower than float64, held to the same formulas run in float64."""

from __future__ import annotations

import numpy as np

from ..dtypes import float64
from ..tensor import Tensor
from . import report as kinds
from .problem import Problem, host64
from .report import Finding
from .tolerance import eps_of, narrow_tolerance

NUDGES = 4


def check_narrow(check, k: int, given: np.ndarray, wide: np.ndarray, gradient_of, outputs: bool):
    """A finding where input k's gradient as given differs from the float64 one.

    gradient_of(recorded) -> the gradient again, of another run; outputs: the gradients are (outputs, elements).
    """
    problem = check.problem
    x = problem.inputs[problem.checked[k]]
    if not given.size or not problem.is_narrow(k):
        return
    # Types mix on the way: the coarsest among the inputs sets how exact the result can be.
    near = max(narrow_tolerance(problem.inputs[i].dtype) for i in problem.checked)
    near *= float(np.max(np.abs(wide), where=np.isfinite(wide), initial=0.0)) * (1.0 if outputs else 4.0)
    error = np.where(np.isfinite(wide), np.nan_to_num(np.abs(given - wide), nan=np.inf), 0.0)
    if error.max() <= near:
        return
    bound = near + _wobble(check, given, wide, gradient_of)
    excess = error / np.maximum(bound, np.finfo(np.float64).tiny)
    at = np.unravel_index(int(np.argmax(excess)), error.shape)
    explained = bool(excess[at] <= 1.0)
    note = f"compared with the same formulas in float64: rounding to {x.dtype} explains {bound[at]:.2g}"
    if not explained:
        note += f": a fault in the code for {x.dtype} alone"
    place = (check.index(k, at[1]), *check.recorded.place(int(at[0]))) if outputs else (at, None, None)
    check.result.findings.append(Finding(
        kinds.ROUND_OFF if explained else kinds.WRONG, problem.checked[k], check.order, tuple(map(int, place[0])),
        *place[1:], float(given[at]), float(wide[at]), explained=explained, note=note,
    ))  # fmt: skip


def _wobble(check, given, wide, gradient_of) -> np.ndarray:
    """How far rounding moves each entry.

    The inputs are nudged by an eps of their type: what that does to the exact gradient, rounding inside may do, too.
    And by more: an unstable formula errs in another way at every point, a fault errs in the same.
    """
    error, moved = given - wide, np.zeros(wide.shape)
    for _ in range(NUDGES):
        near = gradient_of(_nudged(check, 1.0).record("shadow"))
        far = _nudged(check, None)
        change = gradient_of(far.record("given")) - gradient_of(far.record("shadow")) - error
        for size in (64.0 * np.abs(near - wide), 4.0 * np.abs(change)):
            moved = np.fmax(moved, np.where(np.isfinite(size), size, 0.0))
    return np.maximum(moved, np.median(moved))


def _nudged(check, units: float | None) -> Problem:
    """The problem at inputs moved by so many eps of their types, or by 1/64 of their size."""
    problem, args = check.problem, list(check.problem.inputs)
    for i in problem.checked:
        x = problem.inputs[i]
        size = 1.0 / 64.0 if units is None else units * eps_of(x.dtype)
        values = host64(x) * (1.0 + size * check.rng.uniform(-1, 1, x.shape))
        args[i] = Tensor(values, float64 if units else x.dtype, x.device).requires_grad_()
    return Problem(problem.fn, args, problem.checked, problem.plain)
