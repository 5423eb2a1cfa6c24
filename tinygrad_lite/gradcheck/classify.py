"""Why an analytic slope and a difference quotient disagree.

The function is looked at again along one direction, at steps from 1024 times to 1/256 of the first, and on down
while the slopes still change, on both sides. What they do as the step shrinks tells the cause:

    a smooth function       left and right approach each other in proportion to h; extrapolating the central
                            quotient (its error goes as h**2) gives the slope, and an error bound
    a kink at the point     left and right stay apart however small the step
    a jump at the point     they grow as 1/h
    a kink nearby           they are apart at large steps and meet at small ones
    noise                   the quotient scatters by (noise of f) / h; the noise is measured (noise.py), not assumed
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .noise import STILL, Noise
from .report import INCONCLUSIVE, KINK, ROUND_OFF, TRUNCATION, WRONG

UP, DOWN, DEEPEST = 5, 4, 20  # steps h * 4**k for k from UP to -DOWN; unsettled slopes are followed to -DEEPEST
BASE = UP
SPACINGS = tuple(0.09 * 4.0**k for k in (-8, -6, -4, -2, 0, 2, 3))  # of the noise's samples, over h
FLAT = 0.01  # of an output over its input, or of the slopes nearby: the scale of slope at a derivative of 0
RESOLVED = 0.01  # a slope known to one part in a hundred is known well enough to agree with

JUMP = "the value itself jumps here, and backward agrees with the slopes beside the jump"
JUMPED = "the value itself jumps here, and backward is not between the slopes beside the jump"
STEEP = "the slope grows without bound here, or the function's domain ends"
STANDS = "the function does not move within {:.2g} of this point: a rounding step, a detached value, or figures lost to a large sum"
STAIRS = (
    "the values stand still within {:.2g} of this point and move as backward says beyond: a rounded value with a "
    "straight-through gradient, or figures lost where a small number is added to a large one"
)
BELOW = "too small to resolve: differences show this slope only to within {:.2g}"
NOISY = "the slope is {:.6g}, give or take {:.2g}"


class Judgement(NamedTuple):
    """The cause of one disagreement, and the figures that show it."""

    kind: str
    numeric: float
    left: float
    right: float
    step: float
    explained: bool
    error: float  # bound on the error of `numeric`
    note: str = ""


def difference(plus, minus):
    """plus - minus, where an output that is infinite alike on both sides counts as standing still."""
    return np.where(plus == minus, 0.0, plus - minus)


class Ladder(NamedTuple):
    """Slopes of one output at each step, the largest step first; noise: of each slope."""

    steps: np.ndarray
    left: np.ndarray
    right: np.ndarray
    noise: np.ndarray

    @property
    def central(self):
        """The central quotients."""
        return (self.left + self.right) / 2.0

    @property
    def gap(self):
        """How far right and left are apart."""
        return np.abs(self.right - self.left)

    @property
    def usable(self):
        """Where both sides are numbers."""
        return np.isfinite(self.left) & np.isfinite(self.right)


class Look:
    """A closer look along one direction: phi(t) gives all outputs after a move t, f0 = phi(0).

    size: of each output; rounding is eps of it, or of the value where that is larger.
    floor: the smallest step that the numbers of the point can follow.
    """

    def __init__(self, phi, step: float, f0: np.ndarray, eps: float, size: np.ndarray, floor: float = 0.0):
        self.size = size
        self.phi, self.step, self.f0, self.eps, self.floor = phi, step, f0, eps, floor
        self.steps, self.left, self.right, self.sizes = [], [], [], []
        for k in range(UP, -DOWN - 1, -1):
            self._add(step * 4.0**k)
        self.noise = Noise(phi, [max(step * s, floor / 8.0) for s in SPACINGS], f0)

    def _add(self, step: float):
        plus, minus = self.phi(step), self.phi(-step)
        self.steps.append(step)
        self.left.append(difference(self.f0, minus) / step)
        self.right.append(difference(plus, self.f0) / step)
        self.sizes.append(np.fmax(self.size, np.fmin(np.abs(plus), np.abs(minus))))

    def _ladder(self, o: int, noise: float) -> Ladder:
        steps, sizes = np.array(self.steps), np.array([s[o] for s in self.sizes])
        least = self.eps * np.where(np.isfinite(sizes), sizes, 0.0)
        left, right = np.array([s[o] for s in self.left]), np.array([s[o] for s in self.right])
        return Ladder(steps, left, right, np.maximum(noise, least) / steps)

    def judge(self, o: int, analytic: float, tolerance: float, scale: float) -> Judgement:
        """The cause for output o. scale: the size of slope against which an error is large or small."""
        sides = [any(s[o] != 0.0 for s in side) for side in (self.left, self.right)]
        moves = any(sides)
        noise, depth = self._noise(o, analytic) if moves else (0.0, np.inf)
        ladder = self._ladder(o, noise)
        while not (_settled(ladder, tolerance) and ladder.steps[-1] <= depth) and self._descend(len(ladder.steps)):
            ladder = self._ladder(o, noise)
        # A derivative of 0 is small beside the slopes that the function has a few steps away.
        around = np.maximum(np.abs(ladder.left[:3]), np.abs(ladder.right[:3]))
        scale = max(scale, FLAT * float(np.max(around, where=np.isfinite(around), initial=0.0)))
        verdict = _judge(ladder, analytic, tolerance, scale)
        for _ in range(3):
            # Values may flicker in the last place at small spacings and jump by more at larger ones.
            coarse = self.noise.at(verdict.step / 8.0, o) if verdict.kind == WRONG and moves else 0.0
            if not coarse > noise:
                break
            noise = coarse
            verdict = _judge(self._ladder(o, noise), analytic, tolerance, scale)
        reach = self._stands(o)
        if analytic != 0.0 and (not moves or (verdict.kind == WRONG and reach and not all(sides))):
            return self._still(o, analytic, verdict, reach)
        if verdict.explained:
            verdict = verdict._replace(kind=_numeric_fault(ladder, verdict.numeric))
        return verdict

    def _noise(self, o: int, analytic: float) -> tuple[float, float]:
        """(the noise of output o, the step down to which its slopes are to be followed).

        What looks like noise may be a function faster than the spacing: backward tells how fast it would be.
        """
        noise, depth = self.noise[o], np.inf
        while noise > 0.0 and analytic != 0.0 and np.isfinite(analytic):
            spacing = noise / abs(analytic) / 64.0
            if not max(self.floor / 8.0, 1e-300) < spacing < min(depth / 64.0, self.noise.spacings[0]):
                break
            finer = self.noise.at(spacing, o)
            if finer == STILL or finer > noise / 8.0:
                break
            noise, depth = finer, 64.0 * spacing
        return noise, depth

    def _stands(self, o: int) -> float:
        """The step up to which output o stands still on both sides; 0 if it moves at the smallest."""
        reach = 0.0
        for step, left, right in zip(self.steps[::-1], self.left[::-1], self.right[::-1], strict=True):
            if left[o] != 0.0 or right[o] != 0.0:
                break
            reach = step
        return reach

    def _still(self, o: int, analytic: float, verdict: Judgement, reach: float) -> Judgement:
        """Of values that stand still up to `reach`: do they move as backward says, on both sides, at far larger steps?"""
        for k in (7, 8, 9, 10, 11):
            step = self.step * 4.0**k
            values = (self.phi(-step)[o], self.f0[o], self.phi(step)[o])
            left, right = (float(difference(b, a)) / step for a, b in zip(values, values[1:], strict=False))
            if max(abs(left - analytic), abs(right - analytic)) <= 0.3 * abs(analytic):
                figures = {"numeric": (left + right) / 2.0, "left": left, "right": right, "step": step}
                return verdict._replace(kind=INCONCLUSIVE, **figures, note=STAIRS.format(reach))
        return verdict._replace(note=STANDS.format(reach))

    def _descend(self, count: int) -> bool:
        """One rung more than count, if numbers can follow."""
        if count < len(self.steps):
            return True  # another output went there before
        step = self.steps[-1] / 4.0
        if len(self.steps) > UP + DEEPEST or step < self.floor:
            return False
        self._add(step)
        return True


def is_steep(look: Look) -> bool:
    """Whether some output has an infinite slope, or the end of its domain, at the point."""
    sizes = [np.fmax(np.abs(a), np.abs(b)) for a, b in zip(look.left, look.right, strict=True)][-4:]
    ends = ~np.isfinite(look.left[-1]) | ~np.isfinite(look.right[-1])
    grows = np.all([b > 1.2 * a for a, b in zip(sizes, sizes[1:], strict=False)], axis=0)
    return bool((ends | (grows & (sizes[-1] > 0.0))).any())


def _settled(ladder, tolerance) -> bool:
    """Whether smaller steps would tell nothing new."""
    if not ladder.usable[-2:].all():
        return False
    if _stays_apart(ladder, tolerance) or _jumps(ladder):
        return True
    value, bound = _extrapolated_at(ladder, len(ladder.steps) - 1)
    return bool(8.0 * ladder.noise[-1] >= bound or bound <= 1e-4 * abs(value))


def _judge(ladder, analytic, tolerance, scale) -> Judgement:
    usable, gap = ladder.usable, ladder.gap
    if usable[-3:].all():
        figures = (ladder.central[-1], ladder.left[-1], ladder.right[-1], ladder.steps[-1])
        if _jumps(ladder):
            kind = KINK if _between(*_beside(ladder), analytic) else WRONG
            return Judgement(kind, *figures, False, np.inf, JUMP if kind == KINK else JUMPED)
        if _stays_apart(ladder, tolerance):
            low, high = sorted(figures[1:3])
            kind = KINK if _between(low, high, max(tolerance, 0.01 * (high - low)), analytic) else WRONG
            return Judgement(kind, *figures, False, gap[-1])
    verdict = _settle(ladder, usable, analytic, tolerance, scale)
    if verdict.kind == WRONG:
        moving = usable & ((ladder.left != 0.0) | (ladder.right != 0.0))
        still = not moving[ladder.steps <= verdict.step].any()
        if still and ladder.left[moving].any() and ladder.right[moving].any():
            # The values stand still at small steps and move on both sides at larger ones (beside a corner, on one
            # side): a step narrower than the type that the function uses inside.
            coarse = _settle(ladder, moving, analytic, tolerance, scale)
            return coarse if coarse.kind != WRONG else coarse._replace(kind=INCONCLUSIVE)
    return verdict


def _between(low, high, margin, x) -> bool:
    return bool(low - margin <= x <= high + margin)


def _settle(ladder, usable, analytic, tolerance, scale) -> Judgement:
    best, error, at = _extrapolated(ladder, usable)
    if at is None or _grows(ladder):
        at = BASE if at is None else at
        return Judgement(INCONCLUSIVE, ladder.central[at], ladder.left[at], ladder.right[at], ladder.steps[at], False,
                         np.inf, STEEP)  # fmt: skip
    found = best, ladder.left[at], ladder.right[at], ladder.steps[at]
    if abs(best - analytic) <= tolerance + 3.0 * error:
        if 3.0 * error <= max(tolerance, RESOLVED * max(abs(analytic), abs(best))):
            return Judgement(TRUNCATION, *found, True, error)
        if 3.0 * error <= RESOLVED * scale:
            return Judgement(TRUNCATION, *found, True, error, BELOW.format(3.0 * error))
    elif not np.isfinite(analytic) or abs(best - analytic) > 10.0 * error:
        return Judgement(WRONG, *found, False, error)
    elif 10.0 * error <= RESOLVED**2 * scale:
        return Judgement(TRUNCATION, *found, True, error, BELOW.format(10.0 * error))
    return Judgement(INCONCLUSIVE, *found, False, error, NOISY.format(best, 3.0 * error))


def _stays_apart(ladder, tolerance) -> bool:
    # A smooth gap shrinks 16-fold over these two rungs, a kink's stays; and so does the slope on each side.
    gap, left, right = ladder.gap[-3:], ladder.left[-3:], ladder.right[-3:]
    if not np.isfinite(gap).all() or gap[-1] <= max(50.0 * ladder.noise[-1], tolerance):
        return False
    drift = max(abs(left[0] - left[2]), abs(right[0] - right[2]))
    return bool(drift <= 0.25 * gap[-1] + 8.0 * ladder.noise[-1])


def _jumps(ladder) -> bool:
    # What a value at the point alone adds to either side is divided by the step.
    gap = np.maximum(np.abs(ladder.left), np.abs(ladder.right))[-4:]
    if not np.isfinite(gap).all() or gap[-1] <= 50.0 * ladder.noise[-1]:
        return False
    return bool(np.all(np.abs(gap[1:] / np.maximum(gap[:-1], 1e-300) - 4.0) < 0.2))


def _beside(ladder) -> tuple[float, float, float]:
    """(low, high, margin) of the slopes beside a jump: taken between two steps on one side, not from the point."""
    steps = ladder.steps
    sides = [(s[:-1] * steps[:-1] - s[1:] * steps[1:]) / (steps[:-1] - steps[1:]) for s in (ladder.left, ladder.right)]
    at = len(steps) - 4  # wide enough to stand above the noise
    drift = max(abs(s[at] - s[at - 1]) for s in sides)
    low, high = sorted(s[at] for s in sides)
    return low, high, drift + 8.0 * ladder.noise[at] + 0.01 * (high - low)


def _grows(ladder) -> bool:
    """Whether the slope grows without bound as the step shrinks, as of a root at 0."""
    size = np.maximum(np.abs(ladder.left), np.abs(ladder.right))[-4:]
    if not np.isfinite(size).all() or size[-1] <= 50.0 * ladder.noise[-1]:
        return False
    return bool(np.all(size[1:] > 1.2 * size[:-1]))


def _extrapolated_at(ladder, k) -> tuple[float, float]:
    central, gap = ladder.central, ladder.gap
    value = (16.0 * central[k] - central[k - 1]) / 15.0
    # A smooth gap is a quarter of the one before; what it is off by tells of a corner within the step, where
    # the central quotient may be steady and yet a mean of two slopes.
    return value, abs(value - central[k]) + abs(gap[k] - gap[k - 1] / 4.0) + 2.0 * ladder.noise[k]


def _extrapolated(ladder, usable):
    """The best extrapolated slope, a bound on its error, and the rung it was found at (None: nowhere).

    From the smallest step up: small steps are noisy but see nothing else, and a larger step may sharpen what they
    say, not contradict it. (Of a fast sine a step of many periods sees a steady slope of 0.) So the climb ends
    where the bound grows again for another reason than noise.
    """
    best, error, at = np.nan, np.inf, None
    for k in range(len(ladder.steps) - 1, 0, -1):
        if not (usable[k] and usable[k - 1]):
            continue
        value, bound = _extrapolated_at(ladder, k)
        if at is not None and bound > 8.0 * max(error, ladder.noise[k]):
            break
        if bound < error and (at is None or abs(value - best) <= 3.0 * error):
            best, error, at = value, bound, k
    return best, error, at


def _numeric_fault(ladder, best) -> str:
    """Why the first quotient was off although backward is right."""
    off, noise = abs(ladder.central[BASE] - best), ladder.noise[BASE]
    if off <= 10.0 * noise:
        return ROUND_OFF
    gap, wider = ladder.gap[BASE], ladder.gap[BASE - 1]
    corner = abs(gap - wider / 4.0) > 0.1 * max(gap, wider) and gap > 50.0 * noise
    return KINK if corner else TRUNCATION
