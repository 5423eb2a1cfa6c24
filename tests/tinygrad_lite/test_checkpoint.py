"""Activation checkpointing gives the gradients of the plain run, dropout included, and keeps less."""

import tracemalloc

import numpy as np
import pytest

import tinygrad_lite as tgl
from tinygrad_lite import checkpoint
from tinygrad_lite import functional as F
from tinygrad_lite.random import default_generator
from tinygrad_lite.tensor import functional


def dropout(x, p=0.4):
    key, offset = default_generator.reserve(x.size)
    return functional.dropout(x, p=p, key=key, offset=offset)


def leaves():
    rng = np.random.default_rng(0)
    return [tgl.tensor(rng.standard_normal((4, 4))).requires_grad_() for _ in range(3)]


def gradients(run):
    xs = leaves()
    tgl.manual_seed(5)
    run(*xs).sum().backward()
    state = default_generator.get_state()
    return [x.grad.numpy() for x in xs], state


def plain(x, w, v):
    def block(h, u):
        return dropout((h @ w).tanh()) * u + h

    return block(block(x, v), v * 2.0)


def checkpointed(x, w, v):
    def block(h, u):
        return dropout((h @ w).tanh()) * u + h

    return checkpoint(block, checkpoint(block, x, v), v * 2.0)


def nested(x, w, v):
    def block(h, u):
        return checkpoint(lambda t: dropout(t), (h @ w).tanh()) * u + h

    return checkpoint(lambda h: checkpoint(block, checkpoint(block, h, v), v * 2.0), x)


def closed_over_result(x, w, v):
    inner = w * 1.0  # recorded outside the block, read inside

    def block(h, u):
        return dropout((h @ inner).tanh()) * u + h

    return checkpoint(block, checkpoint(block, x, v), v * 2.0)


@pytest.mark.parametrize("run", [checkpointed, nested, closed_over_result])
def test_checkpoint_equals_the_plain_run_with_the_same_dropout(run):
    expected, state = gradients(plain)
    got, got_state = gradients(run)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    assert got_state == state  # backward leaves the generator where it was


def test_checkpoint_works_with_grad_and_twice_with_retain_graph():
    x, w, v = leaves()
    tgl.manual_seed(1)
    expected = tgl.grad(plain(x, w, v).sum(), [w, x])
    tgl.manual_seed(1)
    out = checkpointed(x, w, v).sum()
    for retain in (True, False):
        for a, b in zip(tgl.grad(out, [w, x], retain_graph=retain), expected, strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12)
    assert x.grad is None and v.grad is None
    with pytest.raises(RuntimeError, match="retain_graph"):
        out.backward()


def test_checkpoint_differentiates_twice():
    def second(run):
        x, w, v = leaves()
        tgl.manual_seed(2)
        (g,) = tgl.grad(run(x, w, v).sum(), x, create_graph=True)
        return [h.numpy() for h in tgl.grad((g * g).sum(), [x, w, v])]

    for a, b in zip(second(checkpointed), second(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)


def test_checkpoint_keeps_less():
    def peak(run):
        x = tgl.randn(64, 1024).requires_grad_()
        tracemalloc.start()
        y = x
        for _ in range(6):
            y = run(lambda h: h.tanh().sin().exp().tanh().sigmoid().cos(), y)
        held = tracemalloc.get_traced_memory()[0]
        y.sum().backward()
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return held, top

    held, top = peak(checkpoint)
    plain_held, plain_top = peak(lambda f, h: f(h))
    assert held < 0.3 * plain_held and top < 0.6 * plain_top


def test_hooks_run_once_and_frozen_blocks_make_no_node():
    x, w, _ = leaves()
    seen = []
    w.register_hook(lambda g: seen.append(1))
    checkpoint(lambda h: (h @ w).exp(), x).sum().backward()
    assert seen == [1]
    assert checkpoint(lambda h: h * 2.0, tgl.ones(2)).node is None
    with tgl.no_grad():
        assert checkpoint(lambda h: h * 2.0, x).node is None
    assert checkpoint(lambda h: h, x) is x


def test_misuse_raises_clearly():
    x, w, v = leaves()
    with pytest.raises(TypeError, match="^checkpoint: fn must return one Tensor"):
        checkpoint(lambda h: (h, h), x)
    calls = []

    def fickle(h):
        calls.append(1)
        return h @ (w if len(calls) == 1 else v)

    out = checkpoint(fickle, x).sum()
    with pytest.raises(RuntimeError, match="^checkpoint: fn did something else"):
        out.backward()
    out = checkpoint(lambda h: h * w, x).sum()
    with tgl.no_grad():
        w += 1.0
    with pytest.raises(RuntimeError, match="^checkpoint: .*changed in place"):
        out.backward()


def test_dropout_from_the_users_own_generators_is_reproduced_and_they_move_on_as_without():
    results = []
    for kept in (True, False):
        tgl.manual_seed(1)
        own, x = tgl.Generator(5), tgl.ones(64).requires_grad_()

        def inner(x, own=own):
            return F.dropout(x, 0.5, generator=own)

        def block(x, *, scale, inner=inner, kept=kept):
            y = tgl.checkpoint(inner, F.dropout(x, 0.5)) if kept else inner(F.dropout(x, 0.5))
            return F.dropout(y, 0.5) * scale

        y = tgl.checkpoint(block, x, scale=3.0) if kept else block(x, scale=3.0)
        before = own.get_state(), default_generator.get_state()
        y.sum().backward()
        assert (own.get_state(), default_generator.get_state()) == before
        assert x.grad.tolist() == y.tolist() and 0.0 < (y != 0).float().mean().item() < 0.5
        results.append((y.tolist(), x.grad.tolist(), before))
    assert results[0] == results[1]


def test_function_that_fails_or_changes_in_backward_says_so_and_restores_the_generators():
    calls = []

    def block(x):
        calls.append(None)
        y = F.dropout(x, 0.5)
        if len(calls) == 2:
            raise KeyError("second call")
        return 1.0 if len(calls) == 3 else y

    y = tgl.checkpoint(block, tgl.ones(8).requires_grad_()).sum()
    state = default_generator.get_state()
    with pytest.raises(KeyError, match="second call"):
        y.backward(retain_graph=True)
    with pytest.raises(TypeError, match="^checkpoint: fn, called again in backward, returned float"):
        y.backward(retain_graph=True)
    assert default_generator.get_state() == state and tgl.is_grad_enabled()
