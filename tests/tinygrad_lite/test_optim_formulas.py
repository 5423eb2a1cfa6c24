"""Optimisers against PyTorch's, and against their formulas written out, over a hundred steps."""

import math

import numpy as np
import pytest

import tinygrad_lite as tgl
from tinygrad_lite import nn, optim
from tinygrad_lite.config import settings

SHAPES = [(3, 4), (5,), (2, 2), ()]
CASES = [
    ("SGD", dict(lr=0.1)),
    ("SGD", dict(lr=0.05, momentum=0.9)),
    ("SGD", dict(lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01)),
    ("SGD", dict(lr=0.05, momentum=0.9, dampening=0.3, weight_decay=0.01)),
    ("Adam", dict(lr=0.01)),
    ("Adam", dict(lr=0.01, betas=(0.8, 0.95), weight_decay=0.1, amsgrad=True)),
    ("Adam", dict(lr=0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1)),
    ("AdamW", dict(lr=0.01)),
    ("AdamW", dict(lr=0.02, betas=(0.8, 0.95), weight_decay=0.3, amsgrad=True)),
    ("AdamW", dict(lr=0.02, betas=(0.8, 0.95), weight_decay=0.3)),
]
IDS = [f"{name}-{i}" for i, (name, _) in enumerate(CASES)]


@pytest.fixture(params=["kernel", "formula"])
def route(request, monkeypatch):
    monkeypatch.setattr(settings, "use_fused", request.param == "kernel")


def gradients(steps, rng):
    """One gradient a parameter and step; now and then None."""
    return [
        [None if (3 * s + i) % 7 == 0 else rng.normal(size=shape) for i, shape in enumerate(SHAPES)]
        for s in range(steps)
    ]


def ours(name, options, start, given, dtype, flat=True):
    params = [nn.Parameter(value.astype(dtype)) for value in start]
    groups = [{"params": params[:2]}, {"params": params[2:], "lr": 0.03}]
    optimizer = getattr(optim, name)(groups, **options, flat=flat)
    for row in given:
        for p, g in zip(params, row, strict=True):
            p.grad = None if g is None else tgl.tensor(g.astype(dtype))
        optimizer.step()
        optimizer.zero_grad()
    return [p.numpy() for p in params]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name, options", CASES, ids=IDS)
def test_equals_pytorch_with_groups_and_missing_gradients(name, options, dtype, route):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    start, given = [rng.normal(size=shape) for shape in SHAPES], gradients(100, rng)
    theirs = [torch.nn.Parameter(torch.tensor(value.astype(dtype))) for value in start]
    groups = [{"params": theirs[:2]}, {"params": theirs[2:], "lr": 0.03}]
    optimizer = getattr(torch.optim, name)(groups, **options)
    for row in given:
        for p, g in zip(theirs, row, strict=True):
            p.grad = None if g is None else torch.tensor(g.astype(dtype))
        optimizer.step()
    # Each of 100 steps may round a few times, by half an eps of values of size 1 to 4.
    atol = 1e-6 if dtype == "float64" else 100 * 8 * np.finfo(np.float32).eps
    for a, b in zip(ours(name, options, start, given, dtype), theirs, strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=0, atol=atol)


@pytest.mark.parametrize("name, options", CASES, ids=IDS)
def test_flat_and_separate_arrays_step_alike(name, options):
    rng = np.random.default_rng(1)
    start, given = [rng.normal(size=shape) for shape in SHAPES], gradients(10, rng)
    for a, b in zip(
        ours(name, options, start, given, "float64"), ours(name, options, start, given, "float64", False), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_adamw_is_its_formula(route):
    p, g = 2.0, (0.5, -1.0, 0.25)
    x = nn.Parameter([p], dtype="float64")
    optimizer, m, v = optim.AdamW([x], lr=0.1, betas=(0.9, 0.99), eps=1e-3, weight_decay=0.2), 0.0, 0.0
    for step, grad in enumerate(g, 1):
        x.grad = tgl.tensor([grad], dtype="float64")
        optimizer.step()
        m, v = 0.9 * m + 0.1 * grad, 0.99 * v + 0.01 * grad**2
        p -= 0.1 * 0.2 * p
        p -= 0.1 * (m / (1 - 0.9**step)) / (math.sqrt(v / (1 - 0.99**step)) + 1e-3)
        assert math.isclose(x.item(), p, rel_tol=1e-12)


def test_sgd_with_nesterov_momentum_is_its_formula():
    x = nn.Parameter([1.0], dtype="float64")
    optimizer = optim.SGD([x], lr=0.1, momentum=0.5, nesterov=True, weight_decay=0.1)
    p, v = 1.0, 0.0
    for grad in (1.0, -2.0, 3.0):
        x.grad = tgl.tensor([grad], dtype="float64")
        optimizer.step()
        g = grad + 0.1 * p
        v = 0.5 * v + g
        p -= 0.1 * (g + 0.5 * v)
        assert math.isclose(x.item(), p, rel_tol=1e-12)


@pytest.mark.parametrize("n", [1, 31, 32, 33, 70_000])
def test_kernel_and_formula_agree_at_odd_sizes(n, monkeypatch):
    rng, found = np.random.default_rng(n), []
    start, given = rng.normal(size=n).astype(np.float32), [rng.normal(size=n).astype(np.float32) for _ in range(3)]
    for use_fused in (True, False):
        monkeypatch.setattr(settings, "use_fused", use_fused)
        x = nn.Parameter(start)
        optimizer = optim.AdamW([x, nn.Parameter([0.0])], lr=0.1)
        for g in given:
            x.grad = tgl.tensor(g)
            optimizer.step(grad_scale=0.5)
        found.append(x.numpy().copy())
    # Three steps of size 0.1 on values below 5, a few roundings each.
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=3 * 8 * np.finfo(np.float32).eps)


@pytest.mark.parametrize("name, options", CASES, ids=IDS)
def test_grad_scale_multiplies_the_gradients(name, options, route):
    rng = np.random.default_rng(2)
    start, g = rng.normal(size=5), [rng.normal(size=5) for _ in range(4)]
    results = []
    for scale in (1.0, 0.25):
        x = nn.Parameter(start.copy())
        optimizer = getattr(optim, name)([x], **options)
        for row in g:
            x.grad = tgl.tensor(row * 0.25 / scale)
            optimizer.step(grad_scale=scale)
        results.append(x.numpy())
    np.testing.assert_allclose(results[0], results[1], rtol=1e-12)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", [optim.SGD, optim.AdamW])
def test_half_precision_accumulates_updates_below_its_own_resolution(kind, dtype):
    x = nn.Parameter(np.ones((2, 3)), dtype=dtype)
    optimizer = kind([x], lr=1e-4, **({"weight_decay": 0.0} if kind is optim.AdamW else {}))
    for _ in range(100):
        x.grad = tgl.ones(2, 3, dtype=dtype)
        optimizer.step()
    assert x.dtype == tgl.bfloat16 or dtype == "float16"
    np.testing.assert_allclose(x.numpy().astype(np.float32), 0.99, atol=4e-3)  # a bfloat16 has 8 bits
    x.data[...] = 3.0  # written from outside: the master follows
    x.grad = tgl.zeros(2, 3, dtype=dtype)
    optim.SGD.step(optimizer)
    assert abs(float(x.numpy()[0, 0]) - 3.0) < 0.02


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda p: optim.SGD([p], lr=-1.0), "lr must be at least 0"),
        (lambda p: optim.SGD([p], momentum=1.0), r"momentum must be in \[0, 1\)"),
        (lambda p: optim.SGD([p], nesterov=True), "nesterov needs a momentum"),
        (lambda p: optim.SGD([p], momentum=0.9, nesterov=True, dampening=0.1), "no dampening"),
        (lambda p: optim.SGD([p], momentum=0.9, dampening=-0.1), "dampening must be at least 0"),
        (lambda p: optim.AdamW([p], betas=(0.9, 1.0)), "betas"),
        (lambda p: optim.Adam([p], eps=float("nan")), "eps"),
        (lambda p: optim.SGD([{"params": [p]}, {"params": [p]}]), "in two groups"),
        (lambda p: optim.SGD([p * 2.0]), "result of a recorded op"),
        (lambda p: optim.SGD([]), "no parameters"),
    ],
)
def test_misuse_is_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make(nn.Parameter([1.0, 2.0]))


def test_parameters_must_be_tensors():
    with pytest.raises(TypeError, match="parameter 0 must be a Tensor, got str"):
        optim.SGD(["weight"])
