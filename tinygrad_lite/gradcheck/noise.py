"""How noisy a function's values are, measured.

Values at equally spaced points are differenced again and again. A smooth function dies out, by a power of the
spacing at every level; noise does not, and the size of its k-th differences is known: sqrt((2k)!) / k! of its own.
So a level from which on the estimates agree, and whose differences change sign, shows the noise.
More & Wild 2011, "Estimating computational noise", doi:10.1137/100786125.
"""

from __future__ import annotations

import numpy as np

COUNT = 8  # values in a row
AGREEING = 2  # spacings that are asked, from the first on at which the values move
STILL = -1.0  # the values do not move at this spacing: nothing can be said


def noise_of(values: np.ndarray) -> float:
    """The standard deviation of the noise in equally spaced values; 0 if they are smooth, STILL if they stand."""
    if not np.isfinite(values).all():
        return 0.0
    d, gamma, sigmas, signs = values, 1.0, [], []
    if np.count_nonzero(np.diff(values)) < len(values) // 2:
        return STILL
    for k in range(1, len(values) - 1):
        d, gamma = np.diff(d), gamma * k / (2.0 * (2.0 * k - 1.0))
        sigmas.append(float(np.sqrt(gamma * np.mean(d**2))))
        signs.append(d.min() < 0.0 < d.max())
    for k in range(len(sigmas) - 2):
        near = sigmas[k : k + 3]
        if signs[k] and max(near) <= 4.0 * min(near):
            return sigmas[k]
    return 0.0


class Noise:
    """The noise of phi(t), one figure an output, around t = 0."""

    def __init__(self, phi, spacings, f0: np.ndarray):
        self.phi, self.spacings, self.f0, self.samples = phi, spacings, f0, {}

    def at(self, spacing: float, o: int) -> float:
        """What output o shows at this spacing; STILL if it does not move."""
        if spacing not in self.samples:
            self.samples[spacing] = [
                np.stack([self.f0] + [self.phi(sign * spacing * j) for j in range(1, COUNT)]) for sign in (1.0, -1.0)
            ]
        sides = [noise_of(row[:, o]) for row in self.samples[spacing]]
        # A corner beside the point shows on one side only; noise shows on both.
        return STILL if max(sides) == STILL else max(min(sides), 0.0)

    def __getitem__(self, o: int) -> float:
        """What output o shows at the smallest spacings at which it moves."""
        found = []
        for spacing in self.spacings:
            noise = self.at(spacing, o)
            if noise != STILL:
                found.append(noise)
            if len(found) == AGREEING:
                break
        # Rounded values may run evenly at one spacing: the largest of a few.
        return max(found, default=0.0)
