"""Fast mode: slopes along random directions instead of the whole Jacobian.

For random u (over one input) and v (over the outputs), v J u is one backward pass on the analytic side and
two values on the numeric side, however large the input. A wrong entry changes it with probability 1; how
visibly, depends on its share of the sum. So outputs whose slopes are of different size, and elements whose
contributions are, go into directions of their own. Where the slopes disagree the direction is halved, and
halved again, towards the disagreement, until one element is left: log2(n) more steps.
"""

from __future__ import annotations

import math

import numpy as np

from . import report as kinds
from .classify import FLAT, STEEP, Look, difference, is_steep
from .narrow import check_narrow
from .problem import overlaps
from .report import InputReport
from .tolerance import NOTHING, QUICK, SHARP, SLACK, relative_step, scales

DIRECTIONS = 2
LOOKS = 16  # elements of one direction that are looked at closely
LEVEL = 1e-4  # figures above this share of the largest go into one direction
LEVELS = 3


def check_directions(check):
    """Compare slopes of every checked input along DIRECTIONS random directions."""
    given = check.problem.record("given") if check.problem.narrow else None
    for turn in range(DIRECTIONS):
        v = check.v if not turn else np.where(check.v != 0.0, check.signed(check.v.shape), 0.0)
        for k, point in enumerate(check.problem.points):
            if point.size:
                _one_input(check, k, v, given, turn)


def levels(sizes: np.ndarray) -> list[np.ndarray]:
    """Masks of the figures of like size, the largest first; those that are zero last."""
    rest, found = sizes > 0.0, []  # nan is not above 0
    zeros = ~rest
    while rest.any() and len(found) < LEVELS:
        last = len(found) == LEVELS - 1
        mask = rest & ((sizes >= LEVEL * sizes[rest].max()) | last)
        found.append(mask)
        rest = rest & ~mask
    return found + [zeros] if zeros.any() else found


def norm(x: np.ndarray) -> float:
    """The Euclidean norm, without overflow on the way."""
    most = float(np.abs(x).max(initial=0.0))
    if not 0.0 < most < np.inf:
        return most
    x = x.ravel() / most
    return most * math.sqrt(x @ x)


class Moves:
    """The outputs after moves of checked input k along a direction u or parts of it; `ends`: h along u, and back."""

    def __init__(self, check, k, u, h):
        self.moved, self.k, self.u, self.h = check.problem.moved, k, u, h
        self.ends = self.moved(k, u, h), self.moved(k, u, -h)

    def at(self, u, t) -> np.ndarray:
        """All outputs after a move t along u."""
        return self.moved(self.k, u, t)

    def both(self, u):
        """All outputs after a move h along u, and back."""
        return self.ends if (u == self.u).all() else (self.at(u, self.h), self.at(u, -self.h))


class Direction:
    """One v, and the moves that are compared under it; whole: the size of the slope along all elements."""

    def __init__(self, check, k, v, analytic, moves, whole):
        self.check, self.k, self.v, self.analytic, self.moves, self.whole = check, k, v, analytic, moves, whole
        self.used, self.h = v != 0.0, moves.h

    def phi(self, u):
        """The projected outputs, as a function of a move along u."""
        weights = self.v[self.used]
        return lambda t: np.array([float(weights @ self.moves.at(u, t)[self.used])])

    def compare(self, u):
        """((analytic, numeric, left, right), close, tolerance, sharp) of the slope along u."""
        check, h, w, f0 = self.check, self.h, self.v[self.used], self.check.f0[self.used]
        plus, minus = [values[self.used] for values in self.moves.both(u)]
        right, left = float(w @ difference(plus, f0)) / h, float(w @ difference(f0, minus)) / h
        numeric = float(w @ difference(plus, minus)) / (2.0 * h)
        slope = float((self.analytic * u).sum())
        point = np.where(u != 0, np.abs(check.problem.points[self.k]), 0.0)
        sizes = norm(w * check.sizes[self.used]) + float(np.abs(point * self.analytic).max(initial=0.0))
        close = check.rtol * max(self.length(u), abs(numeric)) + NOTHING + (check.atol or 0.0)
        noise = check.eps * sizes / h if check.atol is None else 0.0
        return (slope, numeric, left, right), close, close + SLACK * noise, close + QUICK * noise

    def length(self, u) -> float:
        """The size of the analytic slope along u, whatever its signs."""
        return norm(self.analytic * u)

    def judge(self, u, slope, close):
        """A closer look along u."""
        phi, size = self.phi(u), norm(self.v[self.used] * self.check.sizes[self.used])
        look = Look(phi, self.h, phi(0.0), self.check.eps, np.array([size]), self.check.floor(self.k, u))
        return look.judge(0, slope, close, max(abs(slope), self.whole, FLAT * size))


def _one_input(check, k, v, given, turn):
    point = check.problem.points[k]
    u = check.signed(point.shape) * (scales(point) if not check.fixed_step else 1.0)
    moves = Moves(check, k, u, check.fixed_step or relative_step(check.eps))
    slopes = np.abs(difference(*moves.ends))
    for n, outputs in enumerate(levels(np.where(v != 0.0, slopes, 0.0))):
        part = np.where(outputs, v, 0.0)
        if part.any():
            _one_level(check, k, part, moves, turn == 0 and n == 0)
    if given is not None and v.any():
        gradient = lambda run: _sent(run.product(v)[k], u.shape)
        check_narrow(check, k, gradient(given), gradient(check.recorded), gradient, False)


def _one_level(check, k, v, moves, report):
    u = moves.u
    g = check.recorded.product(v)[k]
    analytic = np.zeros(u.shape) if g is None else g
    finite = np.isfinite(analytic)
    if not finite.all():
        _not_finite(check, k, analytic, moves)
        analytic, u = np.where(finite, analytic, 0.0), np.where(finite, u, 0.0)
    line = Direction(check, k, v, analytic, moves, norm(analytic * u))
    for elements in levels(np.abs(analytic * u)):
        if not u[elements].any():
            continue
        report = _one_direction(line, np.where(elements, u, 0.0), report, g is not None)


def _not_finite(check, k, analytic, moves):
    """Backward sends inf or nan: is the function to blame?"""
    for j in np.flatnonzero(~np.isfinite(analytic))[:3]:
        alone = _only(moves.u, [j])
        look = Look(lambda t, alone=alone: moves.at(alone, t), moves.h, check.f0, check.eps, check.sizes)
        steep = is_steep(look)
        check.result.findings.append(kinds.Finding(
            kinds.INCONCLUSIVE if steep else kinds.WRONG, check.problem.checked[k], check.order, check.index(k, j),
            note=f"the analytic gradient is {analytic.ravel()[j]}, " + (STEEP if steep else "the slopes are finite"),
        ))  # fmt: skip


def _sent(g, shape):
    return np.zeros(shape) if g is None else g


def _one_direction(line, u, report, was_sent) -> bool:
    """Compare along u; whether a report is still to be made."""
    check = line.check
    figures, close, tolerance, sharp = line.compare(u)
    slope, numeric, left, right = figures
    error, length = abs(slope - numeric), line.length(u)
    good = bool(error <= tolerance < np.inf)
    if report or not good:
        x, scale = check.problem.inputs[check.problem.checked[line.k]], max(abs(numeric), length)
        check.result.reports.append(InputReport(
            check.problem.checked[line.k], check.order, x.shape, str(x.dtype), error, error / scale if scale else error,
            None, None, slope, numeric, left, right, tolerance,
        ))  # fmt: skip
    # What is coarse beside the slope itself proves nothing about it.
    fine = error <= sharp and (sharp <= max(SHARP, check.rtol) * length or error == 0.0 or check.atol is not None)
    if not good:
        _trace_all(line, u, was_sent)
    elif not fine or abs(right - left) > 1e-3 * length + 100.0 * tolerance:
        # Hidden by round-off; or at a tie, where the mean of the two slopes may look right.
        verdict = line.judge(u, slope, close)
        if verdict.kind == kinds.WRONG:
            _trace_all(line, u, was_sent)
        elif not verdict.explained or verdict.note:
            check.result.findings.append(check.finding(line.k, None, None, slope, verdict))
    return False


def _trace_all(line, u, was_sent):
    """Trace the disagreement to an element, take that out of the direction, and go on until the rest agrees."""
    check, rest = line.check, u.copy()
    for _ in range(LOOKS):
        finding, moved = _trace(line, rest, was_sent)
        check.result.findings.append(finding)
        if not (finding.explained or finding.kind == kinds.KINK):
            return
        rest[moved] = 0.0
        if not rest.any() or _excess(line, rest) <= 1.0:
            return
    (slope, *_), close, _, _ = line.compare(rest)
    verdict = line.judge(rest, slope, close)
    if verdict.kind == kinds.WRONG:  # of a mixture: not one element of LOOKS was wrong
        note = f"more than {LOOKS} elements need a closer look: use mode='full', or move the input away from the kinks"
        verdict = verdict._replace(kind=kinds.INCONCLUSIVE, note=note)
    check.result.findings.append(check.finding(line.k, None, None, slope, verdict))


def _excess(line, u) -> float:
    """The disagreement along u over its tolerance."""
    (slope, numeric, *_), _, tolerance, _ = line.compare(u)
    off = abs(slope - numeric) / tolerance
    return off if np.isfinite(off) else np.inf


def _trace(line, u, was_sent):
    """Halve the direction towards the disagreement until one element is left, and judge that."""
    check, k = line.check, line.k
    candidates = np.flatnonzero(u)
    while candidates.size > 1:
        halves = [_only(u, half) for half in np.array_split(candidates, 2)]
        excess = [_excess(line, half) for half in halves]
        if max(excess) <= 1.0:
            break  # only together do they exceed the tolerance: judge the direction as it is
        candidates = np.flatnonzero(halves[int(np.argmax(excess))])
    part = _only(u, candidates)
    (slope, *_), close, _, _ = line.compare(part)
    verdict = line.judge(part, slope, close)
    single = int(candidates[0]) if candidates.size == 1 else None
    finding = check.finding(k, single, None, slope, verdict)
    if finding.kind == kinds.WRONG:
        _name_cause(line, finding, part, was_sent)
    if single is not None:
        _per_unit(finding, float(part.ravel()[single]), line.v)
    return finding, part != 0.0


def _per_unit(finding, move: float, v):
    """Figures of one element per unit of it and, where there is one output, of that."""
    if move < 0.0:
        finding.left, finding.right = finding.right, finding.left
    unit = move * (float(v[0]) if v.size == 1 else 1.0)
    for name in ("analytic", "numeric", "left", "right"):
        setattr(finding, name, getattr(finding, name) / unit)
    finding.step *= abs(move)
    if v.size > 1:
        finding.note = "; ".join(filter(None, (finding.note, "slopes of the outputs' sum under random weights")))


def _name_cause(line, finding, part, was_sent):
    check, x = line.check, line.check.problem.inputs[line.check.problem.checked[line.k]]
    if not was_sent:
        finding.kind, finding.note = kinds.MISSING, ""
        return
    if not x.data.flags.c_contiguous and not check.problem.narrow:
        copied = check.problem.record("copy").product(line.v)[line.k]
        slope = float((_sent(copied, part.shape) * part).sum())
        if np.isclose(slope, finding.numeric, rtol=1e-4, atol=0.0):
            finding.kind = kinds.OVERLAP if overlaps(x.data) else finding.kind
            finding.note = "only in this memory layout: a contiguous copy of the input gets the right gradient"
            return


def _only(u, elements):
    """u with only these elements, flat numbers."""
    part = np.zeros(u.size)
    part[elements] = u.ravel()[elements]
    return part.reshape(u.shape)
