"""A tensor and reverse-mode autodiff engine to read in an evening, and to train with."""

from . import ops
from .autograd.checkpoint import checkpoint
from .autograd.gradient import grad, hessian, jacobian, jvp, vjp
from .autograd.mode import enable_grad, is_grad_enabled, no_grad
from .create import (
    arange, cat, concatenate, einsum, empty, empty_like, eye, from_dlpack, full, full_like, linspace, multinomial,
    normal, ones, ones_like, pad, rand, rand_like, randint, randint_like, randn, randn_like, stack, tensor, uniform, where, zeros,
    zeros_like,
)  # fmt: skip
from .dtypes import (
    bfloat16, bool_, float16, float32, float64, int8, int16, int32, int64, uint8, uint16, uint32,
)  # fmt: skip
from .functions import (
    exp, log, log1p, expm1, sqrt, rsqrt, square, reciprocal, sin, cos, tan, tanh, sigmoid, erf, neg, abs, sign,
    floor, ceil, round, isnan, isinf, isfinite, relu, silu, softplus, gelu, leaky_relu, elu, clamp, add, sub, mul,
    div, pow, remainder, maximum, minimum, eq, ne, lt, le, gt, ge, matmul, dot, outer, sum, mean, prod, amax, amin,
    logsumexp, argmax, argmin, any, all, var, std, max, min, norm, cumsum, cumprod, sort, argsort, topk, softmax,
    log_softmax, reshape, flatten, transpose, permute, squeeze, unsqueeze, broadcast_to, flip, roll, tile, tril,
    triu, diagonal, split, chunk, gather, scatter_add, index_select, masked_fill,
)  # fmt: skip
from .ops.registry import At, Bools, Case, Ints, fused, primitive
from .random import Generator, default_generator, manual_seed
from .tensor import Tensor, as_tensor

__version__ = "0.1.0"
