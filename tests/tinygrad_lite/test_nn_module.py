"""Module: what it registers, finds, converts and shows."""

import copy

import numpy as np
import pytest

import tinygrad_lite as tgl
from tinygrad_lite import nn


class Tied(nn.Module):
    """An embedding whose weight is also the head's."""

    def __init__(self):
        self.wte = nn.Embedding(5, 3)
        self.body = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 3, bias=False))
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.wte.weight
        self.register_buffer("steps", tgl.tensor([0]))
        self.register_buffer("scratch", tgl.zeros(2), persistent=False)
        self.note = tgl.zeros(3)

    def forward(self, indices):
        return self.head(self.body(self.wte(indices)))


def test_parameters_are_found_by_dotted_name_and_tied_ones_once():
    model = Tied()
    names = ["wte.weight", "body.0.weight", "body.0.bias", "body.2.weight"]
    assert [name for name, _ in model.named_parameters()] == names
    every = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    assert every == [*names, "head.weight"]
    assert model.num_parameters() == 15 + 12 + 4 + 12


def test_a_tied_parameter_sums_the_gradients_of_both_uses():
    model = Tied().double()
    model([0, 1]).sum().backward()
    both = model.wte.weight.grad.numpy().copy()
    untied = copy.deepcopy(model)
    untied.zero_grad()
    untied.head.weight = nn.Parameter(untied.wte.weight.numpy())
    untied([0, 1]).sum().backward()
    apart = untied.wte.weight.grad.numpy() + untied.head.weight.grad.numpy()
    np.testing.assert_allclose(both, apart, rtol=1e-12)


def test_plain_tensors_are_neither_parameters_nor_buffers():
    model = Tied()
    assert [name for name, _ in model.named_buffers()] == ["steps", "scratch"]
    assert "note" not in model.state_dict() and "scratch" not in model.state_dict()


def test_a_subclass_need_not_call_the_base_constructor():
    class Bare(nn.Module):
        def __init__(self):
            self.w = nn.Parameter([1.0])

    assert [name for name, _ in Bare().named_parameters()] == ["w"]


def test_modules_and_children_come_once_parents_first():
    model = Tied()
    assert [name for name, _ in model.named_modules()] == ["", "wte", "body", "body.0", "body.1", "body.2", "head"]
    assert [type(m).__name__ for m in model.children()] == ["Embedding", "Sequential", "Linear"]
    shared = nn.Sequential(a := nn.ReLU(), a)
    assert len(list(shared.modules())) == 2


def test_apply_visits_children_first_and_shared_modules_once():
    a, visited = nn.ReLU(), []
    nn.Sequential(a, nn.Tanh(), a).apply(lambda m: visited.append(type(m).__name__))
    assert visited == ["ReLU", "Tanh", "Sequential"]


def test_train_and_eval_reach_every_module():
    model = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.5)))
    x = tgl.ones(100)
    assert (model(x).numpy() == 0).any()
    assert model.eval() is model and model(x) is x
    assert not any(m.training for m in model.modules())
    assert (model.train()(x).numpy() == 0).any()


def test_zero_grad_forgets_or_overwrites():
    layer = nn.Linear(2, 2)
    layer(tgl.ones(1, 2)).sum().backward()
    layer.zero_grad(set_to_none=False)
    assert not layer.weight.grad.numpy().any()
    layer.zero_grad()
    assert layer.weight.grad is None


def test_frozen_parameters_stay_parameters():
    layer = nn.Linear(2, 2).requires_grad_(False)
    assert len(list(layer.parameters())) == 2 and not layer(tgl.ones(1, 2)).requires_grad
    assert layer.requires_grad_()(tgl.ones(1, 2)).requires_grad


def test_to_converts_floats_in_place_with_their_gradients():
    model = Tied()
    weight = model.wte.weight
    model([0]).sum().backward()
    gradient = weight.grad.numpy().copy()
    assert model.to("float64") is model
    assert model.wte.weight is weight is model.head.weight
    assert weight.dtype == weight.grad.dtype == np.float64 and model.steps.dtype == np.int64
    np.testing.assert_array_equal(weight.grad.numpy(), gradient)
    model([0]).sum().backward()
    np.testing.assert_allclose(weight.grad.numpy(), 2 * gradient, rtol=1e-5, atol=1e-7)
    with pytest.raises(TypeError, match="expected a float dtype or a device"):
        model.to("int64")


def test_moving_to_the_device_it_is_on_changes_nothing():
    layer = nn.Linear(2, 2)
    data = layer.weight.data
    assert layer.to("cpu").weight.data is data


def test_assigning_the_wrong_kind_names_the_attribute():
    layer = nn.Linear(2, 2)
    with pytest.raises(TypeError, match="Linear.weight is a parameter, got a Tensor that is none"):
        layer.weight = tgl.zeros(2, 2)
    layer.bias = None
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    del layer.weight
    assert not list(layer.parameters())


def test_register_buffer_refuses_parameters_and_taken_names():
    layer = nn.Linear(2, 2)
    with pytest.raises(TypeError, match="requires no gradient"):
        layer.register_buffer("b", nn.Parameter([1.0]))
    with pytest.raises(KeyError, match="in_features"):
        layer.register_buffer("in_features", tgl.zeros(1))


def test_a_deep_copy_keeps_ties_and_shares_nothing():
    model = Tied()
    other = copy.deepcopy(model)
    assert other.head.weight is other.wte.weight is not model.wte.weight
    assert not np.shares_memory(other.wte.weight.data, model.wte.weight.data)
    np.testing.assert_array_equal(other([1]).numpy(), model([1]).numpy())


def test_repr_is_a_tree_with_shapes_and_counts():
    assert repr(Tied()).splitlines() == [
        "Tied(): steps (1,), scratch (2,): 43 parameters",
        "├─ wte: Embedding(5, 3): weight (5, 3): 15 parameters",
        "├─ body: Sequential(): 28 parameters",
        "│  ├─ 0: Linear(3, 4, bias=True): weight (4, 3), bias (4,): 16 parameters",
        "│  ├─ 1: GELU(approximate='none'): 0 parameters",
        "│  └─ 2: Linear(4, 3, bias=False): weight (3, 4): 12 parameters",
        "└─ head: Linear(3, 5, bias=False): weight (5, 3) tied: 0 parameters",
    ]


def test_forward_must_be_defined():
    with pytest.raises(NotImplementedError, match="Module: define forward"):
        nn.Module()(1)
