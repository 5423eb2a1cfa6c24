"""Flat buffers: parameters and gradients as views of one array, whatever is done to them from outside."""

import copy

import numpy as np
import pytest

import tinygrad_lite as tgl
from tinygrad_lite import functional as F
from tinygrad_lite import nn, optim


def net(tie=False):
    model = nn.Sequential(
        nn.Linear(4, 4, generator=tgl.Generator(1)), nn.Tanh(), nn.Linear(4, 4, generator=tgl.Generator(2))
    )
    if tie:
        model[2].weight = model[0].weight
    return model.double()


def backward(model, seed=0):
    x = tgl.tensor(np.random.default_rng(seed).normal(size=(3, 4)))
    model(x).square().sum().backward()


def base(array):
    return array if array.base is None else array.base


def test_data_and_gradients_are_views_of_one_array_each():
    model = net()
    before = model.state_dict()
    optimizer = optim.AdamW(model.parameters())
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    backward(model)
    params = list(model.parameters())
    assert len({id(base(p.data)) for p in params}) == 1 and len({id(base(p.grad.data)) for p in params}) == 1
    assert all(p.data.ctypes.data % 64 == 0 and p.grad.data.ctypes.data % 64 == 0 for p in params)
    pointers = [p.grad.data.ctypes.data for p in params]
    optimizer.step()
    optimizer.zero_grad()
    backward(model)
    assert pointers == [p.grad.data.ctypes.data for p in params]


def test_gradients_do_not_pile_up_after_zero_grad_and_do_without():
    model = net()
    optimizer = optim.SGD(model.parameters())
    backward(model)
    once = model[0].weight.grad.numpy().copy()
    backward(model)
    np.testing.assert_allclose(model[0].weight.grad.numpy(), 2 * once, rtol=1e-12)
    optimizer.zero_grad()
    assert model[0].weight.grad is None
    backward(model)
    np.testing.assert_allclose(model[0].weight.grad.numpy(), once, rtol=1e-12)
    optimizer.zero_grad(set_to_none=False)
    assert not model[0].weight.grad.numpy().any()


def test_training_is_the_same_flat_or_not_and_with_ties():
    for tie in (False, True):
        results = []
        for flat in (True, False):
            model = net(tie)
            optimizer = optim.AdamW(model.parameters(), lr=0.01, flat=flat)
            for step in range(5):
                optimizer.zero_grad()
                backward(model, step)
                optim.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
            assert not tie or model[0].weight is model[2].weight
            results.append(model.state_dict())
        for name in results[0]:
            np.testing.assert_allclose(results[0][name], results[1][name], rtol=1e-10)


def test_tied_weights_given_twice_are_stepped_once():
    p = nn.Parameter([1.0])
    optimizer = optim.SGD([p, p], lr=1.0)
    p.grad = tgl.tensor([0.25])
    optimizer.step()
    assert p.item() == 0.75 and len(optimizer.param_groups[0]["params"]) == 1


def test_stale_buffers_are_never_used():
    a, b = nn.Parameter([1.0]), nn.Parameter([1.0])
    optimizer = optim.SGD([a, b], lr=1.0)
    (a + b).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    a.sum().backward()
    assert optim.grad_norm([a, b]) == 1.0
    optimizer.step()
    assert (a.item(), b.item()) == (-1.0, 0.0)


def test_functional_grad_leaves_the_buffers_out_of_the_step():
    a, b = nn.Parameter([1.0]), nn.Parameter([2.0])
    optimizer = optim.SGD([a, b], lr=1.0)
    tgl.grad((a * b).sum(), [a, b])
    optimizer.step()
    assert (a.item(), b.item()) == (1.0, 2.0)


def test_a_reassigned_gradient_is_copied_in():
    a, b = nn.Parameter([1.0, 1.0]), nn.Parameter([1.0])
    optimizer = optim.SGD([a, b], lr=1.0)
    (a.sum() + b.sum()).backward()
    mine = tgl.tensor([0.25, 0.5])
    a.grad = mine
    optimizer.step()
    assert a.tolist() == [0.75, 0.5] and b.tolist() == [0.0]
    (a * 3.0).sum().backward()
    assert mine.tolist() == [0.25, 0.5]  # the user's own array is read and then left alone


def test_exchanged_gradients_and_exchanged_data():
    a, b = nn.Parameter([1.0]), nn.Parameter([10.0])
    optimizer = optim.SGD([a, b], lr=1.0)
    (a * 2.0 + b * 3.0).sum().backward()
    a.grad, b.grad = b.grad, a.grad
    a.data, b.data = b.data, a.data
    optimizer.step()
    assert (a.item(), b.item()) == (7.0, -1.0)


def test_reassigned_data_is_copied_in():
    a, b = nn.Parameter([1.0]), nn.Parameter([1.0])
    optimizer = optim.SGD([a, b], lr=1.0)
    a.data = np.array([5.0], np.float32)
    (a + b).sum().backward()
    optimizer.step()
    assert (a.item(), b.item()) == (4.0, 0.0)
    assert base(a.data) is base(b.data)


def test_data_of_another_shape_is_refused():
    a, b = nn.Parameter([1.0]), nn.Parameter([1.0])
    optimizer = optim.SGD([a, b], lr=1.0)
    a.data = np.zeros(3, np.float32)
    with pytest.raises(ValueError, match=r"built with shape \(1,\), got data of shape \(3,\)"):
        optimizer.step()


def test_loading_a_model_writes_through_the_views():
    model, other = net(), net()
    optimizer = optim.AdamW(model.parameters())
    other[0].weight.data[...] = 4.0
    model.load_state_dict(other.state_dict())
    assert (model[0].weight.numpy() == 4.0).all()
    backward(model)
    optimizer.step()
    assert base(model[0].weight.data) is base(model[2].weight.data)


def test_converting_the_model_keeps_the_optimizer_state():
    results = []
    for convert in (False, True):
        model = net()
        optimizer = optim.AdamW(model.parameters(), lr=0.01)
        for step in range(6):
            if convert and step == 3:
                model.to("float32")
                model.to("float64")
            elif convert and step == 4:
                model.to("float32")
            optimizer.zero_grad()
            x = tgl.tensor(np.random.default_rng(step).normal(size=(3, 4))).to(model[0].weight.dtype)
            model(x).square().sum().backward()
            optimizer.step()
        results.append(model[2].weight.numpy().astype(np.float64))
    assert model[2].weight.dtype == np.float32
    np.testing.assert_allclose(results[0], results[1], rtol=1e-4, atol=1e-6)


def test_converting_to_and_from_half_precision_keeps_the_optimizer_state():
    model = net().to("bfloat16")
    optimizer = optim.AdamW(model.parameters(), lr=0.01)
    for dtype in ("bfloat16", "float32", "float16"):
        model.to(dtype)
        optimizer.zero_grad()
        model(tgl.ones(3, 4, dtype=dtype)).square().sum().backward()
        optimizer.step()
    state = optimizer.state_dict()["state"][0]
    assert state["step"] == 3 and state["exp_avg"].all() and state["exp_avg"].dtype == np.float32


def test_mixed_types_in_a_group_have_a_buffer_each():
    a, b = nn.Parameter([1.0], dtype="float64"), nn.Parameter([1.0])
    optimizer = optim.SGD([a, b], lr=1.0)
    (a.sum() + b.sum()).backward()
    optimizer.step()
    assert (a.item(), b.item()) == (0.0, 0.0) and a.dtype != b.dtype


def test_frozen_parameters_are_left_alone_and_thawed_ones_join():
    a, b = nn.Parameter([1.0]), nn.Parameter([1.0])
    optimizer = optim.SGD([a, b], lr=1.0)
    b.requires_grad_(False)
    (a + b).sum().backward()
    optimizer.step()
    assert (a.item(), b.item()) == (0.0, 1.0)
    b.requires_grad_()
    optimizer.zero_grad()
    (a + b).sum().backward()
    optimizer.step()
    assert (a.item(), b.item()) == (-1.0, 0.0)


def test_an_empty_parameter_is_carried_along():
    a, b = nn.Parameter(np.zeros((0, 3), np.float32)), nn.Parameter([1.0])
    for kind in (optim.SGD, optim.AdamW):
        optimizer = kind([a, b], lr=0.5)
        (a.sum() + b.sum()).backward()
        optimizer.step()
    assert a.shape == (0, 3)


def test_stepping_under_a_recorded_graph_is_found_at_backward():
    p = nn.Parameter([1.0])
    optimizer = optim.SGD([p], lr=0.1)
    loss = (p * p).sum()
    p.grad = tgl.ones(1)
    optimizer.step()
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()


@pytest.mark.parametrize(
    "view", [lambda p: p.T, lambda p: p.T.reshape(1, 2), lambda p: p.detach().T], ids=["view", "view of it", "outside"]
)
def test_stepping_under_a_graph_that_holds_a_view_is_found_at_backward(view):
    p, x = nn.Parameter([[1.0], [2.0]]), tgl.tensor([[1.0, 2.0]], requires_grad=True)
    optimizer = optim.SGD([p], lr=0.1)
    loss = (x * view(p)).sum()
    p.grad = tgl.ones(2, 1)
    optimizer.step()
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()


def test_two_optimizers_may_hold_one_parameter():
    p, q = nn.Parameter([1.0]), nn.Parameter([1.0])
    first, second = optim.SGD([p, q], lr=1.0), optim.SGD([p, q], lr=10.0)
    for optimizer in (first, second, first):
        p.grad = q.grad = None
        (p + q).sum().backward()
        optimizer.step()
    assert (p.item(), q.item()) == (-11.0, -11.0)


def test_gradients_with_a_graph_can_be_stepped():
    p = nn.Parameter([2.0])
    optimizer = optim.SGD([p], lr=1.0)
    (p * p).sum().backward(create_graph=True)
    optimizer.step()
    assert p.item() == -2.0


def test_an_optimizer_cannot_be_copied_apart_from_its_parameters():
    with pytest.raises(TypeError, match="build one over the copied parameters"):
        copy.deepcopy(optim.SGD([nn.Parameter([1.0])]))


# -- clipping --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("flat", [True, False])
def test_clip_scales_to_the_norm_and_returns_what_it_was(flat):
    a, b, c = nn.Parameter([0.0, 0.0]), nn.Parameter([0.0]), nn.Parameter([7.0])
    optimizer = optim.SGD([a, b, c], lr=1.0, flat=flat)
    ((a * tgl.tensor([3.0, 0.0])).sum() + (b * 4.0).sum()).backward()
    assert optim.clip_grad_norm_([a, b, c], 10.0) == 5.0
    assert a.grad.tolist() == [3.0, 0.0]
    assert optim.clip_grad_norm_([a, b, c], 1.0) == 5.0
    np.testing.assert_allclose([*a.grad.tolist(), *b.grad.tolist()], [0.6, 0.0, 0.8], rtol=1e-6)
    optimizer.step()
    np.testing.assert_allclose(b.item(), -0.8, rtol=1e-6)


def test_clip_without_an_optimizer_and_of_foreign_gradients():
    p, q = nn.Parameter(np.zeros((2, 2), np.float32)), nn.Parameter([0.0])
    p.grad = tgl.tensor(np.array([[3.0, 0.0], [0.0, 0.0]], np.float32)).T
    (q * q.exp() * 4.0).sum().backward(create_graph=True)
    norm = optim.clip_grad_norm_(iter([p, q, p]), 1.0)
    assert norm == 5.0 and abs(optim.grad_norm([p, q]) - 1.0) < 1e-6
    assert optim.clip_grad_norm_(nn.Parameter([1.0]), 1.0) == 0.0


def test_clip_of_part_of_a_buffer_touches_that_part():
    a, b, c = nn.Parameter([0.0]), nn.Parameter([0.0]), nn.Parameter([0.0])
    optimizer = optim.SGD([a, b, c], lr=1.0)
    (a * 3.0 + b * 100.0 + c * 4.0).sum().backward()
    assert optim.clip_grad_norm_([c, a], 1.0) == 5.0
    np.testing.assert_allclose([a.grad.item(), b.grad.item(), c.grad.item()], [0.6, 100.0, 0.8], rtol=1e-6)
    b.grad = None  # its buffer still holds 100
    optimizer.step()
    np.testing.assert_allclose([a.item(), b.item(), c.item()], [-0.6, 0.0, -0.8], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_norm_of_half_precision_gradients_is_taken_in_float32(dtype):
    p = nn.Parameter([0.0, 0.0], dtype=dtype)
    p.grad = tgl.tensor([384.0, 512.0], dtype=dtype)  # squares beyond float16, which ends at 65504
    assert optim.clip_grad_norm_(p, 1.0) == 640.0
    np.testing.assert_allclose(p.grad.numpy().astype(np.float32), [0.6, 0.8], rtol=1e-2)


def test_clip_equals_grad_scale():
    results = []
    for fused in (False, True):
        model = net()
        optimizer = optim.AdamW(model.parameters(), lr=0.1)
        for step in range(3):
            optimizer.zero_grad()
            backward(model, step)
            if fused:
                optimizer.step(grad_scale=optim.clip_coefficient(optim.grad_norm(model.parameters()), 0.5))
            else:
                optim.clip_grad_norm_(model.parameters(), 0.5)
                optimizer.step()
        results.append(model[0].weight.numpy())
    np.testing.assert_allclose(results[0], results[1], rtol=1e-10)


def test_a_norm_that_is_not_finite_is_passed_on_or_raised():
    p = nn.Parameter([0.0])
    p.grad = tgl.tensor([float("nan")])
    with pytest.raises(RuntimeError, match="norm of the gradients is nan"):
        optim.clip_grad_norm_(p, 1.0, error_if_nonfinite=True)
    assert np.isnan(optim.clip_grad_norm_(p, 1.0))
    with pytest.raises(ValueError, match="max_norm must be above 0"):
        optim.clip_grad_norm_(p, 0.0)


def test_the_norm_of_many_equal_float32_gradients_is_exact_enough():
    n = 3_000_000
    p = nn.Parameter(np.zeros(n, np.float32))
    p.grad = tgl.tensor(np.full(n, 0.1, np.float32))
    # Partial sums of 65536 float32 terms, at worst one rounding of eps a term; the square root halves it.
    assert abs(optim.grad_norm(p) / (np.float32(0.1) * np.sqrt(n)) - 1) < 1e-5


def test_a_small_model_learns():
    rng = np.random.default_rng(0)
    x, model = rng.normal(size=(64, 2)).astype(np.float32), nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))
    targets = (x[:, 0] * x[:, 1] > 0).astype(np.int64)
    optimizer = optim.AdamW(optim.decay_groups(model.named_parameters(), 0.01), lr=0.03)
    for _ in range(150):
        loss = F.cross_entropy(model(tgl.tensor(x)), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.15
