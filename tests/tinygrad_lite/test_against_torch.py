"""Every op, method and constructor against PyTorch: types, shapes, values, gradients."""

import inspect
import re

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from support import torch_table  # noqa: E402

import tinygrad_lite as tgl  # noqa: E402
from tinygrad_lite.autograd.mode import NO_GRAD, TRACE, mode  # noqa: E402
from tinygrad_lite.ops.registry import OPS  # noqa: E402
from tinygrad_lite.tensor import Tensor  # noqa: E402

LAYOUTS = ("contiguous", "transposed", "strided")


@pytest.mark.parametrize("row", torch_table.ROWS, ids=[r.name for r in torch_table.ROWS])
def test_row_equals_torch(row):
    assert len(row.shapes) >= 3
    with np.errstate(all="ignore"):
        for shapes in row.shapes:
            for dtype in ("float32", "float64"):
                for layout in LAYOUTS:
                    error, _ = torch_table.check_row(row, shapes, dtype, layout)
                    assert error <= row.tol, f"{row.name} {shapes} {dtype} {layout}: {error:.1f} eps"


class _Tracer:
    open_fused = False

    def __init__(self):
        self.seen = set()

    def on_forward(self, op, xs, params, out):
        self.seen.add(op.name)


# Ops that a row reaches only through backward, and those that have no counterpart in PyTorch.
NO_ROW = {"identity", "stop_gradient", "scatter", "logical_not", "tile"}


def test_every_op_is_compared():
    tracer, before = _Tracer(), mode.state
    mode.tracer = tracer
    rng = np.random.default_rng(0)
    try:
        for row in torch_table.ROWS:
            for shapes in row.shapes:
                arrays, _ = torch_table._arrays(row, shapes, "float32", rng, "contiguous")
                mode.state = TRACE
                xs = [tgl.tensor(a) for a in arrays]
                row.fn(tgl, *xs)
                mode.state = NO_GRAD
    finally:
        mode.state, mode.tracer = before, None
    missing = {name for name, op in OPS.items() if op.__wrapped__.__module__.startswith("tinygrad_lite.ops")}
    source = inspect.getsource(torch_table)
    missing -= tracer.seen | NO_ROW
    missing = {n for n in missing if not (OPS[n].is_fused and f".{n}(" in source)}  # a twin traces as its inner ops
    assert not missing, f"ops without a row in support/torch_table.py: {sorted(missing)}"


def test_every_method_is_compared():
    source = inspect.getsource(torch_table) + inspect.getsource(inspect.getmodule(test_every_method_is_compared))
    public = [n for n, v in vars(Tensor).items() if callable(v) and not n.startswith("_")]
    elsewhere = {  # what these do is tested as behaviour
        "backward", "register_hook", "requires_grad_", "retain_grad", "copy_", "fill_", "zero_", "item", "tolist",
        "numel", "half", "bfloat16", "int", "long", "bool", "astype",
    }  # fmt: skip
    quoted = {w for r in torch_table.ROWS for w in r.name.split()}
    quoted |= {w for s in re.findall(r'"([\w ]+)"', source) for w in s.split()}
    missing = [n for n in public if f".{n}(" not in source and n not in quoted and n not in elsewhere]
    assert not missing, f"methods without a row in support/torch_table.py: {missing}"


# -- constructors ---------------------------------------------------------------------------------------------------
CONSTRUCTORS = [
    lambda t: t.zeros(2, 3), lambda t: t.zeros((2, 3)), lambda t: t.zeros(()), lambda t: t.zeros(0, 2),
    lambda t: t.ones(2, dtype=t.int64), lambda t: t.ones(3, dtype=t.float64), lambda t: t.ones((1, 2)),
    lambda t: t.full((2, 2), 7), lambda t: t.full((2,), 1.5), lambda t: t.full((), True), lambda t: t.full((3,), 2, dtype=t.float32),
    lambda t: t.arange(5), lambda t: t.arange(2, 9, 3), lambda t: t.arange(0.0, 1.0, 0.25), lambda t: t.arange(5, 0, -2),
    lambda t: t.arange(3, dtype=t.float32), lambda t: t.arange(4, 4),
    lambda t: t.linspace(0, 1, 5), lambda t: t.linspace(-1.0, 1.0, 1), lambda t: t.linspace(2, 1, 4, dtype=t.float64),
    lambda t: t.eye(3), lambda t: t.eye(2, 4), lambda t: t.eye(3, dtype=t.int64),
    lambda t: t.tensor([1, 2]), lambda t: t.tensor([1.0, 2.0]), lambda t: t.tensor([[True, False]]), lambda t: t.tensor(3),
    lambda t: t.tensor(2.5), lambda t: t.tensor([]), lambda t: t.tensor([1, 2.5]), lambda t: t.tensor(np.arange(3.0)),
    lambda t: t.zeros_like(t.ones(2, 3, dtype=t.int32)), lambda t: t.ones_like(t.zeros(2)), lambda t: t.full_like(t.ones(2), 7),
    lambda t: t.ones_like(t.zeros(2), dtype=t.int64), lambda t: t.full_like(t.ones(2, dtype=t.int64), 3),
    lambda t: t.tensor([1.7, -1.7]).to(t.int64), lambda t: t.tensor([0, 2]).bool(), lambda t: t.tensor([1.5]).half(),
    lambda t: t.tensor([1.5]).int(), lambda t: t.tensor([1.0]).long(), lambda t: t.tensor([True]).float(),
]  # fmt: skip


@pytest.mark.parametrize("i", range(len(CONSTRUCTORS)))
def test_constructor_equals_torch(i):
    mine, theirs = CONSTRUCTORS[i](tgl), CONSTRUCTORS[i](torch)
    assert mine.shape == tuple(theirs.shape)
    assert str(mine.dtype) == str(theirs.dtype).removeprefix("torch.")
    np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=1e-7, atol=1e-7)


RANDOM = {
    "rand": (lambda: tgl.rand(100, 100), 0.5, 1 / 12), "randn": (lambda: tgl.randn(100, 100), 0.0, 1.0),
    "uniform": (lambda: tgl.uniform(-1.0, 3.0, (10000,)), 1.0, 16 / 12), "normal": (lambda: tgl.normal(2.0, 3.0, (100, 100)), 2.0, 9.0),
    "randint": (lambda: tgl.randint(0, 10, (10000,)).float(), 4.5, 8.25), "rand_like": (lambda: tgl.rand_like(tgl.ones(10000)), 0.5, 1 / 12),
    "randn_like": (lambda: tgl.randn_like(tgl.ones(10000)), 0.0, 1.0),
    "randint_like": (lambda: tgl.randint_like(tgl.ones(10000), 0, 10), 4.5, 8.25),
    "multinomial": (lambda: tgl.multinomial([1.0, 2.0, 1.0], 10000, replacement=True).float(), 1.0, 0.5),
}  # fmt: skip


@pytest.mark.parametrize("name", RANDOM)
def test_random_draws_have_their_mean_and_variance(name):
    draw, mean, variance = RANDOM[name]
    tgl.manual_seed(11)
    x = draw()
    y = draw()
    tgl.manual_seed(11)
    assert np.array_equal(draw().numpy(), x.numpy()) and not np.array_equal(x.numpy(), y.numpy())
    assert abs(float(x.mean()) - mean) < 5 * (variance / 10000) ** 0.5
    assert abs(float(x.var()) / variance - 1) < 0.1


def test_uniform_never_reaches_its_upper_end_in_any_type():
    class AllOnes(tgl.Generator):
        def uniform(self, n):
            return np.full(n, np.float32(1 - 2.0**-24))

    for dtype in (tgl.float64, tgl.float32, tgl.float16, tgl.bfloat16):
        for low, high in ((0.0, 1.0), (1.0, 2.0), (-3.0, -1.0)):
            x = tgl.uniform(low, high, (4,), dtype=dtype, generator=AllOnes())
            assert (x.double().numpy() < high).all() and (x.double().numpy() >= low).all()


def test_multinomial_without_replacement_draws_each_index_once():
    drawn = tgl.multinomial([[1.0, 5.0, 0.0, 2.0]] * 50, 3)
    assert drawn.shape == (50, 3) and drawn.dtype == tgl.int64
    assert all(sorted(row) == [0, 1, 3] for row in drawn.tolist())
    with pytest.raises(ValueError, match="^multinomial: "):
        tgl.multinomial([1.0, 0.0], 2)
