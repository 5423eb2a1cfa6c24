"""A kernel that adds its gradient to what has arrived: the sum is what two additions give, and nobody's memory changes."""

from contextlib import ExitStack
from unittest.mock import patch

import numpy as np
import pytest
from kernels.cuda.checks import needs_cuda

import tinygrad_lite as tgl
from tinygrad_lite import functional as F
from tinygrad_lite import optim
from tinygrad_lite.autograd.gradient import backward_steps
from tinygrad_lite.config import settings
from tinygrad_lite.kernels import lookup

devices = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_cuda)])
SHAPE = (40, 32)


@pytest.fixture(autouse=True)
def onto(monkeypatch):
    """For each run of a norm's backward, whether it was given something to add to."""
    given = []
    for kernel in {lookup(d, n) for d in ("cpu", "cuda") for n in ("layer_norm", "rms_norm")}:

        def backward(g, saved, needs, into, onto=(None,), *, inner=kernel.backward, **params):
            given.append(onto[0] is not None)
            return inner(g, saved, needs, into, onto, **params)

        monkeypatch.setattr(kernel, "backward", backward)
    return given


def values(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def leaf(seed, *shape, device="cpu", dtype="float32"):
    return tgl.tensor(values(seed, *shape), dtype=dtype, device=device).requires_grad_()


def norms(x, seed=7):
    """Two norms of x and their parameters."""
    w, b, v = (leaf(seed + i, x.shape[-1], device=x.device, dtype=x.dtype) for i in range(3))
    return F.layer_norm(x, w, b), F.rms_norm(x, v), (w, b, v)


def drained(out, g, apart):
    """Backward; `apart`: by kernels that add to nothing, so that the walk makes every sum."""
    with ExitStack() as stack:
        for name in ("layer_norm", "rms_norm") if apart else ():
            stack.enter_context(patch.object(lookup(out.device.name, name), "ADDS", ()))
        out.backward(g)


@devices
def test_the_sum_is_that_of_a_walk_that_adds_by_itself(device, onto):
    found = []
    for apart in (False, True):
        start = leaf(1, *SHAPE, device=device)
        x = start * 1.5  # x's gradient arrives three times: owned by nobody, by the kernel that summed first
        a, b, parameters = norms(x)
        g = tgl.tensor(values(2, *SHAPE), device=device)
        drained(a * 2.0 + b + x, g, apart)
        np.testing.assert_array_equal(g.numpy(), values(2, *SHAPE))  # what arrived first was the caller's own
        found.append([p.grad.numpy() for p in (start, *parameters)])
    assert onto == [True, True, False, False]
    for added, apart in zip(*found, strict=True):
        np.testing.assert_allclose(added, apart, rtol=0, atol=2e-6 * np.abs(apart).max())


@devices
def test_a_stepped_walk_sums_as_backward_does_and_says_what_the_kernel_sent(device, onto):
    x = leaf(1, *SHAPE, device=device)
    out, g = x + norms(x)[0], tgl.tensor(values(2, *SHAPE), device=device)
    out.backward(g, retain_graph=True)
    expected, x.grad = x.grad.numpy().copy(), None
    shares = [step.sent[0] for step in backward_steps(out, g) if step.node.op and step.node.op.name == "layer_norm"]
    assert onto == [True, False, True]
    np.testing.assert_array_equal(x.grad.numpy(), expected)
    np.testing.assert_allclose(x.device.to_host(shares[0]) + g.numpy(), expected, rtol=0, atol=1e-5)


@devices
def test_a_leafs_gradient_is_its_own(device, onto):
    x, g = leaf(1, *SHAPE, device=device), tgl.tensor(values(2, *SHAPE), device=device)
    normal, _, _ = norms(x)
    (x + normal).backward(g)
    first = x.grad.numpy().copy()
    x.grad *= 0.5
    np.testing.assert_array_equal(g.numpy(), values(2, *SHAPE))
    x.grad = None
    y = norms(x)[0]
    drained(x + y, g, apart=True)
    assert onto == [True, False]
    np.testing.assert_allclose(first, x.grad.numpy(), rtol=0, atol=1e-5)


@devices
def test_a_sum_is_added_to_an_optimisers_buffer_and_to_a_gradient_that_is_there(device):
    x = leaf(1, *SHAPE, device=device)
    optimizer = optim.AdamW([x], lr=0.1)
    for times in (1, 2):
        normal, _, _ = norms(x)
        (x + normal).backward(tgl.tensor(values(2, *SHAPE), device=device))
        if times == 1:
            once = x.grad.numpy().copy()
    np.testing.assert_allclose(x.grad.numpy(), 2 * once, rtol=1e-6)
    optimizer.zero_grad()
    assert x.grad is None or not x.grad.numpy().any()


@devices
def test_each_step_of_a_stepper_says_what_its_own_rules_sent(device):
    x, g = leaf(1, *SHAPE, device=device), tgl.tensor(values(2, *SHAPE), device=device)
    normal, _, (w, b, _) = norms(x)
    sent = [device_array(step.sent[0]) for step in backward_steps(x + normal, g) if step.node is normal.node]
    (alone,) = tgl.grad(F.layer_norm(x, w, b), x, g)
    np.testing.assert_array_equal(sent[0], alone.numpy())
    np.testing.assert_allclose(x.grad.numpy(), alone.numpy() + g.numpy(), rtol=0, atol=1e-6)


def device_array(x):
    return x.get() if hasattr(x, "get") else np.array(x)


@devices
def test_hooks_and_retained_gradients_see_the_whole_sum(device, onto):
    start = leaf(1, *SHAPE, device=device)
    x, seen = start * 1.0, []
    x.register_hook(lambda g: seen.append(g.numpy().copy()))
    x.retain_grad()
    normal, _, _ = norms(x)
    (x + normal).backward(tgl.tensor(values(2, *SHAPE), device=device))
    assert onto == [True]
    np.testing.assert_array_equal(seen[0], start.grad.numpy())
    np.testing.assert_array_equal(x.grad.numpy(), start.grad.numpy())


@devices
def test_a_hook_may_keep_what_arrived_before_the_kernel_added_to_it(device, onto):
    x = leaf(1, *SHAPE, device=device) * 1.0
    normal, _, _ = norms(x)
    y, kept = x * 1.0, []
    y.register_hook(lambda g: kept.append(g))
    z = F.layer_norm(y, tgl.ones(SHAPE[1], device=device), tgl.zeros(SHAPE[1], device=device))
    g = tgl.tensor(values(2, *SHAPE), device=device)
    (y.reshape(*SHAPE) + z + normal).backward(g)
    before = kept[0].numpy().copy()
    assert onto == [True, True]
    np.testing.assert_array_equal(kept[0].numpy(), before)
    np.testing.assert_array_equal(g.numpy(), values(2, *SHAPE))


@devices
def test_what_is_stretched_over_its_memory_is_added_apart(device, onto):
    x = leaf(1, *SHAPE, device=device)
    normal, _, _ = norms(x)
    (normal.sum() + x.sum()).backward()  # the sum's gradient is one number, seen at x's shape
    assert onto == [False]
    (alone,) = tgl.grad(norms(x)[0].sum(), x)
    np.testing.assert_allclose(x.grad.numpy(), alone.numpy() + 1, rtol=0, atol=1e-5)


@devices
def test_one_tensor_as_input_weight_and_bias(device):
    x, g = leaf(1, 32, device=device), tgl.tensor(values(2, 32), device=device)
    (x + F.layer_norm(x, x, x)).backward(g)
    parts = [tgl.tensor(values(1, 32), device=device).requires_grad_() for _ in range(3)]
    F.layer_norm(*parts).backward(g)
    expected = g.numpy() + sum(p.grad.numpy() for p in parts)
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=0, atol=1e-5)


def test_a_kernel_that_computes_wider_than_the_gradient_adds_nothing(onto):
    x = leaf(1, *SHAPE, dtype="bfloat16")
    normal, _, _ = norms(x)
    (x + normal).backward(tgl.tensor(values(2, *SHAPE), dtype="bfloat16"))
    assert onto == [False] and x.grad.dtype == tgl.bfloat16


@devices
def test_inside_a_checkpoint_too(device, onto):
    def block(x):
        normal, _, _ = norms(x)
        return x + normal

    found = []
    for f in (block, lambda x: tgl.checkpoint(block, x)):
        x = leaf(1, *SHAPE, device=device)
        f(x * 1.0).backward(tgl.tensor(values(2, *SHAPE), device=device))
        found.append(x.grad.numpy())
    assert onto == [True, True]
    np.testing.assert_array_equal(*found)


@devices
def test_second_derivatives_are_those_of_the_twins(device, monkeypatch):
    found = []
    for fused in (True, False):
        monkeypatch.setattr(settings, "use_fused", fused)
        x = leaf(1, 3, 4, device=device)
        y = x * 1.0
        (gx,) = tgl.grad(((y + norms(y)[0]) ** 2).sum(), x, create_graph=True)
        (ggx,) = tgl.grad((gx * gx).sum(), x)
        found.append(ggx.numpy())
    np.testing.assert_allclose(*found, rtol=0, atol=1e-5 * np.abs(found[0]).max())


@needs_cuda
@pytest.mark.parametrize("dtype", [tgl.bfloat16, tgl.float16])
def test_a_sum_in_16_bits_is_rounded_once(dtype):
    x, w, b, g = (
        tgl.tensor(values(i, *shape)).to(dtype) for i, shape in enumerate([SHAPE, SHAPE[1:], SHAPE[1:], SHAPE])
    )
    exact = [t.to("float64").requires_grad_() for t in (x, w, b)]
    (exact[0] + F.layer_norm(*exact)).backward(g.to("float64"))
    wanted, shares = exact[0].grad.to(dtype).numpy(), []
    for apart in (False, True):
        x, w, b = (t.detach().to(dtype).to("cuda").requires_grad_() for t in exact)
        drained(x + F.layer_norm(x, w, b), g.to("cuda"), apart)
        shares.append((x.grad.numpy() == wanted).mean())
    assert shares[0] > 0.995 and shares[1] < 0.95
