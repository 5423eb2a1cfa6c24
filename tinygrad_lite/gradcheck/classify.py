"""Why an analytic slope and a difference quotient disagree.

The function is looked at again along one direction, at steps from 1024 times to 1/256 of the first, on both
sides. What the slopes do as the step shrinks tells the cause:

    a smooth function       left and right approach each other in proportion to h; extrapolating the central
                            quotient (its error goes as h**2) gives the slope, and an error bound
    a kink at the point     left and right stay apart however small the step
    a kink nearby           they are apart at large steps and meet at small ones
    noise                   the quotient scatters by (noise of f) / h; the noise is measured, not assumed,
                            from third differences of closely spaced values, which cancel a smooth function
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .report import INCONCLUSIVE, KINK, ROUND_OFF, TRUNCATION, WRONG

POWERS = tuple(range(5, -5, -1))  # steps h * 4**k
SMALLEST, MIDDLE, BASE = len(POWERS) - 1, len(POWERS) - 3, POWERS.index(0)


class Judgement(NamedTuple):
    """The cause of one disagreement, and the figures that show it."""

    kind: str
    numeric: float
    left: float
    right: float
    step: float
    explained: bool
    error: float  # bound on the error of `numeric`


class Ladder(NamedTuple):
    """Slopes at each step (rows) of each output (columns)."""

    steps: np.ndarray
    left: np.ndarray
    right: np.ndarray
    central: np.ndarray
    noise: np.ndarray  # of f, one an output


def difference(plus, minus):
    """plus - minus, where an output that is infinite alike on both sides counts as standing still."""
    with np.errstate(invalid="ignore"):
        return np.where(plus == minus, 0.0, plus - minus)


def measured_noise(phi, h: float, f0: np.ndarray, eps: float) -> np.ndarray:
    """The scatter of each output's values near the point, at least what eps makes of their size."""
    sides, size = [], np.where(np.isfinite(f0), np.abs(f0), 0.0)
    for sign in (1.0, -1.0):
        values = np.stack([f0] + [phi(sign * h * (j + 1) / 8.0) for j in range(7)])
        with np.errstate(invalid="ignore"):
            third = np.diff(values, 3, axis=0)
        size = np.maximum(size, np.max(np.where(np.isfinite(values), np.abs(values), 0.0), axis=0))
        sides.append(np.sqrt(np.max(np.where(np.isfinite(third), third**2, 0.0), axis=0) / 20.0))
    # A corner beside the point shows on one side only; noise shows on both.
    return np.maximum(np.minimum(*sides), eps * size)


def climb(phi, h: float, f0: np.ndarray, eps: float) -> Ladder:
    """Evaluate phi(t), the function along a direction, on both sides of 0 at every step."""
    steps = np.array([h * 4.0**k for k in POWERS])
    left, right, central = [], [], []
    for step in steps:
        plus, minus = phi(step), phi(-step)
        left.append(difference(f0, minus) / step)
        right.append(difference(plus, f0) / step)
        central.append(difference(plus, minus) / (2.0 * step))
    return Ladder(steps, np.array(left), np.array(right), np.array(central), measured_noise(phi, h, f0, eps))


class Look:
    """A closer look along one direction: phi(t) gives all outputs after a move t, f0 = phi(0).

    own: the step that fits this element alone, where it is far smaller than its neighbours (log(x) near 0).
    """

    def __init__(self, phi, step: float, f0: np.ndarray, eps: float, own: float = 0.0):
        self.phi, self.f0, self.eps = phi, f0, eps
        self.own = own if 0.0 < own < step / 4.0 else 0.0
        self.ladder, self.finer = climb(phi, step, f0, eps), None

    def judge(self, o: int, analytic: float, tolerance: float, scale: float) -> Judgement:
        """The cause for output o. scale: the size of the Jacobian, against which noise is large or small."""
        verdict = _judge(self.ladder, o, analytic, tolerance, scale)
        if self.own and not verdict.error <= 1e-4 * abs(verdict.numeric):
            self.finer = self.finer or climb(self.phi, self.own, self.f0, self.eps)
            second = _judge(self.finer, o, analytic, tolerance, scale)
            # Values that stand still at every such step are quantised rather than flat, if larger steps move them.
            flat = not self.finer.central[:, o].any() and self.ladder.central[BASE, o] != 0.0
            corner = verdict.kind == KINK or _numeric_fault(self.ladder, o, second.numeric) == KINK
            verdict = second if second.error < verdict.error and (corner or not flat) else verdict
        if verdict.explained:
            verdict = verdict._replace(kind=_numeric_fault(self.ladder, o, verdict.numeric))
        return verdict


def _judge(ladder, o, analytic, tolerance, scale) -> Judgement:
    steps = ladder.steps
    left, right, central = ladder.left[:, o], ladder.right[:, o], ladder.central[:, o]
    noise = ladder.noise[o] / steps
    finite = np.isfinite(left) & np.isfinite(right)
    gap = np.where(finite, np.abs(right - left), np.nan)
    if finite[SMALLEST] and finite[MIDDLE] and _stays_apart(gap, noise, tolerance):
        low, high = sorted((left[SMALLEST], right[SMALLEST]))
        margin = max(tolerance, 0.01 * (high - low))
        kind = KINK if low - margin <= analytic <= high + margin else WRONG
        found = central[SMALLEST], left[SMALLEST], right[SMALLEST], steps[SMALLEST]
        return Judgement(kind, *found, False, gap[SMALLEST])
    figures = _settle(steps, left, right, central, gap, noise, finite, analytic, tolerance, scale)
    if figures.kind == WRONG:
        moving = finite & ((central != 0.0) | (gap != 0.0))
        if not moving[SMALLEST] and left[moving].any() and right[moving].any():
            # The values stand still at small steps and move on both sides at larger ones (beside a corner, on one
            # side): a step narrower than the type that the function uses inside.
            coarse = _settle(steps, left, right, central, gap, noise, moving, analytic, tolerance, scale)
            return coarse if coarse.kind != WRONG else coarse._replace(kind=INCONCLUSIVE)
    return figures


def _settle(steps, left, right, central, gap, noise, usable, analytic, tolerance, scale) -> Judgement:
    best, error, at = _extrapolated(central, gap, noise, usable)
    if at is None:
        return Judgement(INCONCLUSIVE, central[BASE], left[BASE], right[BASE], steps[BASE], False, np.inf)
    found = best, left[at], right[at], steps[at]
    if abs(best - analytic) <= tolerance + 3.0 * error:
        if 3.0 * error > max(tolerance, 0.1 * max(abs(analytic), abs(best), scale)):
            return Judgement(INCONCLUSIVE, *found, False, error)
        return Judgement(TRUNCATION, *found, True, error)
    if not np.isfinite(analytic) or abs(best - analytic) > 10.0 * error:
        return Judgement(WRONG, *found, False, error)
    return Judgement(INCONCLUSIVE, *found, False, error)


def _stays_apart(gap, noise, tolerance) -> bool:
    # A smooth gap shrinks 16-fold over these two rungs, a kink's stays.
    small, middle = gap[SMALLEST], gap[MIDDLE]
    return bool(small > 0.5 * middle and small > 50.0 * noise[SMALLEST] and small > tolerance)


def _extrapolated(central, gap, noise, usable):
    """The best extrapolated slope, a bound on its error, and the rung it was found at (None: nowhere).

    From the smallest step up: small steps are noisy but see nothing else, and a larger step may sharpen what they
    say, not contradict it. (Of a fast sine a step of many periods sees a steady slope of 0.)
    """
    best, error, at = np.nan, np.inf, None
    for k in range(len(central) - 1, 0, -1):
        if not (usable[k] and usable[k - 1]):
            continue
        value = (16.0 * central[k] - central[k - 1]) / 15.0
        # A smooth gap is a quarter of the one before; what it is off by tells of a corner within the step, where
        # the central quotient may be steady and yet a mean of two slopes.
        bound = abs(value - central[k]) + abs(gap[k] - gap[k - 1] / 4.0) + 2.0 * noise[k]
        if bound < error and (at is None or abs(value - best) <= 3.0 * error):
            best, error, at = value, bound, k
    return best, error, at


def _numeric_fault(ladder, o, best) -> str:
    """Why the first quotient was off although backward is right."""
    off, noise = abs(ladder.central[BASE, o] - best), ladder.noise[o] / ladder.steps[BASE]
    if off <= 10.0 * noise:
        return ROUND_OFF
    gap, wider = (abs(ladder.right[k, o] - ladder.left[k, o]) for k in (BASE, BASE - 1))
    corner = abs(gap - wider / 4.0) > 0.1 * max(gap, wider) and gap > 50.0 * noise
    return KINK if corner else TRUNCATION
