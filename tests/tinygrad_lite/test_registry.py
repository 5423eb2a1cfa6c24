"""Tests generated from the registry: every case of every op, on every path."""

import numpy as np
import pytest
from support.false_alarms import alarms, alarms_in_parallel

from tinygrad_lite import dtypes, grad
from tinygrad_lite.gradcheck.registry import (
    check_case,
    check_registry,
    computing,
    differentiable,
    function_of,
    grouped,
    paths_of,
    wants_gradient,
)
from tinygrad_lite.ops.registry import OPS, Case, Values
from tinygrad_lite.tensor import Tensor, wrap

CASES = [(op, case, path) for op in differentiable() for case in op.cases for path in paths_of(op)]
IDS = [f"{op.name}-{op.cases.index(case)}-{path}" for op, case, path in CASES]
every_case = pytest.mark.parametrize("op, case, path", CASES, ids=IDS)


@every_case
def test_gradients_to_second_order(op, case, path):
    row = check_case(op, case, seed=0, path=path)
    assert row.verdict == "ok", f"{row.first}\n{row.second}"


@every_case
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_gradients_in_narrow_types(op, case, path, dtype):
    row = check_case(op, case, seed=0, path=path, order=1, dtype=dtype)  # wrong types and shapes are findings, too
    assert row.verdict == "ok", str(row.first)


# -- memory layouts -----------------------------------------------------------------------------------------
def _strided(array):
    """The same values with gaps between them, the last axis running backwards."""
    if not array.ndim:
        return np.array([array, array])[1:].reshape(())
    wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), 99, array.dtype)
    view = wide[..., ::-2]
    view[...] = array
    return view


def _stretched(array):
    """The first row everywhere: a read-only view whose first axis has stride 0."""
    return np.broadcast_to(array[:1], array.shape) if array.ndim else array


def _read_only(array):
    array = np.array(array)
    array.flags.writeable = False
    return array


def _orders(op, case, arrays, guard=False):
    """Value, first- and second-order gradients. guard: everything that backward reads is made read-only."""
    rng = np.random.default_rng(1)
    xs, tracked = [], []
    for i, array in enumerate(arrays):
        x = wrap(array, None, _cpu()) if isinstance(array, np.ndarray) else array
        if isinstance(array, np.ndarray) and wants_gradient(op, i, array.dtype):
            tracked.append(x.requires_grad_())
        xs.append(x)
    out = function_of(op, case)(*xs)
    g = Tensor(rng.standard_normal(out.shape), dtype=out.dtype)
    if guard:
        out.data.flags.writeable = g.data.flags.writeable = False
    first = grad(out, tracked, [g], retain_graph=True, allow_unused=True)
    results = [out, *first]
    g = g.detach().requires_grad_()
    gs = [x for x in grad(out, tracked, [g], create_graph=True, allow_unused=True) if x is not None]
    results += gs
    gs = [x for x in gs if x.node is not None]
    if gs:
        weights = [Tensor(rng.standard_normal(x.shape), dtype=x.dtype) for x in gs]
        if guard:
            for w in (*weights, *gs):
                w.data.flags.writeable = False
        results += grad(gs, [*tracked, g], weights, allow_unused=True)
    return [None if r is None else np.array(r.numpy()) for r in results]


def _cpu():
    return Tensor(0.0).device


def _agree(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert (x is None) == (y is None)
        if x is not None:
            np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-12)


@every_case
def test_non_contiguous_inputs(op, case, path):
    arrays = case.sample(np.random.default_rng(3))
    views = [_strided(a) if isinstance(a, np.ndarray) else a for a in arrays]
    with computing(path):
        _agree(_orders(op, case, views), _orders(op, case, arrays))


@every_case
def test_broadcast_inputs(op, case, path):
    views = [_stretched(a) if isinstance(a, np.ndarray) else a for a in case.sample(np.random.default_rng(3))]
    copies = [np.array(a) if isinstance(a, np.ndarray) else a for a in views]
    with computing(path):
        _agree(_orders(op, case, views), _orders(op, case, copies))


@every_case
def test_rules_write_to_nothing_that_they_are_given(op, case, path):
    arrays = case.sample(np.random.default_rng(3))
    locked = [_read_only(a) if isinstance(a, np.ndarray) else a for a in arrays]
    with computing(path):
        _agree(_orders(op, case, locked, guard=True), _orders(op, case, arrays))


@every_case
def test_integers_record_nothing(op, case, path):
    arrays = case.sample(np.random.default_rng(3))
    whole = [np.maximum(np.abs(np.rint(a)), 1).astype(np.int64) if _is_float(a) else a for a in arrays]
    whole = [a if isinstance(a, np.ndarray) else max(1, abs(round(a))) for a in whole]
    with computing(path):
        out = function_of(op, case)(*[wrap(a, None, _cpu()) if isinstance(a, np.ndarray) else a for a in whole])
    assert out.node is None
    assert np.isfinite(out.numpy()).all()


def _is_float(array):
    return isinstance(array, np.ndarray) and array.dtype.kind == "f"


# -- the registry as a whole --------------------------------------------------------------------------------
def test_every_op_with_a_rule_has_a_case():
    assert [op.name for op in differentiable() if not op.cases] == []


def test_every_float_input_has_a_rule():
    missing = [
        f"{op.name}.{name}"
        for op in differentiable()
        for i, name in enumerate(op.inputs)
        if not op.is_fused and name not in op.integer_inputs and op.rule_of(i) is None
    ]
    assert missing == []


@pytest.mark.slow
def test_no_false_alarm_on_the_clean_registry():
    count, found = alarms(range(1, 3))
    assert found == []
    assert count >= 4 * sum(len(op.cases) for op in differentiable())


@pytest.mark.slow
def test_no_false_alarm_in_a_thousand_seeds():
    count, found = alarms_in_parallel(1000)
    assert found == []
    assert count >= 2000 * sum(len(op.cases) for op in differentiable())


def test_check_registry_makes_a_row_a_seed_and_a_table_a_line_a_case():
    rows = check_registry(["multiply", "gelu"], seeds=2)
    assert {row.verdict for row in rows} == {"ok"}
    lines = grouped(rows)
    assert len(lines) == len(OPS["multiply"].cases) + len(OPS["gelu"].cases) * len(paths_of(OPS["gelu"]))
    assert len(rows) == 2 * len(lines)
    assert list(lines[0]) == ["op", "case", "path", "first-order error", "second-order error", "verdict", "ms"]
    assert all(line["first-order error"] < 1e-7 and line["second-order error"] < 1e-6 for line in lines)
    assert grouped(check_registry(["exp"], order=1))[0]["second-order error"] is None


def test_check_registry_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="no op 'nonsense'"):
        check_registry(["nonsense"])
    with pytest.raises(ValueError, match="order must be 1 or 2"):
        check_registry(["exp"], order=3)


def test_case_inputs():
    rng = np.random.default_rng(0)
    floats, ints, number = Case(Values(((0.5, -1.0),)), Values((1, -100)), 2.5).sample(rng, dtypes.float32)
    assert floats.dtype == np.float32 and floats.tolist() == [[0.5, -1.0]]
    assert ints.dtype == np.int64 and ints.tolist() == [1, -100]
    assert number == 2.5
