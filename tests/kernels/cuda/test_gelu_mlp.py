"""Two linear layers with gelu between, and the products that take gelu, or its slope, in passing."""

import numpy as np
import pytest
from kernels.cuda.checks import (
    EMULATED,
    TYPES,
    check_kernel,
    device,
    host,
    needs_cuda,
    on_every_schedule,
    rng,
    rounded,
    tolerance,
)
from kernels.test_row_kernels import gelu

from tinygrad_lite import Tensor, grad
from tinygrad_lite import functional as F
from tinygrad_lite.dtypes import bfloat16, float16, float32
from tinygrad_lite.kernels import lookup
from tinygrad_lite.kernels.cuda import cublaslt
from tinygrad_lite.kernels.cuda.launch import cupy
from tinygrad_lite.kernels.cuda.product import matmul

pytestmark = needs_cuda


def gelu_mlp(x, up, up_bias, down, down_bias, residual):
    hidden = gelu(x @ up.T + (0 if up_bias is None else up_bias), "tanh")
    return hidden @ down.T + (0 if down_bias is None else down_bias) + (0 if residual is None else residual)


def inputs(shape, hidden, outputs, with_biases=True, with_residual=True):
    """x, up, up_bias, down, down_bias, residual in float64."""
    r = rng()
    return (
        r.standard_normal(shape), r.standard_normal((hidden, shape[-1])) / np.sqrt(shape[-1]),
        r.standard_normal(hidden) if with_biases else None, r.standard_normal((outputs, hidden)) / np.sqrt(hidden),
        r.standard_normal(outputs) if with_biases else None,
        r.standard_normal((*shape[:-1], outputs)) if with_residual else None,
    )  # fmt: skip


def slope(x):
    """gelu's, by tanh."""
    x = Tensor(x).requires_grad_()
    return grad(x.gelu("tanh").sum(), x)[0].numpy()


@TYPES
@pytest.mark.parametrize("with_biases, with_residual", [(True, True), (False, False)])
@pytest.mark.parametrize("shape, hidden, outputs", [
    ((1, 1), 1, 1), ((2, 2, 31), 33, 7), ((0, 3), 4, 2), ((2, 9, 16), 64, 24),
])  # fmt: skip
def test_gelu_mlp(shape, hidden, outputs, with_biases, with_residual, dtype):
    arrays = inputs(shape, hidden, outputs, with_biases, with_residual)
    check_kernel("gelu_mlp", gelu_mlp, arrays, dtype, terms=shape[-1] + hidden, backward_terms=np.prod(shape) + hidden)


def test_second_derivatives_are_those_of_the_formula():
    values, found = inputs((3, 8), 16, 8), []
    for place, dtype in (("cpu", "float64"), ("cuda", "float32")):
        xs = [Tensor(x, dtype=dtype, device=place).requires_grad_() for x in values]
        out = F.gelu_mlp(*xs)
        assert (out.node.op.name == "gelu_mlp") == (place == "cuda")
        first = grad((out * out).sum(), xs, create_graph=True)
        second = grad(sum((g * g).sum() for g in first), xs)
        found.append([x.to("cpu").numpy().astype(np.float64) for x in second])
    for ours, exact in zip(*found[::-1]):
        np.testing.assert_allclose(ours, exact, rtol=0, atol=1e-5 * np.abs(exact).max())


def test_backward_keeps_the_wide_layer_before_gelu_and_after():
    given = [device(x.astype(bfloat16)) for x in inputs((2, 9, 16), 64, 24)]
    _, saved = lookup("cuda", "gelu_mlp").forward(*given)
    kept = [x for x in saved if not any(x is a for a in given)]
    assert [x.shape for x in kept] == [(2, 9, 64)] * 2 and {x.dtype for x in kept} == {np.dtype(bfloat16)}


@pytest.fixture(params=["cublaslt", "ours", "refused"])
def way(request, monkeypatch):
    """Who multiplies: cuBLASLt (or its stand-in), our kernel, or our kernel because cuBLASLt has no algorithm."""
    if request.param == "refused":
        monkeypatch.setattr(cublaslt.Plan, "_algorithms", lambda *given: [])
        monkeypatch.setattr(cublaslt, "_plans", {})
    return dict(use_own=request.param == "ours")


@TYPES
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("m, k, n", [(33, 40, 24), (5, 7, 9), (5, 0, 8), (0, 8, 8)])
def test_a_product_and_its_gelu(m, k, n, with_bias, way, dtype):
    r = rng()
    x, weight, bias = (rounded(r.standard_normal(shape), dtype) for shape in ((m, k), (n, k), (n,)))
    given = [device(a.astype(dtype)) for a in (x, weight, bias)]

    def run():
        before, out = (cupy().empty((m, n), dtype=dtype) for _ in range(2))
        named = dict(bias=given[2] if with_bias else None, before_gelu=before, **way)
        assert matmul(given[0], given[1].T, out, **named) is out
        return before, out

    before, out = on_every_schedule(run)
    exact = x @ weight.T + bias * with_bias
    atol = tolerance(dtype, k, np.abs(exact).max(initial=0))
    np.testing.assert_allclose(host(before), exact, rtol=0, atol=atol)
    np.testing.assert_allclose(host(out), gelu(exact, "tanh"), rtol=0, atol=atol)


@TYPES
@pytest.mark.parametrize("m, k, n", [(33, 40, 24), (5, 7, 9), (5, 0, 8), (0, 8, 8)])
def test_a_product_times_the_slope_of_gelu(m, k, n, way, dtype):
    r = rng()
    g, weight, at = (rounded(r.standard_normal(shape), dtype) for shape in ((m, k), (k, n), (m, n)))
    given = [device(a.astype(dtype)) for a in (g, weight, at)]
    (out,) = on_every_schedule(lambda: (matmul(*given[:2], slope_at=given[2], **way),))
    exact = (g @ weight) * slope(at)
    atol = tolerance(dtype, k, np.abs(g @ weight).max(initial=0))
    np.testing.assert_allclose(host(out), exact, rtol=0, atol=atol)
    np.testing.assert_array_equal(host(given[2]), at)


@pytest.mark.skipif(not EMULATED, reason="only the emulator keeps a list of launches")
@pytest.mark.parametrize("dtype, shape, skipped, fused", [
    (bfloat16, (9, 16), 0, True), (float16, (9, 16), 0, True),
    (float32, (9, 16), 0, False),  # where the library's tanh need not have all digits
    (bfloat16, (9, 12), 0, False), (bfloat16, (9, 16), 1, False),  # rows that are not of 16 bytes, or begin anywhere
])  # fmt: skip
def test_the_library_takes_gelu_where_16_bit_rows_fit_vectors(dtype, shape, skipped, fused):
    x, up, up_bias, down, down_bias, _ = (device(a.astype(dtype)) for a in inputs(shape, 32, 8))
    x = device(np.concatenate([np.zeros(skipped, dtype), host(x).ravel().astype(dtype)]))[skipped:].reshape(shape)
    kernel, launches = lookup("cuda", "gelu_mlp"), cupy().launches
    launches.clear()
    _, saved = kernel.forward(x, up, up_bias, down, down_bias, None)
    kernel.backward(device(np.ones((9, 8), dtype)), saved, (True,) * 5 + (False,), (None,) * 6)
    names = [name.partition("<")[0] for name in launches]
    assert names[: 2 if fused else 3] == (
        ["matmul + bias, gelu", "matmul + bias"] if fused else ["matmul + bias", "gelu_forward", "matmul + bias"]
    )
    # Of backward only the gradient of `up`'s result: its rows are those of `down` and fit.
    assert names.count("matmul, gelu's slope") == (dtype != float32)
    assert names.count("gelu_backward") == (dtype == float32)


def test_what_gelu_does_not_go_with_is_said():
    x, place = cupy().zeros((8, 8), dtype=bfloat16), cupy().zeros((8, 8), dtype=bfloat16)
    said = "matmul: before_gelu goes with a bias alone, slope_at with nothing"
    for named in (
        dict(before_gelu=place, residual=x),
        dict(slope_at=place, bias=x[0]),
        dict(slope_at=place, before_gelu=x),
    ):
        with pytest.raises(ValueError, match=said):
            matmul(x, x, **named)
    with pytest.raises(ValueError, match=said):
        matmul(x, x, cupy().zeros((8, 8), dtype=bfloat16), accumulate=True, before_gelu=place)
    with pytest.raises(ValueError, match=r"as the result, \(8, 8\) bfloat16, got \(4, 8\) bfloat16"):
        matmul(x, x, slope_at=place[:4])
    with pytest.raises(ValueError, match=r"as the result, .* got \(8, 8\) bfloat16 beside float32"):
        matmul(x, x, cupy().zeros((8, 8), dtype=float32), before_gelu=place)


def test_algorithms_are_tried_without_harm_to_what_gelu_reads_and_writes(monkeypatch, tmp_path):
    monkeypatch.setattr(cublaslt.nvrtc, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(cublaslt, "WORTH_TIMING", 1.0)
    monkeypatch.setattr(cublaslt, "_plans", {})
    proposed = cublaslt.Plan._algorithms
    monkeypatch.setattr(cublaslt.Plan, "_algorithms", lambda plan: proposed(plan)[:1] * 3)
    x, at = device(np.ones((16, 8), bfloat16)), device(np.full((16, 8), 0.5, bfloat16))
    y, before, out = device(np.ones((8, 8), bfloat16)), cupy().empty((16, 8), bfloat16), cupy().empty((16, 8), bfloat16)
    matmul(x, y, out, before_gelu=before)
    np.testing.assert_array_equal(host(before), 8)
    np.testing.assert_array_equal(host(out), 8)
    product = host(matmul(x, y, slope_at=at))
    np.testing.assert_allclose(product, 8 * slope(np.full((16, 8), 0.5)), rtol=2**-7)
    np.testing.assert_array_equal(host(at), 0.5)
