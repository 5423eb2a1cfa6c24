"""Kernels where numbers are hard: huge and hidden logits, NaN, denormals, no rows; the error of exp and GELU in ulp.

Kernels are held to their twins and to PyTorch through the public functions, forward and backward.
"""

import math

import numpy as np
import pytest

import tinygrad_lite as tgl
from tinygrad_lite import functional as F
from tinygrad_lite.config import settings
from tinygrad_lite.kernels.cpu.elementary import exp, normal_tail
from tinygrad_lite.kernels.cpu.gelu_formulas import gelu_erf, gelu_tanh
from tinygrad_lite.native.compile import jit, vectorise
from tinygrad_lite.threads import parallel_for

both = pytest.mark.parametrize("dtype", ["float32", "float64"])
INF = float("inf")


def row(name, n=33):
    """A row of logits of the named kind."""
    x = np.random.default_rng(3).standard_normal(n)
    if name == "one hidden":
        x[5] = -INF
    elif name == "half hidden":
        x[::2] = -INF
    return {
        "large": 1e4 * x, "one large": np.where(np.arange(n) == 3, 1e4, x), "all -1e4": np.full(n, -1e4),
        "all 1e30": np.full(n, 1e30), "all hidden": np.full(n, -INF), "one infinite": np.where(np.arange(n) == 3, INF, x),
        "one nan": np.where(np.arange(n) == 3, np.nan, x), "denormal": np.full(n, 1e-40), "zero": np.zeros(n),
        "tiny": 1e-20 * x, "one hidden": x, "half hidden": x,
    }[name]  # fmt: skip


KINDS = ["large", "one large", "all -1e4", "all 1e30", "one hidden", "half hidden", "all hidden", "one infinite",
         "one nan", "denormal", "zero", "tiny"]  # fmt: skip


def results(function, arrays, dtype, fused):
    """Value and gradients of function(*Tensors), on the kernel or on its twin."""
    before, settings.use_fused = settings.use_fused, fused
    try:
        xs = [tgl.tensor(a.astype(dtype), requires_grad=True) if a.dtype.kind == "f" else tgl.tensor(a) for a in arrays]
        with np.errstate(all="ignore"):
            out = function(*xs)
            out.backward(tgl.tensor(np.random.default_rng(4).standard_normal(out.shape).astype(dtype)))
        return [out.numpy(), *(x.grad.numpy() for x in xs if x.requires_grad)]
    finally:
        settings.use_fused = before


def agree(function, arrays, dtype, torch_function=None, passed_over=None):
    """Kernel, twin and PyTorch give the same, NaN and infinities in the same places; one result may be passed over."""
    kernel, others = results(function, arrays, dtype, True), [results(function, arrays, dtype, False)]
    if torch_function is not None:
        torch = pytest.importorskip("torch")
        xs = [torch.tensor(a.astype(dtype) if a.dtype.kind == "f" else a) for a in arrays]
        for x in xs:
            x.requires_grad_(x.is_floating_point())
        out = torch_function(*xs)
        out.backward(torch.tensor(np.random.default_rng(4).standard_normal(tuple(out.shape)).astype(dtype)))
        others.append([out.detach().numpy(), *(x.grad.numpy() for x in xs if x.requires_grad)])
    eps = np.finfo(dtype).eps
    for other in others:
        for i, (a, b) in enumerate(zip(kernel, other, strict=True)):
            if i != passed_over:
                np.testing.assert_allclose(a, b, rtol=64 * eps, atol=64 * eps)


@both
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmaxes(name, kind, dtype):
    torch = pytest.importorskip("torch")
    agree(lambda x: getattr(F, name)(x), [row(kind)[None]], dtype, lambda x: getattr(torch, name)(x, -1))


@both
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_cross_entropy(label_smoothing, kind, dtype):
    torch = pytest.importorskip("torch")
    options, arrays = dict(label_smoothing=label_smoothing), [row(kind)[None], np.array([7])]
    agree(
        lambda x, t: F.cross_entropy(x, t, **options), arrays, dtype,
        lambda x, t: torch.nn.functional.cross_entropy(x, t, **options),
    )  # fmt: skip


@both
@pytest.mark.parametrize("kind", ["large", "one large", "all -1e4", "all 1e30", "one nan", "zero", "tiny"])
def test_linear_cross_entropy(kind, dtype):
    torch = pytest.importorskip("torch")
    arrays = [np.ones((1, 1)), row(kind)[:, None], np.array([7])]  # the weight's rows are the logits
    # The gradient of h is a sum of the logits' own values that cancels to nothing: rounding in all three.
    agree(
        F.linear_cross_entropy, arrays, dtype, lambda h, w, t: torch.nn.functional.cross_entropy(h @ w.T, t),
        passed_over=1,
    )  # fmt: skip


@both
@pytest.mark.parametrize("kind", ["large", "one large", "all 1e30", "one nan", "denormal", "zero", "tiny"])
def test_rms_norm_also_where_squares_overflow(kind, dtype):
    torch = pytest.importorskip("torch")
    agree(
        lambda x, w: F.rms_norm(x, w, 1e-6), [row(kind)[None], row("tiny") * 1e20], dtype,
        lambda x, w: torch.nn.functional.rms_norm(x, (33,), w, 1e-6),
    )  # fmt: skip


@both
@pytest.mark.parametrize("shape", [(0, 6), (2, 0, 6)])
def test_no_rows(shape, dtype):
    c, x = shape[-1], np.zeros(shape)
    weight, bias, none = np.ones(c), np.ones(c), np.zeros(shape[:-1], np.int64)
    for function, arrays in [
        (F.softmax, [x]), (F.log_softmax, [x]), (F.gelu, [x]), (F.swiglu, [x]), (F.bias_gelu, [x, bias]),
        (lambda x, w, b: F.layer_norm(x, w, b), [x, weight, bias]), (F.rms_norm, [x, weight]),
        (F.linear, [x, np.ones((4, c)), np.ones(4)]),
        (F.linear_cross_entropy, [x, np.ones((7, c)), none]),
    ]:  # fmt: skip
        for a, b in zip(results(function, arrays, dtype, True), results(function, arrays, dtype, False), strict=True):
            assert a.shape == b.shape and np.array_equal(a, b, equal_nan=True)


@both
def test_norms_of_rows_without_elements(dtype):
    x, empty = np.zeros((3, 0)), np.zeros(0)
    for function, arrays in [(lambda x, w, b: F.layer_norm(x, w, b), [x, empty, empty]), (F.rms_norm, [x, empty])]:
        for fused in (True, False):
            assert [a.shape for a in results(function, arrays, dtype, fused)[:2]] == [(3, 0), (3, 0)]


@jit("i i r1 w1")
def _exp(start, stop, x, out):
    vectorise()
    for i in range(start, stop):
        out[i] = exp(x[i])


@jit("i i r1 w1")
def _tail(start, stop, x, out):
    vectorise()
    for i in range(start, stop):
        out[i] = normal_tail(x[i], exp(x.dtype.type(-0.5) * x[i] * x[i]))


@jit("i i r1 w1 w1")
def _gelu_erf(start, stop, x, value, slope):
    vectorise()
    for i in range(start, stop):
        value[i], slope[i] = gelu_erf(x[i], x.dtype.type)


@jit("i i r1 w1 w1")
def _gelu_tanh(start, stop, x, value, slope):
    vectorise()
    for i in range(start, stop):
        value[i], slope[i] = gelu_tanh(x[i], x.dtype.type)


def floats(low, high):
    """Every 4,001st float32 between two positive ones."""
    ends = np.array([low, high], np.float32).view(np.int32)
    return np.arange(*ends, 4001, dtype=np.int32).view(np.float32)


def run(kernel, x, outputs=1):
    out = [np.empty_like(x) for _ in range(outputs)]
    parallel_for(kernel[x.dtype], x.size, x.size, x, *out)
    return out


def ulps(got, exact):
    return np.max(np.abs(got - exact) / np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64))


def test_exp_is_within_the_ulps_it_states():
    x = floats(1e-38, 88.7228)
    x = np.concatenate([x, -x[x < 87.3]])
    assert ulps(run(_exp, x)[0], np.exp(x.astype(np.float64))) < 1.23
    ends = np.array([-87.34, -INF, 88.73, INF, np.nan, 0.0, -0.0, 1e-45], np.float32)
    np.testing.assert_array_equal(run(_exp, ends)[0], np.array([0, 0, INF, INF, np.nan, 1, 1, 1], np.float32))


def test_the_normal_tail_is_within_the_ulps_it_states():
    erfc = np.vectorize(math.erfc, otypes=[float])
    for high, bound in ((3.0, 7.3), (12.9, 66.5)):
        x = floats(1e-6, high)
        assert ulps(run(_tail, x)[0], 0.5 * erfc(x.astype(np.float64) / math.sqrt(2))) < bound


def exact_erf(x):
    below = 0.5 * np.vectorize(math.erfc, otypes=[float])(-x / math.sqrt(2))
    return x * below, below + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def exact_tanh(x):
    c = math.sqrt(2 / math.pi)
    s = 1 / (1 + np.exp(-2 * c * (x + 0.044715 * x**3)))
    return x * s, s + x * s * (1 - s) * 2 * c * (1 + 3 * 0.044715 * x * x)


@pytest.mark.parametrize("kernel, exact, bounds", [
    (_gelu_erf, exact_erf, {(1, 50): 7, (-1, 5): 13, (-1, 12.9): 65.5}),
    (_gelu_tanh, exact_tanh, {(1, 50): 3, (-1, 1): 4, (-1, 5): 39}),
])  # fmt: skip
def test_gelu_is_within_the_errors_it_states(kernel, exact, bounds):
    for (sign, high), bound in bounds.items():
        x = sign * floats(1e-6, high)
        value, slope = run(kernel, x, 2)
        exact_value, exact_slope = exact(x.astype(np.float64))
        assert ulps(value, exact_value) < bound
        assert np.max(np.abs(slope - exact_slope)) < 2.3e-7


@both
def test_the_slope_of_swiglu_keeps_its_digits_where_the_sigmoid_is_near_one(dtype):
    a = np.concatenate([np.linspace(-100, 100, 2001), [-INF, INF, -1e30, 1e30]]).astype(dtype)
    x = np.stack([a, np.ones_like(a)], axis=1)
    (ga, gb) = results(F.swiglu, [x], dtype, True)[1].T
    with np.errstate(all="ignore"):
        e = np.exp(-a.astype(np.longdouble))
        s, rest = 1 / (1 + e), 1 / (1 + 1 / e)
        slope, silu = s + np.nan_to_num(a * s * rest), np.where(a == -INF, 0, a * s)
    g = np.random.default_rng(4).standard_normal((len(a), 1)).astype(dtype)[:, 0]
    np.testing.assert_allclose(ga / g, slope.astype(float), rtol=0, atol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(gb / g, silu.astype(float), rtol=16 * np.finfo(dtype).eps, atol=1e-30)
