"""The methods of Tensor as functions: tgl.exp(x), tgl.matmul(a, b). They also take numbers, lists and arrays."""

# ruff: noqa: I001  names stand in rows

from .elementwise import (
    abs, add, ceil, clamp, cos, div, elu, eq, erf, exp, expm1, floor, ge, gelu, gt, isfinite, isinf, isnan, le,
    leaky_relu, log, log1p, lt, maximum, minimum, mul, ne, neg, pow, reciprocal, relu, remainder, round, rsqrt,
    sigmoid, sign, silu, sin, softplus, sqrt, square, sub, tan, tanh,
)  # fmt: skip
from .reductions import (
    all, amax, amin, any, argmax, argmin, argsort, cumprod, cumsum, log_softmax, logsumexp, max, mean, min, norm,
    prod, softmax, sort, std, sum, topk, var,
)  # fmt: skip
from .shapes import (
    chunk, diagonal, dot, expand, flatten, flip, gather, index_select, masked_fill, matmul, outer, permute, repeat,
    reshape, roll, scatter_add, split, squeeze, tile, transpose, tril, triu, unsqueeze,
)  # fmt: skip
