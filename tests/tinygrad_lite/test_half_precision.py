"""Half precision: exact ops work on it as it is, to the bits that they give by way of float32; sums add up in float32."""

import numpy as np
import pytest
from kernels.cuda.checks import EMULATED, needs_cuda

import tinygrad_lite as tgl
from tinygrad_lite.device import get_device
from tinygrad_lite.kernels.cuda import cublaslt
from tinygrad_lite.ops.registry import OPS
from tinygrad_lite.tensor import Tensor, functional

devices = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_cuda)])
halves = pytest.mark.parametrize("dtype", [tgl.float16, tgl.bfloat16], ids=str)
CASES = [(name, i) for name, op in sorted(OPS.items()) if op.exact for i in range(len(op.cases))]
# Those whose inputs are any numbers of one shape.
HARD = sorted(n for n, op in OPS.items() if op.exact and not op.params and not op.variadic and n != "embedding")
SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 65504.0, -65504.0, 3e38, 2.0**-14, 2.0**-24, 2.0**-133, 0.1]


def results(op, arrays, params, device):
    """[value, gradients ...] as float32, for a gradient of halves that no addition of two keeps exactly."""
    xs = [Tensor(a, device=device) if hasattr(a, "shape") else a for a in arrays]
    real = [x.requires_grad_() for x in xs if type(x) is Tensor and x.dtype in (tgl.float16, tgl.bfloat16)]
    out = getattr(functional, op.name)(*xs, **params)
    found = [out]
    if out.node is not None:
        g = np.random.default_rng(2).standard_normal(out.shape).astype(out.dtype)
        found += tgl.grad(out, real, Tensor(g, device=device), allow_unused=True)
    return [None if t is None else t.numpy().astype(np.float32) for t in found]


@devices
@halves
@pytest.mark.parametrize("name, index", CASES)
def test_exact_ops_and_their_rules_give_the_bits_that_float32_gives(name, index, dtype, device, monkeypatch):
    op = OPS[name]
    case = op.cases[index]
    arrays = case.sample(np.random.default_rng(1), dtype)
    direct = results(op, arrays, case.params, device)
    monkeypatch.setattr(op, "exact", False)
    for got, expected in zip(direct, results(op, arrays, case.params, device), strict=True):
        np.testing.assert_array_equal(got, expected)


@devices
@halves
@pytest.mark.parametrize("name", HARD)
def test_exact_ops_of_hard_values(name, dtype, device):
    with np.errstate(all="ignore"):
        hard = [x for x in SPECIAL if EMULATED or device == "cpu" or x != 2.0**-133]  # CuPy's float32 has no subnormals
        values = np.concatenate([hard, np.random.default_rng(3).standard_normal(50)]).astype(dtype)
    x, y = (np.array(a) for a in np.meshgrid(values, values))
    op, xp = OPS[name], get_device(device).xp
    arrays = (x != x.T, x, y)[-len(op.inputs) :]
    with np.errstate(all="ignore"):
        got, wide = (
            op.forward(xp, *[xp.asarray(a.astype(np.float32) if widened and a.dtype == dtype else a) for a in arrays])
            for widened in (False, True)
        )
        # CuPy's where gives float32, which the engine rounds as it does here.
        got, expected = (a.astype(dtype) if a.dtype == np.float32 else a for a in (got, wide))
    assert got.dtype == expected.dtype
    got, expected = (get_device(device).to_host(a).astype(np.float32) for a in (got, expected))
    np.testing.assert_array_equal(got, expected)


@devices
def test_the_sum_of_two_halves_is_one_pass_over_them(device, monkeypatch):
    from tinygrad_lite.autograd import record, walk

    def refuse(a):
        raise AssertionError("widened")

    monkeypatch.setattr(record, "widen", refuse)
    monkeypatch.setattr(walk, "widen", refuse)
    x, y = (tgl.ones(*shape, device=device).to("bfloat16").requires_grad_() for shape in ((4, 3, 8), (3, 8)))
    (x + y).backward(tgl.ones(4, 3, 8, device=device).to("bfloat16"))
    assert y.grad.tolist() == [[4.0] * 8] * 3
    with pytest.raises(AssertionError, match="widened"):
        x * y


@devices
@halves
def test_sums_add_up_in_float32(dtype, device):
    ones = tgl.ones(4096, device=device).to(dtype)
    assert ones.sum().item() == 4096 and ones.sum().dtype == dtype
    for f in (lambda x: x.expand(4096), lambda x: x + ones, lambda x: ones - x, lambda x: ones * x):
        x = tgl.ones(1, device=device).to(dtype).requires_grad_()
        f(x).sum().backward()
        assert abs(x.grad.item()) == 4096


SHAPES = [
    ((5, 33), (33, 7)),
    ((2, 5, 33), (33, 7)),
    ((2, 5, 33), (2, 33, 7)),
    ((33,), (33, 7)),
    ((2, 1, 5, 33), (3, 33, 7)),
]


@devices
@halves
@pytest.mark.parametrize("shapes", SHAPES)
def test_products_keep_their_type_and_are_rounded_once(shapes, dtype, device):
    r = np.random.default_rng(4)
    x, y = (Tensor(r.standard_normal(shape).astype(dtype), device=device).requires_grad_() for shape in shapes)
    out = x @ y
    g = r.standard_normal(out.shape).astype(dtype)
    out.backward(Tensor(g, device=device))
    exact = [Tensor(z.detach().numpy().astype(np.float64)).requires_grad_() for z in (x, y)]
    product = exact[0] @ exact[1]
    product.backward(Tensor(g.astype(np.float64)))
    eps = 2.0 ** (-8 if dtype == tgl.bfloat16 else -11)  # half a unit in the last place, and sums in float32 beside it
    for got, expected in ((out, product), (x.grad, exact[0].grad), (y.grad, exact[1].grad)):
        assert got.dtype == dtype
        # On the GPU where matrices are used for several products: each one's gradient, and the sum of them.
        twice = device == "cuda" and len(shapes[0]) == 4 and got is not out
        got, expected = got.detach().numpy().astype(np.float64), expected.detach().numpy()
        atol = 1e-4 if not twice else eps * np.abs(expected).max()
        np.testing.assert_allclose(got, expected, rtol=eps, atol=atol)


@devices
def test_the_type_of_a_product_is_that_of_promotion(device):
    one = {t: tgl.ones(2, 2, device=device).to(t) for t in ("bfloat16", "float16", "float32", "int64")}
    found = {(a, b): str((one[a] @ one[b]).dtype) for a in one for b in one}
    for (a, b), dtype in found.items():
        wider = "float32" if a != b and "int64" not in (a, b) else a if b == "int64" else b
        assert dtype == wider, (a, b)


@needs_cuda
@halves
def test_products_on_the_gpu_are_of_halves_themselves_both_ways(dtype, monkeypatch):
    seen, real = [], cublaslt.matmul

    def spy(*given, **named):
        seen.extend(x.dtype for x in given[:3])
        return real(*given, **named)

    monkeypatch.setattr(cublaslt, "matmul", spy)
    for shapes in SHAPES:
        x, y = (tgl.ones(*shape, device="cuda").to(dtype).requires_grad_() for shape in shapes)
        (x @ y).float().sum().backward()
    assert seen == [dtype] * 9 * len(SHAPES)


@devices
@halves
def test_a_number_beside_half_precision_keeps_its_digits(dtype, device):
    x = tgl.tensor([1.0, 3.0, 0.3], device=device).to(dtype)
    wide = x.float().numpy()
    for y, exact in ((x + 0.1, wide + np.float32(0.1)), (0.1 - x, np.float32(0.1) - wide)):
        np.testing.assert_array_equal(y.numpy(), exact.astype(dtype))
    np.testing.assert_array_equal((x > 0.3).numpy(), wide > np.float32(0.3))
