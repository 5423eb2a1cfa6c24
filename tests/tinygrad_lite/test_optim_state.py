"""Saving an optimiser: a run that is stopped and continued is bit for bit the run that was not."""

import json

import numpy as np
import pytest

import tinygrad_lite as tgl
from tinygrad_lite import nn, optim

MAKERS = {
    "SGD": lambda named: optim.SGD([p for _, p in named], lr=0.01, momentum=0.9),
    "SGD dampened": lambda named: optim.SGD([p for _, p in named], lr=0.01, momentum=0.9, dampening=0.3),
    "Adam": lambda named: optim.Adam([p for _, p in named], weight_decay=0.1),
    "AdamW": lambda named: optim.AdamW(optim.decay_groups(named, 0.1), lr=0.01),
    "AdamW amsgrad": lambda named: optim.AdamW([p for _, p in named], lr=0.01, amsgrad=True),
    "Muon": lambda named: optim.Muon([p for _, p in named if p.ndim == 2]),
    "MuonAdamW": lambda named: optim.MuonAdamW(optim.muon_groups(named, 0.1)),
}


def made(name, dtype="float32"):
    model = nn.Sequential(
        nn.Linear(3, 5, generator=tgl.Generator(1)), nn.Tanh(), nn.Linear(5, 2, generator=tgl.Generator(2))
    )
    model.to(dtype)
    return model, MAKERS[name](list(model.named_parameters()))


def train(model, optimizer, steps):
    for step in steps:
        optimizer.zero_grad()
        x = tgl.tensor(np.random.default_rng(step).normal(size=(4, 3))).to(model[0].weight.dtype)
        out = model(x) if step % 3 else model[0](x)  # at every third step half of the parameters have no gradient
        out.square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", MAKERS)
def test_a_continued_run_is_the_same_run(name, dtype):
    model, optimizer = made(name, dtype)
    train(model, optimizer, range(8))
    half_model, half = made(name, dtype)
    train(half_model, half, range(4))
    weights, state = half_model.state_dict(), half.state_dict()
    train(half_model, half, range(4, 6))  # the copies do not follow
    fresh_model, fresh = made(name, dtype)
    fresh_model.load_state_dict(weights)
    fresh.load_state_dict(state)
    train(fresh_model, fresh, range(4, 8))
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(fresh_model.state_dict()[key], value)


def test_state_is_arrays_and_plain_values_in_parameter_order():
    model, optimizer = made("AdamW")
    train(model, optimizer, range(1))  # step 0: the second layer has no gradient
    state = optimizer.state_dict()
    assert [g["params"] for g in state["param_groups"]] == [[0, 1], [2, 3]]  # matrices, then vectors
    assert list(state["state"]) == [0, 2] and state["state"][0]["step"] == 1
    assert state["state"][0]["exp_avg"].shape == (5, 3)
    json.dumps(state["param_groups"])


def test_settings_travel_with_the_state_and_a_file_may_make_strings_of_numbers():
    model, optimizer = made("AdamW")
    train(model, optimizer, range(2))
    optimizer.param_groups[0]["lr"] = 0.5
    state = optimizer.state_dict()
    state["param_groups"] = json.loads(json.dumps(state["param_groups"]))
    state["state"] = {str(k): v for k, v in state["state"].items()}
    _, fresh = made("AdamW")
    fresh.load_state_dict(state)
    assert fresh.param_groups[0]["lr"] == 0.5 and fresh.param_groups[1]["lr"] == 0.01
    np.testing.assert_array_equal(
        fresh.state_dict()["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"]
    )


def test_loading_forgets_what_the_optimizer_had():
    model, optimizer = made("AdamW")
    empty = optimizer.state_dict()
    train(model, optimizer, range(3))
    optimizer.load_state_dict(empty)
    assert optimizer.state_dict()["state"] == {}


def test_every_mismatch_is_listed_and_nothing_is_loaded():
    model, optimizer = made("AdamW")
    train(model, optimizer, range(2))
    state = optimizer.state_dict()
    state["algorithm"] = "Adam"
    state["param_groups"][0]["params"] = [0]
    state["param_groups"][0]["lr"] = 77.0
    state["state"][0]["exp_avg"] = np.zeros((1, 1))
    del state["state"][2]["exp_avg_sq"]
    state["state"][9] = {}
    with pytest.raises(ValueError) as error:
        optimizer.load_state_dict(state)
    for line in (
        "5 mismatch(es)", "algorithm: expected AdamW, got Adam", "group 0: expected 2 parameters, got 1",
        "exp_avg of parameter 0: expected (5, 3), got (1, 1)", "state of parameter 2: expected",
        "state of parameter 9: there are 4 parameters",
    ):  # fmt: skip
        assert line in str(error.value)
    assert optimizer.param_groups[0]["lr"] == 0.01
    with pytest.raises(ValueError, match="as state_dict"):
        optimizer.load_state_dict({})


def test_a_group_added_later_is_trained_and_saved():
    a, b = nn.Parameter([1.0]), nn.Parameter([1.0])
    optimizer = optim.SGD([a], lr=1.0)
    optimizer.add_param_group({"params": b, "lr": 0.5})
    (a + b).sum().backward()
    optimizer.step()
    assert (a.item(), b.item()) == (0.0, 0.5)
    assert len(optimizer.state_dict()["param_groups"]) == 2
    assert "2 parameters" not in repr(optimizer) and "1 parameters, 1 elements: lr=0.5" in repr(optimizer)
