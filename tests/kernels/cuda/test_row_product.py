"""A product of one row on the GPU: what a linear layer does for one token."""

import numpy as np
import pytest
from kernels.cuda.checks import TYPES, device, host, needs_cuda, on_every_schedule, race_checks, rng, rounded, tolerance

from tinygrad_lite.dtypes import HALF, bfloat16, float32
from tinygrad_lite.kernels import lookup
from tinygrad_lite.kernels.cuda import cublaslt, row_product
from tinygrad_lite.kernels.cuda.launch import cupy
from tinygrad_lite.kernels.cuda.product import matmul

pytestmark = needs_cuda


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def operands(n, k, dtype):
    """x (1, K), w (N, K), bias (N,), addend (1, N) in float64, as dtype holds them."""
    r = rng()
    return [rounded(r.standard_normal(shape), dtype) for shape in ((1, k), (n, k), (n,), (1, n))]


# A row that ends within a warp's first read, with it, in the middle of the second turn; of one, two, four, eight warps;
# outputs that fill the last block, or not.
SIZES = pytest.mark.parametrize(
    "n, k", [(1, 8), (9, 264), (8, 1024), (33, 1032), (5, 2064), (3, 4104), (2, 8200), (7, 16392)]
)


@TYPES
@SIZES
def test_row_product(n, k, dtype):
    x, w, bias, addend = operands(n, k, dtype)
    given = [device(a.astype(dtype)) for a in (x, w, bias, addend)]

    def run():
        alone, out = matmul(given[0], given[1].T), cupy().array(given[3])
        matmul(given[0], given[1].T, out, bias=given[2], accumulate=True)
        return alone, out

    for got, exact in zip(on_every_schedule(run), (x @ w.T, x @ w.T + bias + addend)):
        np.testing.assert_allclose(host(got), exact, rtol=0, atol=tolerance(dtype, k, np.abs(exact).max()))


@TYPES
@SIZES
def test_gelu_of_a_row(n, k, dtype):
    x, w, bias, _ = operands(n, k, dtype)
    w = rounded(w / np.sqrt(k), dtype)
    given, before = [device(a.astype(dtype)) for a in (x, w, bias)], cupy().empty((1, n), dtype=dtype)
    run = lambda: (before, matmul(given[0], given[1].T, bias=given[2], before_gelu=before))
    kept, out = on_every_schedule(run)
    exact = x @ w.T + bias
    np.testing.assert_allclose(host(kept), exact, rtol=0, atol=tolerance(dtype, k, np.abs(exact).max()))
    np.testing.assert_allclose(host(out), gelu(exact), rtol=0, atol=tolerance(dtype, k, 2 * np.abs(exact).max()))


@pytest.mark.parametrize("n", [27, 32])
@TYPES
def test_many_outputs_are_four_a_warp(n, dtype, monkeypatch):
    monkeypatch.setattr(row_product, "MANY", 27)
    x, w, bias, addend = operands(n, 264, dtype)
    given = [device(a.astype(dtype)) for a in (x, w, bias, addend)]
    (out,) = on_every_schedule(lambda: (matmul(given[0], given[1].T, bias=given[2], residual=given[3]),))
    exact = x @ w.T + bias + addend
    np.testing.assert_allclose(host(out), exact, rtol=0, atol=tolerance(dtype, 264, np.abs(exact).max()))

    before = cupy().empty((1, n), dtype=dtype)
    before, out = on_every_schedule(lambda: (before, matmul(given[0], given[1].T, before_gelu=before)))
    np.testing.assert_allclose(host(before), x @ w.T, rtol=0, atol=tolerance(dtype, 264, np.abs(exact).max()))
    np.testing.assert_allclose(host(out), gelu(x @ w.T), rtol=0, atol=tolerance(dtype, 264, np.abs(exact).max()))


@pytest.mark.parametrize("many", [9, 27])
@TYPES
def test_a_result_in_float32_is_not_rounded(many, dtype, monkeypatch):
    monkeypatch.setattr(row_product, "MANY", many)
    x, w, bias, addend = operands(9, 264, dtype)
    x_there, w_there = (device(a.astype(dtype)) for a in (x, w))
    bias_there, addend_there = (device(a.astype(float32)) for a in (bias, addend))

    def run():
        out = cupy().array(addend_there)
        return (matmul(x_there, w_there.T, out, bias=bias_there, accumulate=True),)

    (out,) = on_every_schedule(run)
    exact = x @ w.T + bias + addend
    np.testing.assert_allclose(host(out), exact, rtol=0, atol=tolerance(float32, 264, np.abs(exact).max()))


@pytest.mark.parametrize("dtype", [bfloat16, float32], ids=str)
def test_a_linear_layer_of_one_row_takes_it_and_of_two_or_of_rows_that_do_not_fit_the_librarys(dtype, monkeypatch):
    asked, real = [], cublaslt.matmul
    monkeypatch.setattr(cublaslt, "matmul", lambda *a, **kw: asked.append(a[1].shape) or real(*a, **kw))
    for rows, k in ((1, 16), (2, 16), (1, 15)):
        x, w = device(np.ones((1, rows, k), dtype)), device(np.ones((3, k), dtype))
        out, _ = lookup("cuda", "linear").forward(x, w, None, None)
        np.testing.assert_array_equal(host(out), np.full((1, rows, 3), k))
    assert asked == [(2, 16), (1, 15)]


@pytest.mark.parametrize("dtype", [bfloat16, float32], ids=str)
def test_rows_that_begin_anywhere_are_the_librarys(dtype):
    w, place = device(np.ones((3, 16), dtype)), device(np.arange(17).astype(dtype))
    np.testing.assert_array_equal(host(matmul(place[1:].reshape(1, 16), w.T)), np.full((1, 3), 136.0))


def test_nan_and_infinity_stay_in_their_outputs():
    w = np.zeros((5, 264), np.float32)
    w[1, 263], w[3, 0] = np.nan, np.inf
    out = host(matmul(device(np.ones((1, 264), np.float32)), device(w).T))[0]
    assert np.isnan(out[1]) and out[3] == np.inf and not out[[0, 2, 4]].any()


@pytest.mark.slow
@TYPES
@pytest.mark.parametrize("many", [9, 27])
def test_no_races(many, dtype, monkeypatch):
    monkeypatch.setattr(row_product, "MANY", many)
    with race_checks():
        for k in (264, 1032, 4104):
            x, w = device(np.ones((1, k), dtype)), device(np.ones((9, k), dtype))
            before = cupy().empty((1, 9), dtype=dtype)
            exact = np.full((1, 9), rounded(np.array(k, np.float64), dtype))
            np.testing.assert_array_equal(host(matmul(x, w.T, before_gelu=before)), exact)
            if dtype in HALF:
                np.testing.assert_array_equal(host(matmul(x, w.T, cupy().empty((1, 9), dtype=float32))), k)
