"""Anomaly mode names the op and the line where a NaN or an infinity began, and nothing else."""

import gc
import inspect
import threading
import weakref

import numpy as np
import pytest

import tinygrad_lite as tgl
from tinygrad_lite import Tensor, checkpoint, where
from tinygrad_lite import functional as F
from tinygrad_lite.autograd.mode import mode
from tinygrad_lite.config import settings
from tinygrad_lite.study import AnomalyError, detect_anomaly, replay
from tinygrad_lite.study.finite import fingerprint, holds, is_finite
from transformer import GPT, GPTConfig
from transformer.model import as_tokens


def leaf(values, dtype=np.float32):
    return Tensor(np.array(values, dtype), requires_grad=True)


# -- cases: each marks the line at fault with a comment, # HERE
def log_of_zero():
    x = leaf([1.0, 0.0, 2.0])
    y = x.log()  # HERE
    return y.sum()


def zero_by_zero():
    a, b = leaf([0.0, 1.0]), leaf([0.0, 2.0])
    return (a / b).sum()  # HERE


def root_at_zero():
    a = leaf([0.0, 1.0])
    r = a.sqrt()  # HERE
    return r.sum()


def overflow_of_exp():
    a = leaf([0.0, 100.0])
    return (a.exp() + 1.0).sum()  # HERE


def softmax_of_a_masked_row():
    scores, keep = leaf([[1.0, 2.0], [3.0, 4.0]]), Tensor(np.array([[True, False], [False, False]]))
    scores = where(keep, scores, float("-inf"))
    weights = F.softmax(scores)  # HERE
    return (weights * 2.0).sum()


def infinity_less_infinity():
    a = leaf([1.0, np.inf])
    b = a * 2.0
    return (b - a).sum()  # HERE


def nan_in_the_data():
    data, w = Tensor(np.array([[1.0, np.nan]], np.float32)), leaf([[1.0, 2.0]])
    h = w + 1.0
    return (data * h).sum()  # HERE


def nan_only_in_backward():
    x = leaf([0.0, 4.0])
    return where(x > 0, x.sqrt(), 0.0).sum()  # HERE


def gradient_overflow_in_float16():
    x = leaf([1e-4], np.float16)
    h = x * 300.0  # HERE
    return (h * 300.0).sum()


def norm_at_zero():
    x = leaf([0.0, 0.0])
    return (x * x).sum().sqrt()  # HERE


def a_row_of_zeros_normalised_without_eps():
    x, w = leaf([[0.0, 0.0], [1.0, 2.0]]), leaf([1.0, 1.0])
    return F.rms_norm(x, w, eps=0.0).sum()  # HERE


def product_overflow_in_float16():
    a, b = leaf([[300.0, 200.0]], np.float16), leaf([[300.0], [1.0]], np.float16)
    return (a @ b).sum()  # HERE


def sum_of_gradients_overflows_in_float16():
    x = leaf([1e-3], np.float16)
    a = x * 40000.0  # HERE: the second share to arrive at x
    b = x * 50000.0
    return (a + b).sum()


def variance_below_zero():
    x = leaf([1000.1, 1000.1, 1000.1])
    variance = (x * x).mean() - x.mean() * x.mean() - 1e-3
    return variance.sqrt()  # HERE


def a_hook_that_divides_by_zero():
    x = leaf([1.0, 2.0])
    h = x * 3.0  # HERE
    h.register_hook(lambda g: Tensor(np.array([np.nan, 1.0], np.float32)))
    return h.sum()


CASES = [
    # function, op, phase, kind, cause
    (log_of_zero, "log", "forward", "infinity", "op"),
    (zero_by_zero, "divide", "forward", "NaN", "op"),
    (root_at_zero, "sqrt", "backward", "infinity", "op"),
    (overflow_of_exp, "exp", "forward", "infinity", "op"),
    (softmax_of_a_masked_row, "softmax", "forward", "NaN", "op"),
    (infinity_less_infinity, "subtract", "forward", "NaN", "op"),
    (nan_in_the_data, "multiply", "forward", "NaN", "input"),
    (nan_only_in_backward, "sqrt", "backward", "NaN", "op"),
    (gradient_overflow_in_float16, "multiply", "backward", "infinity", "arrival"),
    (norm_at_zero, "sqrt", "backward", "infinity", "op"),
    (a_row_of_zeros_normalised_without_eps, "rms_norm", "forward", "NaN", "op"),
    (product_overflow_in_float16, "matmul", "forward", "infinity", "op"),
    (sum_of_gradients_overflows_in_float16, "multiply", "backward", "infinity", "arrival"),
    (variance_below_zero, "sqrt", "forward", "NaN", "op"),
    (a_hook_that_divides_by_zero, "multiply", "backward", "NaN", "hook"),
]


def found(fn, tmp_path, **options):
    with pytest.raises(AnomalyError) as caught, detect_anomaly(tmp_path / "anomaly.npz", **options):
        fn().backward()
    return caught.value


@pytest.mark.parametrize("case", CASES, ids=[c[0].__name__ for c in CASES])
@pytest.mark.parametrize("fused", [True, False], ids=["kernels", "twins"])
def test_the_op_and_the_line_where_it_began_are_named(case, fused, tmp_path, monkeypatch):
    fn, op, phase, kind, cause = case
    monkeypatch.setattr(settings, "use_fused", fused)
    if not fused:  # the twin's own ops are seen; the line is the user's still
        op, kind = {"softmax": ("subtract", "NaN"), "rms_norm": ("rsqrt", "infinity")}.get(op, (op, kind))
    error = found(fn, tmp_path)
    origin = error.origin
    assert (origin.phase, origin.kind, origin.cause) == (phase, kind, cause)
    assert origin.name == op
    lines, first = inspect.getsourcelines(fn)
    here = first + next(i for i, line in enumerate(lines) if "# HERE" in line)
    assert (origin.place.file, origin.place.line) == (__file__, here)
    assert f"test_anomaly.py:{here}" in str(error) and origin.name in str(error)
    assert len(origin.bad)


def test_the_report_says_shapes_indices_ranges_and_names(tmp_path):
    text = str(found(log_of_zero, tmp_path))
    assert "x: float32 (3,), from 0 to 2" in text
    assert "1 infinite of 3" in text and "infinity at [1]; at the first x = 0" in text
    assert "x.log()" in text and "^^^^^^^" in text
    assert "keep its argument above 0" in text


def test_an_input_with_a_nan_is_named_as_the_user_names_it(tmp_path):
    origin = found(nan_in_the_data, tmp_path).origin
    assert origin.values[origin.which].label == "data"
    assert "came in from outside: data" in origin.headline()


def test_a_fused_op_is_opened_into_its_twin(tmp_path):
    inner = found(softmax_of_a_masked_row, tmp_path).origin.inner
    assert inner.name == "subtract" and inner.place.function == "softmax"
    assert inner.place.text.startswith("x - ")


def test_a_fused_op_is_opened_in_backward_too(tmp_path):
    q, k, v = leaf(np.ones((1, 1, 2, 2))), leaf(np.ones((1, 1, 2, 2))), leaf(np.full((1, 1, 2, 2), 1e25))
    with pytest.raises(AnomalyError) as caught, detect_anomaly(tmp_path / "anomaly.npz"):
        out = F.scaled_dot_product_attention(q, k, v)
        out.backward(np.full(out.shape, 1e20, np.float32))
    origin = caught.value.origin
    assert (origin.name, origin.phase, origin.kind) == ("attention", "backward", "NaN")
    assert (origin.inner.name, origin.inner.place.function) == ("matmul", "attend")  # g @ v.T, into the weights
    assert "weights, v" in origin.inner.place.text
    assert replay(caught.value.replay_file).is_same


@pytest.mark.parametrize("case", CASES, ids=[c[0].__name__ for c in CASES])
def test_a_replay_file_gives_it_again_alone(case, tmp_path):
    error = found(case[0], tmp_path)
    if case[4] == "hook" or case[0] is sum_of_gradients_overflows_in_float16:
        assert error.replay_file is None and "no replay file" in str(error)
        return
    again = replay(error.replay_file)
    assert again.is_same and not again.holds.is_finite
    assert again.op is error.origin.op and str(error).startswith(again.said)
    assert [p.name for p in tmp_path.iterdir()] == ["anomaly.npz"]  # and no partial file


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_a_replay_keeps_types_and_parameters(dtype, tmp_path):
    def take():
        x = Tensor([[1.0, 0.0], [2.0, 3.0]], dtype=dtype, requires_grad=True)
        return (1.0 / x[..., 1:]).sum(dim=(0, 1))

    again = replay(found(take, tmp_path).replay_file)
    assert again.is_same and str(again.result.dtype) == dtype


def test_a_file_that_is_no_replay_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, a=np.ones(3))
    with pytest.raises(ValueError, match="no replay file"):
        replay(path)
    path.write_bytes(b"PK nonsense")
    with pytest.raises(ValueError, match="no replay file"):
        replay(path)


# -- what is no origin
def test_a_mask_and_an_infinity_of_the_users_are_none(monkeypatch):
    model = GPT(GPTConfig(vocab_size=7, block_size=4, layers=1, heads=2, channels=8))
    ids = as_tokens([[1, 2, 3, 4]])
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    for fused in (True, False):
        monkeypatch.setattr(settings, "use_fused", fused)
        with detect_anomaly(None):
            model(ids, ids).backward()
            scores = x.masked_fill(Tensor(np.array([[False, True], [False, False]])), float("-inf"))
            F.softmax(scores).square().sum().backward()
            limit = Tensor(np.array([np.inf, 2.0], np.float32))
            (x.minimum(limit) + 0.0).sum().backward()
            (x + float("inf")).minimum(x).sum().backward()
            scores = x.masked_fill(Tensor(np.array([[False, True], [False, False]])), float("-inf"))
            F.cross_entropy(scores, Tensor(np.array([0, 1]))).backward()
        assert np.isfinite(x.grad.numpy()).all()  # and no AnomalyError came


def test_values_and_gradients_are_the_same_in_every_bit():
    def gradients(watch):
        model = GPT(GPTConfig(vocab_size=11, block_size=8, layers=2, heads=2, channels=8))
        ids = as_tokens(np.arange(16).reshape(2, 8) % 11)
        if watch:
            with detect_anomaly(None):
                model(ids, ids).backward()
        else:
            model(ids, ids).backward()
        return [p.grad.numpy().tobytes() for p in model.parameters()]

    assert gradients(True) == gradients(False)


def test_grad_and_gradients_of_gradients_are_looked_at():
    x = leaf([0.0, 1.0])
    with pytest.raises(AnomalyError, match="rule of sqrt"), detect_anomaly(None):
        tgl.grad(x.sqrt().sum(), x)
    x = leaf([2.0, 1.0])
    with detect_anomaly(None):
        (g,) = tgl.grad((x * x * x).sum(), x, create_graph=True)
        g.sum().backward()
    assert x.grad.numpy().tolist() == [12.0, 6.0]


def test_a_checkpointed_block_is_looked_at():
    x = leaf([0.0, 1.0])
    with pytest.raises(AnomalyError, match="checkpoint"), detect_anomaly(None):
        checkpoint(lambda x: x.sqrt() * 2.0, x).sum().backward()


# -- writes behind the engine's back
def test_a_write_through_data_is_found():
    x = leaf([1.0, 2.0])
    with pytest.raises(AnomalyError) as caught, detect_anomaly(None):
        y = x * x
        z = y.exp() * y
        y.data[::-1] = y.data.copy()  # the same numbers in other places
        z.sum().backward()
    assert caught.value.origin.kind == "written" and "behind the engine's back" in str(caught.value)


def test_a_write_through_the_engine_has_its_own_error():
    x = leaf([1.0, 2.0])
    c = Tensor([1.0, 2.0])
    with pytest.raises(RuntimeError, match="changed in place") as caught, detect_anomaly(None):
        y = x * c
        c.zero_()
        y.sum().backward()
    assert not isinstance(caught.value, AnomalyError)


def test_weights_may_be_written_between_the_steps():
    w = leaf([1.0, 2.0])
    with detect_anomaly(None):
        for _ in range(3):
            w.grad = None
            (w * w).sum().backward()
            w.data -= 0.1 * w.grad.data
    np.testing.assert_allclose(w.numpy(), np.array([1.0, 2.0]) * 0.8**3, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int64, np.bool_, np.uint8])
def test_a_fingerprint_tells_single_changes_and_changed_places(dtype):
    rng = np.random.default_rng(0)
    for size in (1, 2, 3, 5, 70001):
        x = rng.integers(0, 2, size).astype(dtype)
        was = fingerprint(x)
        assert fingerprint(x.copy()) == was
        for i in {0, size // 2, size - 1}:
            y = x.copy()
            y[i] = not y[i]
            assert fingerprint(y) != was
        if size > 1 and x[0] != x[-1]:
            y = x.copy()
            y[0], y[-1] = x[-1], x[0]
            assert fingerprint(y) != was


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_finite_is_exact_also_where_a_sum_of_squares_overflows(dtype):
    largest = 6e4 if dtype == "float16" else 1e38
    for shape in ((), (3,), (40, 50)):
        x = Tensor(np.full(shape, largest), dtype=dtype).data
        assert is_finite(x) and holds(x).is_finite
        for bad in (np.nan, np.inf, -np.inf):
            y = x.copy()
            y[(0,) * y.ndim] = bad
            assert not is_finite(y) and not holds(y).is_finite
    assert is_finite(np.zeros((0, 3), np.float32)) and is_finite(np.ones(3, np.int64))


# -- the mode
def test_outside_nothing_is_left_and_other_threads_never_had_it():
    seen = []
    x = leaf([0.0])
    before = np.geterr()
    with detect_anomaly(None):
        thread = threading.Thread(target=lambda: seen.append(mode.tracer))
        thread.start()
        thread.join()
    assert seen == [None] and mode.tracer is None and np.geterr() == before
    with np.errstate(divide="ignore"):
        assert x.log().item() == -np.inf


def test_no_tensor_is_kept_alive():
    x = leaf(np.ones(4))
    with detect_anomaly(None):
        y = (x * 2.0).exp()
        array = weakref.ref(y.data)
        loss = (y * y).sum()
        loss.backward()
        del y, loss
        gc.collect()
        assert array() is None


def test_what_is_done_at_the_origin_comes_before_the_error(tmp_path):
    seen = []
    with pytest.raises(AnomalyError) as caught, detect_anomaly(tmp_path / "a.npz", on_origin=seen.append):
        log_of_zero()
    assert seen == [caught.value.origin]
    with pytest.raises(TypeError, match="on_origin must be callable"):
        detect_anomaly(on_origin=3)


def test_a_replay_can_be_stepped_through(tmp_path):
    stepper = replay(found(overflow_of_exp, tmp_path).replay_file).stepper()
    stepper.end()
    assert [step.node.op.name for step in stepper.steps if step.node.op] == ["exp"]
    with pytest.raises(ValueError, match="tgl step"):
        replay(found(root_at_zero, tmp_path).replay_file).stepper()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_on_the_gpu_too(dtype, tmp_path):
    x = Tensor([1.0, 0.0], dtype=dtype, device="cuda", requires_grad=True)
    with detect_anomaly(None):
        (x * 2.0).exp().sum().backward()
    with pytest.raises(AnomalyError) as caught, detect_anomaly(tmp_path / "a.npz"):
        x.sqrt().sum().backward()
    origin = caught.value.origin
    assert (origin.name, origin.phase, origin.bad.tolist()) == ("sqrt", "backward", [[1]])
    assert replay(caught.value.replay_file).is_same
    with pytest.raises(AnomalyError, match="behind the engine's back"), detect_anomaly(None):
        y = x * x
        z = y.exp()
        x.data[0] = 2.0
        z.sum().backward()
