"""A Tensor among Python's and NumPy's protocols: copying, pickling, DLPack, mixing with arrays, promotion, halves."""

import copy
import itertools
import pickle
import sys

import numpy as np
import pytest

import tinygrad_lite as tgl
from tinygrad_lite import functional as F
from tinygrad_lite.tensor import functional


def leaf(*values):
    return tgl.tensor(list(values)).requires_grad_()


# -- copies -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, lambda x: pickle.loads(pickle.dumps(x))])
def test_leaf_is_copied_with_its_gradient_and_independently(copied):
    x = leaf(1.0, 2.0)
    (x * 3.0).sum().backward()
    y = copied(x)
    assert y.requires_grad and y.is_leaf and y.grad.tolist() == [3.0, 3.0] and y.dtype == x.dtype
    with tgl.no_grad():
        y.zero_()
    assert x.tolist() == [1.0, 2.0]
    (y * 1.0).sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int32", "bool", "float64"])
def test_every_type_is_pickled(dtype):
    x = tgl.tensor([0.0, 1.0, 2.0]).to(dtype)
    y = pickle.loads(pickle.dumps(x))
    assert y.dtype == x.dtype and y.tolist() == x.tolist() and not y.requires_grad


def test_result_of_an_op_is_not_copied():
    with pytest.raises(RuntimeError, match="detach"):
        copy.deepcopy(leaf(1.0) * 2.0)


def test_tensor_copies_the_array_that_it_is_made_from():
    a = np.zeros(2, np.float32)
    x = tgl.tensor(a)
    a[0] = 1
    assert x.tolist() == [0.0, 0.0]


# -- NumPy ------------------------------------------------------------------------------------------------------------
def test_ndarray_op_tensor_gives_a_recorded_tensor():
    x, a = leaf(1.0, 2.0), np.array([3.0, 4.0], np.float32)
    for f in (
        lambda p, q: p * q,
        lambda p, q: p + q,
        lambda p, q: p - q,
        lambda p, q: p / q,
        lambda p, q: p @ q,
        lambda p, q: p**q,
    ):
        for pair in ((a, x), (x, a), (a[0], x), (x, a[1])):
            try:
                out = f(*pair)
            except ValueError as error:
                assert str(error).startswith("matmul: a 0-d tensor")
                continue
            assert isinstance(out, tgl.Tensor) and out.requires_grad and out.dtype == tgl.float32
    assert isinstance(a < x, tgl.Tensor) and (a < x).dtype == tgl.bool_


def test_asarray_shares_memory_and_converts():
    x = tgl.ones(2)
    assert np.shares_memory(np.asarray(x), x.data) and np.asarray(x, dtype=np.float64).dtype == np.float64
    assert float(x.sum()) == 2.0 and int(tgl.tensor(3)) == 3 and [10, 20][tgl.tensor(1)] == 20
    with pytest.raises(ValueError, match="^item: "):
        x.item()
    with pytest.raises(ValueError, match="^bool: "):
        bool(x)
    with pytest.raises(TypeError, match="^index: "):
        [1, 2][tgl.tensor(1.0)]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="PEP 688: Python classes give buffers from 3.12 on")
def test_a_buffer_shares_memory_and_is_read_only_where_the_graph_may_need_it():
    x = tgl.tensor([[1.0, 2.0], [3.0, 4.0]])
    view = memoryview(x)
    assert (view.shape, view.format, view.readonly) == ((2, 2), "f", False)
    view[0, 1] = 5.0
    assert x.tolist() == [[1.0, 5.0], [3.0, 4.0]]
    assert memoryview(leaf(1.0)).readonly


def test_dlpack_shares_memory_both_ways():
    x = tgl.tensor([1.0, 2.0])
    array = np.from_dlpack(x)
    assert np.shares_memory(array, x.data)
    source = np.array([1.0, 2.0])
    y = tgl.from_dlpack(source)
    assert np.shares_memory(y.data, source) and y.dtype == tgl.float64
    z = tgl.from_dlpack(x)
    assert np.shares_memory(z.data, x.data)


def test_dlpack_with_torch():
    torch = pytest.importorskip("torch")
    t = torch.arange(4.0)
    x = tgl.from_dlpack(t)
    t += 1
    assert x.tolist() == [1.0, 2.0, 3.0, 4.0]
    back = torch.from_dlpack(tgl.tensor([5.0]))
    assert back.tolist() == [5.0]


def test_dlpack_refuses_by_name_and_keeps_recorded_memory_read_only():
    x = leaf(1.0, 2.0)
    assert not np.from_dlpack(x * 2.0).flags.writeable and not np.from_dlpack(x).flags.writeable
    assert np.from_dlpack(tgl.ones(2)).flags.writeable
    with pytest.raises(TypeError, match="^from_dlpack: expected an array that speaks DLPack, got int"):
        tgl.from_dlpack(3)
    with pytest.raises(TypeError, match="^dtype: .*complex"):
        tgl.from_dlpack(np.ones(2, np.complex64))


def test_dlpack_of_bfloat16_shares_memory_with_torch_both_ways():
    torch = pytest.importorskip("torch")
    x = tgl.tensor([[1.5, -2.0, 3.0]], dtype="bfloat16")
    theirs = torch.from_dlpack(x)
    theirs[0, 0] = 7.0
    assert theirs.dtype == torch.bfloat16 and x.float().tolist() == [[7.0, -2.0, 3.0]]
    source = torch.arange(6.0).to(torch.bfloat16).reshape(2, 3)
    y = tgl.from_dlpack(source.T)
    source[1, 0] = 9.0
    del source
    assert y.dtype == tgl.bfloat16 and y.float().tolist() == [[0.0, 9.0], [1.0, 4.0], [2.0, 5.0]]
    assert tgl.from_dlpack(x).tolist() == x.tolist()


def test_asarray_without_a_copy_is_refused_where_the_type_changes():
    x = tgl.ones(2)
    assert np.asarray(x, copy=False) is not None and not np.shares_memory(np.array(x, copy=True), x.data)
    # From Python 3.12 on NumPy reads the buffer, and refuses by itself.
    with pytest.raises(ValueError, match="^array: float32 becomes float64 by a copy only|^Unable to avoid copy"):
        np.asarray(x, dtype="float64", copy=False)


def test_a_single_element_formats_as_its_number():
    assert (
        f"{tgl.tensor(1.5):.3f} {tgl.tensor(7):03d} {tgl.tensor(True)}"
        == "1.500 007 Tensor(True, shape=(), dtype=bool)"
    )


# -- promotion ----------------------------------------------------------------------------------------------------------
DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64")


@pytest.mark.parametrize("a, b", list(itertools.product(DTYPES, DTYPES)))
def test_promotion_of_two_tensors_is_torchs(a, b):
    torch = pytest.importorskip("torch")
    for shape_a, shape_b in itertools.product(((2,), ()), repeat=2):
        x, y = tgl.ones(shape_a).to(a), tgl.ones(shape_b).to(b)
        t, u = torch.ones(shape_a).to(getattr(torch, a)), torch.ones(shape_b).to(getattr(torch, b))
        expected = str(torch.result_type(t, u)).removeprefix("torch.")
        assert str((x + y).dtype) == expected, (shape_a, shape_b)
        assert str(functional.where(x > 0, x, y).dtype) == expected
        if not shape_a and not shape_b:
            assert str(functional.stack(x, y, axis=0).dtype) == expected


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scalar", [True, 2, 1.5])
def test_promotion_with_a_python_scalar_is_torchs(dtype, scalar):
    torch = pytest.importorskip("torch")
    for shape in ((2,), ()):
        x, t = tgl.ones(shape).to(dtype), torch.ones(shape).to(getattr(torch, dtype))
        expected = str(torch.result_type(t, scalar)).removeprefix("torch.")
        assert str((x + scalar).dtype) == str((scalar * x).dtype) == str(x.maximum(scalar).dtype) == expected, shape


def test_gradients_keep_the_type_of_their_leaf():
    x, y = leaf(1.0, 2.0), tgl.tensor([1.0, 2.0], dtype="float64").requires_grad_()
    z = tgl.tensor([1.0, 2.0], dtype="bfloat16").requires_grad_()
    (x * y * z).sum().backward()
    assert (x.grad.dtype, y.grad.dtype, z.grad.dtype) == (tgl.float32, tgl.float64, tgl.bfloat16)


# -- halves ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_accumulate_in_float32(dtype):
    ones = tgl.ones(1000, dtype=dtype).requires_grad_()
    total = ones.sum()
    assert total.item() == 1000 and total.dtype == ones.dtype
    assert ones.mean().item() == 1.0
    matrix = tgl.ones(4, 1000, dtype=dtype)
    product = matrix @ matrix.T
    assert product.dtype == ones.dtype and (product.double().numpy() == 1000).all()
    assert matrix.cumsum(1)[:, -1].tolist() == [1000.0] * 4
    assert tgl.einsum("ij,kj->ik", matrix, matrix).tolist() == [[1000.0] * 4] * 4
    wide = tgl.ones(1000, 2, dtype=dtype)
    row = tgl.ones(2, dtype=dtype).requires_grad_()
    (wide * row).sum().backward()  # a broadcast undone by a sum of 1000
    assert row.grad.tolist() == [1000.0, 1000.0] and row.grad.dtype == row.dtype
    table = tgl.zeros(2, 1, dtype=dtype).requires_grad_()
    functional.embedding(table, tgl.zeros(1000, dtype="int64")).sum().backward()
    assert table.grad.tolist() == [[1000.0], [0.0]]


def test_means_of_halves_do_not_overflow_on_the_way():
    torch = pytest.importorskip("torch")
    values = np.linspace(900.0, 1100.0, 200)
    for dtype in ("float16", "bfloat16"):
        x, t = tgl.tensor(values).to(dtype).requires_grad_(), torch.tensor(values).to(getattr(torch, dtype))
        assert float(t.sum()) > 65504.0
        for name in ("mean", "var", "std"):
            mine, theirs = getattr(x, name)(), getattr(t, name)()
            assert str(mine.dtype) == dtype and mine.item() == pytest.approx(theirs.item(), rel=8e-3)
        x.mean().backward()
        assert x.grad.dtype == x.dtype and x.grad[0].item() == pytest.approx(1 / 200, rel=8e-3)


def test_dtype_names_and_refusals():
    assert tgl.tensor([1.0]).dtype == tgl.float32 and tgl.tensor([1]).dtype == tgl.int64
    assert tgl.tensor(np.ones(1)).dtype == tgl.float64 and tgl.tensor([True]).dtype == tgl.bool_
    for bad in (np.array([1j]), np.array(["a"])):
        with pytest.raises(TypeError, match="^dtype: "):
            tgl.tensor(bad)


def test_errors_name_the_op_what_came_and_the_way_out():
    x = tgl.ones(2, 3)
    for call, message in (
        (lambda: x + tgl.ones(4), r"^add: got float32 \(2, 3\), float32 \(4,\): shapes do not broadcast"),
        (lambda: x @ x, r"^matmul: the last axis of x must equal"),
        (lambda: x.sum(dim=2), r"^sum: axis 2 is out of range"),
        (lambda: x.reshape(4), r"^reshape: \(2, 3\) has 6 elements"),
        (lambda: x + "a", r"^add: expected a Tensor, an array or a number, got str"),
        (lambda: tgl.ones(0).max(), r"^max: cannot reduce the empty axes"),
        (lambda: tgl.tensor([1]).mean(), r"^mean: expected a float tensor"),
        (lambda: x.expand(2), r"^expand: "),
        (lambda: x[5], r"^getitem: .*out of bounds"),
        (lambda: x.norm(-1), r"^norm: p must be"),
        (lambda: x + None, r"^add: expected a Tensor, an array or a number, got NoneType"),
        (lambda: x < None, r"^less: expected a Tensor, an array or a number, got NoneType"),
        (lambda: tgl.tensor([-1]) ** tgl.tensor([-1]), r"^power: .*negative power is no integer: convert with .float"),
        (lambda: tgl.tensor([1], dtype="uint8") + -1, r"^add: .*-1 out of bounds for uint8: convert"),
        (lambda: tgl.zeros(0, 3).max(0), r"^max: cannot reduce the empty axis 0"),
        (lambda: tgl.zeros(0, 3).min(axis=0), r"^min: cannot reduce the empty axis 0"),
        (lambda: x.topk(1.5), r"^topk: k must be an integer, got 1.5"),
        (lambda: x.chunk(1.5), r"^chunk: chunks must be an integer"),
        (lambda: x.split(1.5), r"^split: expected integers"),
        (lambda: x.reshape(2.0, 3), r"^reshape: expected integers"),
        (lambda: x.permute(0, 0), r"^permute: expected each of 2 axes once"),
        (lambda: x.expand(3, 3), r"^expand: \(2, 3\) does not stretch to \(3, 3\)"),
        (lambda: x.expand(-1, 2, 3), r"^expand: "),
        (lambda: x.unsqueeze(5), r"^unsqueeze: axis 5 is out of range"),
        (lambda: x.roll((1, 2), 0), r"^roll: expected a shift for each axis"),
        (lambda: x.pad((1, 1)), r"^pad: widths are pairs"),
        (lambda: x.repeat(-1, 2), r"^repeat: "),
        (lambda: x.tile(-1), r"^tile: expected numbers from 0"),
        (lambda: tgl.cat([x.sum(), x.sum()]), r"^concatenate: 0-d tensors .* use stack"),
        (lambda: x.gather(1, x), r"^gather: indices must be integers"),
        (lambda: x.gather(1, [[3]]), r"^gather: indices must be in \[0, 3\)"),
        (lambda: x[0].dot([1, 2]), r"^dot: expected two vectors of one length, got \(3,\) and \(2,\)"),
        (lambda: x[0].outer(x), r"^outer: expected two vectors"),
        (lambda: x.to(None), r"^dtype: expected a type or its name"),
        (lambda: x.to("cpu", device="cpu"), r"^to: expected one device and one dtype"),
        (lambda: x.to(print), r"^dtype: .* is no element type"),
        (lambda: x.to("cuda:1"), r'^to: expected a dtype or a device \("cpu", "cuda"\), got \'cuda:1\''),
        (lambda: tgl.tensor([300], dtype="uint8"), r"^tensor: 300 is not in uint8's range, 0 to 255"),
        (lambda: tgl.tensor([float("nan")], dtype="int64"), r"^tensor: nan is not in int64's range"),
        (lambda: tgl.tensor(["1"], dtype="float32"), r"^dtype: expected a float, an integer or bool, got <U1"),
        (lambda: tgl.tensor([1j], dtype="float32"), r"^dtype: expected a float, an integer or bool, got complex"),
        (lambda: tgl.full((2,), float("inf"), dtype="int32"), r"^full: inf is not in int32's range"),
        (lambda: tgl.einsum(x, x), r"^einsum: expected subscripts"),
        (lambda: tgl.einsum("i,i", 1.0, None), r"^einsum: expected a Tensor, an array or a number, got NoneType"),
        (lambda: F.one_hot([0], -5), r"^one_hot: num_classes"),
        (lambda: F.attention_qkv(tgl.ones(1, 2, 6), 0), r"^attention_qkv: heads must be a multiple of kv_heads"),
        (lambda: F.scaled_dot_product_attention(x.sum(), x, x), r"^attention: expected q"),
        (lambda: F.linear_cross_entropy(tgl.tensor(1.0), x, 1), r"^linear_cross_entropy: h \(\) needs targets"),
        (lambda: F.layer_norm(tgl.tensor(1.0)), r"^layer_norm: x must have a last axis"),
        (lambda: F.rms_norm(tgl.tensor(1.0)), r"^rms_norm: x must have a last axis"),
        (lambda: tgl.zeros(-1), r"^zeros: sizes must be from 0"),
        (lambda: tgl.ones(2.5), r"^ones: expected integers"),
        (lambda: tgl.linspace(0, 1, -1), r"^linspace: steps"),
        (lambda: tgl.eye(-1), r"^eye: sizes"),
        (lambda: tgl.rand(2, dtype="int64"), r"^uniform: draws floats"),
        (lambda: tgl.randn_like(tgl.tensor([1])), r"^normal: draws floats"),
        (lambda: tgl.uniform(1, 0, (2,)), r"^uniform: expected low <= high"),
        (lambda: tgl.normal(0, -1, (2,)), r"^normal: std"),
        (lambda: tgl.multinomial([0.5, 0.5], -1), r"^multinomial: num_samples"),
        (lambda: tgl.multinomial([-0.5, 0.5], 1), r"^multinomial: expected rows of finite weights"),
        (lambda: tgl.multinomial([0.5, 0.5], 3), r"^multinomial: fewer than 3"),
        (lambda: functional.exp(x, base=2), r"^exp: takes no parameter"),
        (lambda: tgl.tensor([1]) & 1, r"^&: expected bool"),
        (lambda: x.to("tpu"), "tpu"),
        (lambda: tgl.tensor([1]).__iadd__(1.5), r"^\+=: int64 \(1,\) and 1.5 \(\) do not fit in place: write x = x \+ y"),
        (lambda: tgl.zeros(2).__iadd__(tgl.zeros(3, 2)), r"^\+=: "),
        (lambda: tgl.ones(1).expand(3).__iadd__(1.0), r"^\+=: "),
        (lambda: tgl.zeros(2).__setitem__(0, tgl.zeros(3)), r"^x\[key\] = y: "),
        (lambda: tgl.tensor([[1, 2], [3]]), r"^tensor: the data is no rectangular array"),
        (lambda: tgl.arange(0, 1, 0), r"^arange: step"),
        (lambda: tgl.randint(3, 3, (2,)), r"^randint: "),
        (lambda: x.pad(((-1, 0), (0, 0))), r"^pad: "),
        (lambda: x.flip(0, 0), r"^flip: an axis is named twice"),
        (lambda: x.sum(dim="a"), r"^sum: an axis is an integer"),
        (lambda: x.sum(dim=True), r"^sum: an axis is an integer"),
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError, IndexError), match=message):
            call()


def test_every_way_in_gives_the_dtype_object_that_the_short_paths_know():
    other = np.dtype("float32").newbyteorder("=")
    made = [
        tgl.randn(2), tgl.zeros(2), tgl.ones(2, dtype="float32"), tgl.rand(2), tgl.tensor([1.0]), tgl.zeros(2).to("float32"),
        tgl.tensor(np.zeros(2, other)), tgl.zeros(2, dtype=other), tgl.full((2,), 1.5), tgl.zeros(2).double().float(),
        pickle.loads(pickle.dumps(tgl.randn(2))), tgl.tensor(np.zeros(2, ">f4")), tgl.arange(3.0), tgl.eye(2), tgl.linspace(0, 1, 3),
    ]  # fmt: skip
    assert [x.data.dtype is tgl.float32 for x in made] == [True] * len(made)
    assert tgl.randn(2, dtype="float64").data.dtype is tgl.float64


def test_axes_may_be_numpy_integers_and_both_spellings_work():
    x = tgl.ones(2, 3)
    assert x.sum(axis=np.int64(1)).shape == x.sum(dim=1).shape == x.sum((1,)).shape == (2,)
    assert x.sum(dim=[0, 1]).item() == 6 and x.mean(axis=0, keepdims=True).shape == (1, 3)
    assert x.reshape(np.int64(3), -1).shape == (3, 2)
    with pytest.raises(TypeError, match="give dim or axis, not both"):
        x.sum(dim=0, axis=0)


@pytest.mark.parametrize("name", [
    "sum", "mean", "var", "std", "prod", "amax", "amin", "max", "min", "argmax", "argmin", "any", "all", "norm", "logsumexp",
])  # fmt: skip
def test_reductions_speak_torchs_and_numpys_language_as_methods_and_functions(name):
    x = tgl.tensor(np.arange(6.0).reshape(2, 3) - 2.5)

    def values(**options):
        results = [getattr(x, name)(**options), getattr(tgl, name)(x, **options)]
        return [np.array(r[0] if isinstance(r, tuple) else r) for r in results]

    same = [*values(dim=-1, keepdim=True), *values(axis=-1, keepdims=True), *values(axis=1, keepdim=True)]
    for value in same:
        assert value.shape == (2, 1)
        np.testing.assert_array_equal(value, same[0])
    assert [v.shape for v in values(keepdims=True)] == [(1, 1), (1, 1)]
    with pytest.raises(TypeError, match="give dim or axis, not both"):
        values(dim=0, axis=0)


def test_every_function_of_the_package_takes_lists_and_is_a_method_under_the_same_name():
    x, y = [[1.0, -2.0]], [[2.0, -2.0]]
    for name in ("eq", "ne", "lt", "le", "gt", "ge", "remainder", "maximum", "sub", "pow", "add", "mul", "div"):
        assert getattr(tgl, name)(x, y).tolist() == getattr(tgl.tensor(x), name)(tgl.tensor(y)).tolist()
    for name in ("neg", "isfinite", "abs", "square", "relu", "exp"):
        assert getattr(tgl, name)(x).tolist() == getattr(tgl.tensor(x), name)().tolist()
    assert tgl.expand(x, (3, -1)).shape == tgl.repeat(x, (3, 1)).shape == (3, 2)
    like = tgl.uniform_like(tgl.zeros(3, dtype="float64"), 2.0, 3.0), tgl.normal_like(tgl.zeros(3), 5.0, 0.0)
    assert like[0].dtype == tgl.float64 and (like[0] >= 2.0).all() and like[1].tolist() == [5.0] * 3
    assert tgl.randint(5, (4,)).shape == tgl.randint_like(tgl.zeros(4), 5, 9).shape == (4,)
    assert tgl.zeros_like(np.ones((2, 1))).dtype == tgl.empty_like(tgl.ones(2, dtype="float64")).dtype == tgl.float64
    assert (
        tgl.rand_like(tgl.ones(2), generator=tgl.Generator(1)).tolist()
        == tgl.rand(2, generator=tgl.Generator(1)).tolist()
    )


def test_other_axes_take_both_spellings():
    x = tgl.tensor([[3.0, 1.0, 2.0]])
    for name in ("softmax", "log_softmax", "argsort", "cumsum", "cumprod"):
        for where in ({"dim": 1}, {"axis": 1}):
            assert getattr(x, name)(**where).tolist() == getattr(tgl, name)(x, **where).tolist()
        assert (
            getattr(x, name)(axis=0).tolist() == getattr(x, name)(dim=0).tolist() != getattr(x, name)(axis=1).tolist()
        )
    assert x.sort(axis=0)[0].tolist() == tgl.sort(x, axis=0)[0].tolist() == [[3.0, 1.0, 2.0]]
    assert x.topk(1, axis=0)[0].tolist() == tgl.topk(x, 1, axis=0)[0].tolist() == [[3.0, 1.0, 2.0]]
    assert x.squeeze(axis=0).shape == tgl.squeeze(x, axis=0).shape == (3,)
    assert x.unsqueeze(axis=0).shape == tgl.unsqueeze(x, axis=0).shape == (1, 1, 3)
    assert x.flip(axis=1).tolist() == tgl.flip(x, axis=1).tolist() == x.flip((1,)).tolist() == [[2.0, 1.0, 3.0]]
    assert x.roll(1, axis=1).tolist() == tgl.roll(x, 1, axis=1).tolist() == [[2.0, 3.0, 1.0]]
    assert len(x.split(2, axis=1)) == len(tgl.split(x, 2, axis=1)) == len(x.chunk(2, axis=1)) == 2
    assert len(tgl.chunk(x, 3, axis=1)) == 3


def test_numpys_scalars_are_numbers_and_do_not_widen():
    x, half, wide = tgl.ones(2, 3).requires_grad_(), np.float64(0.5), np.int64(1)
    for y in (
        x * half, half * x, x / half, x**half, half**x, x.maximum(half), x.clamp(half, np.float64(2.0)), x.leaky_relu(half),
        x.elu(half), x.masked_fill(x > 0, half), x.where(x > 2, half), x.var(correction=wide), x.pad(((0, 0), (0, 1)), half),
    ):  # fmt: skip
        assert y.dtype == tgl.float32
        tgl.grad(y.sum(), x)
    assert (x.half() * half).dtype == tgl.float16 and (x + np.float32(1)).dtype == tgl.float32
    whole = tgl.arange(3)
    assert whole.clamp([1, 1, 3], np.array([2, 2, 2])).tolist() == [1, 1, 2]
    assert whole.clamp(wide).dtype == tgl.int64 and whole.clamp(half).dtype == tgl.float32
    assert (whole + wide).dtype == tgl.int64 and (whole * half).dtype == tgl.float32
    assert tgl.full((2,), wide).dtype == tgl.int64 and tgl.full((2,), np.bool_(True)).dtype == tgl.bool_
    assert tgl.full((2,), tgl.tensor(2.5)).tolist() == [2.5, 2.5]


def test_comparing_with_none_or_text_asks_about_the_tensor():
    x = tgl.ones(2)
    assert (x == None) is False and (x != None) is True and (x == "x") is False and (x != "x") is True  # noqa: E711
    assert x in (None, x) and +x is x


def test_to_takes_a_device_and_a_type_by_name_or_place():
    x = tgl.ones(2)
    assert x.to("cpu") is x.to(device="cpu") is x.to(dtype="float32") is x.to("cpu", "float32") is x
    assert x.to("cpu", "int8").dtype == x.to(device="cpu", dtype="int8").dtype == x.to(dtype=np.int8).dtype == tgl.int8


def test_integers_beyond_64_bits_are_refused():
    for number in (2**70, -(2**63) - 1):
        with pytest.raises(OverflowError, match="^tensor: an integer beyond 64 bits"):
            tgl.tensor([number])
    assert tgl.tensor([2**63 - 1, -(2**63)]).tolist() == [2**63 - 1, -(2**63)]
    assert tgl.tensor([1.9, -1.9], dtype="int8").tolist() == [1, -1]
    assert tgl.tensor(np.array([300]), dtype="uint8").tolist() == [44]  # an array is converted as NumPy converts it


def test_extreme_values_give_no_nan_and_no_warning():
    huge = tgl.tensor([-1000.0, 1000.0, -20.0]).requires_grad_()
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        for f in ("sigmoid", "tanh", "softplus", "silu", "elu", "gelu", "relu"):
            huge.grad = None
            out = getattr(huge, f)()
            out.sum().backward()
            assert np.isfinite(out.detach().numpy()).all() and np.isfinite(huge.grad.numpy()).all(), f
        assert tgl.tensor([-20.0]).sigmoid().item() == pytest.approx(2.0611536e-09, rel=1e-6)
        assert tgl.tensor([[0.0, -np.inf]]).softmax(-1).tolist() == [[1.0, 0.0]]
        constant = tgl.ones(3).requires_grad_()
        constant.std().backward()
        assert constant.grad.tolist() == [0.0] * 3
