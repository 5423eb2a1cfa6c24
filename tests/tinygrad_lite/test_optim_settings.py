"""Settings of optimisers: refused by name when wrong, obeyed when changed between steps, carried by a state."""

import numpy as np
import pytest

import tinygrad_lite as tgl
from tinygrad_lite import nn, optim


def parameter(*shape):
    p = nn.Parameter(np.ones(shape or (3,)))
    p.grad = tgl.ones(*p.shape, dtype=p.dtype)
    return p


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda p: optim.SGD([p], lr="0.1"), TypeError, "SGD: lr must be a number, got '0.1'"),
        (lambda p: optim.SGD([p], lr=float("inf")), ValueError, "lr must be at least 0 and finite, got inf"),
        (lambda p: optim.SGD([p], lr=float("nan")), ValueError, "lr must be at least 0 and finite, got nan"),
        (lambda p: optim.Adam([p], betas=(0.9,)), ValueError, r"betas must be two numbers in \[0, 1\), got \(0.9,\)"),
        (lambda p: optim.Adam([p], betas=0.9), ValueError, "betas must be two numbers"),
        (lambda p: optim.AdamW([p], weight_decay=-0.1), ValueError, "weight_decay must be at least 0"),
        (
            lambda p: optim.AdamW([{"params": [p], "learning_rate": 3}]),
            ValueError,
            r"\['learning_rate'\] .* no setting",
        ),
        (lambda p: optim.AdamW([{"lr": 3}]), TypeError, 'a group must be a dict with "params"'),
        (lambda p: optim.AdamW([{"params": [p]}, p]), TypeError, "Tensors and groups are mixed"),
        (lambda p: optim.AdamW([p, {"params": [p]}]), TypeError, "Tensors and groups are mixed"),
        (lambda p: optim.AdamW({"params": [p]}), TypeError, "expected Tensors, or a list of groups, got dict"),
        (lambda p: optim.AdamW(nn.Linear(2, 2)), TypeError, "got Linear: pass module.parameters"),
        (lambda p: optim.AdamW(None), TypeError, "got NoneType"),
        (lambda p: optim.AdamW([tgl.tensor([1, 2])]), TypeError, "parameter 0 must be a float Tensor, got int64"),
        (lambda p: optim.AdamW([p]).add_param_group([p]), TypeError, "a group must be a dict"),
        (lambda p: optim.AdamW([p]).set_lr(-1.0), ValueError, "lr must be at least 0"),
        (lambda p: optim.Muon([parameter(2, 2)], ns_steps=0), ValueError, "ns_steps must be a whole number"),
        (lambda p: optim.Muon([parameter(2, 2)], ns_steps=2.5), ValueError, "ns_steps must be a whole number"),
        (lambda p: optim.MuonAdamW([p]), ValueError, "every group must say use_muon"),
        (lambda p: optim.clip_grad_norm_(nn.Linear(2, 2), 1.0), TypeError, "got Linear: pass module.parameters"),
        (lambda p: optim.clip_grad_norm_([("weight", p)], 1.0), TypeError, "parameter 0 must be a Tensor, got tuple"),
        (lambda p: optim.decay_groups([p], 0.1), TypeError, "decay_groups: expected .* pairs, got Tensor"),
        (lambda p: optim.muon_groups(iter([p])), TypeError, "muon_groups: expected .* pairs, got Tensor"),
    ],
)
def test_misuse_is_refused_by_name(make, error, message):
    with pytest.raises(error, match=message):
        make(parameter())


@pytest.mark.parametrize("name, value", [("lr", -1.0), ("momentum", 1.5), ("nesterov", True), ("rate", 1.0)])
def test_a_setting_changed_to_nonsense_is_refused_before_anything_moves(name, value):
    first, second = parameter(), parameter()
    optimizer = optim.SGD([{"params": [first]}, {"params": [second]}])
    optimizer.param_groups[1][name] = value
    with pytest.raises(ValueError, match=name):
        optimizer.step()
    assert (first.numpy() == 1).all() and (second.numpy() == 1).all()


def test_momentum_switched_on_between_steps_is_obeyed_as_in_pytorch():
    torch = pytest.importorskip("torch")
    ours, theirs = parameter(), torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    mine, peer = optim.SGD([ours], lr=0.1), torch.optim.SGD([theirs], lr=0.1)
    for step in range(6):
        for optimizer, p, ones in ((mine, ours, tgl.ones), (peer, theirs, torch.ones)):
            optimizer.param_groups[0]["momentum"] = 0.9 if step >= 2 else 0.0
            optimizer.param_groups[0]["nesterov"] = step >= 4
            p.grad = ones(3, dtype=p.dtype) * (step + 1.0)
            optimizer.step()
        np.testing.assert_allclose(ours.numpy(), theirs.detach().numpy(), rtol=1e-12)
    assert "momentum_buffer" in mine.state_dict()["state"][0]


def test_a_state_brings_its_settings_and_what_they_need():
    saved = optim.SGD([parameter()], lr=0.1, momentum=0.9)
    saved.step()
    p = parameter()
    p.data[...] = saved.param_groups[0]["params"][0].numpy()
    loaded = optim.SGD([p], lr=0.5)  # without a momentum
    loaded.load_state_dict(saved.state_dict())
    saved.step()
    loaded.step()
    np.testing.assert_array_equal(p.numpy(), saved.param_groups[0]["params"][0].numpy())
    np.testing.assert_allclose(p.numpy(), 1 - 0.1 - 0.1 * 1.9)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s["param_groups"][0].update(lr=-3.0), "group 0: SGD: lr must be at least 0"),
        (lambda s: s["param_groups"][0].pop("lr"), "group 0: no lr"),
        (lambda s: s["param_groups"][0].pop("params"), "group 0: expected 1 parameters, got 0"),
        (lambda s: s["param_groups"][0].update(params=[7]), r"expected parameters 0 to 0 in order, got \[7\]"),
        (lambda s: s["state"].update(abc={}), "state of parameter abc: there are 1"),
        (lambda s: s["state"][0].update(step="x"), "step of parameter 0: expected numbers, got <U1"),
        (lambda s: s["state"][0].update(step=-1), "step of parameter 0: expected a whole number"),
        (lambda s: s["state"][0].update(step=1.5), "step of parameter 0: expected a whole number"),
        (lambda s: s["state"][0].update(momentum_buffer=["a", "b", "c"]), "momentum_buffer .* expected numbers"),
        (lambda s: s["state"][0].update(momentum_buffer=None), r"momentum_buffer .* expected \(3,\), got \(\)"),
        (lambda s: s["state"][0].update(more=1), "expected .*'momentum_buffer', 'step'.*, got .*'more'"),
    ],
)
def test_a_spoiled_state_is_refused_and_changes_nothing(change, message):
    p = parameter()
    optimizer = optim.SGD([p], momentum=0.9)
    optimizer.step()
    before, state = optimizer.state_dict(), optimizer.state_dict()
    change(state)
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(state)
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"] and after["state"][0]["step"] == 1
    np.testing.assert_array_equal(after["state"][0]["momentum_buffer"], before["state"][0]["momentum_buffer"])


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_clipping_gradients_that_are_not_finite_does_as_pytorch(bad):
    torch = pytest.importorskip("torch")
    ours, theirs = nn.Parameter([0.0, 0.0]), torch.nn.Parameter(torch.zeros(2))
    ours.grad, theirs.grad = tgl.tensor([1.0, bad]), torch.tensor([1.0, bad])
    norms = optim.clip_grad_norm_([ours], 1.0), torch.nn.utils.clip_grad_norm_([theirs], 1.0).item()
    np.testing.assert_array_equal(norms[0], norms[1])
    np.testing.assert_array_equal(ours.grad.numpy(), theirs.grad.numpy())


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: optim.WarmupCosine(1.0, 2, 4)(-1), ValueError, "WarmupCosine: steps count from 0, got -1"),
        (lambda: optim.WarmupCosine(0.1, 2, 4, min_lr=0.2), ValueError, "min_lr must be at most lr=0.1, got 0.2"),
        (lambda: optim.WSD(0.1, 2, 4, 2, min_lr=0.2), ValueError, "WSD: min_lr must be at most"),
        (lambda: optim.Constant("1"), TypeError, "Constant: lr must be a number"),
        (lambda: optim.Constant(float("inf")), ValueError, "Constant: lr must be at least 0 and finite"),
        (
            lambda: optim.schedule_from_dict({"schedule": "Constant", "foo": 1}),
            ValueError,
            "do not fit Constant: .*foo",
        ),
        (lambda: optim.schedule_from_dict({"schedule": "Constant"}), ValueError, "do not fit Constant: .*lr"),
        (lambda: optim.schedule_from_dict(None), ValueError, "expected one of"),
        (lambda: optim.Schedule()(0), NotImplementedError, r"define at\(step\)"),
    ],
)
def test_schedules_refuse_nonsense_by_name(make, error, message):
    with pytest.raises(error, match=message):
        make()
