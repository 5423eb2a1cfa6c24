"""Steps whose numbers come from an array on the device: equal to optimizer.step(), and nothing where a gradient is not finite."""

import os

import numpy as np
import pytest

import tinygrad_lite as tgl
from tinygrad_lite import nn, optim
from tinygrad_lite.device import get_device
from tinygrad_lite.kernels.cuda.emulator import unavailable
from tinygrad_lite.optim.replay import ReplayedSteps

pytestmark = pytest.mark.skipif(
    os.environ.get("TGL_CUDA") == "emulate" and unavailable() is not None, reason=str(unavailable())
)


def parameters(dtype="float32"):
    generator = tgl.Generator(3)
    made = [tgl.randn(*shape, generator=generator).to("cuda", dtype) for shape in ((5, 3), (7,), (2, 2))]
    return [p.requires_grad_() for p in made]


def optimizer_of(params, **settings):
    groups = [{"params": params[:2], "weight_decay": 0.1}, {"params": params[2:], "lr": 0.05}]
    return optim.AdamW(groups, lr=0.01, **settings)


def set_gradients(params, seed):
    rng = np.random.default_rng(seed)
    for p in params:
        p.grad = tgl.Tensor(rng.standard_normal(p.shape), dtype=p.dtype, device="cuda")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_replayed_steps_are_the_optimisers_own(dtype):
    plain, replayed = parameters(dtype), parameters(dtype)
    optimizer, other = optimizer_of(plain), optimizer_of(replayed)
    steps, xp = ReplayedSteps(other), get_device("cuda").xp
    for step in range(3):
        for params in (plain, replayed):
            set_gradients(params, step)
        for o in (optimizer, other):
            o.param_groups[0]["lr"] = 0.01 * (step + 1)
        optimizer.step(grad_scale=0.5)
        rows = steps.advance()
        assert rows.shape == (2, 4) and rows.dtype == np.float32
        steps.apply(xp.asarray(rows), xp.asarray(np.float32(0.5)))
    for x, y in zip(plain, replayed):
        np.testing.assert_array_equal(x.float().numpy(), y.float().numpy())
    assert [f.steps for fs in other._flats for f in fs] == [f.steps for fs in optimizer._flats for f in fs]


def test_a_step_that_is_not_finite_changes_nothing_and_can_be_withdrawn():
    params = parameters()
    optimizer = optimizer_of(params)
    steps, xp = ReplayedSteps(optimizer), get_device("cuda").xp
    set_gradients(params, 0)
    before = [p.numpy().copy() for p in params]
    for bad in (np.nan, np.inf):
        steps.apply(xp.asarray(steps.advance()), xp.asarray(np.float32(bad)))
        steps.withdraw()
    for p, values in zip(params, before):
        np.testing.assert_array_equal(p.numpy(), values)
    assert all(count == 0 for flats in optimizer._flats for flat in flats for count in flat.steps)


def test_weights_that_somebody_loads_are_the_new_masters():
    (p,) = [tgl.ones(9).to("cuda", "bfloat16").requires_grad_()]
    optimizer = optim.AdamW([p], lr=0.1, weight_decay=0.0)
    for value in (1.0, 5.0):
        p.data[...] = get_device("cuda").xp.asarray(np.full(9, value).astype(p.dtype))
        p.grad = tgl.ones(9, device="cuda").to("bfloat16")
        optimizer.step()
        np.testing.assert_allclose(p.float().numpy(), value - 0.1, atol=0.01 * value)


def test_what_cannot_be_replayed_is_refused():
    params = parameters()
    with pytest.raises(ValueError, match="SGD has no kernel to replay: use AdamW"):
        ReplayedSteps(optim.SGD(params, lr=0.1))
    with pytest.raises(ValueError, match="no adamw kernel for float32 on cuda and these settings"):
        ReplayedSteps(optim.Adam(params, amsgrad=True))
    with pytest.raises(ValueError, match="no adamw kernel for float64 on cuda"):
        ReplayedSteps(optim.AdamW(parameters("float64")))
    steps = ReplayedSteps(optimizer_of(params))
    rows = steps.advance()
    with pytest.raises(RuntimeError, match="3 parameter.s. have no gradient"):
        steps.apply(get_device("cuda").xp.asarray(rows), None)


def test_parameters_that_moved_are_refused():
    layer = nn.Linear(3, 2).to("cuda")
    steps = ReplayedSteps(optim.AdamW(list(layer.parameters()), lr=0.1))
    steps.advance()
    layer.to("bfloat16")
    with pytest.raises(RuntimeError, match="changed their type or device: build the step again"):
        steps.advance()
