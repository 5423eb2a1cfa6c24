"""Starting values, written in place. Draws come from the generator given, else from the library's own.

Each function takes a Tensor, overwrites its elements outside the graph and returns it.
"""

from __future__ import annotations

import math

import numpy as np

from ..random import default_generator


def _write(x, values):
    x.data[...] = x.device.xp.asarray(values)
    if x.cell is not None:  # the graph may hold x: backward must see that it changed
        x.cell[0] += 1
    return x


def constant_(x, value: float):
    """Every element `value`."""
    return _write(x, value)


def zeros_(x):
    """Every element 0."""
    return _write(x, 0)


def ones_(x):
    """Every element 1."""
    return _write(x, 1)


# Values drawn at once: drawing takes several float64 arrays of that length.
DRAW = 1 << 18


def _drawn(x, draw, scale: float, shift: float):
    """Overwrite x with draw(n) * scale + shift, a piece at a time."""
    values = np.empty(x.size, np.float64 if x.dtype == np.float64 else np.float32)
    for start in range(0, x.size, DRAW):
        piece = values[start : start + DRAW]
        piece[...] = draw(piece.size)
        piece *= scale
        piece += shift
    return _write(x, values.reshape(x.shape))


def uniform_(x, low: float = 0.0, high: float = 1.0, generator=None):
    """Uniform in [low, high)."""
    return _drawn(x, (generator or default_generator).uniform, high - low, low)


def normal_(x, mean: float = 0.0, std: float = 1.0, generator=None):
    """Normal with a mean and a standard deviation."""
    return _drawn(x, (generator or default_generator).normal, std, mean)


def fans(shape) -> tuple[int, int]:
    """(inputs, outputs) of a weight (O, I) or (O, I, ...): how many elements feed one output, and leave one input."""
    if len(shape) < 2:
        raise ValueError(f"fans: expected a weight of at least two axes (O, I), got {tuple(shape)}")
    patch = math.prod(shape[2:])
    return shape[1] * patch, shape[0] * patch


def xavier_uniform_(x, gain: float = 1.0, generator=None):
    """Uniform in +-gain * sqrt(6 / (inputs + outputs)). Glorot & Bengio 2010."""
    bound = gain * math.sqrt(6.0 / max(sum(fans(x.shape)), 1))
    return uniform_(x, -bound, bound, generator)


def kaiming_uniform_(x, a: float = 0.0, generator=None):
    """Uniform in +-sqrt(6 / ((1 + a**2) * inputs)), `a` the slope of the leaky relu behind. arXiv:1502.01852."""
    bound = math.sqrt(6.0 / ((1.0 + a * a) * max(fans(x.shape)[0], 1)))
    return uniform_(x, -bound, bound, generator)
