"""What the engine computes, spelled once for both engines: the rows that are compared with PyTorch.

A row's function gets the module (`tinygrad_lite` or `torch`) and the tensors; where the spellings differ, a
second function speaks PyTorch's. `check_row` compares types, shapes, values and gradients, and returns the
largest error in units of the type's eps.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
import torch.nn.functional as F

import tinygrad_lite as tgl
from tinygrad_lite.tensor import functional as ours

ONE = [((),), ((3,),), ((2, 3),), ((2, 1, 4),), ((0, 3),)]
TWO = [((2, 3), (3,)), ((2, 1, 4), (3, 1)), ((), (4,)), ((3, 2), (3, 2)), ((0, 3), (1, 3))]
MAT = [((2, 3),), ((3, 4),), ((2, 3, 4),)]
FILLED = [((4,),), ((2, 3),), ((2, 3, 4),)]


class Row:
    """One comparison: name, function, shapes, PyTorch's spelling, range and kind of the inputs, tolerance in eps."""

    def __init__(
        self, name, fn, shapes=ONE, theirs=None, low=-2.0, high=2.0, tol=16, ints=None, grad=True, distinct=False
    ):
        self.name, self.fn, self.theirs, self.shapes = name, fn, theirs or fn, shapes
        self.low, self.high, self.tol, self.ints, self.grad, self.distinct = low, high, tol, ints, grad, distinct


ROWS: list[Row] = []


def row(name, fn, shapes=ONE, theirs=None, **options):
    ROWS.append(Row(name, fn, shapes, theirs, **options))


# -- elementwise ------------------------------------------------------------------------------------------------
for _n in "exp expm1 sin cos tanh sigmoid erf square abs neg softplus relu silu".split():
    _their = {"softplus": F.softplus, "relu": F.relu, "silu": F.silu}.get(_n) or getattr(torch, _n)
    row(_n, lambda t, x, n=_n: getattr(x, n)(), theirs=lambda t, x, f=_their: f(x))
    if hasattr(tgl, _n):
        row(f"tgl.{_n}", lambda t, x, n=_n: getattr(tgl, n)(x), theirs=lambda t, x, f=_their: f(x))
row("tan", lambda t, x: t.tan(x) + x.tan(), low=-1.2, high=1.2)
for _n in "log sqrt rsqrt reciprocal".split():
    row(_n, lambda t, x, n=_n: getattr(x, n)(), low=0.3)
    row(f"tgl.{_n}", lambda t, x, n=_n: getattr(t, n)(x), low=0.3)
row("log1p", lambda t, x: t.log1p(x) + x.log1p(), low=-0.6)
for _n in "sign floor ceil round isnan isinf isfinite".split():
    row(_n, lambda t, x, n=_n: getattr(x * 3.0, n)(), grad=False)
    row(f"tgl.{_n}", lambda t, x, n=_n: getattr(t, n)(x) if hasattr(t, n) else getattr(x, n)(), grad=False)
row("gelu", lambda t, x: x.gelu(), theirs=lambda t, x: F.gelu(x))
row("gelu tanh", lambda t, x: tgl.gelu(x, "tanh"), theirs=lambda t, x: F.gelu(x, approximate="tanh"))
row("leaky_relu", lambda t, x: x.leaky_relu(0.2), theirs=lambda t, x: F.leaky_relu(x, 0.2))
row("tgl.leaky_relu", lambda t, x: tgl.leaky_relu(x), theirs=lambda t, x: F.leaky_relu(x))
row("elu", lambda t, x: x.elu(0.7) + tgl.elu(x), theirs=lambda t, x: F.elu(x, 0.7) + F.elu(x))
row("clamp", lambda t, x: x.clamp(-0.5, 1.0) + t.clamp(x, min=0.1) + x.clamp(max=0.3))
row("clamp tensors", lambda t, x, y: x.clamp(y, y + 1.0), TWO)
row("maximum", lambda t, x, y: x.maximum(y) + t.maximum(y, x), TWO)
row("minimum", lambda t, x, y: x.minimum(y) + t.minimum(y, x), TWO)
row("maximum tie", lambda t, x: t.maximum(x, x * 1.0) + t.minimum(x.abs() * 0.0, x * 0.0))
row("add", lambda t, x, y: x + y + t.add(x, y) + x.add(y) + 1.0 + x + (2 + y), TWO)
row("subtract", lambda t, x, y: x - y - t.sub(y, x) - x.sub(y) * 2.0 + (1 - x) + (y - 2.5), TWO)
row("multiply", lambda t, x, y: x * y * 2.0 + 3 * t.mul(x, y) + x.mul(y), TWO)
row("divide", lambda t, x, y: x / y + t.div(y, x) + x.div(y) + 1.0 / x + y / 3, TWO, low=0.5)
row("power", lambda t, x, y: x**y + t.pow(y, x) + x.pow(y), TWO, low=0.4, tol=32)
row("power scalar", lambda t, x: x**2 + x**3 + x**2.0 + x**1 + x**0 + (x * x + 0.5) ** -1.5 + (x * x) ** 0.5, tol=64)
row("power base", lambda t, x: 2.0**x + 3**x, tol=32)
row("floor_divide", lambda t, x, y: x // y, TWO, low=0.5, grad=False)
row("remainder", lambda t, x, y: x % y + x.remainder(y) + x % 0.7, TWO, low=0.5)
row("reflected", lambda t, x: 7.5 % (x + 3.0) + 9.0 // (x.detach() + 3.0), tol=64,
    theirs=lambda t, x: t.remainder(t.full_like(x, 7.5), x + 3.0) + 9.0 // (x.detach() + 3.0))  # fmt: skip
for _n in "eq ne lt le gt ge".split():
    row(_n, lambda t, x, y, n=_n: getattr(x.round(), n)(y.round()), TWO, grad=False)
row(
    "comparison signs",
    lambda t, x, y: ((x < y) & (x <= 1.0)) | (y > 0) ^ ~(x >= y) | (x == y) & (y != 0),
    TWO,
    grad=False,
)
row("where", lambda t, x, y: t.where(x > 0, x, y) + t.where(y > 0, 1.0, x) + x.where(y < 0.5, y), TWO)
row("masked_fill", lambda t, x: x.masked_fill(x > 0.5, -3.0) + (x * 2).masked_fill(x < 0, 7))
row("convert", lambda t, x: (x.clone() * x.detach()).double().float() * x.to(t.float64).float())

# -- reductions -------------------------------------------------------------------------------------------------
for _n in ("sum", "mean", "logsumexp"):
    if _n != "logsumexp":
        row(_n, lambda t, x, n=_n: getattr(x, n)(), FILLED)
    row(f"{_n} dim", lambda t, x, n=_n: getattr(x, n)(dim=-1) + getattr(t, n)(x, dim=-1), FILLED)
    row(f"{_n} keepdim", lambda t, x, n=_n: getattr(x, n)(0, keepdim=True), FILLED)
    row(f"{_n} dims", lambda t, x, n=_n: getattr(x, n)((0, -1)), MAT)
row("sum all", lambda t, x: x.sum() + t.sum(x), ONE)
row("var", lambda t, x: x.var() + t.var(x, correction=0) + x.var(dim=0, correction=0).sum(), FILLED, tol=32)
row("var dim", lambda t, x: x.var(dim=-1, keepdim=True) * x + t.std(x, dim=0), FILLED, tol=64)
row("std", lambda t, x: x.std() + t.std(x) + x.std(dim=-1), FILLED, tol=64)
row("std of equals", lambda t, x: (x * 0.0).std(dim=-1) + x.sum(), FILLED)
row("prod", lambda t, x: x.prod() + t.prod(x, dim=-1), FILLED, tol=32)
row("prod zero", lambda t, x: (x * (x > -1.0).to(x.dtype)).prod(dim=0) + x.prod(0, keepdim=True), FILLED, tol=32)
for _n in ("max", "min"):
    row(_n, lambda t, x, n=_n: getattr(x, n)(), FILLED, distinct=True)
    row(f"{_n} dim", lambda t, x, n=_n: tuple(getattr(x, n)(dim=-1)), FILLED, distinct=True)
    row(f"tgl.{_n}", lambda t, x, n=_n: tuple(getattr(t, n)(x, 0, keepdim=True)), FILLED, distinct=True)
    row(
        f"a{_n}",
        lambda t, x, n=_n: getattr(x, f"a{n}")(dim=0) + getattr(t, f"a{n}")(x, dim=(0,)),
        FILLED,
        distinct=True,
    )
    row(f"a{_n} ties", lambda t, x, n=_n: getattr(x.relu(), f"a{n}")(dim=-1), FILLED)
    row(f"arg{_n}", lambda t, x, n=_n: getattr(x, f"arg{n}")(dim=-1), FILLED, grad=False)
    row(f"tgl.arg{_n}", lambda t, x, n=_n: getattr(t, f"arg{n}")(x), FILLED, grad=False)
row("any", lambda t, x: (x > 1).any() & t.any(x > 0) | (x > 0).any(dim=0), FILLED, grad=False)
row("all", lambda t, x: (x > 1).all() | t.all(x > -3) & (x > 0).all(dim=-1, keepdim=True), FILLED, grad=False)
row("norm", lambda t, x: x.norm() + t.norm(x) + x.norm(1) + x.norm(float("inf")), FILLED)
row("norm dim", lambda t, x: x.norm(dim=-1) + x.norm(2, 0, keepdim=True).sum() + x.norm(1, dim=-1), FILLED)
row("norm zero", lambda t, x: (x * 0.0).norm(dim=-1) + (x - x).norm(), FILLED)
row("cumsum", lambda t, x: x.cumsum(0) + t.cumsum(x, dim=-1), FILLED)
row("cumprod", lambda t, x: x.cumprod(0) + t.cumprod(x, dim=-1), FILLED, tol=64)
row("cumprod zero", lambda t, x: (x * (x > -0.5).to(x.dtype)).cumprod(-1), FILLED, tol=64)
row("sort", lambda t, x: tuple(x.sort(dim=0)) + tuple(t.sort(x)), FILLED, distinct=True)
row("sort descending", lambda t, x: tuple(x.sort(-1, descending=True)), FILLED, distinct=True)
row("argsort", lambda t, x: (x.argsort(dim=0), t.argsort(x, descending=True)), FILLED, distinct=True, grad=False)
row(
    "topk",
    lambda t, x: tuple(x.topk(2)) + tuple(t.topk(x, 1, dim=0)) + tuple(x.topk(2, largest=False)),
    FILLED,
    distinct=True,
)
row("softmax", lambda t, x: x.softmax(-1) + t.softmax(x, 0) + x.softmax(dim=0), FILLED)
row("log_softmax", lambda t, x: x.log_softmax(-1) + t.log_softmax(x, 0), FILLED)

# -- shapes -----------------------------------------------------------------------------------------------------
row("reshape", lambda t, x: x.reshape(-1) * t.reshape(x, (-1,)) + x.clone().view(x.shape).flatten(), FILLED,
    theirs=lambda t, x: x.reshape(-1) * t.reshape(x, (-1,)) + x.flatten())  # fmt: skip
row("flatten", lambda t, x: x.flatten(0, 1) * t.flatten(x, 0, 1), MAT)
row("transpose", lambda t, x: x.transpose(0, -1) * t.transpose(x, 0, -1), MAT)
row("T", lambda t, x: x.T, [((2, 3),), ((0, 4),), ((3, 1),)])
row(
    "permute",
    lambda t, x: x.permute(2, 0, 1) * t.permute(x, (2, 0, 1)) + x.permute((2, 0, 1)),
    [((2, 3, 4),), ((1, 2, 3),), ((3, 3, 3),)],
)
row(
    "expand",
    lambda t, x: x.expand(3, *x.shape) * x.expand(2, -1, 3, 4).sum(0)[:1],
    [((2, 1, 4),), ((2, 3, 4),), ((1, 1, 1),)],
)
row("squeeze", lambda t, x: x.squeeze() * t.squeeze(x, 1) + x.squeeze((0, 1)), [((2, 1, 4),), ((2, 1),), ((3, 1, 2),)],
    theirs=lambda t, x: x.squeeze() * t.squeeze(x, 1) + x.squeeze((0, 1)))  # fmt: skip
row("unsqueeze", lambda t, x: (x.unsqueeze(0), t.unsqueeze(x, -1) * 2.0), FILLED)
row("flip", lambda t, x: x.flip(0) * t.flip(x, (-1,)) + x.flip(0, -1) if x.ndim > 1 else x.flip(0), FILLED)
row("roll", lambda t, x: x.roll(1, 0) * t.roll(x, -2) + x.roll((1, 2), (0, -1)) if x.ndim > 1 else x.roll(3), FILLED)
row(
    "pad",
    lambda t, x: x.pad(((0, 0),) * (x.ndim - 1) + ((1, 2),), 0.5) * 2,
    FILLED,
    theirs=lambda t, x: F.pad(x, (1, 2), value=0.5) * 2,
)
row(
    "tgl.pad",
    lambda t, x: tgl.pad(x, ((1, 0), (2, 1))),
    [((2, 3),), ((1, 1),), ((0, 3),)],
    theirs=lambda t, x: F.pad(x, (2, 1, 1, 0)),
)
row(
    "concatenate",
    lambda t, x, y: t.cat([x, y, x]) * t.concatenate((x, y, x), 0),
    [((2, 3), (1, 3)), ((4,), (2,)), ((0, 2), (3, 2))],
)
row(
    "stack",
    lambda t, x, y: t.stack([x, y]) * 2.0 + t.stack((y, x), dim=0) + t.stack([x, y], -1).sum(),
    [((2, 3),) * 2, ((4,),) * 2, ((),) * 2],
)
row("split", lambda t, x: (*x.split(2, dim=-1), *t.split(x, [1, x.shape[0] - 1])), FILLED)
row("chunk", lambda t, x: (*x.chunk(3, dim=-1), *t.chunk(x, 2)), FILLED)
row("repeat", lambda t, x: x.repeat(2, 1, 3) * 2.0, FILLED)
row("tile", lambda t, x: x.tile(2) * t.tile(x, (2,)) + x.tile((2,)), FILLED)
row("tril", lambda t, x: x.tril() * t.tril(x, 1) + x.tril(-1), MAT)
row("triu", lambda t, x: x.triu() + t.triu(x, -1) * x.triu(1), MAT)
row("diagonal", lambda t, x: x.diagonal() * 2.0, MAT)
row("diagonal offset", lambda t, x: t.diagonal(x, 1, -2, -1) + x.diagonal(-1, -1, -2), MAT)
row("iter len", lambda t, x: sum(r * (i + 1.0) for i, r in enumerate(x)) * len(x), FILLED)

# -- indexing ---------------------------------------------------------------------------------------------------
row("getitem basic", lambda t, x: (x[0], x[-1, 1:], x[..., 1], x[:, None, ::2], x[1:1], x[None], x[...]), MAT)
row("getitem reversed", lambda t, x: x[::-1] * 2, FILLED, theirs=lambda t, x: x.flip(0) * 2)
row(
    "getitem advanced", lambda t, x: (x[[0, 1, 0]], x[:, [1, 1]], x[[0, 1], [1, 2]], x[t.tensor([[0, 1], [1, 1]])]), MAT
)
row("getitem mixed", lambda t, x: (x[1, [0, 2]], x[[1, 0], 1:], x[..., t.tensor([0, -1])]), MAT)
row("getitem boolean", lambda t, x: (x[x > 0], x[(x > -1).all(dim=-1)] if x.ndim == 2 else x[:, x[0] > 0], x[:, [True] + [False] * (x.shape[1] - 1)]), MAT,
    theirs=lambda t, x: (x[x > 0], x[(x > -1).all(dim=-1)] if x.ndim == 2 else x[:, x[0] > 0], x[:, t.tensor([True] + [False] * (x.shape[1] - 1))]))  # fmt: skip
row(
    "gather",
    lambda t, x, i: x.gather(-1, i) + t.gather(x, -1, i),
    [((2, 4), (2, 3)), ((3, 4), (2, 4)), ((4,), (2,)), ((2, 3, 4), (2, 3, 1))],
    ints=4,
)
row("gather 0", lambda t, x, i: x.gather(0, i), [((3, 4), (5, 4)), ((3, 2), (1, 1)), ((3, 4, 2), (2, 4, 2))], ints=3)
row(
    "scatter_add",
    lambda t, x, y, i: x.scatter_add(-1, i, y) * t.scatter_add(x, -1, i, y),
    [((2, 4), (2, 3), (2, 3)), ((4,), (6,), (6,)), ((3, 4), (2, 2), (2, 2))],
    ints=4,
)
row(
    "index_select",
    lambda t, x, i: x.index_select(-1, i) * t.index_select(x, -1, i),
    [((2, 4), (3,)), ((4,), (5,)), ((2, 3, 4), (1,))],
    ints=4,
)
row("masked_fill function", lambda t, x, y: t.masked_fill(x * y, y > 0, 1.5), TWO)
row(
    "embedding",
    lambda t, x, i: ours.embedding(x, i),
    [((5, 3), (4,)), ((5, 2), (2, 3)), ((5, 1), ())],
    ints=5,
    theirs=lambda t, x, i: F.embedding(i, x),
)

# -- products ---------------------------------------------------------------------------------------------------
MM = [((2, 3), (3, 4)), ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 2, 3), (3, 4)), ((2, 1, 2, 3), (3, 3, 2)),
      ((2, 4, 3), (3,)), ((3,), (2, 3, 4)), ((2, 0, 3), (3, 2)), ((2, 3, 0), (0, 2))]  # fmt: skip
row("matmul", lambda t, x, y: x @ y + t.matmul(x, y) + x.matmul(y), MM, tol=32)
row("dot", lambda t, x, y: x.dot(y) + t.dot(x, y), [((3,), (3,)), ((1,), (1,)), ((7,), (7,))])
row("outer", lambda t, x, y: x.outer(y) + t.outer(x, y), [((3,), (2,)), ((1,), (4,)), ((5,), (5,))])
row(
    "einsum",
    lambda t, x, y: t.einsum("bij,bjk->bki", x, y) * 2 + t.einsum("...ij,...jk", x, y).transpose(1, 2),
    [((2, 2, 3), (2, 3, 2)), ((1, 2, 3), (1, 3, 4)), ((3, 1, 1), (3, 1, 1))],
    tol=32,
)
row(
    "einsum sums",
    lambda t, x, y: (
        t.einsum("ij,kj->", x, y),
        t.einsum("ij->j", x),
        t.einsum("ij,kj->ik", x, y),
        t.einsum("ij->ji", x),
    ),
    [((2, 3), (4, 3)), ((1, 3), (2, 3)), ((3, 3), (3, 3))],
    tol=32,
)
row(
    "einsum three",
    lambda t, x, y, z: t.einsum("ij,jk,kl->il", x, y, z),
    [((2, 3), (3, 4), (4, 2)), ((1, 1), (1, 1), (1, 1)), ((3, 2), (2, 2), (2, 5))],
    tol=64,
)

# -- layers' ops --------------------------------------------------------------------------------------------------
row(
    "linear",
    lambda t, x, w, b: ours.linear(x, w, b, ours.linear(x, w, None, None)),
    [((2, 3), (4, 3), (4,)), ((2, 2, 3), (2, 3), (2,)), ((1, 5), (1, 5), (1,))],
    theirs=lambda t, x, w, b: F.linear(x, w, b) + F.linear(x, w),
    tol=32,
)
row(
    "layer_norm",
    lambda t, x, w, b: ours.layer_norm(x, w, b, eps=1e-3),
    [((2, 4), (4,), (4,)), ((2, 3, 5), (5,), (5,)), ((3,), (3,), (3,))],
    theirs=lambda t, x, w, b: F.layer_norm(x, w.shape, w, b, 1e-3),
    tol=512,
)
row(
    "rms_norm",
    lambda t, x, w: ours.rms_norm(x, w, eps=1e-3),
    [((2, 4), (4,)), ((2, 3, 5), (5,)), ((3,), (3,))],
    theirs=lambda t, x, w: F.rms_norm(x, w.shape, w, 1e-3),
    tol=256,
)
row(
    "bias_gelu",
    lambda t, x, b: ours.bias_gelu(x, b) + ours.bias_gelu(x, b, approximate="tanh"),
    [((2, 4), (4,)), ((2, 3, 5), (5,)), ((3,), (3,))],
    theirs=lambda t, x, b: F.gelu(x + b) + F.gelu(x + b, approximate="tanh"),
    tol=32,
)
row(
    "gelu_mlp",
    lambda t, x, a, b, c, d: ours.gelu_mlp(x, a, b, c, d, ours.gelu_mlp(x, a, None, c, None, None)),
    [
        ((2, 3), (4, 3), (4,), (2, 4), (2,)),
        ((2, 2, 3), (3, 3), (3,), (1, 3), (1,)),
        ((1, 1), (1, 1), (1,), (1, 1), (1,)),
    ],
    theirs=lambda t, x, a, b, c, d: (
        F.linear(F.gelu(F.linear(x, a, b), approximate="tanh"), c, d)
        + F.linear(F.gelu(F.linear(x, a), approximate="tanh"), c)
    ),
    tol=64,
)
row(
    "swiglu",
    lambda t, x: ours.swiglu(x),
    [((2, 4),), ((2, 3, 6),), ((8,),)],
    theirs=lambda t, x: F.silu(x.chunk(2, -1)[0]) * x.chunk(2, -1)[1],
    tol=32,
)
row("cross_entropy", lambda t, x, i: ours.cross_entropy(x, i) + ours.cross_entropy(x, i, label_smoothing=0.1, ignore_index=0), [((3, 4), (3,)), ((5, 4), (5,)), ((8, 4), (8,))], ints=4, tol=64,
    theirs=lambda t, x, i: F.cross_entropy(x, i) + F.cross_entropy(x, i, label_smoothing=0.1, ignore_index=0))  # fmt: skip
row(
    "linear_cross_entropy",
    lambda t, x, w, i: ours.linear_cross_entropy(x, w, i),
    [((3, 2), (4, 2), (3,)), ((5, 3), (4, 3), (5,)), ((1, 1), (4, 1), (1,))],
    ints=4,
    tol=64,
    theirs=lambda t, x, w, i: F.cross_entropy(x @ w.T, i),
)
HEADS = [((1, 2, 3, 4),) * 3, ((2, 1, 4, 2),) * 3, ((1, 4, 2, 2), (1, 2, 2, 2), (1, 2, 2, 2))]
row("attention", lambda t, q, k, v: ours.attention(q, k, v, causal=True, window=None, scale=0.6) + ours.attention(q, k, v, causal=False, window=None, scale=0.3), HEADS, tol=128,
    theirs=lambda t, q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.6, enable_gqa=True) + F.scaled_dot_product_attention(q, k, v, scale=0.3, enable_gqa=True))  # fmt: skip


def _windowed(q, k, v, window):
    t, s = q.shape[2], k.shape[2]
    seen = torch.ones(t, s).tril(s - t) - torch.ones(t, s).tril(s - t - window)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen > 0, scale=0.6, enable_gqa=True)


row("attention with a window", lambda t, q, k, v: ours.attention(q, k, v, causal=True, window=2, scale=0.6), HEADS, tol=128,
    theirs=lambda t, q, k, v: _windowed(q, k, v, 2))  # fmt: skip


def _qkv(x, heads, kv_heads):
    b, t, p = x.shape
    d = p // (heads + 2 * kv_heads)
    q, k, v = x.reshape(b, t, heads + 2 * kv_heads, d).transpose(1, 2).split([heads, kv_heads, kv_heads], 1)
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.6, enable_gqa=True)
    return y.transpose(1, 2).reshape(b, t, heads * d)


for kv in (2, 1):
    row(
        f"attention_qkv {kv} kv heads",
        lambda t, x, kv=kv: ours.attention_qkv(x, heads=2, kv_heads=kv, causal=True, window=None, scale=0.6),
        [((1, 3, 12 * (1 + kv)),), ((2, 2, 2 + 2 * kv),), ((2, 4, 4 * (2 + 2 * kv)),)],
        tol=128,
        theirs=lambda t, x, kv=kv: _qkv(x, 2, kv),
    )


def _turned(x, heads, size, start):
    x = x if x.is_floating_point() else x.float()  # as exp and sqrt do
    t = torch.arange(start, start + x.shape[1], dtype=torch.float64)
    angle = torch.outer(t, 100.0 ** (-torch.arange(0, size, 2, dtype=torch.float64) / size))
    cos, sin = (f(angle)[:, None].to(x.dtype) for f in (torch.cos, torch.sin))
    a, b = x[..., : heads * size].reshape(*x.shape[:2], heads, 2, size // 2).unbind(3)
    turned = torch.stack([a * cos - b * sin, a * sin + b * cos], 3).reshape(*x.shape[:2], heads * size)
    return torch.cat([turned, x[..., heads * size :]], 2)


row(
    "rotary",
    lambda t, x: ours.rotary(x, heads=2, size=4, start=3, base=100.0, turn=1),
    [((1, 3, 8),), ((2, 2, 11),), ((2, 4, 24),)],
    theirs=lambda t, x: _turned(x, 2, 4, 3),
)
row("dropout none", lambda t, x: ours.dropout(x, p=0.0, key=1, offset=0), ONE, theirs=lambda t, x: F.dropout(x, 0.0))


# -- comparing ----------------------------------------------------------------------------------------------------
def _arrays(row, shapes, dtype, rng, layout):
    arrays = []
    floats = len(shapes) - (1 if row.ints else 0)
    for i, shape in enumerate(shapes):
        if i >= floats:
            arrays.append(rng.integers(0, row.ints, shape))
            continue
        drawn = (
            shape[::-1]
            if layout == "transposed"
            else (*shape[:-1], shape[-1] * 2)
            if layout == "strided" and shape
            else shape
        )
        n = int(np.prod(drawn))
        if row.distinct:
            values = row.low + (row.high - row.low) * (rng.permutation(n) + 0.5) / max(n, 1)
        else:
            values = rng.uniform(row.low, row.high, n)
        arrays.append(values.reshape(drawn).astype(dtype))
    return arrays, floats


def _run(fn, module, make, arrays, floats, layout, grad):
    leaves = [make(a) for a in arrays]
    if grad:
        for x in leaves[:floats]:
            x.requires_grad_()
    xs = [x if i >= floats or not x.ndim else x.permute(*range(x.ndim)[::-1]) if layout == "transposed" else
          x[..., ::2] if layout == "strided" else x for i, x in enumerate(leaves)]  # fmt: skip
    out = fn(module, *xs)
    return leaves[:floats], tuple(out) if isinstance(out, (tuple, list)) else (out,)


def _distance(a, b, eps, what):
    assert a.shape == b.shape, f"{what}: shape {a.shape}, PyTorch's is {b.shape}"
    if a.dtype.kind != "f":
        np.testing.assert_array_equal(a, b, err_msg=what)
        return 0.0
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    scale = max(1.0, float(np.abs(b[np.isfinite(b)]).max(initial=0.0)))
    with np.errstate(invalid="ignore"):
        return float(np.where(same, 0.0, np.abs(a.astype(np.float64) - b)).max(initial=0.0)) / (eps * scale)


def check_row(row, shapes, dtype, layout, seed=0):
    """Compare one row with PyTorch; returns the largest error in eps, and how many arrays were compared."""
    rng = np.random.default_rng(seed)
    arrays, floats = _arrays(row, shapes, dtype, rng, layout)
    eps = float(np.finfo(dtype).eps)
    mine, outs = _run(row.fn, tgl, tgl.tensor, arrays, floats, layout, row.grad)
    theirs, touts = _run(row.theirs, torch, torch.tensor, arrays, floats, layout, row.grad)
    assert len(outs) == len(touts)
    pairs, loss, tloss = [], None, None
    for o, p in zip(outs, touts, strict=True):
        assert str(o.dtype) == str(p.dtype).removeprefix("torch."), f"{row.name}: {o.dtype}, PyTorch's is {p.dtype}"
        pairs.append((o.detach().numpy(), p.detach().numpy(), "value"))
        if row.grad and p.requires_grad:
            g = np.asarray(rng.uniform(0.5, 1.5, p.shape), dtype=pairs[-1][1].dtype)
            term, tterm = (o * tgl.tensor(g)).sum().to(dtype), (p * torch.tensor(g)).sum().to(getattr(torch, dtype))
            loss, tloss = (term, tterm) if loss is None else (loss + term, tloss + tterm)
    if loss is not None:
        loss.backward()
        tloss.backward()
        for x, y in zip(mine, theirs, strict=True):
            assert (x.grad is None) == (y.grad is None)
            if x.grad is not None:
                pairs.append((x.grad.numpy(), y.grad.numpy(), "gradient"))
    worst = max(_distance(a, b, eps, f"{row.name} {what}") for a, b, what in pairs)
    return worst, len(pairs)


def every():
    """All comparisons: (row, shapes, dtype, layout)."""
    for r in ROWS:
        yield from itertools.product([r], r.shapes, ("float32", "float64"), ("contiguous", "transposed", "strided"))
