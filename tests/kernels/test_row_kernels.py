"""Kernels over rows and elements: norms, softmax, activations."""

import math

import numpy as np
import pytest
from kernels.checks import check_kernel, rng

from tinygrad_lite.kernels import lookup

SIZES = [(1, 1), (3, 31), (2, 2, 32), (31, 33), (600, 65)]
both = pytest.mark.parametrize("dtype", [np.float32, np.float64])
sizes = pytest.mark.parametrize("shape", SIZES)
erf = np.vectorize(math.erf, otypes=[float])


def layer_norm(x, weight, bias, eps):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * weight + bias


def rms_norm(x, weight, eps):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * weight


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def gelu(x, approximate):
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


def bias_gelu(x, bias, approximate):
    return gelu(x + bias, approximate)


def swiglu(x):
    a, b = np.split(x, 2, axis=-1)
    return a / (1 + np.exp(-a)) * b


def linear(x, weight, bias, residual):
    return x @ weight.T + (0 if bias is None else bias) + (0 if residual is None else residual)


@both
@sizes
def test_layer_norm(shape, dtype):
    r, c = rng(), shape[-1]
    arrays = r.standard_normal(shape) + 0.5, r.standard_normal(c), r.standard_normal(c)
    check_kernel(lookup("cpu", "layer_norm"), layer_norm, arrays, dtype, terms=4 * np.prod(shape), eps=1e-2)


def test_layer_norm_keeps_its_digits_when_the_mean_is_large():
    x = rng().standard_normal((4, 64)).astype(np.float32) + np.float32(1000)
    one, zero = np.ones(64, np.float32), np.zeros(64, np.float32)
    out, _ = lookup("cpu", "layer_norm").forward(x, one, zero, eps=1e-5)
    np.testing.assert_allclose(out, layer_norm(x.astype(float), 1.0, 0.0, 1e-5), atol=1e-3)


@both
@sizes
def test_rms_norm(shape, dtype):
    r = rng()
    arrays = r.standard_normal(shape) + 0.5, r.standard_normal(shape[-1])
    check_kernel(lookup("cpu", "rms_norm"), rms_norm, arrays, dtype, terms=4 * np.prod(shape), eps=1e-2)


@both
@sizes
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax(name, shape, dtype):
    formula = softmax if name == "softmax" else lambda x: np.log(softmax(x))
    check_kernel(lookup("cpu", name), formula, [3 * rng().standard_normal(shape)], dtype, terms=shape[-1])


@both
@sizes
@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu(approximate, shape, dtype):
    x = [3 * rng().standard_normal(shape)]
    check_kernel(lookup("cpu", "gelu"), gelu, x, dtype, terms=1, approximate=approximate)


@both
@sizes
@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_bias_gelu(approximate, shape, dtype):
    arrays = 3 * rng().standard_normal(shape), rng().standard_normal(shape[-1])
    rows = np.prod(shape[:-1])
    check_kernel(lookup("cpu", "bias_gelu"), bias_gelu, arrays, dtype, terms=rows, approximate=approximate)


@both
@sizes
def test_swiglu(shape, dtype):
    x = [2 * rng().standard_normal((*shape[:-1], 2 * shape[-1]))]
    check_kernel(lookup("cpu", "swiglu"), swiglu, x, dtype, terms=4)


@both
@sizes
@pytest.mark.parametrize("with_bias", [True, False])
def test_linear(with_bias, shape, dtype):
    r = rng()
    x, weight, bias = r.standard_normal(shape), r.standard_normal((33, shape[-1])), r.standard_normal(33)
    for residual in (None, r.standard_normal((*shape[:-1], 33))):
        arrays = x, weight, bias if with_bias else None, residual
        check_kernel(lookup("cpu", "linear"), linear, arrays, dtype, terms=np.prod(shape))


@pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 4097])
def test_gelu_is_accurate_over_the_whole_range(n):
    x = np.linspace(-12, 12, n, dtype=np.float32)
    exact = x.astype(float) * 0.5 * np.array([math.erfc(-v / math.sqrt(2)) for v in x.astype(float)])
    out, _ = lookup("cpu", "gelu").forward(x, approximate="none")
    # relative, so that the tail counts: x^2 / 2 = 72 itself is known to 4e-6 only
    np.testing.assert_allclose(out, exact, rtol=1e-5, atol=1e-37)


SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e30, 88.0, -88.0, 104.0, -104.0], np.float32)


@pytest.mark.parametrize("name, params", [
    ("gelu", {"approximate": "none"}), ("gelu", {"approximate": "tanh"}), ("swiglu", {}), ("softmax", {}),
    ("log_softmax", {}), ("layer_norm", {"eps": 1e-5}), ("rms_norm", {"eps": 1e-5}),
])  # fmt: skip
@both
def test_nan_comes_through_and_infinities_have_their_limits(name, params, dtype):
    kernel, x = lookup("cpu", name), np.zeros((3, 64), dtype)
    x[0, 5], x[1, 40] = np.nan, np.inf
    extra = {"layer_norm": 2, "rms_norm": 1}.get(name, 0)
    out, saved = kernel.forward(x, *[np.ones(64, dtype)] * extra, **params)
    grads = kernel.backward(np.ones_like(out), saved, (True,) * (1 + extra), (None,) * (1 + extra), **params)
    touches_row = name not in ("gelu", "swiglu")
    assert np.isnan(out[0]).all() if touches_row else np.isnan(out[0, 5]) and np.isnan(out[0]).sum() == 1
    assert np.isnan(grads[0][0, 5]) and not np.isnan(out[2]).any() and not np.isnan(grads[0][2]).any()
    if name == "gelu":
        limits, _ = kernel.forward(np.array([np.inf, -np.inf], dtype), **params)
        np.testing.assert_array_equal(limits, [np.inf, 0.0])
        (slopes,) = kernel.backward(
            np.ones(2, dtype), (np.array([np.inf, -np.inf], dtype),), (True,), (None,), **params
        )
        np.testing.assert_array_equal(slopes, [1.0, 0.0])


def test_exp_over_the_whole_range():
    """log_softmax's backward is g - exp(out) sum(g): with g = -1 at a hidden neighbour it is exp itself."""
    x = np.linspace(-90, 88.8, 300_000, dtype=np.float32)
    out = x.reshape(-1, 1)
    (gx,) = lookup("cpu", "log_softmax").backward(np.full_like(out, -1e-30), (out,), (True,), (None,))
    with np.errstate(over="ignore"):
        expected = np.exp(x.astype(np.float64)) * 1e-30 - 1e-30
    inside = (x > -60) & (x < 88.72)
    np.testing.assert_allclose(gx[inside, 0], expected[inside], rtol=3e-7, atol=2e-37)
    assert np.isinf(gx[x > 88.723]).all() and np.isfinite(gx[x < 88.72]).all()


def test_exp_inside_a_kernel_at_its_ends():
    x = np.zeros((len(SPECIAL), 2), np.float32)
    x[:, 0] = SPECIAL
    out, _ = lookup("cpu", "softmax").forward(x)
    with np.errstate(invalid="ignore"):
        expected = softmax(x.astype(np.float64))
    np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-37)
