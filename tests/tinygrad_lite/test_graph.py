"""The recorded graph: long chains, freeing, second walks, hooks, modes, versions of what was saved."""

import gc
import threading
import time

import numpy as np
import pytest

import tinygrad_lite as tgl
from tinygrad_lite.autograd.node import Node


def leaf(*values):
    return tgl.tensor(list(values)).requires_grad_()


# -- size -----------------------------------------------------------------------------------------------------------
def test_chain_of_100000_ops_walks_back_without_recursion():
    x = leaf(1.0, 2.0)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    y.sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_chain_of_100000_ops_differentiates_twice():
    x = leaf(0.5)
    y = x
    for _ in range(20_000):
        y = y * 1.0001
    (g,) = tgl.grad((y * y).sum(), x, create_graph=True)
    (h,) = tgl.grad(g.sum(), x)
    assert np.isfinite(h.item()) and h.item() > 0


def test_graph_of_a_million_nodes_is_freed_without_recursion_and_quickly():
    x = leaf(1.0)
    y = -x
    op, node, device = y.node.op, y.node, y.device
    for _ in range(1_000_000):
        node = Node(op, (node,), (), None, y.data, device)
    y.node = node
    start = time.perf_counter()
    del y, node
    gc.collect()
    assert time.perf_counter() - start < 10.0


# -- a second walk --------------------------------------------------------------------------------------------------
def test_second_backward_raises_naming_the_op():
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="^sum: .*retain_graph=True"):
        y.backward()


def test_retain_graph_walks_twice():
    x = leaf(1.0, 2.0)
    y = x.exp().sum()
    y.backward(retain_graph=True)
    once = x.grad.numpy().copy()
    y.backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * once)


def test_two_outputs_of_one_graph_share_what_is_not_freed():
    x = leaf(3.0)
    y = x * 2.0
    a, b = y.sum(), y * y
    a.backward(retain_graph=True)
    b.backward()
    assert x.grad.item() == 2 + 2 * 6 * 2


def test_backward_needs_one_element_or_a_gradient():
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match="^backward: .*one element"):
        (x * 2.0).backward()
    with pytest.raises(ValueError, match="^backward: gradient must be"):
        (x * 2.0).backward(tgl.ones(3))
    with pytest.raises(RuntimeError, match="^backward: .*requires_grad_"):
        tgl.ones(1).backward()
    (x * 2.0).backward([1.0, 10.0])
    assert x.grad.tolist() == [2.0, 20.0]


# -- versions -------------------------------------------------------------------------------------------------------
def test_constant_changed_after_use_raises_naming_the_op():
    x, c = leaf(1.0, 2.0), tgl.tensor([3.0, 4.0])
    y = (x * c).sum()
    c += 1.0
    with pytest.raises(RuntimeError, match="^multiply: .*changed in place"):
        y.backward()


def test_leaf_changed_after_use_raises_naming_the_op():
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    with tgl.no_grad():
        x -= 0.1
    with pytest.raises(RuntimeError, match="^multiply: .*changed in place"):
        y.backward()


def test_change_that_no_rule_reads_is_no_error():
    x, c = leaf(1.0, 2.0), tgl.tensor([3.0, 4.0])
    y = (x + c).sum()
    c += 1.0
    y.backward()
    assert x.grad.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    "view", [lambda c: c.reshape(2), lambda c: c[0:2], lambda c: c.detach(), lambda c: c.T, lambda c: c.flip(0)]
)
def test_views_share_the_version(view):
    x, c = leaf(1.0, 2.0), tgl.tensor([3.0, 4.0])
    y = (x * c).sum()
    v = view(c)
    v[0] = 9.0
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()
    x2, c2 = leaf(1.0, 2.0), tgl.tensor([3.0, 4.0])
    y2 = (x2 * view(c2)).sum()
    c2.zero_()
    with pytest.raises(RuntimeError, match="changed in place"):
        y2.backward()


@pytest.mark.parametrize("write", [
    lambda y: y.__iadd__(1.0), lambda y: y.__imul__(2.0), lambda y: y.__setitem__(0, 1.0), lambda y: y.zero_(),
    lambda y: y.copy_([0.0, 0.0]), lambda y: y.__isub__(1.0), lambda y: y.__itruediv__(2.0), lambda y: y.fill_(3.0),
])  # fmt: skip
def test_in_place_on_a_recorded_result_raises_naming_the_other_form(write):
    y = leaf(1.0, 2.0).exp()
    with pytest.raises(RuntimeError, match=r"write x = "):
        write(y)
    with pytest.raises(RuntimeError, match=r"write x = "), tgl.no_grad():
        write(y)
    with pytest.raises(RuntimeError, match=r"no_grad\(\) on a leaf"):
        write(leaf(1.0, 2.0))


def test_memory_of_a_recorded_result_cannot_be_written_through_detach_or_a_view():
    x = leaf(1.0, 2.0)
    y = x.exp()
    with pytest.raises(RuntimeError, match="shares this memory"):
        y.detach().zero_()
    with tgl.no_grad(), pytest.raises(RuntimeError, match="shares this memory"):
        y.reshape(2)[0:1].fill_(0.0)
    copy = y.detach().clone()
    copy.zero_()
    with pytest.raises(ValueError, match="read-only"):
        y.detach().numpy()[0] = 0.0
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.exp([1.0, 2.0]), rtol=1e-6)


def test_writing_a_recorded_value_into_a_plain_tensor_raises_instead_of_losing_its_gradient():
    x, plain = leaf(1.0, 2.0), tgl.zeros(2)
    for write in (lambda: plain.__iadd__(x), lambda: plain.__setitem__(0, x[0]), lambda: plain.copy_(x * 2.0)):
        with pytest.raises(RuntimeError, match="gradient of what is written would be lost"):
            write()
    plain += x.detach()
    assert plain.tolist() == [1.0, 2.0]


def test_numpy_of_a_recorded_tensor_is_read_only():
    x = leaf(1.0, 2.0)
    for t in (x, x * 2.0):
        with pytest.raises(ValueError, match="read-only"):
            t.numpy()[0] = 1.0
    plain = tgl.zeros(2)
    plain.numpy()[0] = 5.0
    assert plain[0].item() == 5.0


# -- hooks ----------------------------------------------------------------------------------------------------------
def test_hook_sees_the_gradient_once_and_may_replace_it():
    x = leaf(1.0, 2.0)
    y = x * 3.0
    seen = []
    handle = y.register_hook(lambda g: seen.append(g.tolist()))
    y.register_hook(lambda g: g * 10.0)
    (y + y).sum().backward()
    assert seen == [[2.0, 2.0]] and x.grad.tolist() == [60.0, 60.0]
    handle.remove()
    handle.remove()
    x.grad = None
    z = leaf(1.0)
    z.register_hook(lambda g: g * 0.0)
    (z * 5.0).sum().backward()
    assert z.grad.item() == 0.0 and len(seen) == 1


def test_hook_cannot_write_into_a_gradient_that_others_share():
    x, y = leaf(1.0), leaf(1.0)
    x.register_hook(lambda g: g.__imul__(2.0))
    with pytest.raises(RuntimeError, match="shares this memory"):
        (x + y).sum().backward()


def test_hook_must_keep_the_shape():
    x = leaf(1.0, 2.0)
    x.register_hook(lambda g: g.sum())
    with pytest.raises(ValueError, match="^hook: "):
        x.sum().backward()


def test_retain_grad_keeps_the_gradient_of_a_result():
    x = leaf(1.0, 2.0)
    y = x * 2.0
    y.retain_grad()
    (y * y).sum().backward()
    assert y.grad.tolist() == [4.0, 8.0] and not y.is_leaf and x.is_leaf
    assert (x * 2.0).grad is None


# -- modes ----------------------------------------------------------------------------------------------------------
def test_no_grad_and_enable_grad_nest_and_decorate():
    x = leaf(1.0)

    @tgl.no_grad()
    def double(x):
        return x * 2.0

    assert double(x).node is None and tgl.is_grad_enabled()
    with tgl.no_grad():
        assert not tgl.is_grad_enabled()
        with tgl.enable_grad():
            assert (x * 2.0).requires_grad
        assert not (x * 2.0).requires_grad
        with pytest.raises(KeyError), tgl.enable_grad():
            raise KeyError
        assert not tgl.is_grad_enabled()
    assert (x * 2.0).requires_grad


def test_grad_mode_is_of_the_thread():
    results = {}
    inside, done = threading.Event(), threading.Event()

    def other():
        with tgl.no_grad():
            inside.set()
            done.wait(5)
            results["other"] = (leaf(1.0) * 2.0).requires_grad

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait(5)
    results["main"] = (leaf(1.0) * 2.0).requires_grad
    done.set()
    thread.join()
    assert results == {"main": True, "other": False}


def test_no_grad_decorates_without_parentheses():
    @tgl.no_grad
    def double(x):
        """Twice."""
        return x * 2.0

    assert double(leaf(1.0)).node is None and double.__doc__ == "Twice." and tgl.is_grad_enabled()
    with pytest.raises(TypeError, match="^no_grad: decorates a function, got int"):
        tgl.no_grad(3)


def test_generator_under_no_grad_keeps_its_mode_to_itself():
    closed = []

    @tgl.no_grad()
    def steps(x):
        try:
            y = x * 2.0
            while True:
                try:
                    sent = yield y
                    if sent is None:
                        return "end"
                    y = x * sent
                except KeyError:
                    y = x * 0.0
        finally:
            closed.append(tgl.is_grad_enabled())

    x = leaf(1.0)
    walk = steps(x)
    assert next(walk).node is None and tgl.is_grad_enabled() and (x * 1.0).requires_grad
    assert walk.send(5.0).node is None and walk.throw(KeyError()).item() == 0.0 and tgl.is_grad_enabled()
    with pytest.raises(StopIteration) as stopped:
        walk.send(None)
    assert stopped.value.value == "end" and tgl.is_grad_enabled()
    other = steps(x)
    next(other)
    other.close()
    assert closed == [False, False] and tgl.is_grad_enabled()


@pytest.mark.parametrize("mode", [tgl.no_grad, tgl.enable_grad])
def test_stepping_through_backward_leaves_the_grad_mode_alone(mode):
    x = leaf(2.0)
    y = x**3
    with mode():
        expected = tgl.is_grad_enabled()
        for step in y._backward_steps(y, create_graph=True):
            assert tgl.is_grad_enabled() == expected, step
            assert (x * 1.0).requires_grad == expected
        abandoned = y._backward_steps(y, create_graph=True)
        next(abandoned)
        assert tgl.is_grad_enabled() == expected
    assert tgl.is_grad_enabled() and x.grad.requires_grad and x.grad.item() == 12.0
    abandoned.close()
    assert tgl.is_grad_enabled()


def test_integers_cannot_require_a_gradient_and_results_cannot_stop():
    with pytest.raises(TypeError, match="^requires_grad: "):
        tgl.tensor([1, 2]).requires_grad_()
    with pytest.raises(RuntimeError, match="^requires_grad: .*detach"):
        (leaf(1.0) * 2.0).requires_grad_(False)


def test_grad_leaves_dot_grad_alone_and_reaches_inner_results():
    x = leaf(2.0)
    y = x * 3.0
    z = y * y
    gx, gy = tgl.grad(z.sum(), [x, y])
    assert (gx.item(), gy.item()) == (36.0, 12.0) and x.grad is None
    with pytest.raises(RuntimeError, match="^grad: no output depends on input 0"):
        tgl.grad((x * 2.0).sum(), leaf(1.0))
    assert tgl.grad((x * 2.0).sum(), leaf(1.0), allow_unused=True) == (None,)
