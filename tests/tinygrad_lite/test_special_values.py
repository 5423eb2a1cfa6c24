"""NaN, infinities, zeros and long axes: the values and gradients are PyTorch's, or better and said so."""

import math
import tracemalloc

import numpy as np
import pytest

import tinygrad_lite as tgl

nan, inf = math.nan, math.inf
ROWS = np.array(
    [[1, nan, 3], [nan, nan, nan], [2, 2, 1], [inf, -inf, 0], [-inf, -inf, -inf], [inf, inf, 1], [0, 0, 0]], np.float32
)
LINE = np.array([nan, inf, -inf, 0.0, -0.0, 1.0, -1.0, 2.0, -3.5, 0.5, 1e-30, 88.0, -104.0], np.float32)
LEFT, RIGHT = (np.ascontiguousarray(grid.ravel()) for grid in np.meshgrid(LINE, LINE))


def outcome(module, fn, arrays):
    """Value and gradients of the sum."""
    xs = [module.tensor(a).requires_grad_() for a in arrays]
    out = fn(xs)
    out = out[0] if isinstance(out, tuple) else out
    out.sum().backward()
    return out.detach().numpy(), *(x.grad.numpy() for x in xs)


def equals_torch(fn, *arrays):
    torch = pytest.importorskip("torch")
    with np.errstate(all="ignore"):
        for mine, theirs in zip(outcome(tgl, fn, arrays), outcome(torch, fn, arrays), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=2e-6, atol=1e-7, equal_nan=True)


@pytest.mark.parametrize("name", ["max", "min", "sort", "cumsum", "sum", "mean", "softmax", "log_softmax", "logsumexp"])
@pytest.mark.parametrize("dim", [0, 1])
def test_rows_of_nan_and_infinities_equal_torch(name, dim):
    equals_torch(lambda xs: getattr(xs[0], name)(dim=dim), ROWS)


@pytest.mark.parametrize("name", ["max", "min"])
def test_nan_is_the_extreme_and_takes_the_gradient_alone(name):
    equals_torch(lambda xs: getattr(xs[0], name)(), ROWS)
    x = tgl.tensor([[1.0, nan, nan], [1.0, 2.0, 1.0]]).requires_grad_()
    getattr(x, f"a{name}")(dim=1).sum().backward()
    assert x.grad[0].tolist() == [0.0, 0.5, 0.5]  # PyTorch's amax sends NaN to the whole row


@pytest.mark.parametrize("name", ["maximum", "minimum", "mul", "div", "sub"])
def test_pairs_of_special_values_equal_torch(name):
    equals_torch(lambda xs: getattr(xs[0], name)(xs[1]), LEFT, RIGHT)


@pytest.mark.parametrize(
    "name", ["relu", "rsqrt", "sqrt", "exp", "log", "tanh", "sigmoid", "square", "reciprocal", "erf"]
)
def test_special_values_equal_torch(name):
    equals_torch(lambda xs: getattr(xs[0], name)(), LINE)


def test_remainder_by_infinity_has_the_gradient_of_its_floor():
    equals_torch(
        lambda xs: xs[0].remainder(xs[1]),
        np.array([-1.0, 1.0, -2.5], np.float32),
        np.array([inf, inf, 2.0], np.float32),
    )


@pytest.mark.parametrize("p", [0, 0.5, 1, 1.5, 2, 3, inf, -inf])
def test_norms_of_every_order_equal_torch(p):
    torch = pytest.importorskip("torch")
    values = np.array([[1.0, -2.0, 0.5], [3.0, 0.25, -0.75]])
    x, t = tgl.tensor(values).requires_grad_(), torch.tensor(values, requires_grad=True)
    mine, theirs = x.norm(p, 1, keepdim=True), t.norm(p, 1, keepdim=True)
    np.testing.assert_allclose(mine.detach().numpy(), theirs.detach().numpy(), rtol=1e-14)
    if p:
        mine.sum().backward()
        theirs.sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), t.grad.numpy(), rtol=1e-13)
    assert tgl.norm(x, p).item() == pytest.approx(t.norm(p).item(), rel=1e-14)


@pytest.mark.parametrize("p", [0.5, 1, 1.5, 2, 3, inf, -inf])
def test_gradient_of_a_norm_is_0_at_zero(p):
    x = tgl.zeros(2, 3).requires_grad_()
    with np.errstate(all="raise"):
        x.norm(p, dim=1).sum().backward()
    assert x.grad.tolist() == [[0.0] * 3] * 2


def test_product_with_a_nan_or_infinity_keeps_the_other_factors_gradients():
    for rows in (ROWS, np.array([[0.0, inf, 2.0], [nan, 0.0, 1.0]], np.float32)):
        equals_torch(lambda xs: xs[0].prod(dim=1), rows)


def test_long_products_with_a_zero_take_memory_in_proportion():
    n = 200_000  # n * n floats would be 160 GB
    x = tgl.ones(n)
    x[7] = 0.0
    x.requires_grad_().prod().backward()
    assert x.grad[7].item() == 1.0 and x.grad.sum().item() == 1.0
    y = tgl.ones(n).requires_grad_()
    y.cumprod(0).sum().backward()
    assert y.grad[0].item() == n and y.grad[-1].item() == 1.0


def test_inputs_that_are_not_numbers_stay_visible_in_the_gradient():
    x = tgl.tensor([nan, -1.0, 1.0]).requires_grad_()
    (x.relu() * x.detach()).sum().backward()
    assert math.isnan(x.grad[0].item()) and x.grad[1:].tolist() == [0.0, 1.0]


@pytest.mark.parametrize("zeros", [(), (2,), (0, 5), (1, 2, 6)])
def test_a_running_product_with_zeros_has_torchs_gradients(zeros):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    array, (w, v) = rng.standard_normal((3, 7)), rng.standard_normal((2, 3, 7))
    array[1, list(zeros)] = 0.0
    x, t = tgl.Tensor(array, requires_grad=True), torch.tensor(array, requires_grad=True)
    (g,) = tgl.grad((x.cumprod(1) * tgl.Tensor(w)).sum(), x, create_graph=True)
    (h,) = tgl.grad((g * tgl.Tensor(v)).sum(), x)
    (tg,) = torch.autograd.grad((t.cumprod(1) * torch.tensor(w)).sum(), t, create_graph=True)
    (th,) = torch.autograd.grad((tg * torch.tensor(v)).sum(), t)
    np.testing.assert_allclose(g.numpy(), tg.detach().numpy(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(h.numpy(), th.numpy(), rtol=1e-10, atol=1e-12)


def test_a_running_product_with_a_zero_takes_no_square_of_memory():
    array = np.ones(20_000)
    array[7] = 0.0
    y = tgl.Tensor(array, requires_grad=True).cumprod(0).sum()
    tracemalloc.start()
    y.backward()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * array.nbytes
