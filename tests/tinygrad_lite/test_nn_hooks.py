"""Hooks on modules: around forward, and where backward passes."""

from typing import NamedTuple

import numpy as np
import pytest

import tinygrad_lite as tgl
from tinygrad_lite import nn


class Product(nn.Module):
    def forward(self, x, y, scale=1.0):
        return x * y * scale


class Two(nn.Module):
    def forward(self, x):
        return x * 2.0, x * 3.0


def leaf(*values):
    return tgl.tensor(list(values), dtype="float64", requires_grad=True)


def test_forward_hooks_see_and_replace_arguments_and_output():
    layer, calls = nn.ReLU(), []
    first = layer.register_forward_pre_hook(lambda m, args: (args[0] * -1.0,))
    second = layer.register_forward_hook(lambda m, args, out: calls.append((m, args[0].tolist(), out.tolist())))
    third = layer.register_forward_hook(lambda m, args, out: out + 1.0)
    assert layer(tgl.tensor([1.0, -2.0])).tolist() == [1.0, 3.0]
    assert calls == [(layer, [-1.0, 2.0], [0.0, 2.0])]
    for handle in (first, second, third):
        handle.remove()
        handle.remove()
    assert layer(tgl.tensor([1.0, -2.0])).tolist() == [1.0, 0.0]


def test_a_handle_removes_its_hook_at_the_end_of_a_with():
    layer = nn.ReLU()
    with layer.register_forward_hook(lambda m, args, out: out * 0.0):
        assert layer(tgl.ones(1)).item() == 0
    assert layer(tgl.ones(1)).item() == 1


def test_backward_hook_sees_the_gradients_of_this_module_alone():
    layer, seen, x = nn.Tanh(), [], leaf(0.5, -1.0)
    layer.register_full_backward_hook(lambda m, gi, go: seen.append((gi[0].numpy(), go[0].numpy())))
    (layer(x) * 3.0 + x * 10.0).sum().backward()
    slope = 1 - np.tanh(x.numpy()) ** 2
    np.testing.assert_allclose(seen[0][1], [3, 3])
    np.testing.assert_allclose(seen[0][0], 3 * slope, rtol=1e-12)
    np.testing.assert_allclose(x.grad.numpy(), 3 * slope + 10, rtol=1e-12)


def test_backward_hook_replaces_what_goes_further_down():
    layer, x = nn.Tanh(), leaf(0.5, -1.0)
    layer.register_full_backward_hook(lambda m, gi, go: (gi[0] * 0.0 + 7.0,))
    layer(x).sum().backward()
    assert x.grad.tolist() == [7, 7]


def test_backward_hook_is_called_once_with_all_inputs():
    layer, calls, x, y = Product(), [], leaf(2.0, 3.0), leaf(5.0, 7.0)
    layer.register_full_backward_hook(lambda m, gi, go: calls.append([g.tolist() for g in gi]))
    layer.register_full_backward_hook(lambda m, gi, go: (gi[0] * 10.0, gi[1]))
    layer(x, y, scale=1.0).sum().backward()
    assert calls == [[[5, 7], [2, 3]]]
    assert x.grad.tolist() == [50, 70] and y.grad.tolist() == [2, 3]


def test_inputs_that_need_no_gradient_have_none():
    layer, calls, x = Product(), [], leaf(2.0)
    layer.register_full_backward_hook(lambda m, gi, go: calls.append(gi))
    layer(tgl.tensor([4.0], dtype="float64"), x).sum().backward()
    ((none, g),) = calls
    assert none is None and g.tolist() == [4]


def test_backward_hook_of_a_module_whose_inputs_are_integers():
    layer, calls = nn.Embedding(4, 2), []
    layer.register_full_backward_hook(lambda m, gi, go: calls.append((gi, go[0].shape)))
    layer(tgl.tensor([1, 3, 1])).sum().backward()
    assert calls == [((None,), (3, 2))]


def test_backward_hook_of_several_outputs_is_called_once():
    class Pair(NamedTuple):
        first: object
        second: object

    class Named(nn.Module):
        def forward(self, x):
            return Pair(x * 2.0, x * 3.0)

    for layer in (Two(), Named()):
        calls, x = [], leaf(1.0, 1.0)
        layer.register_full_backward_hook(lambda m, gi, go: calls.append([g.tolist() for g in (*gi, *go)]))  # noqa: B023
        a, b = layer(x)
        (a * 1.0 + b * 5.0).sum().backward()
        assert calls == [[[17, 17], [1, 1], [5, 5]]]
    assert type(layer(x)) is Pair


def test_backward_hook_runs_again_on_a_retained_graph():
    layer, calls, x = nn.Tanh(), [], leaf(0.5)
    layer.register_full_backward_hook(lambda m, gi, go: calls.append(1))
    loss = layer(x).sum()
    loss.backward(retain_graph=True)
    loss.backward()
    assert len(calls) == 2


def test_backward_hook_with_the_wrong_number_of_gradients_is_refused():
    layer, x = nn.Tanh(), leaf(0.5)
    layer.register_full_backward_hook(lambda m, gi, go: (gi[0], gi[0]))
    with pytest.raises(ValueError, match="hook of Tanh: expected 1 gradients"):
        layer(x).sum().backward()


def test_hooked_modules_compute_under_no_grad():
    layer = nn.Tanh()
    layer.register_full_backward_hook(lambda m, gi, go: None)
    with tgl.no_grad():
        assert layer(leaf(0.0)).node is None


def test_a_hook_must_be_callable():
    with pytest.raises(TypeError, match="expected a callable"):
        nn.Tanh().register_forward_hook(3)
