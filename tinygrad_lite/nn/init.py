"""Starting values, written in place. Draws come from the generator given, else from the library's own.

Each function takes a Tensor outside the graph or a leaf, overwrites its elements and returns it.
"""

from __future__ import annotations

import math

import numpy as np

from ..autograd.mode import no_grad
from ..dtypes import is_float
from ..errors import check_number
from ..random import default_generator
from ..tensor import Tensor


def _write(name, x, values):
    """Overwrite x; the graph may hold it, and backward must see that it changed."""
    with no_grad():
        return x._overwrite(f"init.{name}", "a new Tensor", Ellipsis, x.device.xp.asarray(values))


def _checked(name, x):
    if not isinstance(x, Tensor) or not is_float(x.dtype):
        raise TypeError(f"init.{name}: expected a float Tensor, got {x!r}")
    return x


def constant_(x, value: float):
    """Every element `value`."""
    return _write("constant_", _checked("constant_", x), np.asarray(float(value), np.float64))


def zeros_(x):
    """Every element 0."""
    return constant_(x, 0.0)


def ones_(x):
    """Every element 1."""
    return constant_(x, 1.0)


# Values drawn at once: drawing takes several float64 arrays of that length.
DRAW = 1 << 18


def _drawn(name, x, draw, scale: float, shift: float):
    """Overwrite x with draw(n) * scale + shift, a piece at a time."""
    values = np.empty(x.size, np.float64 if x.dtype == np.float64 else np.float32)
    for start in range(0, x.size, DRAW):
        piece = values[start : start + DRAW]
        piece[...] = draw(piece.size)
        piece *= scale
        piece += shift
    return _write(name, x, values.reshape(x.shape))


def uniform_(x, low: float = 0.0, high: float = 1.0, generator=None):
    """Uniform in [low, high)."""
    _checked("uniform_", x)
    if not -math.inf < low <= high < math.inf:
        raise ValueError(f"init.uniform_: low must be at most high and both finite, got {low} and {high}")
    return _drawn("uniform_", x, (generator or default_generator).uniform, high - low, low)


def normal_(x, mean: float = 0.0, std: float = 1.0, generator=None):
    """Normal with a mean and a standard deviation."""
    check_number("init.normal_", "std", std)
    return _drawn("normal_", _checked("normal_", x), (generator or default_generator).normal, std, mean)


def fans(shape) -> tuple[int, int]:
    """(inputs, outputs) of a weight (O, I) or (O, I, ...): how many elements feed one output, and leave one input."""
    if len(shape) < 2:
        raise ValueError(f"fans: expected a weight of at least two axes (O, I), got {tuple(shape)}")
    patch = math.prod(shape[2:])
    return shape[1] * patch, shape[0] * patch


def _xavier_std(x, gain) -> float:
    return gain * math.sqrt(2.0 / max(sum(fans(x.shape)), 1))


def _kaiming_std(x, a, mode) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f'init: mode must be "fan_in" or "fan_out", got {mode!r}')
    return math.sqrt(2.0 / ((1.0 + a * a) * max(fans(x.shape)[mode == "fan_out"], 1)))


def xavier_uniform_(x, gain: float = 1.0, generator=None):
    """Uniform in +-gain * sqrt(6 / (inputs + outputs)). Glorot & Bengio 2010."""
    bound = math.sqrt(3.0) * _xavier_std(x, gain)
    return uniform_(x, -bound, bound, generator)


def xavier_normal_(x, gain: float = 1.0, generator=None):
    """Normal of standard deviation gain * sqrt(2 / (inputs + outputs)). Glorot & Bengio 2010."""
    return normal_(x, 0.0, _xavier_std(x, gain), generator)


def kaiming_uniform_(x, a: float = 0.0, mode: str = "fan_in", generator=None):
    """Uniform in +-sqrt(6 / ((1 + a**2) * inputs)), `a` the slope of the leaky relu behind. arXiv:1502.01852.

    mode "fan_out" counts outputs instead: it keeps the size of gradients and not of values.
    """
    bound = math.sqrt(3.0) * _kaiming_std(x, a, mode)
    return uniform_(x, -bound, bound, generator)


def kaiming_normal_(x, a: float = 0.0, mode: str = "fan_in", generator=None):
    """Normal of standard deviation sqrt(2 / ((1 + a**2) * inputs)); see kaiming_uniform_."""
    return normal_(x, 0.0, _kaiming_std(x, a, mode), generator)
