"""Every op on "cuda" gives what the CPU gives: value, gradient, gradient of it; emulated, also on a strict library."""

import pickle

import numpy as np
import pytest

import tinygrad_lite as tgl
from tinygrad_lite.device import get_device
from tinygrad_lite.kernels.cuda.emulator import cupy as emulated
from tinygrad_lite.ops.registry import OPS
from tinygrad_lite.tensor import Tensor, functional

ndarray = get_device("cuda").xp.ndarray
CASES = [(name, i) for name, op in sorted(OPS.items()) for i in range(len(op.cases))]


def _call(op, arrays, params, device):
    xs = [Tensor(a, device=device) for a in arrays]
    tracked = []
    for i, x in enumerate(xs):
        if x.data.dtype.kind == "f" and op.rule_of(i) is not None or op.is_fused and x.data.dtype.kind == "f":
            tracked.append(x.requires_grad_())
    return xs, tracked, getattr(functional, op.name)(*xs, **params)


def _orders(op, arrays, params, device):
    """Value, first-order and second-order gradients as NumPy arrays."""
    _, tracked, out = _call(op, arrays, params, device)
    results = [out]
    if out.node is not None:
        rng = np.random.default_rng(1)
        g = Tensor(rng.standard_normal(out.shape), dtype=out.dtype, device=device)
        results += tgl.grad(out, tracked, g, retain_graph=True, allow_unused=True)
        first = tgl.grad(out, tracked, g.requires_grad_(), create_graph=True, allow_unused=True)
        results += first
        total = None
        for gx in first:
            if gx is not None and gx.node is not None:
                weights = Tensor(rng.standard_normal(gx.shape), dtype=gx.dtype, device=device)
                term = (gx * weights).sum()
                total = term if total is None else total + term
        if total is not None:
            results += tgl.grad(total, [*tracked, g], allow_unused=True)
    for r in results:
        assert r is None or r.device.name == device
        assert r is None or device != "cuda" or type(r.data) is ndarray
    return [None if r is None else r.device.to_host(r.data) for r in results]


@pytest.mark.parametrize("name, i", CASES, ids=[f"{n}-{i}" for n, i in CASES])
def test_op_is_equal_on_cuda(name, i):
    op = OPS[name]
    case = op.cases[i]
    arrays = case.sample(np.random.default_rng(7), "float64")
    with np.errstate(all="ignore"):
        expected = _orders(op, arrays, case.params, "cpu")
        got = _orders(op, arrays, case.params, "cuda")
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


# -- what users write, on both devices -----------------------------------------------------------------------
def _train(x, weight, bias, ids):
    x, weight, bias = (t.requires_grad_() for t in (x, weight, bias))
    return x, weight, bias, ids


PROGRAMS = {
    "sum": lambda x, w, b, ids: x.sum(dim=1).sum() + x.mean() + x.var(dim=0).sum() + x.std(),
    "frozen": lambda x, w, b, ids: (x * w.detach()).sum() + (x @ w.detach().transpose(0, 1)).sum(),
    "pow": lambda x, w, b, ids: ((x * x + 1.0) ** 1.5).sum() + ((x * x + 1.0) ** w).sum() + (2.0**x).sum(),
    "split": lambda x, w, b, ids: sum((p * (i + 1.0)).sum() for i, p in enumerate(x.split(2, dim=1))),
    "chunk": lambda x, w, b, ids: sum((p * (i + 1.0)).sum() for i, p in enumerate(x.chunk(3, dim=-1))),
    "topk": lambda x, w, b, ids: (x.topk(2, dim=1)[0] * 3.0).sum() + x.topk(1, dim=0, largest=False)[0].sum(),
    "sort": lambda x, w, b, ids: (x.sort(dim=1, descending=True)[0] * b).sum() + x.sort(dim=0)[0][0].sum(),
    "max": lambda x, w, b, ids: x.max(dim=1)[0].sum() + x.max() + x.amin(dim=0).sum() + x.min(dim=0)[0].sum(),
    "slicing": lambda x, w, b, ids: x[1:, ::2].sum() + x[..., None, 1].sum() + (x[:, ::-1] * b).sum() + x[-1, 2],
    "advanced": lambda x, w, b, ids: x[ids].sum() + x[[0, 0, 1]].exp().sum() + x[np.array([1, 0]), 2].sum(),
    "boolean": lambda x, w, b, ids: x[x > 0.1].sum() + x[x.sum(dim=1) > 0].exp().sum(),
    "embedding": lambda x, w, b, ids: (functional.embedding(x, ids) * b).sum(),
    "dropout": lambda x, w, b, ids: functional.dropout(x, p=0.4, key=5, offset=2).sum(),
    "einsum": lambda x, w, b, ids: tgl.einsum("ij,kj,j->ik", x, w, b).sum() + tgl.einsum("ij->j", x).sum(),
    "layer_norm": lambda x, w, b, ids: (functional.layer_norm(x, b, b, eps=1e-5) * w).sum(),
    "softmax": lambda x, w, b, ids: (x.softmax(dim=0) * w).sum() + x.log_softmax(dim=-1)[:, 0].sum(),
    "gather": lambda x, w, b, ids: x.gather(0, ids.reshape(1, -1)).sum() + x.index_select(0, ids).exp().sum(),
    "scatter_add": lambda x, w, b, ids: (x.scatter_add(0, ids.reshape(1, -1), w) * w).sum(),
    "shapes": lambda x, w, b, ids: (
        tgl.cat([x, w], dim=1).flip(1).roll(2, 1).tril(1).repeat(1, 2).sum(dim=0)[1:4]
    ).sum(),
    "diagonal": lambda x, w, b, ids: x.diagonal(1).sum() + tgl.pad(x, ((1, 0), (0, 2)), 0.5).exp().sum(),
    "mask": lambda x, w, b, ids: x.masked_fill(x > 0, -1.0).exp().sum() + tgl.where(w > 0, x, b).sum(),
    "norm": lambda x, w, b, ids: (x - x.detach()).norm() + x.norm(dim=1).sum() + x.cumsum(1).cumprod(0).sum(),
    "half": lambda x, w, b, ids: (x.to("float16") @ w.to("float16").T).float().sum() + x.to("bfloat16").sum().float(),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_is_equal_on_cuda(name):
    rng = np.random.default_rng(3)
    arrays = [rng.standard_normal(s).astype(np.float32) for s in ((4, 4), (4, 4), (4,))] + [np.array([0, 2, 2, 1])]
    results = {}
    for device in ("cpu", "cuda"):
        x, w, b, ids = _train(*(Tensor(a, device=device) for a in arrays))
        loss = PROGRAMS[name](x, w, b, ids)
        loss.backward()
        loss_again = PROGRAMS[name](x, w, b, ids)
        loss_again.backward()  # adds to what is there
        (gx,) = tgl.grad(PROGRAMS[name](x, w, b, ids), x, create_graph=True)
        results[device] = [
            loss.numpy(),
            *(t.grad.numpy() for t in (x, w, b) if t.grad is not None),
            gx.detach().numpy(),
        ]
    for a, b in zip(results["cuda"], results["cpu"], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_indices_out_of_range_raise_although_the_library_wraps_them():
    x = tgl.ones(3, 2, device="cuda")
    assert x.data[(x.device.xp.asarray([4]),)].shape == (1, 2)  # what CuPy does
    for bad in ([3], [-4], np.array([0, 9])):
        with pytest.raises(IndexError, match="^getitem: "):
            x[bad]
    with pytest.raises(IndexError, match="^getitem: "):
        x[:, [2]]
    with pytest.raises(IndexError, match="^x.key. = y: "):
        x[[5]] = 1.0
    with pytest.raises(IndexError, match="^embedding: "):
        functional.embedding(x, Tensor([3], device="cuda"))
    assert x[[-1, 0]].shape == (2, 2)


def test_in_place_writing_on_cuda():
    x = tgl.zeros(2, 3, device="cuda")
    x += 1
    x *= Tensor([1.0, 2.0, 3.0], device="cuda")
    x[0] = np.array([7.0, 8.0, 9.0])
    x[1, 0] = Tensor(5.0, device="cuda")
    assert x.numpy().tolist() == [[7.0, 8.0, 9.0], [5.0, 2.0, 3.0]]
    x.copy_([[0.0, 0.0, 1.0]])
    assert x.tolist() == [[0.0, 0.0, 1.0]] * 2


def test_inputs_of_two_devices_raise_naming_the_op():
    x, y = tgl.ones(2), tgl.ones(2, device="cuda")
    for call in (lambda: x + y, lambda: functional.concatenate(x, y, axis=0), lambda: y.index_select(0, Tensor([0]))):
        with pytest.raises(ValueError, match=r"^(add|concatenate|x\[key\]): .*\.to\("):
            call()


def test_the_emulated_array_refuses_what_cupy_refuses():
    a = emulated.asarray(np.ones(2))
    for misuse in (lambda: np.asarray(a), lambda: a + np.ones(2), lambda: a[np.array([0])], lambda: np.add(a, 1)):
        with pytest.raises((TypeError, IndexError)):
            misuse()
    assert type(a.sum()) is emulated.ndarray and a.sum().shape == ()
    assert np.isnan(emulated.empty((2,), "float32").get()).all()
    with pytest.raises(AttributeError, match="no 'frombuffer'"):
        getattr(emulated, "frombuffer")  # noqa: B009


def test_constructors_moves_and_copies_on_cuda():
    for make in (tgl.rand, tgl.randn, tgl.zeros, tgl.ones, tgl.empty):
        x = make(2, 3, device="cuda", requires_grad=True)
        assert x.device.name == "cuda" and type(x.data) is ndarray and x.requires_grad
        assert tgl.zeros_like(x).device is x.device and tgl.full_like(x, 2.0).tolist() == [[2.0] * 3] * 2
    assert tgl.arange(3, device="cuda").tolist() == [0, 1, 2] and tgl.eye(2, device="cuda").shape == (2, 2)
    assert tgl.randint(0, 5, (3,), device="cuda").device.name == "cuda"
    assert tgl.multinomial(tgl.ones(3, device="cuda"), 2).shape == (2,)
    x = tgl.ones(2).to("cuda")
    assert (
        type(x.data) is ndarray and x.to("cpu").numpy().tolist() == [1.0, 1.0] and x.to("float64").dtype == tgl.float64
    )
    y = pickle.loads(pickle.dumps(x.requires_grad_()))
    assert y.device.name == "cuda" and y.requires_grad and "cuda" in repr(y)
    assert float(x.sum()) == 2.0 and bool(x[0] > 0) and len(x) == 2 and [v.item() for v in x] == [1.0, 1.0]
    with pytest.raises(RuntimeError, match="^to: moving a recorded tensor"):
        x.to("cpu")


def test_backward_hooks_checkpoint_and_clipping_on_cuda():
    x = tgl.randn(3, 3, device="cuda", requires_grad=True)
    seen = []
    x.register_hook(lambda g: seen.append(type(g.data)))
    y = tgl.checkpoint(lambda h: (h @ h).tanh(), x)
    y.retain_grad()
    y.backward(np.ones((3, 3), np.float32))
    assert seen == [ndarray] and type(x.grad.data) is ndarray and type(y.grad.data) is ndarray
    before = x.grad.numpy()
    x.grad *= 0.5
    y = tgl.checkpoint(lambda h: (h @ h).tanh(), x)
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), before * 1.5, rtol=1e-6)
    (h,) = tgl.grad((tgl.grad((x * x * x).sum(), x, create_graph=True)[0]).sum(), x)
    np.testing.assert_allclose(h.numpy(), 6 * x.numpy(), rtol=1e-6)


def test_what_a_kernel_does_not_support_runs_as_its_twin():
    q = tgl.randn(1, 2, 5, 136).requires_grad_()  # heads of more than 128 channels
    there = tgl.Tensor(q.numpy(), device="cuda", requires_grad=True)
    for x in (q, there):
        tgl.functional.scaled_dot_product_attention(x, x, x, is_causal=True).sum().backward()
    np.testing.assert_allclose(there.grad.numpy(), q.grad.numpy(), rtol=1e-4, atol=1e-5)
