"""Training on "cuda" gives what the CPU gives, with every optimiser."""

import numpy as np
import pytest

import tinygrad_lite as tgl
from tinygrad_lite import functional as F
from tinygrad_lite import nn, optim
from tinygrad_lite.config import settings
from tinygrad_lite.device import get_device

DEVICE = get_device("cuda")
ndarray = DEVICE.xp.ndarray
MAKERS = {
    "SGD": lambda named: optim.SGD([p for _, p in named], lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.1),
    "Adam": lambda named: optim.Adam([p for _, p in named], lr=0.01, weight_decay=0.1),
    "AdamW": lambda named: optim.AdamW(optim.decay_groups(named, 0.1), lr=0.01),
    "MuonAdamW": lambda named: optim.MuonAdamW(optim.muon_groups(named, 0.1)),
}


class Net(nn.Module):
    def __init__(self):
        generator = tgl.Generator(4)
        self.wte = nn.Embedding(7, 6, dtype="float64", generator=generator)
        self.body = nn.Sequential(
            nn.Linear(6, 9, dtype="float64", generator=generator), nn.GELU(), nn.Dropout(0.2, tgl.Generator(5)),
            nn.LayerNorm(9, dtype="float64"), nn.Linear(9, 6, dtype="float64", generator=generator),
        )  # fmt: skip
        self.register_buffer("seen", tgl.tensor([0]))

    def forward(self, indices):
        return F.linear(self.body(self.wte(indices)), self.wte.weight)


def train(name, device, move_at=0):
    """Losses and weights of six steps; the model moves to the device before step `move_at`."""
    rng, model = np.random.default_rng(0), Net()
    optimizer = MAKERS[name](list(model.named_parameters()))
    losses = []
    for step in range(6):
        if step == move_at:
            model.to(device)
        place = model.wte.weight.device
        indices = tgl.tensor(rng.integers(0, 7, (2, 5)), device=place)
        targets = tgl.tensor(rng.integers(0, 7, (2, 5)), device=place)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(indices), targets)
        loss.backward()
        if step % 2:
            optim.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
        else:
            optimizer.step(grad_scale=optim.clip_coefficient(optim.grad_norm(model.parameters()), 0.1))
        losses.append(loss.item())
    return losses, model, optimizer


@pytest.fixture(autouse=True)
def twins(monkeypatch):
    monkeypatch.setattr(settings, "use_fused", False)  # the twins, to the last bits


@pytest.mark.parametrize("move_at", [0, 3])
@pytest.mark.parametrize("name", MAKERS)
def test_training_there_equals_training_here(name, move_at):
    expected, here, _ = train(name, tgl.tensor(0).device)
    losses, there, optimizer = train(name, DEVICE, move_at)
    assert type(there.wte.weight.data) is ndarray and there.seen.device is DEVICE
    np.testing.assert_allclose(losses, expected, rtol=1e-9)
    state = there.state_dict()
    for key, value in here.state_dict().items():
        assert type(state[key]) is np.ndarray
        np.testing.assert_allclose(state[key], value, rtol=1e-9, atol=1e-12)
    there.load_state_dict(state)
    saved = optimizer.state_dict()
    optimizer.load_state_dict(saved)
    for number, entry in optimizer.state_dict()["state"].items():
        for key, value in entry.items():
            np.testing.assert_array_equal(value, saved["state"][number][key])


def test_reassigned_gradients_and_half_precision_there():
    a = nn.Parameter([1.0, 2.0], dtype="float16", device=DEVICE)
    b = nn.Parameter([1.0, 2.0], dtype="float16", device=DEVICE)
    optimizer = optim.AdamW([a, b], lr=1e-4, weight_decay=0.0)
    for _ in range(50):
        (a * 2.0 + b * -1.0).sum().backward()
        a.grad, b.grad = b.grad, a.grad
        optimizer.step()
        optimizer.zero_grad()
    assert type(a.data) is ndarray
    # 50 steps of 1e-4 towards +: a float16 near 1 and 2 resolves 1e-3 and 2e-3, so each step alone would be lost.
    np.testing.assert_allclose(a.detach().to("cpu").numpy().astype(float), [1.005, 2.005], atol=1.1e-3)
    np.testing.assert_allclose(b.detach().to("cpu").numpy().astype(float), [0.995, 1.995], atol=1.1e-3)


def test_functions_without_an_op_of_their_own_work_there():
    x = tgl.tensor(np.arange(6.0).reshape(2, 3), device=DEVICE)
    assert F.one_hot(tgl.tensor([0, 2], device=DEVICE)).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert F.cross_entropy(x, [0, -100], reduction="none").tolist()[1] == 0.0
    assert F.dropout(x, 1.0).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert F.mse_loss(x, np.zeros((2, 3))).item() == 55 / 6
    for fill in (nn.init.normal_, nn.init.uniform_, nn.init.ones_):
        assert type(fill(x).data) is ndarray
