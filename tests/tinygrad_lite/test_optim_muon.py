"""Muon: the iteration makes matrices nearly orthogonal, and the groups keep it to hidden matrices."""

import numpy as np
import pytest

import tinygrad_lite as tgl
from tinygrad_lite import Tensor, nn, optim, threads
from tinygrad_lite.config import settings

A, B, C = 3.4445, -4.7750, 2.0315


def newton_schulz(g, steps=5):
    """The published iteration, word for word."""
    x = g / (np.sqrt((g * g).sum()) + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(steps):
        square = x @ x.T
        x = A * x + (B * square + C * square @ square) @ x
    return x.T if tall else x


@pytest.mark.parametrize("shape", [(4, 4), (3, 7), (7, 3), (1, 5), (33, 31)])
@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_is_its_formula(shape, nesterov):
    rng = np.random.default_rng(0)
    p, v = rng.normal(size=shape), np.zeros(shape)
    x = nn.Parameter(p.copy())
    other = nn.Parameter(np.ones((2, 2)))
    optimizer = optim.Muon([other, x], lr=0.1, momentum=0.8, nesterov=nesterov, weight_decay=0.5)
    for _ in range(4):
        g = rng.normal(size=shape)
        x.grad = tgl.tensor(g * 2.0)
        optimizer.step(grad_scale=0.5)
        v = 0.8 * v + g
        u = newton_schulz(g + 0.8 * v if nesterov else v)
        p = p * (1 - 0.1 * 0.5) - 0.1 * max(1, shape[0] / shape[1]) ** 0.5 * u
        np.testing.assert_allclose(x.numpy(), p, rtol=1e-9, atol=1e-12)
    assert (other.numpy() == 1).all()


def test_the_update_has_singular_values_near_one():
    rng = np.random.default_rng(1)
    x = nn.Parameter(np.zeros((16, 48)))
    optimizer = optim.Muon([x], lr=1.0)
    x.grad = tgl.tensor(rng.normal(size=(16, 48)))
    optimizer.step()
    singular = np.linalg.svd(x.numpy(), compute_uv=False)
    assert 0.6 < singular.min() and singular.max() < 1.3


def test_equals_pytorch_up_to_its_bfloat16_iteration():
    torch = pytest.importorskip("torch")
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    rng = np.random.default_rng(2)
    start = rng.normal(size=(8, 12)).astype(np.float32)
    x, y = nn.Parameter(start), torch.nn.Parameter(torch.tensor(start))
    ours, theirs = optim.Muon([x], lr=0.1), torch.optim.Muon([y], lr=0.1, weight_decay=0.0)
    for _ in range(3):
        g = rng.normal(size=(8, 12)).astype(np.float32)
        x.grad, y.grad = tgl.tensor(g), torch.tensor(g)
        ours.step()
        theirs.step()
    # Theirs iterates in bfloat16, 8 bits: entries of an orthogonal update are about 0.3, times lr and 3 steps.
    np.testing.assert_allclose(x.numpy(), y.detach().numpy(), atol=3 * 0.1 * 0.05)


@pytest.mark.parametrize("shape", [(8, 12), (12, 8), (6, 6)])
@pytest.mark.parametrize("nesterov", [True, False])
def test_equals_pytorch_over_100_steps_where_its_iteration_keeps_float64(shape, nesterov, monkeypatch):
    torch = pytest.importorskip("torch")
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda self: self.clone())
    rng = np.random.default_rng(4)
    start = rng.normal(size=shape)
    x, y = nn.Parameter(start), torch.nn.Parameter(torch.tensor(start))
    options = dict(lr=0.05, momentum=0.9, nesterov=nesterov, weight_decay=0.1)
    ours, theirs = optim.Muon([x], **options), torch.optim.Muon([y], **options)
    for _ in range(100):
        g = rng.normal(size=shape)
        x.grad, y.grad = tgl.tensor(g), torch.tensor(g)
        ours.step()
        theirs.step()
    # Theirs divides by max(norm, 1e-7), ours by norm + 1e-7 of a momentum ten times as large, as first published.
    np.testing.assert_allclose(x.numpy(), y.detach().numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [1e25, 1e-3])
def test_the_update_does_not_depend_on_the_size_of_the_gradient(size):
    g, moved = np.random.default_rng(5).normal(size=(3, 4)).astype(np.float32), []
    for factor in (1.0, size):  # in float32 the squares of 1e25 overflow
        x = nn.Parameter(np.zeros((3, 4), np.float32))
        optimizer = optim.Muon([x], lr=1.0)
        x.grad = tgl.tensor(g * np.float32(factor))
        optimizer.step()
        moved.append(x.numpy())
    # 5 rounds stretch the small singular values by up to 3.44 each: roundings of 1e-7, and 1e-7 / 1e-3 of the guard.
    np.testing.assert_allclose(moved[0], moved[1], rtol=0, atol=2e-3)


def test_a_zero_gradient_moves_nothing():
    x = nn.Parameter(np.ones((2, 3)))
    optimizer = optim.Muon([x])
    x.grad = tgl.zeros(2, 3, dtype="float64")
    optimizer.step()
    assert (x.numpy() == 1).all()


def test_only_matrices_are_taken():
    with pytest.raises(ValueError, match=r"must be a matrix, got \(3,\)"):
        optim.Muon([nn.Parameter([1.0, 2.0, 3.0])])
    with pytest.raises(ValueError, match="use_muon"):
        optim.MuonAdamW([{"params": [nn.Parameter([1.0])]}])


class Model(nn.Module):
    def __init__(self):
        self.wte = nn.Embedding(6, 4)
        self.block = nn.Linear(4, 4)
        self.lm_head = nn.Linear(4, 6, bias=False)

    def forward(self, indices):
        return self.lm_head(self.block(self.wte(indices)).relu())


def test_groups_send_hidden_matrices_to_muon_and_the_rest_to_adamw():
    model = Model()
    muon, matrices, vectors = optim.muon_groups(model.named_parameters(), 0.1)
    assert muon["use_muon"] and muon["params"][0] is model.block.weight and muon["weight_decay"] == 0.1
    assert not matrices["use_muon"] and len(matrices["params"]) == 2
    assert vectors["params"][0] is model.block.bias and vectors["weight_decay"] == 0.0
    everything = optim.muon_groups(model.named_parameters(), hidden=lambda name, p: p.ndim == 2)
    assert len(everything[0]["params"]) == 3


def test_the_combination_steps_each_group_as_its_own_optimizer_would():
    rng, together, apart = np.random.default_rng(3), Model().double(), Model().double()
    apart.load_state_dict(together.state_dict())
    both = optim.MuonAdamW(optim.muon_groups(together.named_parameters(), 0.1))
    muon = optim.Muon([apart.block.weight], lr=0.02, weight_decay=0.1)
    rest = optim.decay_groups([(n, p) for n, p in apart.named_parameters() if n != "block.weight"], 0.1)
    adamw = optim.AdamW(rest, lr=3e-4, betas=(0.9, 0.95))
    for _ in range(3):
        indices = rng.integers(0, 6, 5)
        for model, optimizers in ((together, [both]), (apart, [muon, adamw])):
            for optimizer in optimizers:
                optimizer.zero_grad()
            model(indices).square().sum().backward()
            for optimizer in optimizers:
                optimizer.step()
    for name, value in together.state_dict().items():
        np.testing.assert_allclose(value, apart.state_dict()[name], rtol=1e-10)


def test_learning_rates_of_groups_keep_their_ratio():
    groups = optim.muon_groups(Model().named_parameters())
    groups[0]["lr_scale"] = 10.0
    optimizer = optim.MuonAdamW(groups)
    optimizer.set_lr(0.5)
    assert [g["lr"] for g in optimizer.param_groups] == [5.0, 0.5, 0.5]


def muon_after_three_steps(shapes, dtype, nesterov=True):
    rng = np.random.default_rng(0)
    params = [nn.Parameter(Tensor(rng.standard_normal(s).astype(dtype))) for s in shapes]
    optimizer = optim.Muon(params, lr=0.1, weight_decay=0.01, nesterov=nesterov)
    for _ in range(3):
        optimizer.zero_grad()
        for p in params:
            (p * Tensor(rng.standard_normal(p.shape).astype(dtype))).sum().backward()
        optim.clip_grad_norm_(params, 1.0)
        optimizer.step()
    return [p.numpy().copy() for p in params]


SHAPES = [(40, 24), (24, 40), (33, 33), (8, 70), (70, 8), (16, 16), (1, 5), (0, 3), (5, 1)]


@pytest.mark.parametrize("size", [1e-310, 0.0, 1e-200, 1e200])
def test_a_gradient_at_the_ends_of_the_range_leaves_no_nan(size):
    p = nn.Parameter(Tensor(np.ones((2, 3))))
    optimizer = optim.Muon([p], lr=0.1)
    (p * Tensor(np.full((2, 3), size))).sum().backward()
    optimizer.step()
    assert np.isfinite(p.numpy()).all()


@pytest.mark.parametrize("nesterov", [True, False])
def test_the_compiled_step_is_the_readable_one(monkeypatch, nesterov):
    compiled = muon_after_three_steps(SHAPES, np.float64, nesterov)
    monkeypatch.setattr(settings, "use_fused", False)
    for a, b in zip(compiled, muon_after_three_steps(SHAPES, np.float64, nesterov)):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-11)  # 15 products in a chain, values near 1


def test_the_bits_of_a_step_do_not_depend_on_the_number_of_threads():
    found, before = [], threads.get_num_threads()
    for count in (1, 2, 3):
        threads.set_num_threads(count)
        try:
            found.append(muon_after_three_steps(SHAPES, np.float32))
        finally:
            threads.set_num_threads(before)
    for other in found[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(found[0], other))
