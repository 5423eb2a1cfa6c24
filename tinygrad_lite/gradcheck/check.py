"""gradcheck and gradgradcheck: run the comparison, and send what disagrees to be explained."""

from __future__ import annotations

from numbers import Real

import numpy as np

from ..errors import function, several
from ..tensor import Tensor
from . import report as kinds
from .classify import FLAT, STEEP, Look, difference
from .directions import check_directions
from .narrow import check_narrow
from .problem import Misfit, Problem, host64, overlaps, second_order
from .report import Finding, GradcheckError, GradcheckResult, InputReport, pattern
from .tolerance import NOTHING, QUICK, SHARP, SLACK, default_rtol, eps_of, relative_step, rounded_up, scales

WRONG_COLUMNS = 3  # after so many columns proven wrong, the rest of an input's are not looked at again
NEGLIGIBLE = 1e-12  # of its row's largest: an entry below is held to the row's noise only
SIGNS = np.array([-1.0, 1.0])
EPS64 = float(np.finfo(np.float64).eps)
REPEATS = 32  # runs on the same values before a disagreement is blamed on the rule
FEW = {"full": (8, 8), "fast": (2, 3)}  # where all agrees: forward, backward


def check_first(fn, inputs, order, raise_exception, **settings):
    """What gradcheck says of itself."""
    settings, result = _settings(**settings), GradcheckResult(settings["mode"])
    _orders(fn, inputs, order, settings, result, result)
    return _finished(result, raise_exception)


def each_order(fn, inputs, order=2, mode="full", seed=0):
    """gradcheck's result, and gradgradcheck's, or None where order is 1 or the first order is not right."""
    first, second = GradcheckResult(mode), GradcheckResult(mode)
    went_on = _orders(fn, inputs, order, _settings(None, None, None, mode, seed), first, second)
    return _finished(first, False), _finished(second, False) if went_on else None


def _orders(fn, inputs, order, settings, first, second) -> bool:
    """Check the first order, and the second where that is asked for and the first is right: whether it was."""
    if order not in (1, 2):
        raise ValueError(f"gradcheck: order must be 1 or 2, got {order!r}")
    problem = Problem(function("gradcheck", fn), *_checked(inputs))
    check = _run(lambda: problem, 1, settings, first)
    if order == 1 or not first.ok:
        return False
    _run(lambda: second_order(problem, check.recorded, settings["seed"]), 2, settings, second)
    return True


def check_second(fn, inputs, raise_exception, **settings):
    """What gradgradcheck says of itself."""
    settings, result = _settings(**settings), GradcheckResult(settings["mode"])
    problem = Problem(function("gradgradcheck", fn), *_checked(inputs))
    _run(lambda: second_order(problem, problem.record("shadow"), settings["seed"]), 2, settings, result)
    return _finished(result, raise_exception)


def _checked(inputs):
    inputs = (
        [inputs] if isinstance(inputs, Tensor) else list(several("gradcheck", "inputs, a Tensor or several", inputs))
    )
    for i, x in enumerate(inputs):
        lost = np.argwhere(~np.isfinite(host64(x))) if isinstance(x, Tensor) and x.requires_grad else ()
        if len(lost):
            place = tuple(int(n) for n in lost[0])
            raise ValueError(
                f"gradcheck: input {i} at {place} is not finite, and differences need numbers to move: pass finite values"
            )
    checked = [i for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]
    if not checked:
        raise ValueError("gradcheck: no input requires a gradient: pass Tensors after requires_grad_()")
    return inputs, checked


def _settings(eps, atol, rtol, mode, seed):
    if mode not in ("full", "fast"):
        raise ValueError(f'gradcheck: mode must be "full" or "fast", got {mode!r}')
    for name, value in (("eps", eps), ("atol", atol), ("rtol", rtol)):
        if value is not None and not (isinstance(value, Real) and value >= 0):
            raise ValueError(f"gradcheck: {name} must be a number from 0, or None, got {value!r}")
    return {"eps": eps or None, "atol": atol, "rtol": rtol, "mode": mode, "seed": seed}


def _finished(result, raise_exception):
    worst = max((r.max_abs_error for r in result.reports), default=0.0)
    result.suggested_tolerance = {"atol": rounded_up(worst), "rtol": rounded_up(result.max_error)}
    if raise_exception and not result.ok:
        raise GradcheckError(result)
    return result


def _run(make_problem, order, settings, result):
    """One order of one problem: everything found goes into the result. Returns the Check, if one could be made."""
    check = None
    try:
        with np.errstate(all="ignore"):  # what leaves the domain is judged from the values, not warned of
            check = Check(make_problem(), order, settings, result)
            _compare(check)
    except Misfit as misfit:
        result.findings.append(Finding(kinds.DTYPE, None, order, note=str(misfit)))
    return check


def _compare(check):
    if check.repeatable() and check.numbers():
        (check_directions if check.mode == "fast" else Check.full)(check)
        check.still_repeatable()


class Check:
    """One comparison in progress."""

    def __init__(self, problem: Problem, order: int, settings: dict, result: GradcheckResult):
        self.problem, self.order, self.result = problem, order, result
        self.atol, self.fixed_step, self.mode = settings["atol"], settings["eps"], settings["mode"]
        self.rng = np.random.default_rng(settings["seed"])
        self.before = len(result.findings)
        self.recorded = problem.record("shadow")
        self.f0 = problem.value(problem.points)
        # A function that narrows inside is as exact as the type it returns.
        self.eps = max(problem.eps, *(eps_of(out.dtype) for out in self.recorded.outs))
        self.rtol0 = default_rtol(self.eps)
        self.rtol = self.rtol0 if settings["rtol"] is None else settings["rtol"]
        # Weights of all outputs at once; one that stands at infinity, a masked score say, has no slope.
        self.v = np.where(np.isfinite(self.f0), self.signed(self.f0.shape), 0.0)
        # How large each output is, or was before it cancelled: what rounding is in proportion to.
        self.sizes = np.where(np.isfinite(self.f0), np.abs(self.f0), 0.0)
        if problem.typical is not None:
            self.sizes = np.maximum(self.sizes, problem.typical)

    def signed(self, shape) -> np.ndarray:
        """Random figures of like size, of either sign."""
        return self.rng.uniform(0.5, 1.5, shape) * self.rng.choice(SIGNS, shape)

    def repeatable(self) -> bool:
        """Whether runs on the same values agree; a finding if not."""
        if self._same(self.f0, self.recorded.values):
            return True
        problem, again = self.problem, self._another()
        if again is not None:
            kind, note = kinds.RANDOM, "two forward runs differ"
        else:
            again = self.f0
            lapped = [i for i in problem.checked if overlaps(problem.inputs[i].data)]
            kind = kinds.OVERLAP if lapped else kinds.WRONG
            if not lapped and not problem.narrow and self._same(again, problem.record("copy").values):
                note = "the function's values depend on the memory layout of its inputs"
            elif self.order == 2:
                note = "the gradient under create_graph differs from the one without: a rule or a kernel is wrong"
            else:
                note = "the function's values change while it is recorded"
        self._changed(kind, again if kind == kinds.RANDOM else self.recorded.values, note)
        return False

    def still_repeatable(self):
        """Before anything found is believed: do the values stand? A coin may fall alike for a while."""
        found = self.result.findings
        doubt = any(not f.explained for f in found[self.before :])
        forward, backward = (REPEATS, REPEATS) if doubt else FEW[self.mode]
        again = self._another(forward)
        if again is not None:
            found[self.before :] = []
            self._changed(kinds.RANDOM, again, "two forward runs differ")
            return
        first = self.recorded.product(self.v)
        for _ in range(backward):
            for k, (a, b) in enumerate(zip(first, self.recorded.product(self.v, again=True), strict=True)):
                if a is not None and not ((a == b) | (np.isnan(a) & np.isnan(b))).all():
                    j = int(np.argmax(np.nan_to_num(np.abs(a - b), nan=np.inf)))
                    figures = f"{a.ravel()[j]:.10g} and {b.ravel()[j]:.10g}"
                    found[self.before :] = [Finding(
                        kinds.RANDOM, self.problem.checked[k], self.order, self.index(k, j),
                        note=f"two backward passes over one graph differ: {figures}",
                    )]  # fmt: skip
                    return

    def _another(self, repeats=REPEATS):
        """Values that differ from f0 on the same points, if any of so many runs gives some."""
        runs = (self.problem.value(self.problem.points) for _ in range(repeats))
        return next((again for again in runs if not self._same(self.f0, again)), None)

    def numbers(self) -> bool:
        """Whether every output is a number or infinite; a finding if not."""
        lost, what = np.flatnonzero(np.isnan(self.f0)), "nan"
        if not lost.size and np.isinf(self.f0).any():
            # A masked score stands at infinity, and backward sends 0 from there; what overflows has no slope at all.
            gs = self.recorded.product(np.where(np.isinf(self.f0), 1.0, 0.0))
            if not all(g is None or np.isfinite(g).all() for g in gs):
                lost, what = np.flatnonzero(np.isinf(self.f0)), "infinite, and so are their slopes"
        if lost.size:
            place = self.recorded.place(int(lost[0]))
            note = (
                f"{lost.size} of {self.f0.size} output elements are {what}: move the inputs into the function's domain"
            )
            self.result.findings.append(
                Finding(kinds.INCONCLUSIVE, self.problem.checked[0], self.order, None, *place, note=note)
            )
        return not lost.size

    def _changed(self, kind, other, note):
        k = int(np.nanargmax(np.nan_to_num(np.abs(difference(self.f0, other)), nan=np.inf)))
        figures = f": {other[k]:.10g} and {self.f0[k]:.10g}"
        self.result.findings.append(
            Finding(kind, self.problem.checked[0], self.order, None, *self.recorded.place(k), note=note + figures)
        )

    def _same(self, a, b) -> bool:
        # Sums may be taken in another order; anything above is chance. A kernel and its twin take other roads, too.
        if a.shape != b.shape:
            return False
        if (a == b).all():
            return True
        relative = SLACK * self.eps if self.order == 1 else max(self.rtol0, 64.0 * self.eps)
        bound = relative * float(np.max(self.sizes, initial=0.0))
        return bool(np.all(np.nan_to_num(np.abs(difference(a, b)), nan=0.0) <= bound))

    # -- the whole Jacobian -------------------------------------------------------------------------------
    def full(self):
        """Every entry of every input's Jacobian."""
        problem = self.problem
        shapes = [p.shape for p in problem.points]
        # Weights other than 1 find rules that ignore the incoming gradient, or are not linear in it.
        weights = self.rng.choice([0.5, 0.75, 1.5, 2.0], self.f0.size) * self.rng.choice([-1.0, 1.0], self.f0.size)
        analytic, sent = self._rows(self.recorded, weights, shapes)
        given = self._rows(problem.record("given"), weights, shapes)[0] if problem.narrow else None
        for k, a in enumerate(analytic):
            self._input(k, a, bool(sent[k]), given[k] if given else None, weights)

    def _rows(self, recorded, weights, shapes):
        """One (outputs, inputs) matrix an input, and how many rows backward sent."""
        rows = [np.zeros((len(weights), int(np.prod(s)))) for s in shapes]
        sent = [0] * len(shapes)
        for o, weight in enumerate(weights):
            for k, g in enumerate(recorded.row(o, weight)):
                if g is not None:
                    rows[k][o] = g.ravel() / weight
                    sent[k] += 1
        return rows, sent

    def steps(self, k: int) -> np.ndarray:
        """The step of each element of checked input k, flat."""
        if self.fixed_step:
            return np.full(self.problem.points[k].size, float(self.fixed_step))
        return (relative_step(self.eps) * scales(self.problem.points[k])).ravel()

    def column(self, k: int, j: int):
        """The outputs as a function of a move t of element j of checked input k."""
        direction = np.zeros(self.problem.points[k].size)
        direction[j] = 1.0
        direction = direction.reshape(self.problem.points[k].shape)
        return lambda t: self.problem.moved(k, direction, t)

    def _input(self, k, analytic, was_sent, given, weights):
        steps = self.steps(k)
        left, right = np.zeros_like(analytic), np.zeros_like(analytic)
        numeric = np.zeros_like(analytic)
        point = self.problem.points[k].ravel()
        for j, h in enumerate(steps):
            phi = self.column(k, j)
            up, down = (point[j] + h) - point[j], point[j] - (point[j] - h)  # as far as the numbers really move
            plus, minus = phi(h), phi(-h)
            right[:, j], left[:, j] = difference(plus, self.f0) / up, difference(self.f0, minus) / down
            numeric[:, j] = difference(plus, minus) / (up + down)
        error, top = np.abs(analytic - numeric), np.fmax(np.abs(analytic), np.abs(numeric))
        top = np.nan_to_num(top, nan=0.0, posinf=0.0)
        # The largest entry of each row: an output's slopes are judged on that output's own scale.
        most = np.max(np.where(np.isfinite(analytic), np.abs(analytic), 0.0), axis=1, keepdims=True, initial=0.0)
        size = self.sizes[:, None] + most * float(np.max(np.abs(point), initial=0.0))
        close = self.rtol * top + NOTHING + (self.atol or 0.0)
        noise = self.eps * size / steps if self.atol is None else np.zeros(size.shape)
        tolerance = close + SLACK * noise
        good = error <= tolerance
        self._report(k, analytic, numeric, left, right, error, tolerance)
        # What is coarse beside the entry itself proves nothing about it.
        sharp = close + QUICK * noise
        fine = (sharp <= max(SHARP, self.rtol) * np.abs(analytic)) | (top <= NEGLIGIBLE * most) | (error == 0.0)
        fine = (fine | (self.atol is not None)) & (error <= sharp)
        # A smooth function's sides differ by h * f'', far below this; at a tie the mean of the two may look right.
        apart = np.abs(right - left) > 1e-3 * most + 100.0 * tolerance
        if not fine.all() or apart.any():
            scale = np.maximum(most, FLAT * size / np.maximum(scales(self.problem.points[k]).ravel(), 1e-300))
            self._explain(k, analytic, numeric, close, good, ~fine | apart, was_sent, weights, scale)
        if given is not None:
            shapes = [p.shape for p in self.problem.points]
            check_narrow(self, k, given, analytic, lambda run: self._rows(run, weights, shapes)[0][k], True)

    def _report(self, k, analytic, numeric, left, right, error, tolerance):
        x = self.problem.inputs[self.problem.checked[k]]
        if not error.size:
            return
        filled = np.where(np.isfinite(error), error, np.inf)
        o, j = np.unravel_index(int(np.argmax(filled / tolerance)), error.shape)
        scale = float(np.max(np.abs(numeric), where=np.isfinite(numeric), initial=0.0))
        worst = float(filled.max())
        self.result.reports.append(InputReport(
            self.problem.checked[k], self.order, x.shape, str(x.dtype), worst, worst / scale if scale else worst,
            self.index(k, j), self.recorded.place(int(o))[1], float(analytic[o, j]), float(numeric[o, j]),
            float(left[o, j]), float(right[o, j]), float(tolerance[o, j]),
        ))  # fmt: skip

    def index(self, k: int, j: int) -> tuple:
        """Flat element number of checked input k to its index."""
        return tuple(int(i) for i in np.unravel_index(int(j), self.problem.points[k].shape))

    # -- what disagrees -----------------------------------------------------------------------------------
    def _explain(self, k, analytic, numeric, tolerance, good, doubtful, was_sent, weights, scale):
        wrong = 0
        for j in np.flatnonzero(doubtful.any(axis=0)):
            column = (analytic[:, j], tolerance[:, j], good[:, j], doubtful[:, j], scale[:, j])
            found = self._column_findings(k, int(j), *column)
            self.result.findings += found
            bad = [f for f in found if f.kind == kinds.WRONG]
            if bad and not wrong:
                self._name_cause(k, bad[0], analytic, numeric, was_sent, weights)
                if bad[0].kind != kinds.WRONG:
                    return
            wrong += bool(bad)
            if wrong >= WRONG_COLUMNS:
                return

    def floor(self, k: int, direction: np.ndarray) -> float:
        """The smallest step along a direction of checked input k that float64 can follow in every element."""
        used = direction != 0.0
        return 64.0 * EPS64 * float(np.max(np.abs(self.problem.points[k][used] / direction[used]), initial=0.0))

    def _column_findings(self, k, j, analytic, tolerance, good, doubtful, scale):
        floor = 64.0 * EPS64 * abs(float(self.problem.points[k].ravel()[j]))
        look, found = Look(self.column(k, j), float(self.steps(k)[j]), self.f0, self.eps, self.sizes, floor), []
        for o in np.flatnonzero(doubtful):
            verdict = look.judge(int(o), float(analytic[o]), float(tolerance[o]), float(scale[o]))
            if not good[o] or not verdict.explained or verdict.note:
                found.append(self.finding(k, j, int(o), float(analytic[o]), verdict))
        if any(f.kind == kinds.INCONCLUSIVE and f.note == STEEP for f in found):
            for f in found:  # 0 times an infinite slope is nan in every other output, too
                if f.kind == kinds.WRONG and not np.isfinite(f.analytic):
                    f.kind, f.note = kinds.INCONCLUSIVE, STEEP
        return found

    def finding(self, k, j, o, analytic, verdict) -> Finding:
        """A judgement as a finding of checked input k; o is None for a projection of all outputs."""
        place = (None, None) if o is None else self.recorded.place(o)
        kind, explained = verdict.kind, verdict.explained
        if kind in (kinds.ROUND_OFF, kinds.TRUNCATION) and self.atol is not None and verdict.error > self.atol:
            explained = False  # the user's own tolerance is finer than differences can show
        note = verdict.note
        if kind == kinds.INCONCLUSIVE and self.eps > EPS64:
            note += "; the function computes in a narrow type: check it in float64"
        return Finding(
            kind, self.problem.checked[k], self.order, self.index(k, j) if j is not None else None, *place, analytic,
            float(verdict.numeric), float(verdict.left), float(verdict.right), float(verdict.step), explained, note,
        )  # fmt: skip

    def _name_cause(self, k, finding, analytic, numeric, was_sent, weights):
        """Tell a wrong rule from its look-alikes, and say what simple change it looks like."""
        problem, x = self.problem, self.problem.inputs[self.problem.checked[k]]
        if not was_sent:
            finding.kind, finding.note = kinds.MISSING, ""
            return
        shapes = [p.shape for p in problem.points]
        if not x.data.flags.c_contiguous and not problem.narrow:
            copied = self._rows(problem.record("copy"), weights, shapes)[0][k]
            if np.allclose(copied, numeric, rtol=1e-4, atol=1e-4 * float(np.nanmax(np.abs(numeric)))):
                if overlaps(x.data):
                    finding.kind = kinds.OVERLAP
                finding.note = "only in this memory layout: a contiguous copy of the input gets the right gradient"
                return
        finding.note = finding.note or pattern(analytic, numeric)
