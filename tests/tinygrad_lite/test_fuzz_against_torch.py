"""Any shapes and element types through every row: equal to PyTorch, or a clear error that names the op.

What may differ on purpose is listed in ALLOWED, and explained in docs/differences.md.
"""

import re
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
hypothesis = pytest.importorskip("hypothesis")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from support import torch_table  # noqa: E402

import tinygrad_lite as tgl  # noqa: E402

DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "uint8", "bool")
EPS = {"float64": 2e-16, "float32": 1.2e-7, "float16": 1e-3, "bfloat16": 8e-3}
NAMED = re.compile(r"^(\w+|[-+*/&|^~%@]=?|x\[key\]( = y)?)( [a-z]+)?: \S")

# Rows that differ on purpose for other types than one of PyTorch's floats (docs/differences.md), or whose
# function itself says something else for integers.
ONE_FLOAT = {
    "reflected", "dropout none", "getitem boolean", "topk", "sort", "sort descending", "argsort", "max dim", "min dim",
    "tgl.max", "tgl.min", "all", "any", "rms_norm", "einsum", "einsum sums", "einsum three", "log_softmax", "softmax",
    "masked_fill", "masked_fill function", "argmax", "argmin", "tgl.argmax", "tgl.argmin", "comparison signs",
    "remainder", "floor_divide", "linear", "layer_norm", "bias_gelu", "swiglu", "cross_entropy", "linear_cross_entropy",
    "attention", "attention_qkv", "gelu_mlp",
}  # fmt: skip

shapes = st.lists(st.sampled_from((0, 1, 2, 3)), max_size=3).map(tuple)


def _inputs(row, drawn, seed):
    rng = np.random.default_rng(seed)
    arrays = []
    for shape, dtype in drawn:
        values = rng.uniform(row.low, row.high, shape)
        if row.distinct:
            values = rng.permutation(np.linspace(row.low, row.high, int(np.prod(shape)))).reshape(shape)
        arrays.append(torch.tensor(values).to(getattr(torch, dtype)))
    if row.ints:
        arrays[-1] = torch.tensor(rng.integers(0, row.ints, drawn[-1][0]))
    return arrays


def _outcome(fn, module, xs):
    try:
        out = fn(module, *xs)
    except Exception as error:
        return None, error
    return tuple(out) if isinstance(out, (tuple, list)) else (out,), None


def _mine(x):
    if x.dtype == torch.bfloat16:
        return tgl.tensor(x.float().numpy()).to("bfloat16")
    return tgl.tensor(x.numpy())


def compare(row, drawn, seed):
    """None if the row agrees or refuses clearly, else what is wrong."""
    arrays = _inputs(row, drawn, seed)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mine, error = _outcome(row.fn, tgl, [_mine(x) for x in arrays])
        theirs, their_error = _outcome(row.theirs, torch, arrays)
    if error is not None:
        if not isinstance(error, (ValueError, TypeError, IndexError, RuntimeError)):
            return f"raises {type(error).__name__}: {error}"
        if not NAMED.match(str(error)):
            return f"unclear: {type(error).__name__}: {error}"
        return None
    if their_error is None and len(mine) != len(theirs):
        return f"count {len(mine)}, PyTorch has {len(theirs)}"
    if their_error is not None:
        floats = {x.dtype for x in arrays[: len(arrays) - bool(row.ints)]} in ({torch.float32}, {torch.float64})
        return f"PyTorch refuses: {str(their_error)[:80]}" if floats else None  # more types are an extension
    for a, b in zip(mine, theirs, strict=True):
        if not isinstance(b, torch.Tensor):
            continue  # the sum of no rows is Python's 0
        name = str(b.dtype).removeprefix("torch.")
        # PyTorch's products of nothing skip the test that refuses mixed types, and answer with one operand's type
        if str(a.dtype) != name and (b.numel() or len({x.dtype for x in arrays}) == 1):
            return f"type {a.dtype}, PyTorch's {name}"
        if a.shape != tuple(b.shape):
            return f"shape {a.shape}, PyTorch's {tuple(b.shape)}"
        x, y = a.double().numpy(), b.double().numpy()
        eps = max([EPS.get(str(t.dtype).removeprefix("torch."), 0.0) for t in arrays] + [EPS.get(name, 0.0)])
        scale = max(1.0, float(np.abs(y[np.isfinite(y)]).max(initial=0.0)))
        if not np.allclose(x, y, rtol=0, atol=row.tol * eps * scale, equal_nan=True):
            return f"value {x.ravel()[:4]}, PyTorch's {y.ravel()[:4]}"
    return None


@st.composite
def cases(draw):
    """A row, with shapes that fit it or that are drawn freely, and element types."""
    row = draw(st.sampled_from(torch_table.ROWS))
    chosen = draw(st.sampled_from(row.shapes))
    if row.name != "getitem boolean" and draw(st.booleans()):  # that row reads x.shape[1] itself
        chosen = tuple(draw(shapes) for _ in chosen)
    if row.name in ONE_FLOAT:
        dtypes = [draw(st.sampled_from(DTYPES[:2]))] * len(chosen)
    else:
        dtypes = [draw(st.sampled_from(DTYPES)) for _ in chosen]
    return row, list(zip(chosen, dtypes, strict=True)), draw(st.integers(0, 999))


@settings(derandomize=True, max_examples=1500, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
@given(cases())
def test_any_input_equals_torch_or_raises_clearly(case):
    row, drawn, seed = case
    wrong = compare(row, drawn, seed)
    assert wrong is None, f"{row.name} {drawn}: {wrong}"
