"""Layers with parameters, and dropout and activations as modules."""

from __future__ import annotations

import math
from numbers import Integral, Real

import numpy as np

from .. import functional as F
from ..dtypes import as_dtype, default_float
from ..errors import check_number
from . import init
from .module import Module, Parameter


def _sizes(layer: str, **sizes):
    """Raise unless each is a whole number of at least 0."""
    for name, size in sizes.items():
        if not isinstance(size, Integral) or isinstance(size, bool):
            raise TypeError(f"{layer}: {name} must be a whole number, got {size!r}")
        if size < 0:
            raise ValueError(f"{layer}: {name} must be at least 0, got {size}")


def _new(shape, dtype, device):
    return Parameter(np.zeros(shape, as_dtype(dtype if dtype is not None else default_float)), device=device)


class Linear(Module):
    """y = x @ weight.T + bias: x (..., in_features) to (..., out_features).

    weight (out_features, in_features) and bias (out_features,) start uniform in +-1 / sqrt(in_features), drawn
    from `generator` or the library's.
    """

    def __init__(self, in_features, out_features, bias: bool = True, dtype=None, device=None, generator=None):
        _sizes("Linear", in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
        self.weight = init.kaiming_uniform_(
            _new((out_features, in_features), dtype, device), math.sqrt(5.0), generator=generator
        )
        self.bias = None
        if bias:
            bound = 1.0 / math.sqrt(max(in_features, 1))
            self.bias = init.uniform_(_new((out_features,), dtype, device), -bound, bound, generator)

    def forward(self, x, residual=None):
        """x (..., in_features) to (..., out_features); `residual`, of that shape, is added."""
        return F.linear(x, self.weight, self.bias, residual)

    def extra_repr(self):
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


class Embedding(Module):
    """Rows of weight (num_embeddings, embedding_dim) by index: integers (...) to (..., embedding_dim).

    The weight starts normal, of variance 1. Raises IndexError for an index outside [0, num_embeddings).
    """

    def __init__(self, num_embeddings, embedding_dim, dtype=None, device=None, generator=None):
        _sizes("Embedding", num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.weight = init.normal_(_new((num_embeddings, embedding_dim), dtype, device), generator=generator)

    def forward(self, indices):
        return F.embedding(indices, self.weight)

    def extra_repr(self):
        return f"{self.num_embeddings}, {self.embedding_dim}"


class LayerNorm(Module):
    """The last axis, of size `features`, to mean 0 and variance 1, times weight, plus bias. arXiv:1607.06450."""

    def __init__(self, features: int, eps: float = 1e-5, bias: bool = True, dtype=None, device=None):
        _sizes("LayerNorm", features=features)
        check_number("LayerNorm", "eps", eps)
        self.features, self.eps = features, eps
        self.weight = init.ones_(_new((features,), dtype, device))
        self.bias = _new((features,), dtype, device) if bias else None

    def forward(self, x):
        return F.layer_norm(x, self.weight, self.bias, self.eps)

    def extra_repr(self):
        return f"{self.features}, eps={self.eps}, bias={self.bias is not None}"


class RMSNorm(Module):
    """The last axis, of size `features`, over its root mean square, times weight. arXiv:1910.07467."""

    def __init__(self, features: int, eps: float = 1e-6, dtype=None, device=None):
        _sizes("RMSNorm", features=features)
        check_number("RMSNorm", "eps", eps)
        self.features, self.eps = features, eps
        self.weight = init.ones_(_new((features,), dtype, device))

    def forward(self, x):
        return F.rms_norm(x, self.weight, self.eps)

    def extra_repr(self):
        return f"{self.features}, eps={self.eps}"


class Dropout(Module):
    """In training, zeroes elements with probability p and scales the rest by 1 / (1 - p); in eval, x itself.

    `generator` (default: the library's) may be replaced at any time; it is not part of the state.
    """

    def __init__(self, p: float = 0.5, generator=None):
        if not isinstance(p, Real):
            raise TypeError(f"Dropout: p must be a number, got {p!r}")
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"Dropout: p must be in [0, 1], got {p}")
        self.p, self.generator = p, generator

    def forward(self, x):
        return F.dropout(x, self.p, self.training, self.generator)

    def extra_repr(self):
        return f"p={self.p}"


class Identity(Module):
    """x itself."""

    def forward(self, x):
        return x


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x):
        return F.relu(x)


class LeakyReLU(Module):
    """x where positive, else negative_slope * x."""

    def __init__(self, negative_slope: float = 0.01):
        self.negative_slope = negative_slope

    def forward(self, x):
        return F.leaky_relu(x, self.negative_slope)

    def extra_repr(self):
        return f"negative_slope={self.negative_slope}"


class ELU(Module):
    """x where positive, else alpha * (exp(x) - 1). arXiv:1511.07289."""

    def __init__(self, alpha: float = 1.0):
        self.alpha = alpha

    def forward(self, x):
        return F.elu(x, self.alpha)

    def extra_repr(self):
        return f"alpha={self.alpha}"


class GELU(Module):
    """x * Phi(x), exact ("none") or by tanh ("tanh"). arXiv:1606.08415."""

    def __init__(self, approximate: str = "none"):
        if approximate not in ("none", "tanh"):
            raise ValueError(f'GELU: approximate must be "none" or "tanh", got {approximate!r}')
        self.approximate = approximate

    def forward(self, x):
        return F.gelu(x, self.approximate)

    def extra_repr(self):
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """x * sigmoid(x)."""

    def forward(self, x):
        return F.silu(x)


class SwiGLU(Module):
    """silu(a) * b for the halves a, b of the last axis: (..., 2C) to (..., C). arXiv:2002.05202."""

    def forward(self, x):
        return F.swiglu(x)


class Softplus(Module):
    """log(1 + exp(x))."""

    def forward(self, x):
        return F.softplus(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, x):
        return F.sigmoid(x)


class Tanh(Module):
    """Hyperbolic tangent."""

    def forward(self, x):
        return F.tanh(x)


class Softmax(Module):
    """exp(x) over its sum along axis `dim`."""

    def __init__(self, dim: int = -1):
        self.dim = dim

    def forward(self, x):
        return F.softmax(x, self.dim)

    def extra_repr(self):
        return f"dim={self.dim}"
