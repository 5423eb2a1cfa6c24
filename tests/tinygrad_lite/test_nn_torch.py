"""Layers against PyTorch's: values and all gradients, from one state_dict."""

import numpy as np
import pytest

import tinygrad_lite as tgl
from tinygrad_lite import nn

torch = pytest.importorskip("torch")

LAYERS = [
    ("Linear", (5, 7), (4, 5)),
    ("Linear", (5, 7), (2, 3, 5)),
    ("Linear", (5, 7), (5,)),
    ("Linear", (5, 7), (0, 5)),
    ("LayerNorm", (33,), (4, 33)),
    ("RMSNorm", (33,), (2, 2, 33)),
    *[(name, (), (3, 11)) for name in ("ReLU", "SiLU", "Sigmoid", "Tanh", "Softplus", "Identity", "GELU")],
    ("GELU", ("tanh",), (3, 11)),
    ("LeakyReLU", (0.2,), (3, 11)),
    ("ELU", (0.7,), (3, 11)),
    ("Softmax", (0,), (3, 11)),
    ("Softmax", (-1,), (3, 11)),
]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name, arguments, shape", LAYERS)
def test_layers_equal_pytorchs(name, arguments, shape, dtype):
    rng, keywords = np.random.default_rng(0), {"approximate": "tanh"} if arguments == ("tanh",) else {}
    arguments = () if keywords else arguments
    ours = getattr(nn, name)(*arguments, **keywords).to(dtype)
    extra = {"eps": 1e-6} if name == "RMSNorm" else {"dim": arguments[0]} if name == "Softmax" else keywords
    theirs = getattr(torch.nn, name)(*(() if name == "Softmax" else arguments), **extra).to(getattr(torch, dtype))
    state = {k: rng.normal(size=v.shape).astype(dtype) for k, v in ours.state_dict().items()}
    ours.load_state_dict(state)
    theirs.load_state_dict({k: torch.tensor(v) for k, v in state.items()})
    values = rng.normal(size=shape).astype(dtype)
    x, y = tgl.tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)
    out, expected = ours(x), theirs(y)
    g = rng.normal(size=expected.shape).astype(dtype)
    out.backward(tgl.tensor(g))
    expected.backward(torch.tensor(g))
    pairs = [(out, expected), (x.grad, y.grad)]
    pairs += [(p.grad, q.grad) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True)]
    for a, b in pairs:
        a, b = a.numpy(), b.detach().numpy()
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=64 * np.finfo(dtype).eps * max(1.0, np.abs(b).max(initial=0)))


def test_embedding_equals_pytorchs():
    ours, theirs = nn.Embedding(7, 5), torch.nn.Embedding(7, 5)
    theirs.load_state_dict({"weight": torch.tensor(ours.weight.numpy())})
    indices = np.array([[1, 6, 1], [0, 1, 3]])
    out, expected = ours(indices), theirs(torch.tensor(indices))
    (out * out).sum().backward()
    (expected * expected).sum().backward()
    np.testing.assert_array_equal(out.numpy(), expected.detach().numpy())
    np.testing.assert_allclose(ours.weight.grad.numpy(), theirs.weight.grad.numpy(), rtol=1e-6)


def test_dropout_is_off_in_eval_and_scales_what_it_keeps_in_training():
    x = tgl.tensor(np.random.default_rng(0).normal(size=(200, 50)), requires_grad=True)
    model = nn.Sequential(nn.Dropout(0.25), nn.Sequential(nn.Dropout(0.5)))
    model.eval()
    out = model(x)
    assert np.array_equal(out.numpy(), x.numpy())  # to the bit, at every depth
    out.sum().backward()
    assert (x.grad.numpy() == 1).all()
    model.train()
    x.grad = None
    out = model(x)
    kept = out.numpy() != 0
    # 10,000 draws of probability 0.375: the share is known to 0.005, five times that here.
    assert abs(kept.mean() - 0.75 * 0.5) < 0.025
    np.testing.assert_allclose(out.numpy()[kept], (x.numpy() / 0.75 / 0.5)[kept], rtol=1e-12)
    out.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), kept / 0.75 / 0.5, rtol=1e-12)
    assert not np.array_equal(model(x).numpy() != 0, kept)  # another mask at each call
