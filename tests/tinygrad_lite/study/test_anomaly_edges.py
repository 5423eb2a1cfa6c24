"""Anomaly mode where an op is not at fault, and its replay files where they are damaged."""

import inspect
import json

import numpy as np
import pytest

import tinygrad_lite as tgl
from tinygrad_lite import Tensor, nn
from tinygrad_lite import functional as F
from tinygrad_lite.study import AnomalyError, detect_anomaly, replay


def leaf(values, dtype=np.float32):
    return Tensor(np.array(values, dtype), requires_grad=True)


def test_a_grad_that_overflows_over_two_backward_calls_is_named_with_its_leaf():
    layer = nn.Linear(1, 1, bias=False).to("float16")
    with pytest.raises(AnomalyError, match=r"in \.grad of layer\.weight") as caught, detect_anomaly(None):
        for _ in range(2):
            (layer.weight * 60000.0).sum().backward()
    assert (caught.value.origin.cause, caught.value.origin.kind) == ("grad", "infinity")
    assert "65,504" in str(caught.value)


def test_a_grad_that_was_infinite_before_is_no_origin():
    w = leaf([1.0])
    w.grad = Tensor(np.array([np.inf], np.float32))
    with detect_anomaly(None):
        (w * 2.0).sum().backward()
    assert w.grad.item() == np.inf


def test_a_hook_on_a_leaf_is_named_with_the_leaf():
    w = leaf([1.0])
    w.register_hook(lambda g: Tensor(np.array([np.nan], np.float32)))
    with pytest.raises(AnomalyError, match="is a hook's, on the gradient of w\n"), detect_anomaly(None):
        (w * 2.0).sum().backward()


@pytest.mark.parametrize("product", ["jacobian", "hessian", "vjp", "jvp"])
def test_jacobians_and_products_are_looked_at(product):
    x, v = leaf([0.0, 1.0]), Tensor(np.ones(2, np.float32))
    call = {
        "jacobian": lambda: tgl.jacobian(lambda x: x.sqrt(), x),
        "hessian": lambda: tgl.hessian(lambda x: x.sqrt().sum(), x),
        "vjp": lambda: tgl.vjp(lambda x: x.sqrt(), x, v),
        "jvp": lambda: tgl.jvp(lambda x: x.sqrt(), x, v),
    }[product]
    with pytest.raises(AnomalyError, match="rule of sqrt") as caught, detect_anomaly(None):
        call()
    assert caught.value.origin.place.text == "x.sqrt()"


@pytest.mark.parametrize(
    "undefined",
    [
        lambda: leaf(np.zeros((0, 3))).mean(),
        lambda: leaf([1.0]).var(),
        lambda: leaf([1.0]).std(),
        lambda: F.nll_loss(leaf([[0.0, 0.0]]), Tensor(np.array([-100]))),
    ],
    ids=["mean", "var", "std", "nll_loss"],
)
def test_the_mean_of_nothing_is_an_origin_and_no_nan_of_the_users(undefined):
    with pytest.raises(AnomalyError, match="The first NaN is the result of multiply"), detect_anomaly(None):
        undefined()


def test_what_on_origin_computes_is_not_looked_at():
    seen = []

    def look(origin):
        seen.append(Tensor(origin.values[0].data).log().numpy())

    with pytest.raises(AnomalyError), detect_anomaly(None, on_origin=look):
        leaf([0.0]).log()
    assert len(seen) == 1 and np.isinf(seen[0]).all()


@pytest.fixture
def written(tmp_path):
    with pytest.raises(AnomalyError), detect_anomaly(tmp_path / "a.npz"):
        leaf([0.0, 1.0]).log()
    return tmp_path / "a.npz"


@pytest.mark.parametrize("change", ["cut", "a bit"])
def test_a_damaged_replay_file_is_refused(change, written):
    data = bytearray(written.read_bytes())
    assert data[:4] == b"PK\x03\x04"
    data[400] ^= 1
    written.write_bytes(data if change == "a bit" else data[: len(data) // 2])
    with pytest.raises(ValueError, match="damaged"):
        replay(written)


@pytest.mark.parametrize(
    ("key", "value"),
    [("op", "matmul"), ("values", []), ("was", {"array": "a9", "dtype": "float32"}), ("params", {"a": 1})],
)
def test_a_replay_file_with_a_part_that_does_not_fit_is_refused(key, value, written):
    arrays = dict(np.load(written))
    arrays["meta"] = np.array(json.dumps({**json.loads(str(arrays["meta"])), key: value}))
    np.savez(written, **arrays)
    with pytest.raises(ValueError, match="replay: .*a.npz is no replay file"):
        replay(written)
    arrays["meta"] = np.array(json.dumps({**json.loads(str(arrays["meta"])), "op": "unheard_of"}))
    np.savez(written, **arrays)
    with pytest.raises(ValueError, match="'unheard_of', which is not registered"):
        replay(written)


def test_a_place_that_cannot_be_written_is_said_and_leaves_nothing(tmp_path):
    for place in (tmp_path / "none" / "a.npz", tmp_path):  # no such directory; a directory of that name
        (tmp_path / f"{tmp_path.name}.npz").mkdir(exist_ok=True)
        place = place if place.suffix else tmp_path / tmp_path.name
        with pytest.raises(AnomalyError, match="no replay file: ") as caught, detect_anomaly(place):
            leaf([0.0]).log()
        assert caught.value.replay_file is None
    assert [p.name for p in tmp_path.iterdir()] == [f"{tmp_path.name}.npz"]


@pytest.mark.parametrize("read", [lambda w, i: w[i], lambda w, i: F.embedding(i, w)], ids=["index", "embedding"])
def test_rows_that_add_up_beyond_float16_are_named_with_the_op_that_read_them(read):
    w, i = leaf(np.ones((4, 3)), np.float16), Tensor(np.array([1, 1, 2]))
    with pytest.raises(AnomalyError) as caught, detect_anomaly(None):
        read(w, i).backward(Tensor(np.full((3, 3), 40000.0), dtype="float16"))
    origin = caught.value.origin
    assert (origin.phase, origin.kind, origin.cause) == ("backward", "infinity", "arrival")
    assert origin.name in ("getitem", "embedding") and origin.place.function == "<lambda>"
    assert origin.bad.tolist() == [[1, 0], [1, 1], [1, 2]] and "65,504" in str(caught.value)


def test_a_sum_over_a_broadcast_axis_is_replayed(tmp_path):
    b, x = leaf([1.0]), leaf(np.ones((3, 1)))
    with pytest.raises(AnomalyError) as caught, detect_anomaly(tmp_path / "a.npz"):
        (x * b).backward(Tensor(np.full((3, 1), 3e38, np.float32)))
    assert (caught.value.origin.name, caught.value.origin.cause) == ("multiply", "arrival")
    assert replay(caught.value.replay_file).is_same


def advice(fn):
    with pytest.raises(AnomalyError) as caught, detect_anomaly(None):
        fn()
    return caught.value.origin.advice or ""


def test_advice_is_of_the_case_and_not_of_the_op_alone():
    large, masked = leaf([[3e38, 3e38]]), leaf([[-np.inf, -np.inf]])
    assert advice(lambda: large + large) == advice(lambda: large - -3e38) == advice(lambda: large * 2.0) == ""
    assert "minus infinity" in advice(lambda: masked - masked)
    assert "leave a key unmasked" in advice(lambda: F.softmax(masked))
    assert "leave a key unmasked" not in advice(lambda: F.softmax(-masked))
    q = leaf(np.full((1, 1, 2, 2), 1e20))
    assert advice(lambda: F.scaled_dot_product_attention(q, q, q)) == ""


def test_a_nan_that_was_written_as_a_number_did_not_come_in_from_outside():
    x = leaf([1.0, 2.0])

    def fill():
        y = x.masked_fill(Tensor([True, False]), float("nan"))  # HERE
        return y.isnan(), y * 2.0

    with pytest.raises(AnomalyError) as caught, detect_anomaly(None):
        fill()
    lines, first = inspect.getsourcelines(fill)
    here = first + next(i for i, line in enumerate(lines) if "# HERE" in line)
    assert "written as a number: y, which multiply reads" in str(caught.value)
    assert f"test_anomaly_edges.py:{here}" in caught.value.origin.headline()
    assert (caught.value.origin.made.place.file, caught.value.origin.made.place.line) == (__file__, here)


def test_a_nan_put_into_a_result_behind_the_engines_back_was_not_written_as_a_number():
    y = leaf([1.0, 2.0])
    with pytest.raises(AnomalyError, match="came in from outside: y"), detect_anomaly(None):
        y = y * 2.0
        y.data[0] = np.nan
        y * 3.0


DATA = Tensor(np.array([np.nan], np.float32))


def test_an_input_that_a_global_variable_holds_is_named():
    with pytest.raises(AnomalyError, match="came in from outside: DATA"), detect_anomaly(None):
        DATA * 2.0


def test_within_no_grad_it_looks_and_records_nothing():
    x = leaf([4.0, 0.0])
    with tgl.no_grad():
        with detect_anomaly(None):
            assert (x * 2.0).reshape(2, 1).node is None
        with pytest.raises(AnomalyError, match="result of log"), detect_anomaly(None):
            (x * 2.0).log()
        assert (x * 2.0).node is None
    assert (x * 2.0).node is not None


def test_what_was_typed_at_a_prompt_has_a_line_and_no_empty_one():
    with pytest.raises(AnomalyError) as caught, detect_anomaly(None):
        exec("Tensor([0.0]).log()", {"Tensor": Tensor})
    lines = str(caught.value).splitlines()
    assert lines[1] == "  <string>:1, in <module>" and all(line.strip() for line in lines)
