"""What a gradient check found, and how it reads."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

WRONG, MISSING, DTYPE = "wrong backward", "missing gradient", "wrong dtype"
RANDOM, OVERLAP, INCONCLUSIVE = "non-determinism", "overlapping memory", "inconclusive"
KINK, ROUND_OFF, TRUNCATION = "kink", "round-off", "truncation"

# The gravest first: the verdict of a result is the gravest of its open findings.
KINDS = (MISSING, DTYPE, RANDOM, OVERLAP, WRONG, INCONCLUSIVE, KINK, ROUND_OFF, TRUNCATION)

MEANING = {
    WRONG: "backward's figure is not the function's slope, at any step size: see the rule of this op",
    MISSING: "the function depends on this input, but backward sends it nothing: a rule is missing, or a detach() or a "
    "detour through NumPy cuts the graph",
    DTYPE: "a gradient must have its input's shape and element type: let the rule cast or reduce its result",
    RANDOM: "two runs on the same values differ: seed it inside the function, or pass the mask in; nothing else was judged",
    OVERLAP: "elements of this input share memory, and backward is right on a copy: pass x.clone()",
    INCONCLUSIVE: "too noisy, or not finite, around this point: nothing is proven either way; try other inputs",
    KINK: "the slopes on the two sides differ, so there is no derivative here; move the input away to prove the rule",
    ROUND_OFF: "the figures differ by no more than rounding explains: nothing to do",
    TRUNCATION: "the difference quotient was off, and smaller or extrapolated steps agree with backward: nothing to do",
}
FAULTS = (WRONG, MISSING, DTYPE, RANDOM, OVERLAP)
NEARBY = "a corner lies within the first step; smaller steps stay on one side of it, and agree with backward"


@dataclass(slots=True)
class Finding:
    """One disagreement, with its cause.

    index, output_index: the element of the input and of the output; None where it concerns all of them.
    explained: the numerical side was at fault, and a closer look agrees with backward.
    """

    kind: str
    input: int | None
    order: int = 1
    index: tuple | None = None
    output: int | None = None
    output_index: tuple | None = None
    analytic: float | None = None
    numeric: float | None = None
    left: float | None = None
    right: float | None = None
    step: float | None = None
    explained: bool = False
    note: str = ""

    def __str__(self):
        where = f"input {self.input}" if self.input is not None else "somewhere in the graph"
        if self.index is not None:
            where += f" at {self.index}"
        if self.output_index is not None:
            where += f", output {self.output} at {self.output_index}"
        meaning = NEARBY if self.kind == KINK and self.explained else MEANING[self.kind]
        order = "" if self.order == 1 else ", order 2"
        lines = [f"{self.kind}: {where}{order}: {meaning}"]
        if self.analytic is not None:
            figures = f"analytic {self.analytic:.10g}, numeric {self.numeric:.10g}"
            if self.left is not None:
                figures += f" (left {self.left:.10g}, right {self.right:.10g}, step {self.step:.2g})"
            lines.append(figures)
        if self.note:
            lines.append(self.note)
        return "\n    ".join(lines)


@dataclass(slots=True)
class InputReport:
    """How one input fared: the largest errors of its Jacobian, and the figures where the error is largest.

    In fast mode the figures are slopes along a random direction, and index is None unless they disagreed.
    """

    input: int
    order: int
    shape: tuple
    dtype: str
    max_abs_error: float
    max_rel_error: float
    index: tuple | None
    output_index: tuple | None
    analytic: float
    numeric: float
    left: float
    right: float
    tolerance: float

    def __str__(self):
        where = f" at {self.index}" if self.index is not None else " along a random direction"
        return (
            f"input {self.input} {self.dtype} {self.shape}, order {self.order}: largest error {self.max_abs_error:.2g} "
            f"({self.max_rel_error:.2g} relative){where}\n"
            f"    analytic {self.analytic:.10g}, numeric {self.numeric:.10g} (left {self.left:.10g}, "
            f"right {self.right:.10g}), tolerance {self.tolerance:.2g}"
        )


@dataclass(slots=True)
class GradcheckResult:
    """The outcome of a gradient check; true if nothing is wrong.

    verdict: "ok", or the gravest kind among the open findings: "wrong backward", "missing gradient", "wrong dtype",
    "non-determinism", "overlapping memory", "inconclusive", "kink", "round-off".
    ok: the verdict is "ok", or "kink" with a gradient between the two slopes: nothing is wrong, though at that
    element nothing is proven.
    suggested_tolerance: the smallest round {"atol", "rtol"} that accept every figure seen.
    """

    mode: str
    reports: list[InputReport] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    suggested_tolerance: dict = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """The gravest kind that is not explained, or "ok"."""
        open_kinds = {f.kind for f in self.findings if not f.explained}
        return next((kind for kind in KINDS if kind in open_kinds), "ok")

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.verdict in ("ok", KINK)

    @property
    def max_error(self) -> float:
        """The largest relative error of any input."""
        return max((r.max_rel_error for r in self.reports), default=0.0)

    def __bool__(self):
        return self.ok

    def __str__(self):
        return self.text()

    def text(self, reports=True) -> str:
        """The result in words; reports: with a line an input."""
        head = "ok" if self.verdict == "ok" else f"ok, except for a {KINK}" if self.ok else f"FAILED: {self.verdict}"
        lines = [f"gradcheck ({self.mode}): {head}"]
        lines += ["  " + str(report).replace("\n", "\n  ") for report in self.reports if reports]
        for title, chosen in (
            ("found", [f for f in self.findings if not f.explained]),
            ("looked at again, and fine", [f for f in self.findings if f.explained]),
        ):
            if chosen:
                lines.append(f"  {title}:")
                shown = sorted(chosen, key=lambda f: KINDS.index(f.kind))[:8]
                lines += ["  - " + str(f).replace("\n", "\n  ") for f in shown]
                if len(chosen) > len(shown):
                    lines.append(f"    and {len(chosen) - len(shown)} more")
        atol, rtol = self.suggested_tolerance.get("atol"), self.suggested_tolerance.get("rtol")
        if self.findings and atol and not any(f.kind in FAULTS for f in self.findings):
            lines.append(f"  a plain comparison of these figures needs atol={atol:.0e}, rtol={rtol:.0e}")
        return "\n".join(lines)


class GradcheckError(RuntimeError):
    """Raised by gradcheck where a gradient is wrong; `.result` holds the whole report."""

    def __init__(self, result: GradcheckResult):
        super().__init__(str(result))
        self.result = result


def pattern(analytic: np.ndarray, numeric: np.ndarray) -> str:
    """In words, what simple change turns the analytic figures into the numeric ones, if one does."""
    a, n = np.asarray(analytic).ravel(), np.asarray(numeric).ravel()
    if not (np.isfinite(a).all() and np.isfinite(n).all()) or not n.size:
        return "the analytic gradient is not finite" if not np.isfinite(a).all() else ""
    scale = np.abs(n).max()
    if not np.abs(a).max():
        return "the analytic gradient is zero everywhere"
    ratio = float(a @ n / (n @ n)) if scale else 0.0
    if abs(ratio - 1.0) > 1e-6 and np.allclose(a, ratio * n, rtol=1e-5, atol=1e-6 * scale):
        return f"analytic is {ratio:.6g} times numeric everywhere: a wrong factor" + (" or sign" if ratio < 0 else "")
    wrong = ~np.isclose(a, n, rtol=1e-5, atol=1e-6 * scale)
    if wrong.any() and np.allclose(np.sort(a), np.sort(n), rtol=1e-5, atol=1e-6 * scale):
        return "the same figures stand in another order: a transposed, rolled or reversed gradient"
    if wrong.any() and not wrong.all():
        return f"{int(wrong.sum())} of {wrong.size} figures disagree, the others agree"
    return ""
