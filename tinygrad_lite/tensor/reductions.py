"""Reductions, running sums and products, sorting, softmax."""

import math
from numbers import Real

from .. import dtypes
from ..errors import number
from ..ops import index, normalise, reduce
from ..ops._axes import all_axes, one_axis
from .arguments import axis_of, integer
from .base import Base

UNDEFINED = float("nan")  # the mean of nothing: by this very object anomaly mode tells it from a NaN of the user's


class Reductions(Base):
    """`x.sum(dim=0)` or `x.sum(axis=0)`, `x.max(dim=1)`, `x.sort()`, `x.softmax(-1)` ..."""

    __slots__ = ()

    def sum(self, dim=None, keepdim=False, *, axis=None, keepdims=False):
        """Sum over axes; integers and booleans add up as int64."""
        x = self if self.data.dtype.kind == "f" else self._widened()
        return reduce.sum.call(x, axis=axis_of(dim, axis), keepdims=keepdim or keepdims)

    def _widened(self):
        return self.to(dtypes.int64) if self.dtype.kind in "iub" else self

    def mean(self, dim=None, keepdim=False, *, axis=None, keepdims=False):
        """Mean over axes."""
        axes = all_axes("mean", axis_of(dim, axis), self.ndim)
        if not dtypes.is_float(self.dtype):
            raise TypeError(f"mean: expected a float tensor, got {self.dtype}: convert with .float()")
        if self.dtype in dtypes.HALF:  # the sum alone may be beyond float16
            return self.float().mean(axes, keepdim or keepdims).to(self.dtype)
        count = 1
        for a in axes:
            count *= self.shape[a]
        return reduce.sum.call(self, axis=axes, keepdims=keepdim or keepdims) * (1.0 / count if count else UNDEFINED)

    def var(self, dim=None, correction=1, keepdim=False, *, axis=None, keepdims=False):
        """Variance over axes: squared deviations over (count - correction), unbiased by default as in PyTorch."""
        if self.dtype in dtypes.HALF:
            return self.float().var(axis_of(dim, axis), correction, keepdim or keepdims).to(self.dtype)
        centred, axes, scale = self._centred("var", axis_of(dim, axis), correction)
        return reduce.sum.call(centred * centred, axis=axes, keepdims=keepdim or keepdims) * scale

    def _centred(self, op, dim, correction):
        axes = all_axes(op, dim, self.ndim)
        if not dtypes.is_float(self.dtype):
            raise TypeError(f"{op}: expected a float tensor, got {self.dtype}: convert with .float()")
        correction = number(op, "correction", correction)
        count = math.prod([self.shape[a] for a in axes])
        scale = 1.0 / (count - correction) if count > correction else UNDEFINED if count <= 1 else math.inf
        return self - self.mean(axes, keepdim=True), axes, scale

    def std(self, dim=None, correction=1, keepdim=False, *, axis=None, keepdims=False):
        """Square root of the variance; the gradient where nothing varies is 0."""
        if self.dtype in dtypes.HALF:
            return self.float().std(axis_of(dim, axis), correction, keepdim or keepdims).to(self.dtype)
        centred, axes, scale = self._centred("std", axis_of(dim, axis), correction)
        return reduce.norm.call(centred, axis=axes, keepdims=keepdim or keepdims) * (
            scale if scale is UNDEFINED else math.sqrt(scale)
        )

    def prod(self, dim=None, keepdim=False, *, axis=None, keepdims=False):
        """Product over axes."""
        return reduce.prod.call(self._widened(), axis=axis_of(dim, axis), keepdims=keepdim or keepdims)

    def amax(self, dim=None, keepdim=False, *, axis=None, keepdims=False):
        """Largest element over axes; ties share the gradient."""
        return reduce.max.call(self, axis=axis_of(dim, axis), keepdims=keepdim or keepdims)

    def amin(self, dim=None, keepdim=False, *, axis=None, keepdims=False):
        """Smallest element over axes; ties share the gradient."""
        return reduce.min.call(self, axis=axis_of(dim, axis), keepdims=keepdim or keepdims)

    def max(self, dim=None, keepdim=False, *, axis=None, keepdims=False):
        """Largest element; along `dim`, a pair (values, indices) as in PyTorch."""
        return self._extreme(reduce.max, reduce.argmax, axis_of(dim, axis), keepdim or keepdims)

    def min(self, dim=None, keepdim=False, *, axis=None, keepdims=False):
        """Smallest element; along `dim`, a pair (values, indices) as in PyTorch."""
        return self._extreme(reduce.min, reduce.argmin, axis_of(dim, axis), keepdim or keepdims)

    def _extreme(self, op, position, dim, keepdim):
        if dim is None:
            return op.call(self, axis=None, keepdims=keepdim)
        axis = one_axis(op.name, dim, self.ndim)
        if not self.ndim:
            return op.call(self), position.call(self)
        if not self.shape[axis]:
            raise ValueError(f"{op.name}: cannot reduce the empty axis {axis} of shape {self.shape}: it has no element")
        indices = position.call(self, axis=axis, keepdims=True)
        values = index.take_along_axis.call(self, indices, axis=axis)
        return (values, indices) if keepdim else (values.squeeze(axis), indices.squeeze(axis))

    def argmax(self, dim=None, keepdim=False, *, axis=None, keepdims=False):
        """Index of the largest element."""
        return reduce.argmax.call(self, axis=axis_of(dim, axis), keepdims=keepdim or keepdims)

    def argmin(self, dim=None, keepdim=False, *, axis=None, keepdims=False):
        """Index of the smallest element."""
        return reduce.argmin.call(self, axis=axis_of(dim, axis), keepdims=keepdim or keepdims)

    def any(self, dim=None, keepdim=False, *, axis=None, keepdims=False):
        """Whether any element is non-zero."""
        return reduce.any.call(self, axis=axis_of(dim, axis), keepdims=keepdim or keepdims)

    def all(self, dim=None, keepdim=False, *, axis=None, keepdims=False):
        """Whether all elements are non-zero."""
        return reduce.all.call(self, axis=axis_of(dim, axis), keepdims=keepdim or keepdims)

    def norm(self, p=2, dim=None, keepdim=False, *, axis=None, keepdims=False):
        """(sum of |x| ** p) ** (1 / p) over axes, by default Euclidean; the gradient at zero is 0.

        p: a number above 0; inf or -inf for the largest or smallest |x|; 0 counts what is not zero.
        """
        dim, keepdim = axis_of(dim, axis), keepdim or keepdims
        if p == 2:
            return reduce.norm.call(self, axis=dim, keepdims=keepdim)
        if not isinstance(p, Real) or not (p >= 0 or p == -math.inf):
            raise ValueError(f"norm: p must be a number from 0, inf or -inf, got {p!r}: to name an axis write dim=")
        x = self if dtypes.is_float(self.dtype) else self.float()
        if p == 0:
            return (x != 0).to(x.dtype).sum(dim, keepdim)
        if p == 1:
            return x.abs().sum(dim, keepdim)
        if p == math.inf:
            return x.abs().amax(dim, keepdim)
        if p == -math.inf:
            return x.abs().amin(dim, keepdim)
        return _positive_power(_positive_power(x.abs(), p).sum(dim, keepdim), 1.0 / p)

    def logsumexp(self, dim=None, keepdim=False, *, axis=None, keepdims=False):
        """log(sum(exp(x))) over axes, without overflow."""
        return reduce.logsumexp.call(self, axis=axis_of(dim, axis), keepdims=keepdim or keepdims)

    def cumsum(self, dim=None, *, axis=None):
        """Running sum along an axis."""
        return self._running(reduce.cumsum, axis_of(dim, axis))

    def cumprod(self, dim=None, *, axis=None):
        """Running product along an axis."""
        return self._running(reduce.cumprod, axis_of(dim, axis))

    def _running(self, op, axis):
        x = self._widened()
        if not self.ndim:
            one_axis(op.name, axis, 0)
            return x.clone()
        return op.call(x, axis=axis)

    def argsort(self, dim=-1, descending=False, *, axis=None):
        """Indices that sort an axis; stable."""
        axis = one_axis("argsort", dim if axis is None else axis, self.ndim)
        if not self.ndim:
            return reduce.argmax.call(self)
        if not descending:
            return reduce.argsort.call(self, axis=axis)
        # Stable also downwards: sort the reversed axis, and count its indices from the other end.
        return (self.shape[axis] - 1) - reduce.argsort.call(self.flip(axis), axis=axis).flip(axis)

    def sort(self, dim=-1, descending=False, *, axis=None):
        """(values, indices) sorted along an axis; stable."""
        axis = one_axis("sort", dim if axis is None else axis, self.ndim)
        indices = self.argsort(axis, descending)
        if not self.ndim:
            return self.clone(), indices
        return index.take_along_axis.call(self, indices, axis=axis), indices

    def topk(self, k, dim=-1, largest=True, *, axis=None):
        """(values, indices) of the k largest (or smallest) elements along an axis, best first."""
        axis = one_axis("topk", dim if axis is None else axis, self.ndim)
        k = integer("topk", "k", k)
        if not self.ndim:
            values, indices = self.reshape(1).topk(k, 0, largest)
            return values.reshape(()), indices.reshape(())
        if not 0 <= k <= self.shape[axis]:
            raise ValueError(f"topk: k must be from 0 to {self.shape[axis]}, got {k}")
        indices = self.argsort(axis, descending=largest)[(slice(None),) * axis + (slice(0, k),)]
        return index.take_along_axis.call(self, indices, axis=axis), indices

    def softmax(self, dim=-1, *, axis=None):
        """exp(x) over its sum along an axis."""
        return self._on_last(normalise.softmax, dim if axis is None else axis)

    def log_softmax(self, dim=-1, *, axis=None):
        """log(softmax(x)) along an axis."""
        return self._on_last(normalise.log_softmax, dim if axis is None else axis)

    def _on_last(self, op, dim):
        axis = one_axis(op.name, dim, self.ndim)
        if not self.ndim:
            return op.call(self.reshape(1)).reshape(())
        if axis >= self.ndim - 1:
            return op.call(self)
        return op.call(self.transpose(axis, -1)).transpose(axis, -1)


def _positive_power(x, p):
    """x ** p of x >= 0, whose gradient at 0 is 0 instead of infinite."""
    zero = x == 0.0
    return (x.masked_fill(zero, 1.0) ** p).masked_fill(zero, 0.0)
