"""A leaf's `.grad` is its own writable contiguous buffer, however the gradient arrived."""

import numpy as np
import pytest

import tinygrad_lite as tgl
from tinygrad_lite.tensor import functional


def leaf(*shape):
    return tgl.randn(*shape).requires_grad_()


def clip_in_place(*leaves):
    """What an optimiser does to gradients; returns them as they were."""
    before = [x.grad.numpy().copy() for x in leaves]
    for x in leaves:
        assert x.grad.data.flags.c_contiguous and x.grad.data.flags.writeable and x.grad.data.base is None
        assert x.grad.shape == x.shape and x.grad.dtype == x.dtype
        x.grad *= 0.5
    for x, b in zip(leaves, before, strict=True):
        np.testing.assert_array_equal(x.grad.numpy(), b * np.float32(0.5))
    return before


def test_sum_of_two_leaves_gives_each_its_own_buffer():
    x, y = leaf(3), leaf(3)
    (x + y).sum().backward()
    assert x.grad.data is not y.grad.data and not np.shares_memory(x.grad.data, y.grad.data)
    clip_in_place(x, y)


def test_gradient_of_sum_is_writable():
    x = leaf(2, 3)
    x.sum().backward()
    (before,) = clip_in_place(x)
    assert (before == 1).all()


def test_gradient_of_expand_and_transpose_is_contiguous():
    x, y = leaf(3, 1), leaf(2, 3)
    x.expand(3, 4).sum().backward()
    (y.T * tgl.randn(3, 2)).sum().backward()
    clip_in_place(x, y)


def test_gradient_given_by_the_user_is_copied():
    x = leaf(3)
    given = tgl.ones(3)
    (x + 0.0).backward(given)
    clip_in_place(x)
    assert (given.numpy() == 1).all()
    y = leaf(3)
    y.backward(given)
    clip_in_place(y)
    assert (given.numpy() == 1).all()


def test_tied_weights_receive_the_sum():
    w, x = leaf(3, 3), tgl.randn(2, 3)
    (x @ w).sum().backward()
    once = w.grad.numpy().copy()
    w.grad = None
    (x @ w + x @ w.T.T).sum().backward()
    np.testing.assert_allclose(w.grad.numpy(), 2 * once, rtol=1e-6)
    clip_in_place(w)


def test_embedding_and_slices_share_one_buffer():
    w = leaf(5, 2)
    ids = tgl.tensor([1, 1, 4])
    (functional.embedding(w, ids).sum() + w[1:3].sum() + w[[1, 1]].sum() + (w * 2.0).sum()).backward()
    (before,) = clip_in_place(w)
    assert before.tolist() == [[2, 2], [7, 7], [3, 3], [2, 2], [3, 3]]


def test_second_backward_adds_in_place():
    x = leaf(3)
    x.sum().backward()
    held = x.grad
    (x * 2.0).sum().backward()
    assert x.grad is held and (held.numpy() == 3).all()


def test_leaf_buffer_is_used_and_overwritten():
    x = leaf(3)
    flat = np.full(3, np.nan, np.float32)
    x.node.buffer = flat
    (x * 2.0).sum().backward()
    assert x.grad.data is flat and (flat == 2).all()
    x.sum().backward()
    assert (flat == 3).all()


def test_assigned_gradient_is_added_to_and_checked():
    x = leaf(2)
    x.grad = tgl.tensor([1.0, 2.0])
    x.sum().backward()
    assert x.grad.tolist() == [2.0, 3.0]
    with pytest.raises(ValueError, match="^grad: "):
        x.grad = tgl.ones(3)
    x.grad = tgl.ones(1).expand(2)  # a stride-0 view cannot be added to in place
    x.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_rules_run_on_read_only_gradients():
    x = leaf(2, 2)
    g = np.ones((2, 2), np.float32)
    g.flags.writeable = False
    seed = tgl.as_tensor(g)
    for f in (lambda: x + x, lambda: x * x, lambda: x[0:2] + x[[0, 1]], lambda: x.exp().tanh(), lambda: x @ x):
        f().backward(seed)
    assert np.isfinite(x.grad.numpy()).all() and (g == 1).all()


@pytest.mark.parametrize("dtype", [tgl.float16, tgl.bfloat16])
@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_half_precision_gradients_reach_an_optimisers_buffers_through_kernels(dtype, factor):
    from tinygrad_lite import functional as F
    from tinygrad_lite import optim

    rng = np.random.default_rng(0)
    values = [rng.standard_normal(shape).astype(np.float32) for shape in ((7, 4), (5, 4))]
    targets = tgl.tensor(rng.integers(0, 7, 5))
    weight, hidden = (tgl.tensor(x).to(dtype).requires_grad_() for x in values)
    optim.AdamW([weight, hidden], lr=0.1)
    (F.linear_cross_entropy(hidden, weight, targets) * factor).backward()
    exact = [tgl.tensor(x.float().numpy()).requires_grad_() for x in (weight, hidden)]
    (F.linear_cross_entropy(exact[1], exact[0], targets) * factor).backward()
    for found, wanted in zip((weight, hidden), exact):
        assert found.grad.dtype == dtype
        eps = 2.0**-10 if dtype == tgl.float16 else 2.0**-7
        np.testing.assert_allclose(
            found.grad.float().numpy(), wanted.grad.numpy(), rtol=2 * eps, atol=eps * float(wanted.grad.abs().max())
        )
