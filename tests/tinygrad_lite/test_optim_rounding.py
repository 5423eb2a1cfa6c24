"""Stochastic rounding: unbiased, a function of parameter, step and element; training with it, saving it, replaying it."""

import os

import numpy as np
import pytest

import tinygrad_lite as tgl
from tinygrad_lite import nn, optim, philox
from tinygrad_lite.config import settings
from tinygrad_lite.device import get_device
from tinygrad_lite.dtypes import bfloat16
from tinygrad_lite.kernels.cuda.emulator import unavailable
from tinygrad_lite.optim.replay import ReplayedSteps
from tinygrad_lite.optim.rounding import round_stochastically

needs_cuda = pytest.mark.skipif(
    os.environ.get("TGL_CUDA") == "emulate" and unavailable() is not None, reason=str(unavailable())
)
DEVICES = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_cuda)])


def neighbours(x):
    """The bfloat16 numbers next to float32 values, the nearer to zero first, and how far between them each lies."""
    bits = x.view(np.uint32)
    lower = (bits & 0xFFFF0000).view(np.float32).astype(float)
    upper = ((bits & 0xFFFF0000) + 0x10000).view(np.float32).astype(float)
    return lower, upper, (bits & 0xFFFF) / 65536.0


# -- the rounding --------------------------------------------------------------------------------------------
def test_the_mean_of_many_roundings_is_the_number_itself():
    """A rounding is upper with probability p: its standard deviation is sqrt(p (1 - p)) of the gap, and a mean's 1/sqrt(R)."""
    n, steps = 200, 1000
    x = np.random.default_rng(0).standard_normal(n).astype(np.float32)
    lower, upper, share = neighbours(x)
    rounded = np.array([round_stochastically(x, 7, step).astype(float) for step in range(1, steps + 1)])
    assert ((rounded == lower) | (rounded == upper)).all()
    gap = np.abs(upper - lower)
    error, deviation = rounded.mean(0) - x, gap * np.sqrt(share * (1 - share) / steps)
    assert (np.abs(error) <= 4.5 * deviation + gap / steps).all()  # 4.5: one of 200 elements may be far out
    assert abs(error.sum()) <= 4 * np.sqrt((deviation**2).sum())
    near = np.abs(x.astype(bfloat16).astype(float) - x)  # to nearest, every one of the 1,000 errors is the same
    assert np.abs(error).mean() < 0.1 * near.mean()


def test_what_a_bfloat16_holds_stays_and_what_is_no_number_too():
    exact = np.arange(-130, 130, dtype=np.float32).astype(bfloat16)
    special = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0], np.float32)
    all_ones = np.array([0x7FFFFFFF, 0xFFFFFFFF], np.uint32).view(np.float32)
    for step in range(1, 20):
        np.testing.assert_array_equal(round_stochastically(exact.astype(np.float32), 1, step), exact)
        out = round_stochastically(special, 1, step).astype(np.float32)
        np.testing.assert_array_equal(out, special)
        np.testing.assert_array_equal(np.signbit(out), np.signbit(special))
        assert np.isnan(round_stochastically(all_ones, 1, step).astype(np.float32)).all()


def test_a_part_is_rounded_as_it_is_within_the_whole():
    x = np.random.default_rng(1).standard_normal(101).astype(np.float32)
    whole = round_stochastically(x, 3, 5)
    for a, b in ((0, 9), (8, 101), (64, 65), (96, 101)):
        np.testing.assert_array_equal(round_stochastically(x[a:b], 3, 5, a), whole[a:b])


def test_steps_and_keys_draw_apart():
    x = np.full(4096, 1.0 + 2.0**-8, np.float32)  # half way between two
    drawn = {(key, step): round_stochastically(x, key, step) == 1 for key in (0, 1) for step in (1, 2, 2**24 - 1)}
    agree = [np.mean(a == b) for i, a in drawn.items() for j, b in drawn.items() if i < j]
    assert len(agree) == 15 and all(abs(share - 0.5) < 4 * 0.5 / np.sqrt(x.size) for share in agree)


def test_the_bits_are_philoxs():
    x = np.full(21, 1.0, np.float32) + np.float32(2.0**-23) * np.arange(0, 21 * 3000, 3000, dtype=np.float32)
    bits = (
        np.repeat(philox.random_bits(11, 9, (6 << 40) + 2), 2)[:21] >> np.array([0, 16] * 11, np.uint32)[:21] & 0xFFFF
    )
    carried = (x.view(np.uint32) & 0xFFFF) + bits >= 65536
    expected = np.where(carried, neighbours(x)[1], neighbours(x)[0])
    np.testing.assert_array_equal(round_stochastically(x, 9, 6, 16).astype(float), expected)


# -- AdamW with it -------------------------------------------------------------------------------------------
def parameters(device="cpu", dtype="bfloat16"):
    generator = tgl.Generator(3)
    made = [tgl.randn(*shape, generator=generator).to(device, dtype) for shape in ((5, 30), (7,), (40, 2))]
    return [p.requires_grad_() for p in made]


def optimizer_of(params, flat=True, **changes):
    groups = [{"params": params[:2], "weight_decay": 0.1}, {"params": params[2:], "lr": 0.05}]
    return optim.AdamW(groups, lr=0.01, flat=flat, stochastic_rounding=True, **changes)


def set_gradients(params, seed, leave_out=()):
    rng = np.random.default_rng(seed)
    for i, p in enumerate(params):
        values = rng.standard_normal(p.shape)
        p.grad = None if i in leave_out else tgl.Tensor(values, dtype=p.dtype, device=p.device)


def values(params):
    return [p.float().numpy() for p in params]


def assert_same(a, b):
    for x, y in zip(values(a), values(b), strict=True):
        np.testing.assert_array_equal(x, y)


@DEVICES
@pytest.mark.parametrize("flat", [True, False])
def test_no_float32_copy_is_kept_and_weights_are_neighbours_of_the_exact_ones(device, flat):
    params, exact = parameters(device), parameters(dtype="float32")
    for p, e in zip(params, exact):
        e.data[...] = p.float().numpy()
    optimizer = optimizer_of(params, flat)
    groups = [{"params": exact[:2], "weight_decay": 0.1}, {"params": exact[2:], "lr": 0.05}]
    reference = optim.AdamW(groups, lr=0.01)
    set_gradients(params, 0)
    for p, e in zip(params, exact):
        e.grad = tgl.Tensor(p.grad.float().numpy())
    optimizer.step()
    reference.step()
    for p, e in zip(values(params), values(exact)):
        assert (np.abs(p - e) <= np.abs(e) * 2.0**-7).all() and (p != e.astype(bfloat16).astype(np.float32)).any()
    entries = optimizer.state_dict()["state"].values()
    assert all(entry.keys() == {"step", "exp_avg", "exp_avg_sq"} for entry in entries)
    assert all(flat.state.keys() == {"exp_avg", "exp_avg_sq"} for flats in optimizer._flats for flat in flats)


@DEVICES
def test_steps_far_below_the_last_digit_add_up_on_average(device):
    """Steps of 1e-4 below 1, where the gap is 2^-8: to nearest none would show. Each moves by a gap or by nothing, with
    probability p = 1e-4 / 2^-8, so that after k steps the mean of n has a deviation of sqrt(k p (1 - p) / n) gaps."""
    n, steps, lr, gap = 2000, 200 if device == "cpu" else 20, 1e-4, 2.0**-8
    (p,) = [tgl.ones(n).to(device, "bfloat16").requires_grad_()]
    optimizer = optim.AdamW([p], lr=lr, betas=(0.0, 0.0), weight_decay=0.0, stochastic_rounding=True)
    for _ in range(steps):
        p.grad = tgl.ones(n, device=device).to("bfloat16")
        optimizer.step()
    share = lr / gap
    moved = (1.0 - p.float().numpy().astype(float).mean()) / gap
    assert abs(moved - steps * share) <= 4 * np.sqrt(steps * share * (1 - share) / n)


@needs_cuda
def test_kernel_and_twin_round_alike(monkeypatch):
    """Zero gradients: the update is p * (1 - lr * decay), which both compute to the same bits, and so every rounding shows."""
    results = []
    for fused in (True, False):
        monkeypatch.setattr(settings, "use_fused", fused)
        params = parameters("cuda")
        optimizer = optimizer_of(params)
        for step in range(5):
            for p in params:
                p.grad = tgl.zeros(*p.shape, device="cuda").to("bfloat16")
            if step == 2:
                params[0].grad = None
            optimizer.step()
        results.append(params)
    assert_same(*results)
    here = parameters("cpu")
    assert any((a != b).any() for a, b in zip(values(results[0]), values(here)))


@DEVICES
@pytest.mark.parametrize("flat", [True, False])
def test_a_run_that_is_saved_and_loaded_is_the_same_run(device, flat):
    whole, parts = parameters(device), parameters(device)
    optimizer, first = optimizer_of(whole, flat), optimizer_of(parts, flat)
    for step in range(4):
        set_gradients(whole, step, leave_out=(1,) if step == 1 else ())
        optimizer.step()
    for step in range(2):
        set_gradients(parts, step, leave_out=(1,) if step == 1 else ())
        first.step()
    again = [tgl.Tensor(p.float().numpy()).to(device, "bfloat16").requires_grad_() for p in parts]
    second = optimizer_of(again, flat)
    second.load_state_dict(first.state_dict())
    for step in range(2, 4):
        set_gradients(again, step)
        second.step()
    assert_same(whole, again)


def test_two_equal_parameters_are_rounded_apart():
    for flat in (True, False):
        pair = [tgl.ones(512).to("bfloat16").requires_grad_() for _ in range(2)]
        optimizer = optim.AdamW(pair, lr=1e-3, weight_decay=0.0, flat=flat, stochastic_rounding=True)
        for p in pair:
            p.grad = tgl.ones(512).to("bfloat16")
        optimizer.step()
        a, b = values(pair)
        assert (a != b).any()


@needs_cuda
def test_replayed_steps_are_the_optimisers_own_and_draw_anew_each_time():
    plain, replayed = parameters("cuda"), parameters("cuda")
    optimizer, other = optimizer_of(plain), optimizer_of(replayed)
    steps, xp = ReplayedSteps(other), get_device("cuda").xp
    numbers = []
    for step in range(3):
        for params in (plain, replayed):
            set_gradients(params, step)
        optimizer.step(grad_scale=0.5)
        rows = steps.advance()
        numbers.append(rows[:, 3].tolist())
        if step == 1:  # a step that is left out changes nothing, and its number comes again
            steps.apply(xp.asarray(rows), xp.asarray(np.float32(np.nan)))
            steps.withdraw()
            rows = steps.advance()
        steps.apply(xp.asarray(rows), xp.asarray(np.float32(0.5)))
    assert numbers == [[1, 1], [2, 2], [3, 3]]
    assert_same(plain, replayed)


@needs_cuda
def test_a_captured_step_draws_new_bits_in_every_replay():
    from tinygrad_lite.kernels.cuda.graph import Graph

    plain, replayed = parameters("cuda"), parameters("cuda")
    optimizer, other = optimizer_of(plain), optimizer_of(replayed)
    steps, one = ReplayedSteps(other), np.float32(1.0)
    set_gradients(replayed, 0)
    graph = Graph(lambda rows, scale: (steps.apply(rows, scale), [rows])[1], tgl.Generator(0))
    for _ in range(5):  # run, captured, replayed three times
        set_gradients(plain, 0)
        optimizer.step()
        graph(steps.advance(), one)
    assert_same(plain, replayed)


@pytest.mark.parametrize("dtype, why", [("float32", "there is nothing to round"), ("float64", "nothing to round"),
                                        ("float16", "only bfloat16 can")])  # fmt: skip
def test_parameters_that_cannot_be_rounded_so_are_refused(dtype, why):
    with pytest.raises(ValueError, match=f"stochastic_rounding is for bfloat16, and parameter 0 is {dtype}: .*{why}"):
        optimizer_of(parameters(dtype=dtype))
    layer = nn.Linear(3, 2).to("bfloat16")
    optimizer = optim.AdamW(layer.parameters(), stochastic_rounding=True)
    layer.to(dtype)
    with pytest.raises(ValueError, match=f"is {dtype}"):
        optimizer.step()


def test_a_state_with_masters_does_not_fit_and_says_so():
    params = parameters()
    plain = optim.AdamW(params)
    set_gradients(params, 0)
    plain.step()
    rounding = optim.AdamW(parameters(), stochastic_rounding=True)
    with pytest.raises(
        ValueError, match="state of parameter 0: expected .'exp_avg', 'exp_avg_sq', 'step'., got .*master"
    ):
        rounding.load_state_dict(plain.state_dict())


@needs_cuda
def test_amsgrad_and_a_move_to_another_device_keep_it():
    layer = nn.Linear(30, 20, generator=tgl.Generator(1)).to("bfloat16")
    optimizer = optim.AdamW(layer.parameters(), amsgrad=True, stochastic_rounding=True)
    twin = nn.Linear(30, 20, generator=tgl.Generator(1)).to("bfloat16")
    other = optim.AdamW(twin.parameters(), amsgrad=True, stochastic_rounding=True)
    for step in range(4):
        if step == 2:
            twin.to("cuda")
        for model, o in ((layer, optimizer), (twin, other)):
            params = list(model.parameters())
            set_gradients(params, step)
            o.step()
    assert twin.weight.device.name == "cuda"
    for a, b in zip(values(layer.parameters()), values(twin.parameters())):
        np.testing.assert_allclose(a, b, rtol=2.0**-7)  # the same draws; a last bit between devices may tip one over
        assert np.mean(a != b) < 0.01
    assert all("master" not in entry for entry in other.state_dict()["state"].values())
