"""Fast mode: slopes along random directions instead of the whole Jacobian.

For random u (over one input) and v (over the outputs), v J u is one backward pass on the analytic side and
two values on the numeric side, however large the input. A wrong entry changes it with probability 1; how
visibly, depends on its share of the sum. Where the slopes disagree the direction is halved, and halved
again, towards the disagreement, until one element is left: log2(n) more steps.
"""

from __future__ import annotations

import numpy as np

from . import report as kinds
from .classify import Look, difference
from .report import InputReport
from .tolerance import SLACK, narrow_tolerance, relative_step, scales

DIRECTIONS = 2
LOOKS = 16  # elements of one direction that are looked at closely


def check_directions(check):
    """Compare slopes of every checked input along DIRECTIONS random directions."""
    problem = check.problem
    given = problem.record("given") if problem.narrow else None
    for turn in range(DIRECTIONS):
        v = check.rng.uniform(0.5, 1.5, check.f0.size) * check.rng.choice([-1.0, 1.0], check.f0.size)
        v[~np.isfinite(check.f0)] = 0.0  # an output that stands at infinity, a masked score say, has no slope
        gs = check.recorded.product(v)
        narrow = given.product(v) if given else [None] * len(gs)
        for k, g in enumerate(gs):
            _one_input(check, k, v, g, narrow[k], turn)


def _one_input(check, k, v, g, given, turn):
    problem, point = check.problem, check.problem.points[k]
    if not point.size:
        return
    analytic = np.zeros(point.shape) if g is None else g
    scale = scales(point) if not check.fixed_step else np.ones(point.shape)
    u = scale * check.rng.uniform(0.5, 1.5, point.shape) * check.rng.choice([-1.0, 1.0], point.shape)
    h = check.fixed_step or relative_step(check.eps)
    good, figures, tolerance = _compare(check, k, v, analytic, u, h)
    slope, numeric, left, right = figures
    if turn == 0 or not good:
        x, error = problem.inputs[problem.checked[k]], abs(slope - numeric)
        scale = max(abs(numeric), float(np.sqrt(np.nansum((analytic * u) ** 2))))
        check.result.reports.append(InputReport(
            problem.checked[k], check.order, x.shape, str(x.dtype), error, error / scale if scale else error, None,
            None, slope, numeric, left, right, tolerance,
        ))  # fmt: skip
    if not good:
        _trace_all(check, k, v, analytic, u, h, g is not None)
    elif abs(right - left) > 1e-3 * float(np.sqrt(((analytic * u) ** 2).sum())) + 100.0 * tolerance:
        # At a tie the mean of the two slopes may look right.
        phi = _along(check, k, v, u)
        verdict = Look(phi, h, phi(0.0), check.eps).judge(0, slope, tolerance, abs(slope))
        if verdict.kind == kinds.KINK and not verdict.explained:
            check.result.findings.append(check.finding(k, None, None, slope, verdict))
    if given is not None:
        _narrow(check, k, analytic, given)


def _along(check, k, v, u):
    """The projected outputs, as a function of a move along u."""
    used = v != 0.0
    return lambda t: np.array([float(v[used] @ check.problem.moved(k, u, t)[used])])


def _compare(check, k, v, analytic, u, h):
    """(agree, (analytic, numeric, left, right), tolerance) of the slope along u."""
    used = v != 0.0
    plus, minus = check.problem.moved(k, u, h)[used], check.problem.moved(k, u, -h)[used]
    f0, w = check.f0[used], v[used]
    right, left = float(w @ difference(plus, f0)) / h, float(w @ difference(f0, minus)) / h
    numeric = float(w @ difference(plus, minus)) / (2.0 * h)
    terms = analytic * u
    slope = float(terms.sum())
    length = float(np.sqrt((terms**2).sum()))
    point = np.where(u != 0, np.abs(check.problem.points[k]), 0.0)
    sizes = float(np.sqrt(((w * f0) ** 2).sum())) + check.size + float(np.abs(point * analytic).max(initial=0.0))
    noise = SLACK * check.eps * sizes / h if check.atol is None else check.atol
    tolerance = noise + check.rtol * max(length, abs(numeric)) + np.finfo(np.float64).tiny
    return bool(abs(slope - numeric) <= tolerance), (slope, numeric, left, right), tolerance


def _trace_all(check, k, v, analytic, u, h, was_sent):
    """Trace the disagreement to an element, take that out of the direction, and go on until the rest agrees."""
    rest = u.copy()
    for _ in range(LOOKS):
        finding, moved = _trace(check, k, v, analytic, rest, h, was_sent)
        check.result.findings.append(finding)
        if not (finding.explained or finding.kind == kinds.KINK):
            return
        rest[moved] = 0.0
        if not rest.any() or _compare(check, k, v, analytic, rest, h)[0]:
            return
    check.result.findings.append(kinds.Finding(
        kinds.INCONCLUSIVE, check.problem.checked[k], check.order,
        note=f"more than {LOOKS} elements need a closer look: use mode='full', or move the input away from the kinks",
    ))  # fmt: skip


def _trace(check, k, v, analytic, u, h, was_sent):
    """Halve the direction towards the disagreement until one element is left, and judge that."""
    candidates = np.flatnonzero(u)
    while candidates.size > 1:
        halves = np.array_split(candidates, 2)
        excess = []
        for half in halves:
            part = np.zeros(u.size)
            part[half] = u.ravel()[half]
            _, (slope, numeric, *_), tolerance = _compare(check, k, v, analytic, part.reshape(u.shape), h)
            off = abs(slope - numeric) / tolerance
            excess.append(off if np.isfinite(off) else np.inf)
        if max(excess) <= 1.0:
            break  # only together do they exceed the tolerance: judge the direction as it is
        candidates = halves[int(np.argmax(excess))]
    part = np.zeros(u.size)
    part[candidates] = u.ravel()[candidates]
    part = part.reshape(u.shape)
    _, (slope, *_), tolerance = _compare(check, k, v, analytic, part, h)
    phi = _along(check, k, v, part)
    scale = max(abs(slope), float(np.sqrt(np.nansum((analytic * u) ** 2))))
    single = int(candidates[0]) if candidates.size == 1 else None
    own = 0.0
    if single is not None and not check.fixed_step:
        own = h * abs(float(check.problem.points[k].ravel()[single] / part.ravel()[single]))
    verdict = Look(phi, h, phi(0.0), check.eps, own).judge(0, slope, tolerance, scale)
    finding = check.finding(k, single, None, slope, verdict)
    if finding.kind == kinds.WRONG:
        again = check.recorded.product(v)[k]
        if not was_sent:
            finding.kind = kinds.MISSING
        elif again is None or not np.array_equal(again, analytic, equal_nan=True):
            finding.kind, finding.note = kinds.RANDOM, "two backward passes over one graph differ"
        elif single is not None:
            finding.note = "slopes of all outputs, randomly weighted, per unit of a random direction"
    return finding, part != 0.0


def _narrow(check, k, wide, given):
    x = check.problem.inputs[check.problem.checked[k]]
    error = np.abs(given - wide)
    near = 4.0 * narrow_tolerance(x.dtype) * float(np.max(np.abs(wide), where=np.isfinite(wide), initial=0.0))
    if error.size and not np.nan_to_num(error, nan=np.inf).max() <= near:
        j = int(np.argmax(np.nan_to_num(error, nan=np.inf)))
        check.result.findings.append(kinds.Finding(
            kinds.WRONG, check.problem.checked[k], check.order, check.index(k, j), analytic=float(given.ravel()[j]),
            numeric=float(wide.ravel()[j]),
            note=f"float64 runs the same formulas to another gradient: a fault in the code for {x.dtype} alone, or an "
            "unstable formula; mode='full' measures which",
        ))  # fmt: skip
