"""Steps and tolerances, from eps of the element type.

A central difference with step h = r * s, where s is the scale of the element, is off by

    truncation   h**2 / 6 * f'''            about r**2 / 6 of the derivative if f''' is about f' / s**2
    round-off    eps * |f| / h              every value of f is known to eps of its size

Their sum is least near r = cbrt(3 * eps): 8.7e-6 in float64, where each is about eps**(2/3) = 3.7e-11.
A first look passes what is within

    rtol         1000 * eps**(2/3)          3.7e-8 in float64, at most SHARP; multiplies the Jacobian's entry
    noise        QUICK * eps * F / h        F: the output's size, plus input times derivative

and only where that is below SHARP of the entry: a tolerance that is coarse beside it proves nothing. What does not
pass is looked at with other steps (classify.py). There the noise is measured; SLACK * eps * F / h only decides whether
a disagreement that turns out to be round-off or truncation is worth a line in the report.

A gradient computed in a narrower type d is compared with the same formulas run in float64. Each of its
operations rounds to eps_d / 2; a rule of ten operations, and a sum that spreads the error, stay within
16 * eps_d of the largest entry: 1.9e-6 in float32, 1.6e-2 in float16, 0.13 in bfloat16.
"""

from __future__ import annotations

import numpy as np

from ..dtypes import bfloat16

SLACK = 1000.0
QUICK = 30.0
SHARP = 1e-4
NOTHING = 1e-200  # where products of what is in between underflow, or nearly
ROUNDINGS = 16.0


def eps_of(dtype) -> float:
    """The gap between 1 and the next number of a float type."""
    return 2.0**-7 if dtype == bfloat16 else float(np.finfo(dtype).eps)


def relative_step(eps: float) -> float:
    """The step, over the element's scale, at which truncation and round-off are equal."""
    return float(np.cbrt(3.0 * eps))


def scales(x: np.ndarray) -> np.ndarray:
    """The scale of each element: its size, or the array's typical size where that is larger; 1 in an array of zeros."""
    return np.maximum(np.abs(x), typical_scale(x))


def typical_scale(x: np.ndarray) -> float:
    """The median size of the elements that are neither 0 nor infinite; 1 where there are none."""
    sizes = np.abs(x).ravel()
    sizes = np.sort(sizes[(sizes > 0.0) & (sizes < np.inf)])
    n = sizes.size  # np.median says the same, at ten times the cost for a few elements
    return float(sizes[(n - 1) // 2] / 2.0 + sizes[n // 2] / 2.0) if n else 1.0


def default_rtol(eps: float) -> float:
    """Relative tolerance of a central difference at the step above."""
    return min(SLACK * eps ** (2.0 / 3.0), SHARP)


def narrow_tolerance(dtype) -> float:
    """Relative tolerance, of the largest entry, for a gradient computed in a type narrower than float64."""
    return ROUNDINGS * eps_of(dtype)


def rounded_up(x: float) -> float:
    """Twice x, rounded up to one significant digit: a tolerance to suggest."""
    if not np.isfinite(x) or x <= 0:
        return 0.0
    unit = 10.0 ** np.floor(np.log10(2.0 * x))
    return float(f"{np.ceil(2.0 * x / unit) * unit:.0e}")
