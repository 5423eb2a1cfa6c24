"""Linear layers and products of matrices on the GPU."""

import tracemalloc

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
    on_every_schedule,
    race_checks,
    rng,
    rounded,
    tolerance,
)

from tinygrad_lite.dtypes import bfloat16, float16, float32
from tinygrad_lite.kernels import lookup
from tinygrad_lite.kernels.cuda import cublaslt
from tinygrad_lite.kernels.cuda.emulator import count_accesses
from tinygrad_lite.kernels.cuda.launch import cupy
from tinygrad_lite.kernels.cuda.product import matmul, stacked

pytestmark = needs_cuda


def linear(x, weight, bias, residual):
    return x @ weight.T + (0 if bias is None else bias) + (0 if residual is None else residual)


@TYPES
@pytest.mark.parametrize("with_bias, with_residual", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("shape, outputs", [((1, 1), 1), ((2, 2, 31), 33), ((33, 16), 32), ((0, 3), 4), ((3, 5), 1040)])
def test_linear(shape, outputs, with_bias, with_residual, dtype):
    r = rng()
    arrays = (
        r.standard_normal(shape), r.standard_normal((outputs, shape[-1])),
        r.standard_normal(outputs) if with_bias else None,
        r.standard_normal((*shape[:-1], outputs)) if with_residual else None,
    )  # fmt: skip
    check_kernel("linear", linear, arrays, dtype, terms=shape[-1] + 2, backward_terms=np.prod(shape) + outputs)


@pytest.mark.parametrize("dtype", [bfloat16, float16], ids=str)
def test_a_bias_and_a_residual_are_added_before_the_one_rounding(dtype):
    r = rng()
    arrays = [rounded(r.standard_normal(shape), dtype) for shape in ((40, 48), (32, 48), (32,), (40, 32))]
    out, _ = lookup("cuda", "linear").forward(*(device(x.astype(dtype)) for x in arrays))
    exact = linear(*arrays)
    # Half a unit in the last place of each result, and a float32's error where the exact one lies in the middle.
    np.testing.assert_allclose(host(out), exact, rtol=EPS[dtype] / 2, atol=1e-5)


LAYOUTS = pytest.mark.parametrize("x_turned, y_turned", [(False, False), (False, True), (True, False), (True, True)])


def operands(m, k, n, x_turned, y_turned, dtype):
    """x (m, k) and y (k, n) in float64, as dtype holds them; the same on the device, transposed views where turned."""
    r = rng()
    x, y = (rounded(r.standard_normal(shape), dtype) for shape in ((m, k), (k, n)))
    on_device = [
        device(np.ascontiguousarray(a.T).astype(dtype)).T if turned else device(a.astype(dtype))
        for a, turned in ((x, x_turned), (y, y_turned))
    ]
    return x, y, *on_device


@TYPES
@LAYOUTS
@pytest.mark.parametrize("m, k, n", [(1, 1, 1), (31, 33, 32), (65, 64, 129), (16, 8, 24), (3, 0, 2), (0, 2, 3)])
def test_our_product_equals_the_librarys(m, k, n, x_turned, y_turned, dtype):
    x, y, *given = operands(m, k, n, x_turned, y_turned, dtype)
    exact, atol = x @ y, tolerance(dtype, k, np.abs(x @ y).max(initial=0))
    (ours,) = on_every_schedule(lambda: (matmul(*given, use_own=True),))
    theirs = matmul(*given)
    assert ours.dtype == theirs.dtype == dtype and ours.shape == theirs.shape == (m, n)
    np.testing.assert_allclose(host(ours), exact, rtol=0, atol=atol)
    np.testing.assert_allclose(host(theirs), exact, rtol=0, atol=atol)


@pytest.fixture(params=["cublaslt", "ours", "refused"])
def way(request, monkeypatch):
    """Who multiplies: cuBLASLt (or its stand-in), our kernel, or our kernel because cuBLASLt has no algorithm."""
    if request.param == "refused":
        monkeypatch.setattr(cublaslt.Plan, "_algorithms", lambda *given: [])
        monkeypatch.setattr(cublaslt, "_plans", {})
    return dict(use_own=request.param == "ours")


@TYPES
def test_a_product_is_added_to_what_is_there(way, dtype):
    x, y, *given = operands(33, 40, 17, True, False, dtype)
    start = rounded(rng().standard_normal((33, 17)), dtype)
    out = device(start.astype(dtype))
    assert matmul(*given, out, accumulate=True, **way) is out
    expected = start + x @ y
    np.testing.assert_allclose(host(out), expected, rtol=0, atol=tolerance(dtype, 40, np.abs(expected).max()))


@TYPES
@LAYOUTS
def test_a_product_of_16_bit_matrices_in_float32(x_turned, y_turned, way, dtype):
    x, y, *given = operands(33, 40, 17, x_turned, y_turned, dtype)

    def run():
        out = cupy().empty((33, 17), dtype=float32)
        return (matmul(*given, matmul(*given, out, **way), accumulate=True, **way),)

    (out,) = on_every_schedule(run)
    np.testing.assert_allclose(host(out), 2 * x @ y, rtol=0, atol=tolerance(float32, 80, 2 * np.abs(x @ y).max()))


@TYPES
@pytest.mark.parametrize("m, k, n", [(33, 40, 17), (5, 0, 3), (4, 3, 0), (1, 7, 1)])
def test_everything_that_is_added(m, k, n, way, dtype):
    r = rng()
    x, y, *given = operands(m, k, n, True, False, dtype)
    bias, residual = (rounded(r.standard_normal(shape), dtype) for shape in ((n,), (m, n)))
    added = dict(bias=device(bias.astype(dtype)), residual=device(residual.astype(dtype)))
    expected = x @ y + bias + residual
    atol = tolerance(dtype, k, np.abs(expected).max(initial=0))
    np.testing.assert_allclose(host(matmul(*given, **added, **way)), expected, rtol=0, atol=atol)

    out = added["residual"]
    matmul(*given, out, accumulate=True, **way)
    np.testing.assert_allclose(host(out), x @ y + residual, rtol=0, atol=atol)


@TYPES
@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("x_shape, y_shape", [
    ((2, 3, 33, 17), (2, 3, 17, 5)), ((3, 4, 8), (8, 16)), ((5, 8), (2, 8, 3)), ((2, 1, 3, 4), (3, 4, 2)),
    ((0, 2, 3), (0, 3, 2)), ((2, 3, 0), (2, 0, 4)), ((1, 7, 9), (1, 9, 1)), ((2, 3, 0), (0, 4)), ((1, 1, 5, 8), (2, 3, 8, 4)),
    ((0, 2, 3), (3, 4)), ((2, 3, 2, 8), (3, 8, 4)),
])  # fmt: skip
@LAYOUTS
def test_stacks_of_matrices(x_turned, y_turned, x_shape, y_shape, refused, dtype, monkeypatch):
    if refused:
        monkeypatch.setattr(cublaslt, "matmul", lambda *given, **named: False)
    r = rng()
    x, y = (rounded(r.standard_normal(shape), dtype) for shape in (x_shape, y_shape))
    a, b = (
        device(np.ascontiguousarray(z.swapaxes(-1, -2)).astype(dtype)).swapaxes(-1, -2) if turned
        else device(z.astype(dtype)) for z, turned in ((x, x_turned), (y, y_turned))
    )  # fmt: skip
    out = stacked(a, b)
    assert out.dtype == dtype and out.shape == (x @ y).shape
    atol = tolerance(dtype, x_shape[-1], np.abs(x @ y).max(initial=0))
    np.testing.assert_allclose(host(out), x @ y, rtol=0, atol=atol)


ONE_FOR_ALL = {
    "two axes": lambda x: x, "of a stack": lambda x: x[None], "stretched": lambda x: cupy().broadcast_to(x, (2, 8, *x.shape)),
    "stretched and of a stack": lambda x: cupy().broadcast_to(x, (8, *x.shape))[None],
}  # fmt: skip


@pytest.mark.skipif(not EMULATED, reason="device memory as NumPy's")
@pytest.mark.parametrize("shape", ONE_FOR_ALL)
@pytest.mark.parametrize("which", ["x", "y", "both"])
@LAYOUTS
def test_one_matrix_for_a_whole_stack_is_not_copied(x_turned, y_turned, which, shape, monkeypatch):
    x, y, a, b = operands(16, 64, 32, x_turned, y_turned, bfloat16)
    give, products, real = ONE_FOR_ALL[shape], [], cublaslt.matmul

    def spy(out, *given, **named):
        products.append(tracemalloc.get_traced_memory()[1] - held - out.nbytes)
        return real(out, *given, **named)

    def many(z, turned):
        stack = np.broadcast_to(np.swapaxes(z, 0, 1) if turned else z, (2, 8, *(z.T if turned else z).shape))
        return device(np.ascontiguousarray(stack).astype(bfloat16)).swapaxes(-2, -1 if turned else -2)

    a = many(x, x_turned) if which == "y" else give(a)
    b = many(y, y_turned) if which == "x" else give(b)
    monkeypatch.setattr(cublaslt, "matmul", spy)
    tracemalloc.start()
    try:
        held = tracemalloc.get_traced_memory()[0]
        out = stacked(a, b)
    finally:
        tracemalloc.stop()
    expected = np.broadcast_to(x @ y, out.shape)
    np.testing.assert_allclose(host(out), expected, rtol=0, atol=tolerance(bfloat16, 64, np.abs(expected).max()))
    assert len(products) == 1 and products[0] < 2 * 8 * min(x.size, y.size)  # bytes: half of either's copies


@pytest.mark.parametrize("use_own", [False, True])
def test_16_bit_products_add_up_in_float32(use_own):
    ones = device(np.ones((2, 1000), bfloat16))  # in bfloat16, 256 + 1 is 256
    np.testing.assert_array_equal(host(matmul(ones, ones.T, use_own=use_own)), 1000)
    np.testing.assert_array_equal(host(matmul(ones[:1], ones[:1].T, use_own=use_own)), 1000)


def test_shapes_that_do_not_fit_are_said():
    x, y, out = (cupy().zeros(shape, dtype=float32) for shape in ((2, 3), (4, 5), (2, 5)))
    with pytest.raises(ValueError, match=r"x \(M, K\), y \(K, N\), out \(M, N\), got \(2, 3\), \(4, 5\), \(2, 5\)"):
        matmul(x, y, out)
    with pytest.raises(ValueError, match=r"got \(2, 3\), \(3, 2\), \(2, 5\)"):
        matmul(x, x.T, out)


def test_rows_that_begin_anywhere():
    x, y, _, _ = operands(5, 24, 9, False, False, bfloat16)
    padded = device(np.concatenate([[0.0], x.ravel()]).astype(bfloat16))
    ours = matmul(padded[1:].reshape(5, 24), device(y.astype(bfloat16)), use_own=True)
    np.testing.assert_allclose(host(ours), x @ y, rtol=0, atol=tolerance(bfloat16, 24, np.abs(x @ y).max()))


def test_columns_of_a_wider_matrix_are_copied():
    x, y, _, on_device = operands(5, 24, 9, False, False, bfloat16)
    wide = device(np.concatenate([x, x], axis=1).astype(bfloat16))
    ours = matmul(wide[:, 24:], on_device, use_own=True)
    np.testing.assert_allclose(host(ours), x @ y, rtol=0, atol=tolerance(bfloat16, 24, np.abs(x @ y).max()))


@pytest.mark.slow
@TYPES
@LAYOUTS
@pytest.mark.parametrize("m, k, n", [(65, 72, 64), (33, 31, 65)])
def test_our_product_has_no_races(m, k, n, x_turned, y_turned, dtype):
    _, _, *given = operands(m, k, n, x_turned, y_turned, dtype)
    bias, out = device(np.ones(n, dtype)), device(np.ones((m, n), dtype))
    with race_checks():
        matmul(*given, out, bias=bias, accumulate=True, use_own=True)


@pytest.mark.slow
@pytest.mark.skipif(not EMULATED, reason="the emulator counts")
@LAYOUTS
def test_tensor_core_tiles_are_read_and_written_without_bank_conflicts(x_turned, y_turned):
    _, _, *given = operands(64, 64, 64, x_turned, y_turned, bfloat16)
    with count_accesses() as records:
        matmul(*given, use_own=True)
    shared = [r for r in records if r.memory == "shared"]
    assert shared and all(r.wavefronts == r.least_wavefronts for r in shared), shared
