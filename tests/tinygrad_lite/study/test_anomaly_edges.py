"""Anomaly mode where an op is not at fault, and its replay files where they are damaged."""

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
