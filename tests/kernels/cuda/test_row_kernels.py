"""CUDA kernels over rows and elements: norms, softmax, activations."""

import math

import numpy as np
import pytest
from kernels.cuda.checks import (
    EMULATED,
    EPS,
    TYPES,
    check_kernel,
    device,
    host,
    needs_cuda,
    race_checks,
    rng,
    tolerance,
)
from kernels.test_extremes import KINDS, row
from kernels.test_row_kernels import SPECIAL, bias_gelu, gelu, layer_norm, rms_norm, softmax, swiglu

from tinygrad_lite.dtypes import float16, float32
from tinygrad_lite.kernels import lookup
from tinygrad_lite.kernels.cuda import row_kernels
from tinygrad_lite.kernels.cuda.launch import cupy

pytestmark = needs_cuda

# One element, rows of a warp in single elements and in vectors, several blocks of rows; rows of a block, and longer ones
# than its registers hold, by more than one turn.
ROWS = [(1, 1), (3, 31), (2, 2, 32), (9, 33), (70, 64)]
LONG = [(2, 1032), (2, 1025), *(pytest.param(s, marks=pytest.mark.slow) for s in ((2, 10248), (2, 4355)))]
WHOLE = [(9, 384), (9, 768)]  # three turns of a warp in float32, in 16 bits
shapes = pytest.mark.parametrize("shape", ROWS + LONG + WHOLE, ids=str)
PARAMS = {"layer_norm": {"eps": 1e-5}, "rms_norm": {"eps": 1e-5}, "gelu": {"approximate": "tanh"},
          "bias_gelu": {"approximate": "none"}, "softmax": {}, "log_softmax": {}, "swiglu": {}}  # fmt: skip
VECTORS = {"layer_norm": 2, "rms_norm": 1, "bias_gelu": 1}  # weight and bias, beside x
every_kernel = pytest.mark.parametrize("name, params", PARAMS.items(), ids=str)
approximations = pytest.mark.parametrize("approximate", ["none", "tanh"])


def log_softmax(x):
    return np.log(softmax(x))


@TYPES
@shapes
def test_layer_norm(shape, dtype):
    r, c = rng(), shape[-1]
    arrays = r.standard_normal(shape) + 0.5, r.standard_normal(c), r.standard_normal(c)
    check_kernel("layer_norm", layer_norm, arrays, dtype, terms=4 * c, backward_terms=4 * np.prod(shape), eps=1e-2)


@TYPES
@shapes
def test_rms_norm(shape, dtype):
    r, c = rng(), shape[-1]
    arrays = r.standard_normal(shape) + 0.5, r.standard_normal(c)
    check_kernel("rms_norm", rms_norm, arrays, dtype, terms=4 * c, backward_terms=4 * np.prod(shape), eps=1e-2)


@TYPES
@pytest.mark.parametrize("shape", ROWS + [(2, 1032), (2, 1025), (1, 20488), (1, 8706)], ids=str)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax(name, shape, dtype):
    formula = softmax if name == "softmax" else log_softmax
    check_kernel(name, formula, [3 * rng().standard_normal(shape)], dtype, terms=shape[-1])


@TYPES
@pytest.mark.parametrize("shape", [(), (1,), (3, 31), (2, 2, 32), (9, 257)], ids=str)
@approximations
def test_gelu(approximate, shape, dtype):
    check_kernel("gelu", gelu, [3 * rng().standard_normal(shape)], dtype, approximate=approximate)


@TYPES
@pytest.mark.parametrize("shape", [(1, 1), (3, 31), (2, 2, 32), (9, 33), (70, 264)], ids=str)
@approximations
def test_bias_gelu(approximate, shape, dtype):
    arrays = 3 * rng().standard_normal(shape), rng().standard_normal(shape[-1])
    terms = np.prod(shape[:-1])
    check_kernel("bias_gelu", bias_gelu, arrays, dtype, backward_terms=terms, approximate=approximate)


@TYPES
@pytest.mark.parametrize("shape", [(1, 1), (3, 31), (2, 2, 32), (9, 33), (70, 264)], ids=str)
def test_swiglu(shape, dtype):
    x = [2 * rng().standard_normal((*shape[:-1], 2 * shape[-1]))]
    check_kernel("swiglu", swiglu, x, dtype, terms=4)


def both_ways(name, x, g=None, dtype=float32, device_name="cuda", previous=None, **params):
    """[out, gradients] of a kernel for x, host arrays; g and what stands beside x are ones where they are not given.

    previous: what x's gradient is added to.
    """
    kernel, put = lookup(device_name, name), device if device_name == "cuda" else np.asarray
    x, ones = put(x.astype(dtype)), np.ones(x.shape[-1:], dtype)
    others = [put(ones)] * VECTORS.get(name, 0)
    out, saved = kernel.forward(x, *others, **(params or PARAMS[name]))
    g = put(np.ones(out.shape, dtype) if g is None else g.astype(dtype))
    n = 1 + len(others)
    onto = {} if previous is None else {"onto": (put(previous.astype(dtype)), *[None] * len(others))}
    return [out, *kernel.backward(g, saved, (True,) * n, (None,) * n, **onto, **(params or PARAMS[name]))]


@TYPES
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm", "bias_gelu"])
@pytest.mark.parametrize(
    "shape, blocks",
    [((70, 33), 3), ((70, 64), 3), ((7, 1032), 3), ((7, 8200), 3), ((300, 40), 99)]
    + [pytest.param((50, c), 3, marks=pytest.mark.slow) for c in (384, 768)],
)
def test_columns_are_summed_over_many_turns_of_rows_and_many_blocks(shape, blocks, name, dtype, monkeypatch):
    monkeypatch.setattr(row_kernels, "SUM_BLOCKS", blocks)
    x, r = rng().standard_normal(shape).astype(dtype), np.random.default_rng(8)
    g, before = (r.standard_normal(x.shape).astype(dtype) for _ in range(2))
    exact = both_ways(name, x.astype(float), g.astype(float), np.float64, "cpu")[1:]
    for previous in (None, before)[: 1 + len(lookup("cuda", name).ADDS)]:
        gx, *others = exact
        exact = [gx if previous is None else gx + previous.astype(float), *others]
        for got, expected in zip(both_ways(name, x, g, dtype, previous=previous)[1:], exact, strict=True):
            size = np.abs(expected).max()
            np.testing.assert_allclose(host(got), expected, rtol=0, atol=tolerance(dtype, 4 * x.size, size))


@TYPES
@every_kernel
def test_arrays_that_begin_anywhere(name, params, dtype):
    x = rng().standard_normal((3, 64)).astype(dtype)
    memory = device(np.concatenate([x[0, :1], x.ravel()]))
    kernel, others = lookup("cuda", name), [device(np.ones(64, dtype))] * VECTORS.get(name, 0)
    out, _ = kernel.forward(memory[1:].reshape(3, 64), *others, **params)
    aligned, _ = kernel.forward(device(x), *others, **params)
    size = np.abs(host(aligned)).max()
    np.testing.assert_allclose(host(out), host(aligned), rtol=0, atol=tolerance(dtype, 64, size))


@TYPES
@every_kernel
@pytest.mark.parametrize("shape", [(0, 6), (2, 0, 8)])
def test_no_rows(shape, name, params, dtype):
    out, gx, *others = both_ways(name, np.zeros(shape), dtype=dtype)
    assert gx.shape == shape and out.shape == ((*shape[:-1], shape[-1] // 2) if name == "swiglu" else shape)
    for gradient in others:
        np.testing.assert_array_equal(host(gradient), np.zeros(shape[-1]))


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_norms_of_rows_without_elements(name):
    assert [a.shape for a in both_ways(name, np.zeros((3, 0)))[:3]] == [(3, 0), (3, 0), (0,)]


@pytest.mark.parametrize("c", [64, 65])
def test_layer_norm_keeps_its_digits_when_the_mean_is_large(c):
    x = rng().standard_normal((4, c)).astype(float32) + np.float32(1000)
    out = both_ways("layer_norm", x)[0]
    np.testing.assert_allclose(host(out), layer_norm(x.astype(float), 1.0, 1.0, 1e-5), atol=1e-3)


@TYPES
@every_kernel
@pytest.mark.parametrize("c", [64, 1032, 1025])
def test_nan_comes_through_and_infinities_have_their_limits(c, name, params, dtype):
    x = np.zeros((3, c + c % 2 if name == "swiglu" else c))
    x[0, 5], x[1, 40] = np.nan, np.inf
    results = both_ways(name, x, dtype=dtype)
    out, gx = host(results[0]), host(results[1])
    touches_row = name not in ("gelu", "bias_gelu", "swiglu")
    assert np.isnan(out[0]).all() if touches_row else np.isnan(out[0, 5]) and np.isnan(out[0]).sum() == 1
    assert np.isnan(gx[0, 5]) and not np.isnan(out[2]).any() and not np.isnan(gx[2]).any()
    for got, expected in zip(results, both_ways(name, x, dtype=np.float64, device_name="cpu"), strict=True):
        np.testing.assert_array_equal(np.isnan(host(got)), np.isnan(expected))
        np.testing.assert_array_equal(np.isinf(host(got)), np.isinf(expected))


@TYPES
@approximations
def test_gelu_and_its_slope_at_infinity(approximate, dtype):
    out, slope = both_ways("gelu", np.array([np.inf, -np.inf]), dtype=dtype, approximate=approximate)
    np.testing.assert_array_equal(host(out), [np.inf, 0.0])
    np.testing.assert_array_equal(host(slope), [1.0, 0.0])


@TYPES
@pytest.mark.parametrize("n", [64, 65])
@pytest.mark.parametrize("kind", KINDS + ["first hidden"])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_of_hard_rows(name, kind, n, dtype):
    first_hidden = np.where(np.arange(n) < n // 2, -np.inf, 1.0)  # all that some threads see
    with np.errstate(over="ignore"):
        x = np.stack([first_hidden if kind == "first hidden" else row(kind, n), row("tiny", n)]).astype(dtype)
    g = rng().standard_normal(x.shape).astype(dtype)
    with np.errstate(all="ignore"):
        exact = both_ways(name, x.astype(float), g.astype(float), np.float64, "cpu")
    for got, expected in zip(both_ways(name, x, g, dtype), exact, strict=True):
        # log_softmax's backward takes exp of its rounded result y: an error of p |y| <= 1/e units, times sum(g)
        share = np.abs(g.astype(float).sum(-1, keepdims=True)) / math.e if name == "log_softmax" else 0
        atol = np.broadcast_to(tolerance(dtype, 64) * (1 + share), expected.shape)
        got = host(got)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
        with np.errstate(invalid="ignore"):
            off = np.abs(got - expected) > atol + tolerance(dtype, 64) * np.abs(expected)
        assert not off.any(), (got[off], expected[off])


def test_exp_inside_a_kernel_at_its_ends():
    x = np.zeros((len(SPECIAL), 2), float32)
    x[:, 0] = SPECIAL
    with np.errstate(invalid="ignore"):
        expected = softmax(x.astype(float))
    np.testing.assert_allclose(host(both_ways("softmax", x)[0]), expected, rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize("kind", ["large", "one large", "all 1e30", "one nan", "denormal", "zero", "tiny"])
def test_rms_norm_also_where_squares_overflow(kind):
    x = np.stack([row(kind), row("large")]).astype(float32)
    g = rng().standard_normal(x.shape).astype(float32)
    for got, expected in zip(both_ways("rms_norm", x, g), both_ways("rms_norm", x, g, device_name="cpu"), strict=True):
        np.testing.assert_allclose(host(got), expected, rtol=64 * 2.0**-23, atol=64 * 2.0**-23)


@TYPES
@approximations
def test_gelu_is_accurate_over_the_whole_range(approximate, dtype):
    x = np.linspace(-12, 12, 4097).astype(dtype).astype(float)
    if approximate == "none":
        below = 0.5 * np.array([math.erfc(-v / math.sqrt(2)) for v in x])
        slope = below + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    else:
        c = math.sqrt(2 / math.pi)
        below = 1 / (1 + np.exp(-2 * c * (x + 0.044715 * x**3)))
        slope = below + x * below * (1 - below) * 2 * c * (1 + 3 * 0.044715 * x * x)
    out, gx = (host(a) for a in both_ways("gelu", x, dtype=dtype, approximate=approximate))
    # relative, so that the tail counts: the exponent, 72 and more, itself is known to 4e-6 only
    smallest = 2.0**-24 if dtype == float16 else 1e-37
    np.testing.assert_allclose(out, x * below, rtol=tolerance(dtype) + 1e-5, atol=smallest)
    np.testing.assert_allclose(gx, slope, rtol=0, atol=4 * EPS[dtype])


def test_the_slope_of_swiglu_keeps_its_digits_where_the_sigmoid_is_near_one():
    a = np.concatenate([np.linspace(-100, 100, 2001), [-np.inf, np.inf, -1e30, 1e30]]).astype(float32)
    x = np.stack([a, np.ones_like(a)], axis=1)
    ga, gb = host(both_ways("swiglu", x)[1]).T
    with np.errstate(all="ignore"):
        e = np.exp(-a.astype(np.longdouble))
        s, rest = 1 / (1 + e), 1 / (1 + 1 / e)
        slope, silu = s + np.nan_to_num(a * s * rest), np.where(a == -np.inf, 0, a * s)
    np.testing.assert_allclose(ga, slope.astype(float), rtol=0, atol=4 * 2.0**-23)
    np.testing.assert_allclose(gb, silu.astype(float), rtol=16 * 2.0**-23, atol=1e-30)


@pytest.mark.skipif(not EMULATED, reason="the emulator lists launches")
@every_kernel
def test_one_launch_forward_and_one_backward_with_another_for_column_sums(name, params):
    launches = cupy().launches
    kernel, n = lookup("cuda", name), 1 + VECTORS.get(name, 0)
    x, others = device(np.ones((5, 64), float32)), [device(np.ones(64, float32))] * (n - 1)
    launches.clear()
    out, saved = kernel.forward(x, *others, **params)
    assert len(launches) == 1
    for needs in [(True,) * n, (True,) + (False,) * (n - 1), (False,) * n]:
        launches.clear()
        kernel.backward(out, saved, needs, (None,) * n, **params)
        assert len(launches) == any(needs) + any(needs[1:])


@pytest.mark.parametrize("launch", [row_kernels.strip_launch, row_kernels.strip_sum_launch])
def test_a_grid_is_no_higher_than_the_hardware_has_it(launch):
    for n in (1, 10**6, 2**31 - 1):
        (wide, high), _ = launch(n, device(np.ones((1, 64), float32)), True)
        assert wide == 1 and 1 <= high <= 65535


@pytest.mark.slow
@TYPES
@every_kernel
def test_no_races(name, params, dtype, monkeypatch):
    with race_checks():
        monkeypatch.setattr(row_kernels, "SUM_BLOCKS", 2)  # several rows for each warp
        for shape in [(37, 64), (35, 33), (5, 1032), (5, 1025 + (name == "swiglu"))]:
            x = rng().standard_normal(shape)
            both_ways(name, x, dtype=dtype, previous=x if lookup("cuda", name).ADDS else None)
