"""state_dict and load_state_dict: copies out, all or nothing in."""

import numpy as np
import pytest

import tinygrad_lite as tgl
from tinygrad_lite import nn


class Small(nn.Module):
    def __init__(self, tie=True):
        self.a = nn.Linear(2, 3)
        self.b = nn.Linear(2, 3, bias=False)
        if tie:
            self.b.weight = self.a.weight
        self.register_buffer("count", tgl.tensor([1, 2]))

    def forward(self, x):
        return self.a(x) + self.b(x)


def test_state_is_copies_under_every_name():
    model = Small()
    state = model.state_dict()
    assert set(state) == {"count", "a.weight", "a.bias", "b.weight"}
    assert state["a.weight"] is state["b.weight"]
    state["a.bias"][:] = 9
    assert not (model.a.bias.numpy() == 9).any()


def test_loading_writes_into_the_arrays_that_are_there():
    source, target = Small(), Small()
    data, tensor = target.a.weight.data, target.a.weight
    assert target.load_state_dict(source.state_dict()) == ([], [])
    assert target.a.weight is tensor and tensor.data is data
    x = tgl.randn(4, 2)
    np.testing.assert_array_equal(target(x).numpy(), source(x).numpy())


def test_loading_takes_tensors_and_other_float_types():
    model = Small()
    state = {name: tgl.tensor(value.astype(np.float64) if value.dtype.kind == "f" else value)
             for name, value in Small().state_dict().items()}  # fmt: skip
    model.load_state_dict(state)
    assert model.a.weight.dtype == np.float32
    np.testing.assert_array_equal(model.a.weight.numpy(), state["a.weight"].numpy().astype(np.float32))


def test_every_mismatch_is_listed_and_nothing_is_written():
    model = Small(tie=False)
    before = model.state_dict()
    state = {
        "a.weight": np.zeros((3, 3)),
        "b.weight": np.zeros((3, 2)),
        "count": np.array([0.5, 1.0]),
        "other": np.zeros(1),
    }
    with pytest.raises(ValueError) as error:
        model.load_state_dict(state)
    message = str(error.value)
    assert "4 mismatch(es)" in message
    for line in (
        "missing: a.bias",
        "unexpected: other",
        "shape of a.weight: expected (3, 2), got (3, 3)",
        "type of count",
    ):
        assert line in message
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_without_strict_names_may_differ_but_shapes_may_not():
    model = Small(tie=False)
    found = model.load_state_dict({"a.bias": np.ones(3), "other": np.zeros(1)}, strict=False)
    assert set(found.missing) == {"a.weight", "b.weight", "count"} and found.unexpected == ["other"]
    assert (model.a.bias.numpy() == 1).all()
    with pytest.raises(ValueError, match="shape of a.bias"):
        model.load_state_dict({"a.bias": np.ones(4)}, strict=False)


def test_a_tied_tensor_may_come_under_one_of_its_names():
    model, state = Small(), Small().state_dict()
    weight = state.pop("a.weight")
    model.load_state_dict(state)
    np.testing.assert_array_equal(model.a.weight.numpy(), weight)


def test_tied_names_with_different_values_are_a_mismatch():
    state = Small(tie=False).state_dict()
    with pytest.raises(ValueError, match="values of b.weight: tied to a.weight"):
        Small().load_state_dict(state)


def test_loading_under_a_recorded_graph_is_found_at_backward():
    model = Small()
    loss = model(tgl.randn(1, 2, requires_grad=True)).square().sum()
    model.load_state_dict(Small().state_dict())
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()
