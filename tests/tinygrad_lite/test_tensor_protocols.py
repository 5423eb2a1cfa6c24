"""A Tensor among Python's and NumPy's protocols: copying, pickling, DLPack, mixing with arrays, promotion, halves."""

import copy
import itertools
import pickle

import numpy as np
import pytest

import tinygrad_lite as tgl
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


# -- promotion ----------------------------------------------------------------------------------------------------------
DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64")


@pytest.mark.parametrize("a, b", itertools.product(DTYPES, DTYPES))
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
        (lambda: x.norm(3), r"^norm: p must be"),
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
