"""A tensor and reverse-mode autodiff engine to read in an evening, and to train with."""

# ruff: noqa: I001  names stand in rows: one a line would be two pages

from . import ops
from .autograd.checkpoint import checkpoint
from .autograd.gradient import grad, hessian, jacobian, jvp, vjp
from .autograd.mode import enable_grad, is_grad_enabled, no_grad
from .create import (
    arange, cat, concatenate, einsum, empty, empty_like, eye, from_dlpack, full, full_like, linspace, multinomial,
    normal, normal_like, ones, ones_like, pad, rand, rand_like, randint, randint_like, randn, randn_like, stack,
    tensor, uniform, uniform_like, where, zeros, zeros_like,
)  # fmt: skip
from .dtypes import (
    bfloat16, bool_, float16, float32, float64, int8, int16, int32, int64, uint8, uint16, uint32,
)  # fmt: skip
from .functions import (
    abs, add, all, amax, amin, any, argmax, argmin, argsort, ceil, chunk, clamp, cos, cumprod, cumsum, diagonal,
    div, dot, elu, eq, erf, exp, expand, expm1, flatten, flip, floor, gather, ge, gelu, gt, index_select, isfinite,
    isinf, isnan, le, leaky_relu, log, log1p, log_softmax, logsumexp, lt, masked_fill, matmul, max, maximum, mean,
    min, minimum, mul, ne, neg, norm, outer, permute, pow, prod, reciprocal, relu, remainder, repeat, reshape,
    roll, round, rsqrt, scatter_add, sigmoid, sign, silu, sin, softmax, softplus, sort, split, sqrt, square,
    squeeze, std, sub, sum, tan, tanh, tile, topk, transpose, tril, triu, unsqueeze, var,
)  # fmt: skip
from .gradcheck import gradcheck, gradgradcheck
from .ops.registry import At, Bools, Case, Ints, fused, primitive
from .random import Generator, default_generator, manual_seed
from .tensor import Tensor, as_tensor

__version__ = "0.1.0"
