"""Reductions, running sums and products, sorting, softmax; `dim` and `keepdim`, or `axis` and `keepdims`."""

from __future__ import annotations

from ..tensor import as_tensor


def sum(x, dim=None, keepdim=False, *, axis=None, keepdims=False):
    """Sum over axes."""
    return as_tensor(x).sum(dim, keepdim, axis=axis, keepdims=keepdims)


def mean(x, dim=None, keepdim=False, *, axis=None, keepdims=False):
    """Mean over axes."""
    return as_tensor(x).mean(dim, keepdim, axis=axis, keepdims=keepdims)


def prod(x, dim=None, keepdim=False, *, axis=None, keepdims=False):
    """Product over axes."""
    return as_tensor(x).prod(dim, keepdim, axis=axis, keepdims=keepdims)


def amax(x, dim=None, keepdim=False, *, axis=None, keepdims=False):
    """Largest element over axes; ties share the gradient."""
    return as_tensor(x).amax(dim, keepdim, axis=axis, keepdims=keepdims)


def amin(x, dim=None, keepdim=False, *, axis=None, keepdims=False):
    """Smallest element over axes; ties share the gradient."""
    return as_tensor(x).amin(dim, keepdim, axis=axis, keepdims=keepdims)


def logsumexp(x, dim=None, keepdim=False, *, axis=None, keepdims=False):
    """log(sum(exp(x))) over axes, without overflow."""
    return as_tensor(x).logsumexp(dim, keepdim, axis=axis, keepdims=keepdims)


def argmax(x, dim=None, keepdim=False, *, axis=None, keepdims=False):
    """Index of the largest element."""
    return as_tensor(x).argmax(dim, keepdim, axis=axis, keepdims=keepdims)


def argmin(x, dim=None, keepdim=False, *, axis=None, keepdims=False):
    """Index of the smallest element."""
    return as_tensor(x).argmin(dim, keepdim, axis=axis, keepdims=keepdims)


def any(x, dim=None, keepdim=False, *, axis=None, keepdims=False):
    """Whether any element is non-zero."""
    return as_tensor(x).any(dim, keepdim, axis=axis, keepdims=keepdims)


def all(x, dim=None, keepdim=False, *, axis=None, keepdims=False):
    """Whether all elements are non-zero."""
    return as_tensor(x).all(dim, keepdim, axis=axis, keepdims=keepdims)


def var(x, dim=None, correction=1, keepdim=False, *, axis=None, keepdims=False):
    """Variance over axes, unbiased by default."""
    return as_tensor(x).var(dim, correction, keepdim, axis=axis, keepdims=keepdims)


def std(x, dim=None, correction=1, keepdim=False, *, axis=None, keepdims=False):
    """Square root of the variance."""
    return as_tensor(x).std(dim, correction, keepdim, axis=axis, keepdims=keepdims)


def max(x, dim=None, keepdim=False, *, axis=None, keepdims=False):
    """Largest element; along `dim`, a pair (values, indices)."""
    return as_tensor(x).max(dim, keepdim, axis=axis, keepdims=keepdims)


def min(x, dim=None, keepdim=False, *, axis=None, keepdims=False):
    """Smallest element; along `dim`, a pair (values, indices)."""
    return as_tensor(x).min(dim, keepdim, axis=axis, keepdims=keepdims)


def norm(x, p=2, dim=None, keepdim=False, *, axis=None, keepdims=False):
    """(sum of |x| ** p) ** (1 / p), by default Euclidean; the gradient at zero is 0."""
    return as_tensor(x).norm(p, dim, keepdim, axis=axis, keepdims=keepdims)


def cumsum(x, dim=None, *, axis=None):
    """Running sum along an axis."""
    return as_tensor(x).cumsum(dim, axis=axis)


def cumprod(x, dim=None, *, axis=None):
    """Running product along an axis."""
    return as_tensor(x).cumprod(dim, axis=axis)


def sort(x, dim=-1, descending=False, *, axis=None):
    """(values, indices) sorted along an axis; stable."""
    return as_tensor(x).sort(dim, descending, axis=axis)


def argsort(x, dim=-1, descending=False, *, axis=None):
    """Indices that sort an axis; stable."""
    return as_tensor(x).argsort(dim, descending, axis=axis)


def topk(x, k, dim=-1, largest=True, *, axis=None):
    """(values, indices) of the k largest (or smallest) elements along an axis."""
    return as_tensor(x).topk(k, dim, largest, axis=axis)


def softmax(x, dim=-1, *, axis=None):
    """exp(x) over its sum along an axis."""
    return as_tensor(x).softmax(dim, axis=axis)


def log_softmax(x, dim=-1, *, axis=None):
    """log(softmax(x)) along an axis."""
    return as_tensor(x).log_softmax(dim, axis=axis)
