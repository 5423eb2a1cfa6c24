"""Linear layers and products of matrices on the GPU."""

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
    race_checks,
    rng,
    rounded,
    tolerance,
)

from tinygrad_lite.dtypes import bfloat16
from tinygrad_lite.kernels import lookup
from tinygrad_lite.kernels.cuda.emulator import count_accesses
from tinygrad_lite.kernels.cuda.launch import cupy
from tinygrad_lite.kernels.cuda.product import matmul

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
    # Two roundings, of the product and of the sum, each by half a unit in the last place of what it rounds.
    scale = max(np.abs(linear(*some)).max(initial=0) for some in (arrays, (*arrays[:2], None, None)))
    check_kernel(
        "linear", linear, arrays, dtype, terms=shape[-1] + 2, backward_terms=np.prod(shape) + outputs, scale=scale
    )


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


@TYPES
@pytest.mark.parametrize("use_own", [False, True])
def test_a_product_is_added_to_what_is_there(use_own, dtype):
    x, y, *given = operands(33, 40, 17, True, False, dtype)
    start = rounded(rng().standard_normal((33, 17)), dtype)
    out = device(start.astype(dtype))
    assert matmul(*given, out, accumulate=True, use_own=use_own) is out
    expected = start + x @ y
    size = np.abs(x @ y).max() + np.abs(start).max()
    np.testing.assert_allclose(host(out), expected, rtol=0, atol=tolerance(dtype, 40, size))


@pytest.mark.parametrize("use_own", [False, True])
def test_16_bit_products_add_up_in_float32(use_own):
    ones = device(np.ones((2, 1000), bfloat16))  # in bfloat16, 256 + 1 is 256
    np.testing.assert_array_equal(host(matmul(ones, ones.T, use_own=use_own)), 1000)
    np.testing.assert_array_equal(host(matmul(ones[:1], ones[:1].T, use_own=use_own)), 1000)


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
    with race_checks():
        matmul(*given, use_own=True)


@pytest.mark.slow
@pytest.mark.skipif(not EMULATED, reason="the emulator counts")
@LAYOUTS
def test_tensor_core_tiles_are_read_and_written_without_bank_conflicts(x_turned, y_turned):
    _, _, *given = operands(64, 64, 64, x_turned, y_turned, bfloat16)
    with count_accesses() as records:
        matmul(*given, use_own=True)
    shared = [r for r in records if r.memory == "shared"]
    assert shared and all(r.wavefronts == r.least_wavefronts for r in shared), shared


@pytest.mark.slow
@TYPES
@pytest.mark.parametrize("outputs", [32, 33])
def test_linear_has_no_races(outputs, dtype):
    kernel, ones = lookup("cuda", "linear"), cupy().asarray(np.ones((70, outputs), dtype))
    with race_checks():
        out, saved = kernel.forward(ones, ones[:outputs], ones[0], ones)
        kernel.backward(out, saved, (True,) * 4, (None,) * 4)
