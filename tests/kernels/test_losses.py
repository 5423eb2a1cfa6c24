"""cross_entropy and linear_cross_entropy."""

import numpy as np
import pytest
from kernels.checks import check_kernel, rng

from tinygrad_lite.kernels import lookup

both = pytest.mark.parametrize("dtype", [np.float32, np.float64])
sizes = pytest.mark.parametrize("n, v", [(1, 1), (2, 31), (5, 32), (7, 33), (400, 65)])


def cross_entropy(logits, targets, ignore_index, label_smoothing):
    log_p = logits - logits.max(-1, keepdims=True)
    log_p = log_p - np.log(np.exp(log_p).sum(-1, keepdims=True))
    keep = np.flatnonzero(targets != ignore_index)
    chosen = log_p[keep, targets[keep]]
    return -np.mean((1 - label_smoothing) * chosen + label_smoothing * log_p[keep].mean(-1))


def linear_cross_entropy(h, weight, targets, ignore_index):
    return cross_entropy(h @ weight.T, targets, ignore_index, 0.0)


def targets_of(n, v, ignored=-100):
    targets = rng().integers(0, v, n)
    targets[1::3] = ignored
    return targets


@both
@sizes
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_cross_entropy(label_smoothing, n, v, dtype):
    arrays = 2 * rng().standard_normal((n, v)), targets_of(n, v)
    check_kernel(
        lookup("cpu", "cross_entropy"), cross_entropy, arrays, dtype, terms=v, ignore_index=-100,
        label_smoothing=label_smoothing,
    )  # fmt: skip


class Head:
    """linear_cross_entropy with `needs` filled in, as the engine does it."""

    def __init__(self, needs):
        self.needs, self.module = needs, lookup("cpu", "linear_cross_entropy")

    def forward(self, *arrays, **params):
        return self.module.forward(*arrays, needs=self.needs, **params)

    def backward(self, *args, **params):
        return self.module.backward(*args, **params)


@both
@sizes
def test_linear_cross_entropy(n, v, dtype):
    r = rng()
    arrays = r.standard_normal((n, 33)), 0.3 * r.standard_normal((v, 33)), targets_of(n, v)
    check_kernel(Head((True, True)), linear_cross_entropy, arrays, dtype, terms=33 * n, ignore_index=-100)


@pytest.mark.parametrize("needs", [(False, False), (True, False), (False, True)])
def test_linear_cross_entropy_computes_only_what_is_needed(needs):
    r = rng()
    h, weight = r.standard_normal((5, 8)), r.standard_normal((9, 8))
    module, one = lookup("cpu", "linear_cross_entropy"), np.ones(())
    loss, saved = module.forward(h, weight, targets_of(5, 9), needs=needs)
    full, all_saved = module.forward(h, weight, targets_of(5, 9))
    np.testing.assert_allclose(loss, full, rtol=1e-14)
    assert (saved[2] is not None) == any(needs) and saved[3] is None and saved[4] is None
    grads = module.backward(one, saved, (*needs, False), (None,) * 3)
    all_grads = module.backward(one, all_saved, (True, True, False), (None,) * 3)
    assert tuple(x is not None for x in grads) == (*needs, False)
    for need, x, y in zip(needs, grads, all_grads):
        if need:
            np.testing.assert_allclose(x, y, rtol=1e-14)


def test_linear_cross_entropy_in_many_chunks_of_rows(monkeypatch):
    module = lookup("cpu", "linear_cross_entropy")
    r = rng()
    h, weight, targets = r.standard_normal((50, 6)), r.standard_normal((70, 6)), targets_of(50, 70)
    loss, saved = module.forward(h, weight, targets)
    monkeypatch.setattr(module, "LOGITS_BYTES", 1)
    monkeypatch.setattr(module, "LEAST_ROWS", 1)  # then a chunk has as many rows as h has channels: 6
    monkeypatch.setattr(module, "VOCABULARY_BLOCK", 16)
    chunked, chunked_saved = module.forward(h, weight, targets)
    np.testing.assert_allclose(loss, chunked, rtol=1e-12)
    for g in (1.0, -0.5):
        pairs = zip(
            *(module.backward(np.array(g), x, (True, True, False), (None,) * 3) for x in (saved, chunked_saved))
        )
        for x, y in list(pairs)[:2]:
            np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-15)


@both
@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")
def test_all_targets_ignored_is_nan_as_in_pytorch(dtype):
    h, weight, targets = np.ones((2, 3), dtype), np.ones((4, 3), dtype), np.full(2, -100)
    assert np.isnan(lookup("cpu", "linear_cross_entropy").forward(h, weight, targets)[0])
    assert np.isnan(lookup("cpu", "cross_entropy").forward(h, targets, ignore_index=-100, label_smoothing=0.0)[0])


def test_nan_comes_through():
    h, weight = np.ones((2, 3), np.float32), np.ones((40, 3), np.float32)
    h[1, 0] = np.nan
    module = lookup("cpu", "linear_cross_entropy")
    loss, saved = module.forward(h, weight, np.array([0, 1]))
    gh, gw, _ = module.backward(np.ones((), np.float32), saved, (True, True, False), (None,) * 3)
    assert np.isnan(loss) and np.isnan(gh[1]).all() and not np.isnan(gh[0]).any() and np.isnan(gw).all()


def test_logits_of_minus_infinity_have_probability_zero():
    logits = np.zeros((1, 40), np.float32)
    logits[0, 20:] = -np.inf
    kernel = lookup("cpu", "cross_entropy")
    loss, saved = kernel.forward(logits, np.array([3]), ignore_index=-100, label_smoothing=0.0)
    np.testing.assert_allclose(loss, np.log(20), rtol=1e-6)
    g = np.ones((), np.float32)
    (gx, _) = kernel.backward(g, saved, (True, False), (None, None), ignore_index=-100, label_smoothing=0.0)
    np.testing.assert_array_equal(gx[0, 20:], 0)
