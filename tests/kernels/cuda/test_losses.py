"""cross_entropy and linear_cross_entropy on "cuda"."""

import numpy as np
import pytest
from kernels.cuda.checks import (
    EMULATED,
    EPS,
    TYPES,
    capture,
    check_kernel,
    device,
    host,
    needs_cuda,
    on_every_schedule,
    race_checks,
    rng,
    rounded,
)
from kernels.test_extremes import KINDS, row
from kernels.test_losses import cross_entropy, linear_cross_entropy, targets_of

from tinygrad_lite.dtypes import bfloat16, float16, float32
from tinygrad_lite.kernels import lookup
from tinygrad_lite.kernels.cuda.emulator import options
from tinygrad_lite.kernels.cuda.launch import cupy

pytestmark = needs_cuda
smoothings = pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
PLAIN = dict(ignore_index=-100, label_smoothing=0.0)
NONE3 = (None,) * 3


def kernel(name):
    return lookup("cuda", name)


def loss_tolerance(v):
    """Of a float32 loss near 1 to 10, made of sums of v exponentials."""
    return 32 * EPS[float32] * (1 + 0.1 * np.sqrt(v))


def exact_gradient(logits, targets, ignore_index=-100, label_smoothing=0.0):
    """Of the mean loss, in float64."""
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p = p / p.sum(-1, keepdims=True) - label_smoothing / logits.shape[1]
    keep = np.flatnonzero(targets != ignore_index)
    p[keep, targets[keep]] -= 1 - label_smoothing
    p[targets == ignore_index] = 0
    return p / len(keep)


@TYPES
@smoothings
@pytest.mark.parametrize("n, v", [(1, 1), (2, 31), (5, 32), (7, 33), (9, 65), (4, 2050)])
def test_cross_entropy(label_smoothing, n, v, dtype):
    arrays = 2 * rng().standard_normal((n, v)), targets_of(n, v)
    check_kernel(
        "cross_entropy", cross_entropy, arrays, dtype, terms=v, ignore_index=-100, label_smoothing=label_smoothing
    )


@TYPES
@smoothings
def test_the_loss_is_float32_and_each_gradient_right_to_its_last_digit(label_smoothing, dtype):
    n, v = 6, 301
    x, targets = rounded(2 * rng().standard_normal((n, v)), dtype), targets_of(n, v)
    params = dict(ignore_index=-100, label_smoothing=label_smoothing)
    loss, saved = kernel("cross_entropy").forward(device(x.astype(dtype)), device(targets), **params)
    assert loss.dtype == float32 and loss.shape == ()
    np.testing.assert_allclose(host(loss), cross_entropy(x, targets, **params), rtol=0, atol=loss_tolerance(v))
    g = device(np.array(3.0, np.float32))
    gx, none = kernel("cross_entropy").backward(g, saved, (True, False), (None, None), **params)
    exact = 3 * exact_gradient(x, targets, **params)
    smallest = 2.0**-25 if dtype == float16 else 0  # float16's step below its normal numbers, halved
    # The difference p - uniform loses digits of p: of float32 ones, below a class's own 1 / v of 1.
    np.testing.assert_allclose(host(gx), exact, rtol=EPS[dtype], atol=smallest + 64 * EPS[float32] / n)
    assert none is None and (host(gx)[targets == -100] == 0).all()


def test_rows_that_begin_anywhere():
    """Views that begin inside of 16 bytes, gradients that begin elsewhere than their logits."""
    n, v = 3, 77
    x, targets = rounded(rng().standard_normal((n, v)), bfloat16), targets_of(n, v)
    whole = kernel("cross_entropy").forward(device(x.astype(bfloat16)), device(targets), **PLAIN)
    g = device(np.ones((), np.float32))
    for shift, place in ((1, 1), (3, 0), (7, 7), (8, 2)):
        flat, into = cupy().zeros(n * v + 8, bfloat16), cupy().zeros(n * v + 8, bfloat16)
        logits, gx = flat[shift : shift + n * v].reshape(n, v), into[place : place + n * v].reshape(n, v)
        logits[...] = device(x.astype(bfloat16))
        loss, saved = kernel("cross_entropy").forward(logits, device(targets), **PLAIN)
        np.testing.assert_allclose(host(loss), host(whole[0]), rtol=0, atol=loss_tolerance(v))
        assert kernel("cross_entropy").backward(g, saved, (True, False), (gx, None), **PLAIN)[0] is gx
        np.testing.assert_allclose(host(gx), exact_gradient(x, targets), rtol=EPS[bfloat16], atol=64 * EPS[float32] / n)
        assert (host(into[:place]) == 0).all() and (host(into[place + n * v :]) == 0).all()


@pytest.mark.parametrize("kind", KINDS)
@smoothings
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_extremes_as_on_the_cpu(label_smoothing, kind):
    params = dict(ignore_index=-100, label_smoothing=label_smoothing)
    x, targets = row(kind).astype(np.float32)[None], np.array([7])
    loss, saved = kernel("cross_entropy").forward(device(x), device(targets), **params)
    g = np.ones((), np.float32)
    gx, _ = kernel("cross_entropy").backward(device(g), saved, (True, False), (None, None), **params)
    twin = lookup("cpu", "cross_entropy")
    expected, kept = twin.forward(x, targets, **params)
    exact, _ = twin.backward(g, kept, (True, False), (None, None), **params)
    np.testing.assert_allclose(host(loss), expected, rtol=64 * EPS[float32], atol=64 * EPS[float32])
    np.testing.assert_allclose(host(gx), exact, rtol=64 * EPS[float32], atol=64 * EPS[float32])


@TYPES
@pytest.mark.parametrize("hidden", [slice(20, None), slice(0, 20), slice(3, 30)])
def test_hidden_logits_have_probability_zero(hidden, dtype):
    """Also where a thread sees no other ones."""
    x = np.zeros((1, 40))
    x[0, hidden] = -np.inf
    seen = np.flatnonzero(x[0] == 0)
    loss, saved = kernel("cross_entropy").forward(device(x.astype(dtype)), device(seen[:1]), **PLAIN)
    np.testing.assert_allclose(host(loss), np.log(len(seen)), rtol=4 * EPS[float32])
    gx, _ = kernel("cross_entropy").backward(
        device(np.ones((), np.float32)), saved, (True, False), (None, None), **PLAIN
    )
    np.testing.assert_allclose(host(gx)[0], (x[0] == 0) / len(seen) - (np.arange(40) == seen[0]), rtol=EPS[dtype])
    head, one = kernel("linear_cross_entropy"), np.ones((1, 1)).astype(dtype)
    _, (_, _, glogits, _, _) = head.forward(device(one), device(x.T.astype(dtype)), device(seen[:1]))
    scale = head.SCALE[dtype]
    np.testing.assert_allclose(host(glogits) / scale, host(gx), rtol=EPS[dtype])


@TYPES
@pytest.mark.parametrize("n", [0, 3])
def test_nothing_valid_gives_nan_and_no_gradient(n, dtype):
    x, targets = np.ones((n, 9)).astype(dtype), np.full(n, -100)
    loss, saved = kernel("cross_entropy").forward(device(x), device(targets), **PLAIN)
    gx, _ = kernel("cross_entropy").backward(
        device(np.ones((), np.float32)), saved, (True, False), (None, None), **PLAIN
    )
    assert np.isnan(host(loss)) and gx.shape == x.shape and (host(gx) == 0).all()

    head, h, weight = kernel("linear_cross_entropy"), np.ones((n, 4)).astype(dtype), np.ones((9, 4)).astype(dtype)
    loss, saved = head.forward(device(h), device(weight), device(targets))
    gh, gw, _ = head.backward(device(np.ones((), np.float32)), saved, (True, True, False), NONE3)
    assert np.isnan(host(loss)) and (host(gh) == 0).all() and (host(gw) == 0).all() and gh.shape == h.shape


def test_a_target_that_is_no_class_makes_the_loss_nan(monkeypatch):
    zeros = lambda shape, dtype: cupy().zeros(shape, dtype)  # NaN of `empty` must not pass for one of ours
    monkeypatch.setattr(kernel("linear_cross_entropy"), "empty", zeros)
    monkeypatch.setattr(kernel("cross_entropy"), "empty", zeros)
    x, h, weight = (device(np.ones(shape, np.float32)) for shape in ((2, 9), (2, 3), (9, 3)))
    for wrong in (9, -1, 2**40):
        targets = device(np.array([3, wrong]))
        assert np.isnan(host(kernel("cross_entropy").forward(x, targets, **PLAIN)[0]))
        assert np.isnan(host(kernel("linear_cross_entropy").forward(h, weight, targets)[0]))


def test_the_mean_is_added_up_in_float64():
    module, n = kernel("cross_entropy"), 102400
    targets = np.where(np.arange(n) % 5, 0, -100)
    valid = module.count_valid(float32, device(targets), -100)
    assert int(valid) == n * 4 // 5 and valid.shape == ()
    # Each thread adds up a hundred times 0.1, in float32 with the same error each.
    assert host(module.mean(float32, device(np.full(n, 0.1, np.float32)), valid)) == np.float32(0.125)


@TYPES
@pytest.mark.parametrize(
    "n, v", [(1, 1), (2, 31), (5, 32), (7, 33), (3, 4111), pytest.param(1, 12400, marks=pytest.mark.slow)]
)
def test_linear_cross_entropy(n, v, dtype):
    r = rng()
    h, weight = r.standard_normal((n, 33)), 0.3 * r.standard_normal((v, 33))
    # Rounding the logits moves a score and the row's log-sum-exp by half a last digit of the largest logit each.
    scale = np.abs(h @ weight.T).max()
    arrays = h, weight, targets_of(n, v)
    check_kernel(
        "linear_cross_entropy", linear_cross_entropy, arrays, dtype, terms=33 * n, scale=scale, ignore_index=-100
    )


@TYPES
@pytest.mark.parametrize("chunks", [1, 3])
@pytest.mark.parametrize("kept_bytes", [72 << 10, 512])
def test_the_head_loses_no_more_than_its_roundings(kept_bytes, chunks, dtype, monkeypatch):
    """One chunk of rows or three of one row each, and rows that shared memory holds or does not."""
    module, r = kernel("linear_cross_entropy"), rng()
    monkeypatch.setattr(module, "KEPT_BYTES", kept_bytes)
    n, v, c, g = 3, 1023, 16, -0.75
    if chunks > 1:
        monkeypatch.setattr(module, "LOGITS_BYTES", 1)
        monkeypatch.setattr(module, "ROW_TILE", 1)
    h, weight = (rounded(x, dtype) for x in (r.standard_normal((n, c)), 0.3 * r.standard_normal((v, c))))
    targets = np.array([5, -100, v - 1])
    given = [device(x.astype(dtype)) for x in (h, weight)]

    def run():
        loss, saved = module.forward(*given, device(targets), needs=(True, True, False))
        assert (saved[2] is None) == (chunks > 1) and (saved[3] is None) == (saved[4] is None) == (chunks == 1)
        return loss, *module.backward(device(np.array(g, np.float32)), saved, (True, True, False), NONE3)[:2]

    loss, gh, gw = on_every_schedule(run)
    logits = rounded(h @ weight.T, dtype)
    # NumPy adds up a product in another order than the reference: a logit may then round to its other neighbour.
    moved = EPS[dtype] * np.abs(logits).max() if dtype != float32 else 0
    np.testing.assert_allclose(
        host(loss), cross_entropy(logits, targets, -100, 0), rtol=0, atol=moved + loss_tolerance(v)
    )
    glogits = g * exact_gradient(logits, targets)
    # glogits and the product are rounded, then it is scaled: EPS is two roundings. Below float16's normal numbers its
    # steps are absolute.
    step = 2.0**-24 if dtype == float16 else 0
    for got, left, right in ((gh, glogits, weight), (gw, glogits.T, h)):
        size = np.abs(left) @ np.abs(right)
        bound = (2 * EPS[dtype] + moved + 64 * EPS[float32]) * size + step * (1 + np.abs(right).sum(0).max())
        assert got.dtype == dtype and (np.abs(host(got) - left @ right) <= bound).all()


@pytest.mark.skipif(not EMULATED, reason="only the emulator claims another card")
@pytest.mark.parametrize("dtype", [float32, bfloat16], ids=str)
def test_a_card_whose_blocks_have_less_shared_memory_gives_the_same_bits(dtype):
    """99 KB on a GeForce, and rows of 103."""
    module, r, v = kernel("linear_cross_entropy"), rng(), 103 * 1024 // dtype.itemsize
    h, weight, targets = r.standard_normal((2, 3)), r.standard_normal((v, 3)), np.array([v - 1, 7])
    found = []
    for capability in ("90", "86"):
        with options.set(compute_capability=capability):
            loss, saved = module.forward(device(h.astype(dtype)), device(weight.astype(dtype)), device(targets))
        found.append([host(loss), host(saved[2])])
    for x, y in zip(*found):
        np.testing.assert_array_equal(x, y)


@TYPES
def test_gpt2s_vocabulary_which_no_vector_and_no_shared_memory_holds(dtype):
    module, r, v = kernel("linear_cross_entropy"), rng(), 50257
    h, weight = rounded(r.standard_normal((2, 3)), dtype), rounded(r.standard_normal((v, 3)), dtype)
    targets = np.array([v - 1, 7])
    loss, saved = module.forward(device(h.astype(dtype)), device(weight.astype(dtype)), device(targets))
    logits = rounded(h @ weight.T, dtype)
    moved = EPS[dtype] * np.abs(logits).max() if dtype != float32 else 0  # to a logit's other neighbour, as above
    np.testing.assert_allclose(
        host(loss), cross_entropy(logits, targets, -100, 0), rtol=0, atol=moved + loss_tolerance(v)
    )
    glogits, exact = host(saved[2]) / module.SCALE[dtype], exact_gradient(logits, targets)
    rtol = EPS[dtype] + moved + loss_tolerance(v)
    np.testing.assert_allclose(glogits, exact, rtol=rtol, atol=2.0**-24 / 1024)
    assert saved[2].shape == (2, v)


@TYPES
@pytest.mark.parametrize("needs", [(False, False), (True, False), (False, True)])
def test_the_head_computes_only_what_is_needed(needs, dtype, monkeypatch):
    module, r = kernel("linear_cross_entropy"), rng()
    h, weight = (device(r.standard_normal(shape).astype(dtype)) for shape in ((5, 8), (9, 8)))
    targets, one = device(targets_of(5, 9)), device(np.ones((), np.float32))
    full, all_saved = module.forward(h, weight, targets)
    all_grads = module.backward(one, all_saved, (True, True, False), NONE3)
    for tile in (128, 2):
        monkeypatch.setattr(module, "ROW_TILE", tile)
        monkeypatch.setattr(module, "LOGITS_BYTES", 1)
        loss, saved = module.forward(h, weight, targets, needs=(*needs, False))
        np.testing.assert_allclose(host(loss), host(full), rtol=0, atol=loss_tolerance(9))
        assert (saved[2] is not None) == (any(needs) and tile == 128)
        assert [x is not None for x in saved[3:]] == [need and tile == 2 for need in needs]
        grads = module.backward(one, saved, (*needs, False), NONE3)
        assert tuple(x is not None for x in grads) == (*needs, False)
        for need, x, y in zip(needs, grads, all_grads):
            if need:
                np.testing.assert_allclose(host(x), host(y), rtol=0, atol=2 * EPS[dtype])


def test_the_gradients_of_a_chunk_that_waits_can_be_asked_for_twice():
    module, r = kernel("linear_cross_entropy"), rng()
    h, weight = (device(r.standard_normal(shape).astype(np.float32)) for shape in ((5, 8), (9, 8)))
    _, saved = module.forward(h, weight, device(targets_of(5, 9)))
    results = [module.backward(device(np.array(g, np.float32)), saved, (True, True, False), NONE3) for g in (1, 2, 1)]
    for i in (0, 1):
        np.testing.assert_array_equal(host(results[0][i]), host(results[2][i]))
        np.testing.assert_array_equal(2 * host(results[0][i]), host(results[1][i]))


def test_float16_keeps_gradients_that_a_mean_over_many_rows_makes_small():
    """1 / 256 of a probability of e^-11 is about float16's smallest number."""
    module, n = kernel("linear_cross_entropy"), 256
    h, weight = np.ones((n, 1)), np.array([[0.0], [-11.0], [-11.0]])
    _, saved = module.forward(*(device(x.astype(float16)) for x in (h, weight)), device(np.zeros(n, np.int64)))
    _, gw, _ = module.backward(device(np.array(1024.0, np.float32)), saved, (False, True, False), NONE3)
    exact = 1024 * exact_gradient(h @ weight.T, np.zeros(n, np.int64)).T @ h
    np.testing.assert_allclose(host(gw), exact, rtol=0.02)


def test_nan_comes_through():
    h, weight = np.ones((2, 3), np.float32), np.ones((40, 3), np.float32)
    h[1, 0] = np.nan
    module = kernel("linear_cross_entropy")
    loss, saved = module.forward(device(h), device(weight), device(np.array([0, 1])))
    gh, gw, _ = module.backward(device(np.ones((), np.float32)), saved, (True, True, False), NONE3)
    loss, gh, gw = host(loss), host(gh), host(gw)
    assert np.isnan(loss) and np.isnan(gh[1]).all() and not np.isnan(gh[0]).any() and np.isnan(gw).all()


@TYPES
def test_nobody_waits_for_the_device(dtype, monkeypatch):
    r = rng()
    x, h, weight = (device(r.standard_normal(shape).astype(dtype)) for shape in ((3, 9), (3, 4), (9, 4)))
    targets, g = device(targets_of(3, 9)), device(np.ones((), np.float32))

    def run():
        loss, saved = kernel("cross_entropy").forward(x, targets, **PLAIN)
        gx, _ = kernel("cross_entropy").backward(g, saved, (True, False), (None, None), **PLAIN)
        fused, saved = kernel("linear_cross_entropy").forward(h, weight, targets)
        gh, gw, _ = kernel("linear_cross_entropy").backward(g, saved, (True, True, False), NONE3)
        return loss, gx, fused, gh, gw

    graph, captured = capture(run, monkeypatch)
    expected = [host(a) for a in run()]
    graph.launch()
    for replayed, plain in zip(captured, expected, strict=True):
        np.testing.assert_array_equal(host(replayed), plain)


@pytest.mark.slow
@TYPES
def test_no_races(dtype):
    r = rng()
    x, h, weight = (r.standard_normal(shape) for shape in ((3, 1100), (3, 5), (1100, 5)))
    targets, g = np.array([1, -100, 1099]), device(np.ones((), np.float32))
    with race_checks():
        params = dict(ignore_index=-100, label_smoothing=0.1)
        _, saved = kernel("cross_entropy").forward(device(x.astype(dtype)), device(targets), **params)
        kernel("cross_entropy").backward(g, saved, (True, False), (None, None), **params)
        _, saved = kernel("linear_cross_entropy").forward(
            *(device(a.astype(dtype)) for a in (h, weight)), device(targets)
        )
        kernel("linear_cross_entropy").backward(g, saved, (True, True, False), NONE3)
