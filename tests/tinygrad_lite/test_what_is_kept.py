"""What the graph keeps alive: what the rules that can run will read, and nothing else."""

import tracemalloc
import weakref

import numpy as np
import pytest

import tinygrad_lite as tgl
from tinygrad_lite.tensor import functional

M = (16, 16)


def kept(make):
    """Which of the recorded result's input arrays and output array stay alive with the graph alone."""
    inputs, out = make()
    node = out.node
    arrays = [weakref.ref(x.data) for x in inputs] + [weakref.ref(out.data)]
    del inputs, out
    return [ref() is not None for ref in arrays], node


def two(grad_x=True, grad_y=True):
    x, y = tgl.randn(*M) * 1.0, tgl.randn(*M) * 1.0
    return (x.requires_grad_() if grad_x else x), (y.requires_grad_() if grad_y else y)


def binary(f, **flags):
    def make():
        x, y = two(**flags)
        return [x, y], f(x, y)

    return make


def unary(f):
    def make():
        x, _ = two()
        return [x], f(x)

    return make


@pytest.mark.parametrize("name, make, expected", [
    ("add", binary(lambda x, y: x + y), [False, False, False]),
    ("sum", unary(lambda x: x.sum()), [False, False]),
    ("sum dim", unary(lambda x: x.sum(dim=1)), [False, False]),
    ("reshape", unary(lambda x: x.T), [False, False]),
    ("exp", unary(lambda x: x.exp()), [False, True]),
    ("sin", unary(lambda x: x.sin()), [True, False]),
    ("multiply", binary(lambda x, y: x * y), [True, True, False]),
    ("multiply by a frozen one", binary(lambda x, y: x * y, grad_y=False), [False, True, False]),
    ("multiply a frozen one", binary(lambda x, y: x * y, grad_x=False), [True, False, False]),
    ("multiply by a number", unary(lambda x: x * 2.0), [False, False]),
    ("matmul by a frozen one", binary(lambda x, y: x @ y, grad_y=False), [False, True, False]),
    ("divide by a frozen one", binary(lambda x, y: x / y, grad_y=False), [False, True, False]),
    ("concatenate", binary(lambda x, y: tgl.cat([x, y])), [False, False, False]),
    ("relu", unary(lambda x: x.relu()), [False, True]),
    ("dropout", unary(lambda x: functional.dropout(x, p=0.5, key=1, offset=0)), [False, False]),
    ("comparison", unary(lambda x: tgl.where(x.detach() > 0, x, 0.0)), [False, False]),
])  # fmt: skip
def test_only_what_the_rules_read_is_kept(name, make, expected):
    alive, node = kept(make)
    assert alive == expected and node is not None


def test_frozen_inputs_make_no_node():
    x, y = two(grad_x=False, grad_y=False)
    assert (x * y).node is None and (x > y).node is None and x.exp().sum().node is None


def test_pow_with_a_constant_exponent_takes_no_logarithm():
    x = tgl.tensor([-2.0, 3.0]).requires_grad_()
    for exponent in (3, tgl.tensor(3.0), np.float32(3)):
        x.grad = None
        with np.errstate(all="raise"):
            (x**exponent).sum().backward()
        assert x.grad.tolist() == [12.0, 27.0]


def test_index_arrays_are_copied_when_the_graph_keeps_them():
    x, ids = tgl.randn(4, 2).requires_grad_(), np.array([0, 1])
    y = x[ids].sum()
    ids[:] = 3
    y.backward()
    assert x.grad.numpy()[:, 0].tolist() == [1.0, 1.0, 0.0, 0.0]


def test_backward_frees_what_was_saved_as_it_goes():
    x = tgl.randn(256, 1024).requires_grad_()
    tracemalloc.start()
    y = x
    for _ in range(20):
        y = y.tanh()
    total = y.sum()
    del y
    recorded = tracemalloc.get_traced_memory()[0]
    total.backward()
    tracemalloc.reset_peak()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    array = 256 * 1024 * 4
    assert 20 * array <= recorded < 21 * array
    assert after < 2.5 * array  # the gradient, while `total` still holds the nodes


def test_unused_activations_die_with_their_tensors():
    x = tgl.randn(256, 1024).requires_grad_()
    tracemalloc.start()
    y = x
    for _ in range(20):
        y = y + 1.0
    assert tracemalloc.get_traced_memory()[0] < 2 * 256 * 1024 * 4
    tracemalloc.stop()
    del y
