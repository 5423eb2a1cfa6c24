"""Layers: shapes, starting values, containers."""

import math

import numpy as np
import pytest

import tinygrad_lite as tgl
from tinygrad_lite import functional as F
from tinygrad_lite import nn


def test_linear_starts_within_its_bound_and_from_the_generator():
    layer = nn.Linear(100, 50, generator=tgl.Generator(3))
    again = nn.Linear(100, 50, generator=tgl.Generator(3))
    for p, q in zip(layer.parameters(), again.parameters(), strict=True):
        assert p.numpy().min() >= -0.1 and p.numpy().max() <= 0.1 and p.numpy().std() > 0.05
        np.testing.assert_array_equal(p.numpy(), q.numpy())


def test_layers_draw_from_the_default_generator_otherwise():
    tgl.manual_seed(7)
    first = nn.Embedding(10, 4).weight.numpy()
    tgl.manual_seed(7)
    np.testing.assert_array_equal(nn.Embedding(10, 4).weight.numpy(), first)


def test_embedding_and_norms_equal_their_functions():
    x = tgl.randn(2, 3, 4)
    e, ln, bare, rms = nn.Embedding(6, 4), nn.LayerNorm(4), nn.LayerNorm(4, bias=False), nn.RMSNorm(4)
    assert e([[1, 2], [3, 0]]).shape == (2, 2, 4)
    np.testing.assert_array_equal(ln(x).numpy(), F.layer_norm(x, ln.weight, ln.bias).numpy())
    np.testing.assert_array_equal(ln(x).numpy(), bare(x).numpy())
    np.testing.assert_array_equal(rms(x).numpy(), F.rms_norm(x, rms.weight).numpy())


@pytest.mark.parametrize(
    "layer, function",
    [
        (nn.ReLU(), F.relu), (nn.LeakyReLU(0.3), lambda x: F.leaky_relu(x, 0.3)),
        (nn.ELU(2.0), lambda x: F.elu(x, 2.0)), (nn.GELU("tanh"), lambda x: F.gelu(x, "tanh")),
        (nn.SiLU(), F.silu), (nn.SwiGLU(), F.swiglu), (nn.Softplus(), F.softplus), (nn.Sigmoid(), F.sigmoid),
        (nn.Tanh(), F.tanh), (nn.Softmax(0), lambda x: F.softmax(x, 0)), (nn.Identity(), lambda x: x),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_activation_module_equals_its_function(layer, function):
    x = tgl.randn(3, 4)
    np.testing.assert_array_equal(layer(x).numpy(), function(x).numpy())


def test_dtype_of_a_layer():
    layer = nn.Linear(2, 3, dtype="float64")
    assert {p.dtype for p in layer.parameters()} == {np.dtype("float64")}


def test_dropout_module_uses_its_own_generator():
    x = tgl.ones(200)
    a, b = nn.Dropout(0.5, tgl.Generator(1)), nn.Dropout(0.5, tgl.Generator(1))
    np.testing.assert_array_equal(a(x).numpy(), b(x).numpy())
    with pytest.raises(ValueError, match="Dropout: p"):
        nn.Dropout(-0.1)


def test_initial_values_have_the_asked_distribution():
    x = nn.Parameter(np.zeros((300, 200), np.float32))
    nn.init.normal_(x, 1.0, 2.0, tgl.Generator(1))
    assert abs(x.numpy().mean() - 1) < 0.05 and abs(x.numpy().std() - 2) < 0.05
    nn.init.uniform_(x, -3.0, 1.0)
    assert -3 <= x.numpy().min() < -2.9 and 0.9 < x.numpy().max() < 1
    nn.init.xavier_uniform_(x)
    assert math.isclose(np.abs(x.numpy()).max(), math.sqrt(6 / 500), rel_tol=1e-3)
    nn.init.kaiming_uniform_(x)
    assert math.isclose(np.abs(x.numpy()).max(), math.sqrt(6 / 200), rel_tol=1e-3)
    assert nn.init.ones_(x).numpy().all() and not nn.init.zeros_(x).numpy().any()
    assert (nn.init.constant_(x, 2.5).numpy() == 2.5).all()
    with pytest.raises(ValueError, match="at least two axes"):
        nn.init.xavier_uniform_(nn.Parameter([1.0]))


def test_writing_initial_values_under_a_recorded_graph_is_found_at_backward():
    x = nn.Parameter([1.0, 2.0])
    y = (x * x).sum()
    nn.init.zeros_(x)
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_containers_index_slice_grow_and_replace():
    blocks = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    assert len(blocks) == 3 and blocks[-1] is blocks[2] and list(blocks)[1] is blocks[1]
    assert isinstance(blocks[1:], nn.ModuleList) and blocks[1:][0] is blocks[1]
    blocks.append(nn.ReLU())
    blocks[0] = nn.Tanh()
    assert [name for name, _ in blocks.named_parameters()] == ["1.weight", "1.bias", "2.weight", "2.bias"]
    with pytest.raises(IndexError, match="index 4 is out of range for 4"):
        blocks[4]
    with pytest.raises(TypeError, match="expected a Module, got function"):
        blocks.append(lambda x: x)


def test_sequential_chains_and_slices():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    x = tgl.randn(4, 2)
    np.testing.assert_array_equal(net(x).numpy(), net[2](net[:2](x)).numpy())
