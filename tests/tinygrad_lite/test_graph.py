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


@pytest.mark.slow
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
    lambda y: y.__ifloordiv__(2.0), lambda y: y.__imod__(2.0), lambda y: y.__ipow__(2.0),
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


def test_hook_returns_none_or_a_tensor_of_the_same_kind_or_is_refused():
    for returned, message in (
        (np.ones(2), "must return None or a Tensor, got ndarray"),
        (3.0, "must return None or a Tensor, got float"),
        (
            tgl.ones(2, dtype="float64"),
            r"must return a gradient as its tensor, float32 \(2,\) on cpu, got float64 \(2,\)",
        ),
    ):
        x = leaf(1.0, 2.0)
        x.register_hook(lambda g, returned=returned: returned)
        with pytest.raises((TypeError, ValueError), match=f"^hook: {message}"):
            (x * 2.0).sum().backward()
    with pytest.raises(TypeError, match="^hook: expected a callable, got int"):
        leaf(1.0).register_hook(3)


def test_hook_ends_with_its_block_and_may_remove_itself():
    x, seen = leaf(1.0), []
    with x.register_hook(lambda g: seen.append("block")):
        (x * 2.0).backward()
    handle = x.register_hook(lambda g: (seen.append("once"), handle.remove())[0])
    for _ in range(2):
        (x * 2.0).backward()
    assert seen == ["block", "once"]


def test_hook_must_keep_the_shape():
    x = leaf(1.0, 2.0)
    x.register_hook(lambda g: g.sum())
    with pytest.raises(ValueError, match="^hook: "):
        x.sum().backward()


def test_retain_grad_keeps_the_gradient_of_a_result():
    x = leaf(1.0, 2.0)
    y = x * 2.0
    y.retain_grad()
    (y * y).sum().backward(retain_graph=True)
    assert y.grad.tolist() == [4.0, 8.0] and not y.is_leaf and x.is_leaf
    (y * 1.0).sum().backward(retain_graph=True)
    assert y.grad.tolist() == [5.0, 9.0]  # added up, as a leaf's is
    with pytest.raises(RuntimeError, match="^retain_grad: "):
        tgl.ones(1).retain_grad()
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


def test_in_place_operators_write_where_the_tensor_stands():
    x, mask = tgl.tensor([5.0, 7.0]), tgl.tensor([True, False])
    y, other = x, mask
    x += 1.0
    x -= 2.0
    x *= 3.0
    x /= 2.0
    assert y is x and x.tolist() == [6.0, 9.0]
    x //= 2.0
    assert x.tolist() == [3.0, 4.0]
    x %= 3.0
    x **= 2.0
    assert y is x and x.tolist() == [0.0, 1.0]
    mask &= True
    mask |= tgl.tensor([False, True])
    mask ^= tgl.tensor([True, False])
    assert other is mask and mask.tolist() == [False, True]
    with pytest.raises(TypeError, match=r"^\|=: expected bool tensors"):
        x |= mask


def test_memory_that_is_read_only_is_refused_with_the_way_out():
    for x in (tgl.ones(1).expand(3), tgl.as_tensor(np.broadcast_to(np.float32(1), (3,)))):
        for write in (lambda x=x: x.__iadd__(1.0), lambda x=x: x.__setitem__(0, 1.0), lambda x=x: x.zero_()):
            with pytest.raises(ValueError, match="read-only.*clone"):
                write()


def test_grad_takes_arrays_and_names_itself_in_errors():
    x = leaf(1.0, 2.0)
    for v in (np.array([1.0, 10.0]), [np.array([1.0, 10.0])], [tgl.tensor([1, 10])]):
        assert tgl.grad(x * 2.0, x, v)[0].tolist() == [2.0, 20.0]
    assert [g.tolist() for g in tgl.grad([x.sum(), (x * 3.0).sum()], [x, x])] == [[4.0, 4.0]] * 2
    for call, kind, message in (
        (lambda: tgl.grad(x * 2.0, x), RuntimeError, "^grad: the output has shape .* pass grad_outputs="),
        (
            lambda: tgl.grad(x.sum(), 3),
            TypeError,
            "^grad: expected a Tensor or a sequence of Tensors as inputs, got int",
        ),
        (lambda: tgl.grad(x.sum(), [np.ones(2)]), TypeError, "^grad: expected .* got ndarray"),
        (lambda: tgl.grad(3, x), TypeError, "^grad: |not iterable"),
        (lambda: tgl.grad([x.sum()], x, [None, None]), ValueError, "^grad: expected 1 grad_outputs"),
        (lambda: tgl.grad(x.sum(), tgl.ones(1)), RuntimeError, "^grad: input 0 does not require"),
        (lambda: (x * 2.0).backward("a"), TypeError, "^backward: expected a Tensor, an array or a number, got str"),
        (lambda: setattr(x, "grad", np.ones(2)), TypeError, "^grad: expected None or a Tensor, got ndarray"),
        (
            lambda: setattr(x, "grad", tgl.ones(2, dtype="float64")),
            ValueError,
            "^grad: expected float32 .* got float64",
        ),
        (lambda: setattr(tgl.ones(2), "grad", tgl.ones(2)), RuntimeError, "^grad: only a leaf"),
    ):
        with pytest.raises(kind, match=message):
            call()


# -- products with Jacobians ----------------------------------------------------------------------------------------
def test_products_of_functions_that_do_not_depend_on_their_input():
    x, constant = leaf(1.0, 2.0), tgl.ones(3)
    assert tgl.jvp(lambda x: constant, x, tgl.ones(2))[1].tolist() == [0.0] * 3
    assert tgl.vjp(lambda x: constant, x, tgl.ones(3))[1] == (None,)
    assert tgl.jacobian(lambda x: constant, x).tolist() == [[0.0, 0.0]] * 3
    assert tgl.jacobian(lambda x: x[:0], x).shape == (0, 2)
    assert (
        tgl.hessian(lambda x: constant[0], x).tolist() == tgl.hessian(lambda x: x.sum(), x).tolist() == [[0.0] * 2] * 2
    )


def test_products_take_arrays_and_name_what_does_not_fit():
    x = leaf(1.0, 2.0)
    assert tgl.jvp(lambda x: x * x, x, np.array([1.0, 10.0]))[1].tolist() == [2.0, 40.0]
    assert tgl.vjp(lambda x: x * x, x, np.array([1.0, 10.0]))[1][0].tolist() == [2.0, 40.0]
    two = [tgl.ones(2), tgl.ones(2)]
    for call, kind, message in (
        (
            lambda: tgl.jvp(lambda x: x, x, tgl.ones(3)),
            ValueError,
            r"^jvp: v must have input's shape, \(2,\), got \(3,\)",
        ),
        (lambda: tgl.jvp(lambda x: x, x, two), ValueError, r"^jvp: v must have input's shape"),
        (lambda: tgl.vjp(lambda x: x, x, tgl.ones(3)), ValueError, r"^vjp: v must have the output's shape"),
        (
            lambda: tgl.jvp(lambda x: (x, x), x, tgl.ones(2)),
            TypeError,
            "^jvp: the function must return one Tensor, got tuple",
        ),
        (lambda: tgl.vjp(lambda x: 1.0, x), TypeError, "^vjp: the function must return one Tensor, got float"),
        (lambda: tgl.jacobian(lambda x: [x], x), TypeError, "^jacobian: the function must return one Tensor, got list"),
        (lambda: tgl.hessian(lambda x: x, x), ValueError, "^hessian: the function must return one element"),
        (lambda: tgl.hessian(lambda x, y: x, (x, x)), TypeError, "^hessian: expected one Tensor, got tuple"),
        (lambda: tgl.jacobian(lambda x: x, np.ones(2)), TypeError, "^jacobian: expected a Tensor"),
    ):
        with pytest.raises(kind, match=message):
            call()


@pytest.mark.parametrize("fn", [lambda x: x.exp() * x.flip(0), lambda x: (x @ x).reshape(1), lambda x: x.cumprod(0)])
def test_jvp_vjp_and_jacobian_agree(fn):
    x, v = tgl.tensor([0.5, -1.0, 2.0], dtype="float64"), tgl.tensor([1.0, 0.3, -2.0], dtype="float64")
    jacobian = tgl.jacobian(fn, x).numpy()
    np.testing.assert_allclose(tgl.jvp(fn, x, v)[1].numpy(), jacobian @ v.numpy(), rtol=1e-13)
    u = tgl.tensor(np.linspace(-1.0, 2.0, len(jacobian)))
    np.testing.assert_allclose(tgl.vjp(fn, x, u)[1][0].numpy(), u.numpy() @ jacobian, rtol=1e-13)


def test_hessian_is_symmetric_and_the_jacobian_of_the_gradient_also_under_no_grad():
    x = tgl.tensor([0.5, -1.0, 2.0], dtype="float64")
    with tgl.no_grad():
        found = tgl.hessian(lambda x: (x.exp() * x.roll(1)).sum(), x).numpy()
    e = np.exp(x.numpy())
    expected = np.diag(e * np.roll(x.numpy(), 1))
    for i in range(3):
        expected[i, i - 1] += e[i]
        expected[i - 1, i] += e[i]
    np.testing.assert_allclose(found, expected, rtol=1e-13)
