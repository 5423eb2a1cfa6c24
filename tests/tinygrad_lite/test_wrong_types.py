"""Every public function, each argument of a wrong type in turn: an error that names the op, and none from inside it."""

import inspect
import re

import numpy as np
import pytest

import tinygrad_lite as tgl
from tinygrad_lite import Tensor
from tinygrad_lite import functional as F

NAMED = re.compile(r"^[\w.&|^~]+: .{8}")  # the op, and at least a few words
WRONG = [3, -7, 1.5, float("nan"), True, "a", None, object(), [1.5], (1, "b"), {}, np.array([True])]
# What hands its arguments on to a function of the user's, and what takes no tensors: each has tests of its own.
LEFT_OUT = {"checkpoint", "manual_seed", "set_num_threads", "no_grad", "enable_grad", "primitive", "fused"}


def square():
    return Tensor(np.array([[0.5, 1.5], [2.5, 3.5]], np.float32))


# What makes a call right, by the argument's name; where nothing is said, a tensor.
RIGHT = {
    "tensors": lambda: [square(), square()], "subscripts": lambda: "ij->i", "fn": lambda: lambda x: x.sum(), "widths": lambda: ((0, 1), (1, 0)),
    "mask": lambda: square() > 1, "condition": lambda: square() > 1, "indices": lambda: Tensor([0, 1]), "index": lambda: Tensor([[0, 1]]),
    "targets": lambda: Tensor([0, 1]), "bias": lambda: Tensor([1.0, 2.0]), "probabilities": lambda: Tensor([0.5, 0.5]),
    "q": lambda: tgl.randn(1, 1, 2, 2), "k": lambda: tgl.randn(1, 1, 2, 2), "v": lambda: tgl.randn(1, 1, 2, 2), "qkv": lambda: tgl.randn(1, 2, 6),
    "shape": lambda: (2, 2), "sizes": lambda: 4, "dims": lambda: (0,), "reps": lambda: (1, 1), "data": lambda: [1.0],
    **{name: lambda: 0 for name in ("dim", "axis", "dim0", "start", "low", "offset", "diagonal", "key", "mean")},
    **{name: lambda: 1 for name in ("dim1", "end", "heads", "chunks", "size", "shifts", "num_samples", "value", "std")},
    **{name: lambda: 2 for name in ("n", "steps", "high", "head_size")},
}  # fmt: skip


def public():
    for owner, label, names in ((tgl, "", dir(tgl)), (F, "F.", F.__all__), (Tensor, "Tensor.", dir(Tensor))):
        for name in names:
            fn = getattr(owner, name)
            if name[0] != "_" and name not in LEFT_OUT and callable(fn) and not inspect.isclass(fn):
                yield pytest.param(fn, owner is Tensor, id=label + name)


def call(fn, parameters, is_method, name, value):
    """fn with one argument of this value and the others right."""
    args, kwargs = [square()] if is_method else [], {}
    for p in parameters:
        if p.kind is p.VAR_KEYWORD or (p.name != name and (p.default is not p.empty or p.kind is p.VAR_POSITIONAL)):
            continue
        given = value if p.name == name else RIGHT.get(p.name, square)()
        if p.kind is p.KEYWORD_ONLY or p.default is not p.empty:
            kwargs[p.name] = given
        else:
            args.append(given)
    return fn(*args, **kwargs)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fn, is_method", list(public()))
def test_an_argument_of_a_wrong_type_is_named_or_taken(fn, is_method):
    parameters, bad = list(inspect.signature(fn).parameters.values())[int(is_method) :], []
    for p in parameters:
        for value in WRONG if p.name not in ("device", "dtype") else ("a", 3.5):
            try:
                with np.errstate(all="ignore"):
                    call(fn, parameters, is_method, p.name, value)
            except Exception as error:
                if not NAMED.match(str(error)) or isinstance(error, AttributeError):
                    bad.append(f"{p.name}={value!r}: {type(error).__name__}: {error}")
    assert bad == []


@pytest.mark.parametrize("fn, message", [
    (lambda: tgl.cat(3), "concatenate: expected a sequence of Tensors, got int"),
    (lambda: tgl.rand(2, generator=3), "uniform: generator must be a tinygrad_lite.Generator or None, got int"),
    (lambda: tgl.tensor([1]).masked_fill(tgl.tensor([True]), float("nan")), "masked_fill: int64 has no nan"),
    (lambda: F.linear(3, square()), "linear: .*expected Tensors for x, weight, bias"),
    (lambda: F.gelu(None), "gelu: expected a Tensor for x"),
    (lambda: tgl.grad(3, square()), "grad: expected a Tensor or several as outputs, got int"),
    (lambda: tgl.vjp(3, square()), "vjp: expected a function first, got int"),
])  # fmt: skip
def test_what_was_expected_and_what_came(fn, message):
    with pytest.raises((TypeError, ValueError), match="^" + message):
        fn()


@pytest.mark.parametrize("dim", [0, -1])
def test_softmax_of_a_0d_tensor_is_one(dim):
    x = tgl.tensor(3.0).requires_grad_()
    y, logs = x.softmax(dim), F.log_softmax(x, dim)
    assert (y.shape, y.item(), logs.shape, logs.item()) == ((), 1.0, (), 0.0)
    (y + logs).backward()
    assert x.grad.item() == 0.0
    with pytest.raises(IndexError, match="^softmax: axis 1 is out of range"):
        x.softmax(1)
