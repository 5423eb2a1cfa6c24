"""Each kernel of the library on a small input, by the name that `tgl cuda trace` knows it by."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .....device import Device, register_device
from .....dtypes import bfloat16, float16, float32
from .....xp import Namespace
from .... import lookup
from .. import cupy

_draws = np.random.default_rng(7)  # a new one for every run
_TYPES = {"float32": float32, "bfloat16": bfloat16, "float16": float16}


@dataclass(frozen=True)
class Example:
    """A kernel to trace.

    kernel   its name in the .cu file
    about    what there is to see
    run      run(dtype) launches it, maybe among others
    dtype    in which to run it if nobody says
    dtypes   those that it has
    """

    name: str
    kernel: str
    about: str
    run: Callable
    dtype: str = "float32"
    dtypes: tuple[str, ...] = ("float32", "bfloat16", "float16")


def find(name: str) -> Example:
    """The example of that name, or of that kernel, or of that op's forward. ValueError with near names for others."""
    for matches in (lambda e: e.name == name, lambda e: e.kernel == name, lambda e: e.name == f"{name}_forward"):
        if found := next(filter(matches, EXAMPLES), None):
            return found
    names = [*dict.fromkeys(n for e in EXAMPLES for n in (e.name, e.kernel))]
    near = difflib.get_close_matches(name, names, 4, 0.5) or [n for n in names if name and name in n][:4]
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise ValueError(f"there is no kernel {name!r} to trace: {hint}--list shows all")


def _normal(dtype, *shape, scale=1.0):
    """Normal numbers on the device, the same in every run of an example."""
    return _array(scale * _draws.standard_normal(shape), dtype)


def _array(values, dtype):
    return cupy.asarray(np.asarray(values).astype(dtype))


def _kernel(op):
    return lookup("cuda", op)


def _with_backward(op, arrays, needs=None, g=None, **params):
    """(forward alone, forward and backward) of an op over arrays(dtype)."""

    def forward(dtype):
        return _kernel(op).forward(*arrays(dtype), **params)

    def backward(dtype):
        given = arrays(dtype)
        out, saved = _kernel(op).forward(*given, **params)
        coming = _normal(out.dtype, *out.shape) if g is None else _array(g, out.dtype)
        wanted = needs or (True,) * len(given)
        return _kernel(op).backward(coming, saved, wanted, (None,) * len(given), **params)

    return forward, backward


def _adamw(dtype):
    n, half = 300, dtype != float32
    param, grad = _normal(dtype, n), _normal(dtype, n, scale=0.1)
    m, v = _array(np.zeros(n), float32), _array(np.zeros(n), float32)
    master = param.astype(float32) if half else None
    _kernel("adamw").step(
        param, grad, m, v, lr=0.01, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1, bias_correction1=0.1,
        bias_correction2=0.05, master=master,
    )  # fmt: skip


def _gemm(dtype):
    from ...product import matmul

    matmul(_normal(dtype, 16, 32), _normal(dtype, 8, 32).T, use_own=True)


def _row_product(dtype):
    from ...product import matmul

    matmul(_normal(dtype, 1, 96), _normal(dtype, 4, 96).T)


def _column_sums(dtype):
    from ...column_sums import column_sums

    column_sums(_normal(dtype, 40, 40), _array(np.zeros(40), dtype))


def _scatter(dtype):
    indices = cupy.asarray(np.array([2, 0, 2, 2, 1, 0], np.int64))
    _kernel("scatter_add_rows").scatter_add_rows(_array(np.zeros((3, 16)), dtype), indices, _normal(dtype, 6, 16))


def _scatter_one_row(dtype):
    indices = cupy.asarray(np.full(130, 1, np.int64))
    _kernel("scatter_add_rows").scatter_add_rows(_array(np.zeros((3, 16)), dtype), indices, _normal(dtype, 130, 16))


def _decode(dtype):
    cache = [_normal(dtype, 1, 1, 160, 32) for _ in range(2)]
    position = cupy.asarray(np.array([140], np.int64))
    row = _normal(dtype, 1, 1, 3 * 32)
    _kernel("attention_decode").attend(row, *cache, position, heads=1, window=None, scale=32**-0.5)


def _sum_of_squares(dtype):
    _kernel("adamw").sum_of_squares_into(_normal(dtype, 600), cupy.zeros((), np.float64))


def _scale(dtype):
    x = _normal(dtype, 300)
    _kernel("scale").scale_into(x, _array(0.5, float32), x)


def _clip(dtype):
    from ...clip import norm_and_coefficient

    norm_and_coefficient([_normal(dtype, 300)], _array(1.0, float32), 1.0)


def _linear_cross_entropy(dtype):
    h, weight = _normal(dtype, 3, 16), _normal(dtype, 600, 16)
    _kernel("linear_cross_entropy").forward(h, weight, cupy.asarray(np.array([5, 0, 599])), ignore_index=-100)


_rows = lambda dtype: (_normal(dtype, 3, 96),)
_norm, _norm_back = _with_backward(
    "layer_norm", lambda t: (_normal(t, 3, 96), _normal(t, 96), _normal(t, 96)), eps=1e-5
)
_rms, _ = _with_backward("rms_norm", lambda t: (_normal(t, 3, 96), _normal(t, 96)), eps=1e-5)
_softmax, _softmax_back = _with_backward("softmax", _rows)
_long_softmax, _ = _with_backward("softmax", lambda t: (_normal(t, 1, 2048),))
_gelu, _gelu_back = _with_backward("gelu", _rows, approximate="none")
_bias_gelu, _bias_gelu_back = _with_backward(
    "bias_gelu", lambda t: (_normal(t, 8, 96), _normal(t, 96)), approximate="tanh"
)
_swiglu, _swiglu_back = _with_backward("swiglu", lambda t: (_normal(t, 4, 96),))
_loss, _loss_back = _with_backward(
    "cross_entropy", lambda t: (_normal(t, 2, 600), cupy.asarray(np.array([7, 599]))), (True, False), 1.0,
    ignore_index=-100, label_smoothing=0.0,
)  # fmt: skip
_heads = lambda t: (_normal(t, 1, 1, 48, 32), _normal(t, 1, 1, 48, 32), _normal(t, 1, 1, 48, 32, scale=0.5))
_attention, _attention_back = _with_backward("attention", _heads, causal=True, window=None, scale=32**-0.5)
_dropout, _ = _with_backward("dropout", lambda t: (_normal(t, 2, 2048),), p=0.25, key=1, offset=0)
_rotary, _ = _with_backward(
    "rotary", lambda t: (_normal(t, 1, 4, 64),), heads=2, size=16, start=0, base=10000.0, turn=1
)
_HALF = dict(dtype="bfloat16", dtypes=("bfloat16", "float16"))
_FLOAT = dict(dtypes=("float32",))

EXAMPLES = (
    Example("gelu_forward", "gelu_forward", "element by element, 16 bytes a thread: begin here", _gelu),
    Example("gelu_backward", "gelu_backward", "its gradient", _gelu_back),
    Example("layer_norm_forward", "norm_forward", "a row in a warp's registers, sums by shuffles", _norm),
    Example("layer_norm_backward", "norm_backward", "sums along a row, and over rows by shared memory", _norm_back),
    Example("rms_norm_forward", "norm_forward", "layer_norm without the mean", _rms),
    Example("softmax_forward", "softmax_forward", "a maximum and a sum by shuffles", _softmax),
    Example("softmax_long_row", "softmax_forward", "a row for a block: its warps meet in shared memory", _long_softmax),
    Example("softmax_backward", "softmax_backward", "one sum by shuffles", _softmax_back),
    Example("cross_entropy_forward", "cross_entropy_forward", "the maximum and the sum in one pass", _loss),
    Example("cross_entropy_backward", "cross_entropy_backward", "softmax less one-hot", _loss_back),
    Example("cross_entropy_in_place", "cross_entropy_in_place", "logits that become their gradient",
            _linear_cross_entropy),
    Example("count_targets", "count_targets", "what counts for the loss, added up by one block", _loss),
    Example("mean_loss", "mean_loss", "the rows' losses, added up in float64", _loss),
    Example("bias_gelu_forward", "bias_gelu_forward", "gelu(x + bias), a strip of columns a warp", _bias_gelu),
    Example("bias_gelu_backward", "bias_gelu_backward", "a gradient and the bias's column sums", _bias_gelu_back),
    Example("swiglu_forward", "swiglu_forward", "two halves of a row", _swiglu),
    Example("swiglu_backward", "swiglu_backward", "its gradient", _swiglu_back),
    Example("dropout", "dropout", "a mask from a counter, never stored", _dropout),
    Example("rotary", "rotary", "pairs turned by an angle from a table", _rotary),
    Example("column_sums", "sum_chunks", "warps' partial sums, added up in shared memory", _column_sums),
    Example("sum_partials", "sum_partials", "what the blocks of column_sums left, added up", _column_sums),
    Example("count_digits", "count_digits", "a histogram in shared memory, by whole numbers' atomics", _scatter),
    Example("place_entries", "place_entries", "one pass of a stable sort: votes, and a scan by shuffles", _scatter),
    Example("scatter_add_rows", "add_runs", "rows added by index, without atomics", _scatter),
    Example("add_pieces", "add_pieces", "a frequent row's pieces, added up", _scatter_one_row),
    Example("adamw", "adamw_step", "four arrays updated in one pass", _adamw),
    Example("sum_of_squares", "square_partials", "a gradient's norm, in float64", _sum_of_squares),
    Example("add_partials", "add_partials", "its blocks' sums, by one block", _sum_of_squares),
    Example("clip_coefficient", "clip_coefficient", "what clips a gradient: one thread's work", _clip),
    Example("scale_into", "scale_into", "a flat array times a number that lies on the device", _scale),
    Example("gemm", "gemm", "cp.async, ldmatrix and mma: a small product on tensor cores", _gemm, dtype="bfloat16"),
    Example("row_product", "row_product", "a dot product a warp, added up by shuffles", _row_product),
    Example("attention_forward", "attention_forward", "FlashAttention-2 on tensor cores", _attention, **_HALF),
    Example("attention_backward_keys", "attention_backward_keys", "gradients of keys and values", _attention_back,
            **_HALF),
    Example("attention_backward_queries", "attention_backward_queries", "gradients of queries", _attention_back,
            **_HALF),
    Example("attention_decode", "attention_decode", "one query over a cache: its second chunk of keys", _decode),
    Example("attention_combine", "attention_combine", "what the chunks of attention_decode left, joined", _decode),
    Example("attention_float", "attention_float_forward", "attention without tensor cores", _attention, **_FLOAT),
    Example("attention_float_delta", "attention_float_delta", "g times out, a row a warp: what backward begins with",
            _attention_back, **_FLOAT),
    Example("attention_float_backward_keys", "attention_float_backward_keys", "gradients of keys and values",
            _attention_back, **_FLOAT),
    Example("attention_float_backward_queries", "attention_float_backward_queries", "gradients of queries",
            _attention_back, **_FLOAT),
)  # fmt: skip


def run(example: Example, dtype: str):
    """Launch an example with elements of a type, in the emulator, whatever stood behind device "cuda" before.

    Raises ValueError for a type that the kernel does not have.
    """
    if dtype not in example.dtypes:
        raise ValueError(f"{example.name}: --dtype must be {' or '.join(example.dtypes)}, got {dtype!r}")
    global _draws
    _draws = np.random.default_rng(7)
    register_device(Device("cuda", Namespace(cupy, "cupy"), cupy.asnumpy))
    example.run(_TYPES[dtype])
