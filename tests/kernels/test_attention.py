"""attention over separate arrays, and attention_qkv over a packed one."""

import numpy as np
import pytest
from kernels.checks import check_kernel, python, rng

from tinygrad_lite import philox
from tinygrad_lite.kernels import lookup
from tinygrad_lite.kernels.cpu.tile import ROWS

both = pytest.mark.parametrize("dtype", [np.float32, np.float64])
causal_or_not = pytest.mark.parametrize("causal, window", [(True, None), (False, None), (True, 1), (True, 20)])


def dropout_mask(shape, p, key, offset):
    """What `dropout` multiplies an array of this shape by."""
    return (philox.uniform(int(np.prod(shape)), key, offset) >= np.float32(p)).reshape(shape) / (1 - p)


def attention(q, k, v, causal, window, scale, p=0.0, key=0, offset=0):
    group, (t, s) = q.shape[1] // k.shape[1], (q.shape[2], k.shape[2])
    k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
    scores = scale * q @ np.swapaxes(k, 2, 3)
    if causal:
        seen = np.tri(t, s, s - t, dtype=bool)
        if window is not None:
            seen &= ~np.tri(t, s, s - t - window, dtype=bool)
        scores = np.where(seen, scores, -np.inf)
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True) * dropout_mask(e.shape, p, key, offset) @ v


def attention_qkv(qkv, heads, kv_heads, causal, window, scale, **dropped):
    b, t, packed = qkv.shape
    d = packed // (heads + 2 * kv_heads)
    split = np.moveaxis(qkv.reshape(b, t, heads + 2 * kv_heads, d), 2, 1)
    q, k, v = np.split(split, [heads, heads + kv_heads], axis=1)
    return np.moveaxis(attention(q, k, v, causal, window, scale, **dropped), 1, 2).reshape(b, t, heads * d)


@both
@causal_or_not
@pytest.mark.parametrize(
    "b, h, kv, t, d", [(1, 1, 1, 1, 1), (2, 1, 1, 31, 8), (1, 2, 2, 32, 32), (2, 4, 2, 33, 31), (3, 4, 1, 130, 33)]
)
def test_attention_qkv(b, h, kv, t, d, causal, window, dtype):
    qkv = [rng().standard_normal((b, t, (h + 2 * kv) * d))]
    check_kernel(
        lookup("cpu", "attention_qkv"), attention_qkv, qkv, dtype, terms=4 * t * d, heads=h, kv_heads=kv, causal=causal,
        window=window, scale=d**-0.5,
    )  # fmt: skip


DROPPED = dict(p=0.3, key=2**63 + 12345, offset=2**32 - 2)


@both
@pytest.mark.parametrize("b, h, kv, t, d, causal, window", [
    (2, 4, 2, 33, 31, True, None), (1, 2, 1, 130, 8, True, 20), (1, 1, 1, 4, 4, True, 1), (1, 2, 2, 64, 8, False, None),
])  # fmt: skip
def test_attention_qkv_with_dropout(b, h, kv, t, d, causal, window, dtype):
    qkv = [rng().standard_normal((b, t, (h + 2 * kv) * d))]
    check_kernel(
        lookup("cpu", "attention_qkv"), attention_qkv, qkv, dtype, terms=4 * t * d, heads=h, kv_heads=kv, causal=causal,
        window=window, scale=d**-0.5, **DROPPED,
    )  # fmt: skip


@both
@pytest.mark.parametrize(
    "t, s, causal, window", [(1, 7, True, None), (31, 33, True, 9), (65, 300, True, None), (40, 3, False, None)]
)
def test_attention_with_dropout_over_other_lengths(t, s, causal, window, dtype):
    r = rng()
    arrays = r.standard_normal((2, 2, t, 8)), *(r.standard_normal((2, 1, s, 8)) for _ in range(2))
    check_kernel(lookup("cpu", "attention"), attention, arrays, dtype, terms=32 * s, causal=causal, window=window,
                 scale=0.4, **DROPPED)  # fmt: skip


def rotary(x, heads, size, start, base, turn):
    """Each pair as a complex number times exp(i angle)."""
    out, half = x.copy(), size // 2
    angle = np.outer(np.arange(start, start + x.shape[1]), base ** (-np.arange(half) / half))
    for at in range(0, heads * size, size):
        a, b = x[..., at : at + half], x[..., at + half : at + size]
        turned = (a + 1j * b) * np.exp(1j * turn * angle)
        out[..., at : at + half], out[..., at + half : at + size] = turned.real, turned.imag
    return out


@both
@pytest.mark.parametrize("b, t, p, heads, size, start", [(1, 1, 2, 1, 2, 0), (2, 31, 40, 2, 8, 5), (1, 33, 96, 3, 32, 100),
                                                         (3, 130, 70, 2, 34, 0), (2, 3, 4, 0, 2, 0)])  # fmt: skip
@pytest.mark.parametrize("turn", [1, -1])
def test_rotary(b, t, p, heads, size, start, turn, dtype):
    x = [rng().standard_normal((b, t, p))]
    check_kernel(
        lookup("cpu", "rotary"), rotary, x, dtype, terms=2, heads=heads, size=size, start=start, base=100.0, turn=turn
    )


@both
@causal_or_not
@pytest.mark.parametrize(
    "h, key_heads, t, s, d",
    [(1, 1, 1, 7, 4), (2, 1, 1, 300, 8), (4, 2, 31, 33, 8), (3, 1, 65, 200, 16), (2, 2, 8, 8, 64), (1, 1, 270, 300, 5)],
)
def test_attention_with_grouped_heads_and_more_keys_than_queries(h, key_heads, t, s, d, causal, window, dtype):
    r = rng()
    arrays = r.standard_normal((2, h, t, d)), *(r.standard_normal((2, key_heads, s, d)) for _ in range(2))
    check_kernel(lookup("cpu", "attention"), attention, arrays, dtype, terms=4 * s * d, causal=causal, window=window,
                 scale=d**-0.5)  # fmt: skip


def test_more_queries_than_keys():
    r = rng()
    arrays = r.standard_normal((1, 1, 40, 8)), *(r.standard_normal((1, 1, 3, 8)) for _ in range(2))
    check_kernel(
        lookup("cpu", "attention"), attention, arrays, np.float64, terms=40, causal=False, window=None, scale=0.3
    )


def test_a_query_that_sees_no_key_gives_zeros():
    r = rng()
    q, k, v = (r.standard_normal((1, 1, n, 8)).astype(np.float32) for n in (5, 2, 2))
    kernel = lookup("cpu", "attention")
    out, saved = kernel.forward(q, k, v, causal=True, window=None, scale=1.0)
    np.testing.assert_array_equal(out[0, 0, :3], 0)
    grads = kernel.backward(np.ones_like(out), saved, (True,) * 3, (None,) * 3, causal=True, window=None, scale=1.0)
    assert all(np.isfinite(x).all() for x in grads)
    np.testing.assert_array_equal(grads[0][0, 0, :3], 0)


@causal_or_not
def test_nan_in_a_query_stays_in_its_row(causal, window):
    r = rng()
    q, k, v = (r.standard_normal((1, 1, 40, 8)).astype(np.float32) for _ in range(3))
    q[0, 0, 20, 3] = np.nan
    out, _ = lookup("cpu", "attention").forward(q, k, v, causal=causal, window=window, scale=1.0)
    assert np.isnan(out[0, 0, 20]).all() and np.isnan(out).sum() == 8


def test_large_scores_do_not_overflow():
    q = np.full((1, 1, 40, 4), 100.0, np.float32)
    out, _ = lookup("cpu", "attention").forward(q, q, q, causal=True, window=None, scale=1.0)
    np.testing.assert_allclose(out, 100.0, rtol=1e-5)


def test_keys_of_score_minus_infinity_in_a_whole_block_count_for_nothing():
    r = rng()
    q, k, v = (np.abs(r.standard_normal((1, 1, 200, 8))).astype(np.float32) for _ in range(3))
    k[0, 0, :150] = -np.inf
    out, _ = lookup("cpu", "attention").forward(q, k, v, causal=True, window=None, scale=1.0)
    expected = attention(q[:, :, 150:], k[:, :, 150:], v[:, :, 150:], True, None, 1.0)
    assert np.isnan(out[0, 0, :150]).all()  # softmax of -inf alone
    np.testing.assert_allclose(out[:, :, 150:], expected, rtol=1e-5)


@pytest.mark.slow
def test_memory_grows_with_the_length_and_not_with_its_square():
    text = """
        from benchmarks.attention import extra_mib, make_ours
        print(*(extra_mib(make_ours, 2, t) for t in (2048, 8192)))
    """
    short, long = (float(x) for x in python(text).split())
    assert long < 32  # the scores of one head alone would be 256 MiB
    assert long < 4 * short + 8


def test_backward_has_forwards_probabilities_where_scores_are_large():
    # out is linear in v, so out . g = v . gv for the same probabilities. With scores near 10,000 kept as one float32
    # log-sum-exp, its rounding alone would be 1e-3 of each.
    r = rng()
    q, k, v, g = ((s * r.standard_normal((1, 2, 200, 16))).astype(np.float32) for s in (50, 50, 1, 1))
    kernel, params = lookup("cpu", "attention"), {"causal": True, "window": None, "scale": 1.0}
    out, saved = kernel.forward(q, k, v, **params)
    _, _, gv = kernel.backward(g, saved, (True,) * 3, (None,) * 3, **params)
    ours, theirs = (np.sum(x.astype(np.float64) * y) for x, y in ((out, g), (v, gv)))
    assert abs(ours - theirs) < 1e-6 * np.abs(out * g).sum(dtype=np.float64)


@pytest.mark.parametrize("window", [20, 1000, 2**62, 2**63 - 1, 10**30])
def test_a_window_of_all_keys_and_more_is_no_window(window):
    r = rng()
    q, k, v = (r.standard_normal((1, 1, 20, 4)) for _ in range(3))
    kernel = lookup("cpu", "attention")
    out, saved = kernel.forward(q, k, v, causal=True, window=window, scale=0.5)
    expected, expected_saved = kernel.forward(q, k, v, causal=True, window=None, scale=0.5)
    np.testing.assert_array_equal(out, expected)
    for x, y in zip(*(kernel.backward(q, s, (True,) * 3, (None,) * 3, causal=True, window=w, scale=0.5)
                      for s, w in ((saved, window), (expected_saved, None)))):  # fmt: skip
        np.testing.assert_array_equal(x, y)


def test_what_a_hidden_key_holds_reaches_no_query_but_those_of_the_same_tile():
    r = rng()
    q, k, v = (r.standard_normal((1, 1, 160, 8)).astype(np.float32) for _ in range(3))
    v[0, 0, 140] = np.inf
    kernel = lookup("cpu", "attention")
    out, _ = kernel.forward(q, k, v, causal=True, window=None, scale=1.0)
    assert np.isfinite(out[0, 0, : 140 // ROWS * ROWS]).all() and not np.isfinite(out[0, 0, 140:]).any()
    v[0, 0, 140], v[0, 0, 3] = 1.0, np.inf
    out, _ = kernel.forward(q, k, v, causal=True, window=4, scale=1.0)
    assert np.isfinite(out[0, 0, 7 + ROWS :]).all() and not np.isfinite(out[0, 0, 3:7]).any()
    k[0, 0, 140] = np.inf
    out, saved = kernel.forward(q, k, np.ones_like(v), causal=True, window=None, scale=1.0)
    gq, _, _ = kernel.backward(np.ones_like(out), saved, (True,) * 3, (None,) * 3, causal=True, window=None,
                               scale=1.0)  # fmt: skip
    assert np.isfinite(gq[0, 0, : 140 // ROWS * ROWS]).all()


def test_heads_that_are_views_need_no_copy_and_give_the_same():
    r = rng()
    packed = r.standard_normal((2, 70, 6, 8)).astype(np.float32).swapaxes(1, 2)  # (B, H, T, D) of (B, T, H, D)
    parts = packed[:, :2], packed[:, 2:4], packed[:, 4:]
    backwards = tuple(x[:, :, ::-1] for x in parts)
    params = {"causal": True, "window": 9, "scale": 0.3}
    _, saved = lookup("cpu", "attention").forward(*parts, **params)
    assert all(x is y for x, y in zip(saved, parts))
    for q, k, v in (parts, backwards, (parts[0], parts[1], parts[2].copy())):
        out, _ = lookup("cpu", "attention").forward(q, k, v, **params)
        expected, _ = lookup("cpu", "attention").forward(*map(np.ascontiguousarray, (q, k, v)), **params)
        np.testing.assert_array_equal(out, expected)
