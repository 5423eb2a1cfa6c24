"""Functions of each element, and choices between elements."""

import math

import numpy as np

from .. import dtypes
from ..errors import number
from ..ops import activation, elementwise
from .base import Base


class Elementwise(Base):
    """`x.exp()`, `x.relu()`, `x.clamp(0, 1)`, `x.where(condition, y)` ..."""

    __slots__ = ()

    def exp(self):
        """e ** x."""
        return elementwise.exp.call(self)

    def expm1(self):
        """e ** x - 1."""
        return elementwise.expm1.call(self)

    def log(self):
        """Natural logarithm."""
        return elementwise.log.call(self)

    def log1p(self):
        """log(1 + x)."""
        return elementwise.log1p.call(self)

    def sqrt(self):
        """Square root."""
        return elementwise.sqrt.call(self)

    def rsqrt(self):
        """1 / sqrt(x)."""
        return elementwise.rsqrt.call(self)

    def square(self):
        """x * x."""
        return elementwise.square.call(self)

    def reciprocal(self):
        """1 / x."""
        return elementwise.reciprocal.call(self)

    def sin(self):
        """Sine."""
        return elementwise.sin.call(self)

    def cos(self):
        """Cosine."""
        return elementwise.cos.call(self)

    def tan(self):
        """Tangent."""
        return elementwise.tan.call(self)

    def tanh(self):
        """Hyperbolic tangent."""
        return elementwise.tanh.call(self)

    def sigmoid(self):
        """1 / (1 + exp(-x))."""
        return elementwise.sigmoid.call(self)

    def erf(self):
        """The error function."""
        return elementwise.erf.call(self)

    def abs(self):
        """|x|."""
        return elementwise.absolute.call(self)

    def sign(self):
        """-1, 0 or 1."""
        return elementwise.sign.call(self)

    def floor(self):
        """The largest integer at most x."""
        return elementwise.floor.call(self)

    def ceil(self):
        """The smallest integer at least x."""
        return elementwise.ceil.call(self)

    def round(self):
        """The nearest integer, halves to even."""
        return elementwise.rint.call(self)

    def isnan(self):
        """Where x is not a number."""
        return elementwise.isnan.call(self)

    def isinf(self):
        """Where x is infinite."""
        return elementwise.isinf.call(self)

    def isfinite(self):
        """Where x is neither NaN nor infinite."""
        return elementwise.isfinite.call(self)

    def softplus(self):
        """log(1 + exp(x))."""
        return elementwise.softplus.call(self)

    def leaky_relu(self, negative_slope: float = 0.01):
        """x where positive, else negative_slope * x."""
        return activation.leaky_relu.call(self, negative_slope=negative_slope)

    def elu(self, alpha: float = 1.0):
        """x where positive, else alpha * (exp(x) - 1)."""
        return activation.elu.call(self, alpha=alpha)

    def relu(self):
        """max(x, 0)."""
        return activation.relu.call(self)

    def silu(self):
        """x * sigmoid(x)."""
        return activation.silu.call(self)

    def gelu(self, approximate: str = "none"):
        """x * Phi(x)."""
        return activation.gelu.call(self, approximate=approximate)

    def clamp(self, min=None, max=None):
        """x limited to [min, max]: numbers, None, or Tensors that broadcast."""
        if isinstance(min, (np.ndarray, list, tuple)):
            min = self._from(min, self.device, "clamp")
        if isinstance(max, (np.ndarray, list, tuple)):
            max = self._from(max, self.device, "clamp")
        if isinstance(min, Base) or isinstance(max, Base):
            bounds = [b for b in (min, max) if b is not None]
            arrays = [b.data for b in bounds if isinstance(b, Base)]
            x = self.to(dtypes.result_type([self.data, *arrays], [b for b in bounds if not isinstance(b, Base)]))
            x = x if min is None else x.maximum(min)
            return x if max is None else x.minimum(max)
        x = self
        if not dtypes.is_float(x.dtype) and (
            isinstance(min, (float, np.floating)) or isinstance(max, (float, np.floating))
        ):
            x = x.to(dtypes.default_float)
        return elementwise.clamp.call(x, min=min, max=max)

    def where(self, condition, other):
        """x where the condition holds, else other."""
        return elementwise.where.call(self._from(condition, self.device, "where"), self, other)

    def maximum(self, other):
        """The larger of x and other."""
        return elementwise.maximum.call(self, other)

    def minimum(self, other):
        """The smaller of x and other."""
        return elementwise.minimum.call(self, other)

    def masked_fill(self, mask, value):
        """x with `value` where mask holds."""
        mask = self._from(mask, self.device, "masked_fill")
        if mask.dtype != dtypes.bool_:
            raise TypeError(f"masked_fill: mask must be bool, got {mask.dtype}: compare first, or use .bool()")
        if isinstance(value, Base):
            value = value.to(self.dtype)
        elif self.dtype.kind in "iu":  # x keeps its type, as in PyTorch
            if not math.isfinite(number("masked_fill", "value", value)):
                raise ValueError(f"masked_fill: {self.dtype} has no {value}: convert with .float()")
            value = int(value)
        elif self.dtype == dtypes.bool_:
            value = value != 0
        return elementwise.where.call(mask, value, self)
