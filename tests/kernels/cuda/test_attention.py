"""attention and attention_qkv on the GPU, held to the CPU's float64 kernels within bounds derived from roundings."""

import numpy as np
import pytest
from kernels.cuda.checks import (
    EMULATED,
    EPS,
    TYPES,
    device,
    host,
    needs_cuda,
    on_every_schedule,
    race_checks,
    rng,
    rounded,
)

import tinygrad_lite as tgl
from tinygrad_lite import functional as F
from tinygrad_lite import philox
from tinygrad_lite.dtypes import bfloat16, float16, float32
from tinygrad_lite.kernels import lookup
from tinygrad_lite.kernels.cuda.emulator import count_accesses, options
from tinygrad_lite.kernels.cuda.graph import Graph
from tinygrad_lite.kernels.cuda.launch import cupy

pytestmark = needs_cuda


@pytest.fixture(autouse=True, params=["90", pytest.param("80", marks=pytest.mark.slow)] if EMULATED else ["its own"])
def compute_capability(request):
    """The emulator is a card with warpgroups' products, and one without: heads of 64 and more have a kernel for each."""
    if not EMULATED:
        yield
        return
    with options.set(compute_capability=request.param):
        yield


FULL = dict(causal=False, window=None, scale=0.3)
CAUSAL = dict(causal=True, window=None, scale=0.3)
DROPPED = dict(p=0.3, key=2**63 + 12345, offset=2**32 - 2)


def window(n):
    return dict(causal=True, window=n, scale=0.3)


def dense(q, k, causal, window, scale):
    """Probabilities (B, H, T, S) of q (B, H, T, D) over k (B, H, S, D); rows of 0 where a query sees no key."""
    t, s = q.shape[2], k.shape[2]
    seen = np.ones((t, s), bool)
    if causal:
        seen = np.tri(t, s, s - t, dtype=bool)
        if window is not None:
            seen &= ~np.tri(t, s, s - t - window, dtype=bool)
    scores = np.where(seen, scale * q @ np.swapaxes(k, 2, 3), -np.inf)
    top = scores.max(-1, keepdims=True, initial=-np.inf)
    e = np.exp(scores - np.where(np.isfinite(top), top, 0))
    return e / np.maximum(e.sum(-1, keepdims=True), 1e-300)


def bounds(q, k, v, g, dtype, causal, window, scale, p=0.0, key=0, offset=0):
    """The largest errors, element by element, of out, gq, gk, gv: first-order effects of each rounding, 1 % added.

    unit: a number is rounded to dtype within unit of its size, once when it is stored, and for 16-bit types p and ds
    once more for the products; in float16 within 2^-25 where it is tiny. fine: the same of float32, in which sums are
    made.
    """
    unit, fine = EPS[dtype] / 2, EPS[float32] / 2
    narrow, tiny = (0, 0) if dtype == float32 else (unit, 2.0**-25 if dtype == float16 else 0)
    key_heads, group, (t, d), s = k.shape[1], q.shape[1] // k.shape[1], q.shape[2:], k.shape[2]
    k, v = np.repeat(k, group, 1), np.repeat(v, group, 1)
    turned = lambda x: np.swapaxes(x, 2, 3)
    absolute_q, absolute_k, absolute_v, absolute_g = map(np.abs, (q, k, v, g))
    drop, p = p, dense(q, k, causal, window, scale)
    mask = (philox.uniform(p.size, key, offset) >= np.float32(drop)).reshape(p.shape) / (1 - drop)
    dropped = p * mask
    out, dp = dropped @ v, g @ turned(v) * mask
    delta = (g * out).sum(-1, keepdims=True)
    ds = p * (dp - delta)
    # A score's error is an exponent's, and so p's relative one: sums of d products, the scale's two roundings, the
    # subtraction of the largest score or of the logarithm of the sum, exp2, and the sum over s.
    largest = abs(scale) * (absolute_q @ turned(absolute_k)).max(initial=0)
    relative = fine * (2 * (d + 8) * largest + 2 * s + 64)
    out_error = (narrow + 2 * relative) * (dropped @ absolute_v) + unit * np.abs(out)
    out_error += tiny * (1 + absolute_v.sum(2, keepdims=True) / (1 - drop))
    delta_error = (absolute_g * (out_error + d * fine * np.abs(out))).sum(-1, keepdims=True)
    dropped_error = (narrow + 2 * relative) * dropped + tiny / (1 - drop)
    ds_error = (
        p * (delta_error + (d + 2) * fine * absolute_g @ turned(absolute_v) * mask)
        + (narrow + 2 * relative) * np.abs(ds)
        + tiny
    )
    gq = (scale * ds) @ k
    gq_error = abs(scale) * (ds_error + s * fine * np.abs(ds)) @ absolute_k
    gk, gv = (
        (turned(a) @ b).reshape(len(k), key_heads, group, s, d).sum(2) for a, b in ((scale * ds, q), (dropped, g))
    )  # (B, K, S, D)
    gk_error, gv_error = (
        (turned(a) @ b).reshape(len(k), key_heads, group, s, d).sum(2)
        for a, b in (
            (abs(scale) * (ds_error + group * t * fine * np.abs(ds)), absolute_q),
            (dropped_error + group * t * fine * dropped, absolute_g),
        )
    )
    errors = [e + unit * np.abs(x) + tiny for e, x in ((gq_error, gq), (gk_error, gk), (gv_error, gv))]
    return [1.01 * e for e in (out_error, *errors)]


def compare(kernel, given, g, expected, errors, **params):
    """Results within the bounds, on every schedule the same; `into` is written; only what `needs` asks for is given."""
    none, everything = (None,) * len(given), (True,) * len(given)

    def run(needs=everything, into=none):
        out, saved = kernel.forward(*given, **params)
        return out, *kernel.backward(g, saved, needs, into, **params)

    results = on_every_schedule(run)
    for got, exact, error in zip(results, expected, errors, strict=True):
        assert got.shape == exact.shape and got.dtype == given[0].dtype
        wrong = np.abs(host(got) - exact) - error
        assert (wrong <= 0).all(), f"off by {wrong.max()} more than the bound at {np.argwhere(~(wrong <= 0))[0]}"
    into = tuple(device(np.full(x.shape, np.nan, np.float32).astype(x.dtype)) for x in given)
    for buffer, returned, plain in zip(into, run(into=into)[1:], results[1:]):
        assert returned is buffer
        np.testing.assert_array_equal(host(returned), host(plain))
    for i in range(len(given)):
        only = run(needs=tuple(j == i for j in range(len(given))))[1:]
        assert [x is None for x in only] == [j != i for j in range(len(given))]
        np.testing.assert_array_equal(host(only[i]), host(results[1 + i]))


def check(b, h, key_heads, t, s, d, dtype, **params):
    """attention of normal numbers against the CPU's kernel."""
    r = rng()
    shapes = (b, h, t, d), (b, key_heads, s, d), (b, key_heads, s, d), (b, h, t, d)
    q, k, v, g = (rounded(r.standard_normal(shape), dtype) for shape in shapes)
    twin = lookup("cpu", "attention")
    out, saved = twin.forward(q, k, v, **params)
    expected = out, *twin.backward(g, saved, (True,) * 3, (None,) * 3, **params)
    arrays = [device(x.astype(dtype)) for x in (q, k, v, g)]
    compare(lookup("cuda", "attention"), arrays[:3], arrays[3], expected, bounds(q, k, v, g, dtype, **params), **params)


@TYPES
@pytest.mark.parametrize(
    "b, h, key_heads, t, s, params",
    [
        (1, 1, 1, 1, 1, CAUSAL), (2, 2, 1, 31, 31, window(7)), (1, 4, 1, 64, 64, CAUSAL),
        (1, 2, 1, 65, 130, window(64)), (1, 1, 1, 130, 130, window(65)), (2, 2, 2, 33, 33, FULL),
        (1, 1, 1, 130, 40, FULL), (1, 2, 1, 1, 130, window(1000)), (1, 1, 1, 130, 130, window(1)),
        (1, 1, 1, 40, 70, {**CAUSAL, "scale": -0.5}), (1, 1, 1, 40, 70, {**CAUSAL, "scale": 0.0}),
    ],
)  # fmt: skip
def test_attention(b, h, key_heads, t, s, params, dtype):
    check(b, h, key_heads, t, s, 64, dtype, **params)


@TYPES
@pytest.mark.parametrize("b, h, key_heads, t, s, params", [
    (1, 2, 1, 64, 64, CAUSAL), (2, 2, 1, 65, 132, window(64)), (1, 2, 1, 1, 131, CAUSAL),
    *(pytest.param(*case, marks=pytest.mark.slow) for case in [
        (2, 2, 2, 33, 33, FULL), (1, 1, 1, 130, 40, FULL), (1, 1, 1, 70, 70, window(1)),
        (1, 1, 1, 40, 70, {**CAUSAL, "scale": -0.5}),
    ]),
])  # fmt: skip
def test_dropout(b, h, key_heads, t, s, params, dtype):
    """Rows of S keys that are whole blocks of the generator, and others."""
    check(b, h, key_heads, t, s, 64, dtype, **params, **DROPPED)


@pytest.mark.slow
@pytest.mark.parametrize("d", [13, 128])
@pytest.mark.parametrize("s", [71, 72])
def test_dropout_in_other_head_sizes(s, d):
    check(1, 2, 1, 65, s, d, bfloat16, causal=True, window=None, scale=d**-0.5, **DROPPED)


@pytest.mark.parametrize("dtype", [float32, bfloat16], ids=str)
@pytest.mark.parametrize("s", [31, 32])
def test_forward_and_backward_drop_the_weights_that_the_generator_says(s, dtype):
    """Without queries all weights are 1 / S. Values, and gradients of the result, that are one at one place show each."""
    kernel, shape = lookup("cuda", "attention"), (2, 2, s, s)
    zeros, ones = (device(np.broadcast_to(x, shape).astype(dtype).copy()) for x in (np.zeros((s, s)), np.eye(s)))
    kept = (philox.uniform(4 * s * s, DROPPED["key"], DROPPED["offset"]) >= np.float32(0.3)).reshape(shape)
    out, saved = kernel.forward(zeros, zeros, ones, **FULL, **DROPPED)
    gv = kernel.backward(ones, saved, (False, False, True), (None,) * 3, **FULL, **DROPPED)[2]
    np.testing.assert_array_equal(host(out) != 0, kept)
    np.testing.assert_array_equal(host(gv) != 0, np.swapaxes(kept, 2, 3))


def test_a_replay_drops_what_a_run_in_its_place_would_drop():
    x, results = rng().standard_normal((2, 12, 3 * 2 * 16)).astype(np.float32), {}
    for enabled in (True, False):
        generator = tgl.Generator(7)

        def step(a, generator=generator):
            qkv = tgl.as_tensor(a, "cuda").to("bfloat16").detach().requires_grad_()
            out = F.attention_qkv(qkv, 2, dropout_p=0.4, generator=generator)
            out.square().sum().backward()
            return out.data, qkv.grad.data

        graph = Graph(step, generator, enabled)
        generator.bits(8)  # elsewhere in its stream than at the start
        results[enabled] = [y for _ in range(4) for y in graph(x)]
    for replayed, run in zip(results[True], results[False], strict=True):
        np.testing.assert_array_equal(replayed, run)
    assert not np.array_equal(results[True][4], results[True][6])


@pytest.mark.parametrize("dtype", [float32, bfloat16], ids=str)
@pytest.mark.parametrize("d", [1, 13, 16, 32, pytest.param(128, marks=pytest.mark.slow)])
def test_head_sizes(d, dtype):
    check(1, 2, 1, 65, 70, d, dtype, causal=True, window=40, scale=d**-0.5)


@pytest.mark.slow  # compiles all for one more type
def test_a_head_size_between_two_tiles_in_float16():
    check(1, 1, 1, 65, 70, 40, float16, causal=True, window=None, scale=0.2)


@pytest.mark.parametrize("d", [129, 256])
def test_a_head_size_that_is_too_large_is_refused_by_name(d):
    kernel, x = lookup("cuda", "attention"), cupy().zeros((1, 1, 2, d), dtype=bfloat16)
    assert not kernel.supports(x, x, x, **CAUSAL)
    with pytest.raises(ValueError, match=f"head sizes up to 128, got {d}"):
        kernel.forward(x, x, x, **CAUSAL)


@TYPES
@pytest.mark.parametrize(
    "b, t, heads, kv_heads, d, params",
    [
        (2, 33, 4, 2, 64, CAUSAL), (1, 70, 2, 1, 40, window(20)), (1, 33, 3, 1, 37, CAUSAL), (1, 40, 1, 1, 64, FULL),
        (2, 36, 4, 2, 64, {**CAUSAL, **DROPPED}),
    ],
)  # fmt: skip
def test_attention_qkv(b, t, heads, kv_heads, d, params, dtype):
    r = rng()
    params = {**params, "heads": heads, "kv_heads": kv_heads}
    qkv, g = (rounded(r.standard_normal((b, t, n * d)), dtype) for n in (heads + 2 * kv_heads, heads))
    twin = lookup("cpu", "attention_qkv")
    out, saved = twin.forward(qkv, **params)
    expected = out, *twin.backward(g, saved, (True,), (None,), **params)

    def split(x):  # (B, T, n D) -> (B, n, T, D)
        return np.moveaxis(x.reshape(b, t, -1, d), 2, 1)

    def join(x):
        return np.moveaxis(x, 1, 2).reshape(b, t, -1)

    q, k, v = np.split(split(qkv), [heads, heads + kv_heads], axis=1)
    masking = {name: value for name, value in params.items() if name not in ("heads", "kv_heads")}
    out_error, *errors = bounds(q, k, v, split(g), dtype, **masking)
    errors = join(out_error), join(np.concatenate(errors, axis=1))
    given = [device(x.astype(dtype)) for x in (qkv, g)]
    compare(lookup("cuda", "attention_qkv"), given[:1], given[1], expected, errors, **params)


@TYPES
def test_rows_that_begin_anywhere_give_the_same(dtype):
    """From an address that 16 does not divide the same tiles are loaded number by number."""
    r, shape = rng(), (1, 2, 70, 64)
    kernel, arrays = lookup("cuda", "attention"), [r.standard_normal(shape).astype(dtype) for _ in range(4)]

    def shifted(x):
        return device(np.concatenate([np.zeros(1, dtype), x.reshape(-1)]))[1:].reshape(shape)

    results = []
    for place in (device, shifted):
        q, k, v, g = map(place, arrays)
        out, saved = kernel.forward(q, k, v, **CAUSAL)
        results.append([host(x) for x in (out, *kernel.backward(g, saved, (True,) * 3, (None,) * 3, **CAUSAL))])
    for x, y in zip(*results):
        np.testing.assert_array_equal(x, y)


@TYPES
def test_a_query_that_sees_no_key_gives_zeros(dtype):
    r = rng()
    q, k, v = (device(r.standard_normal((1, 1, n, 8)).astype(dtype)) for n in (70, 3, 3))
    kernel = lookup("cuda", "attention")
    out, saved = kernel.forward(q, k, v, **CAUSAL)
    grads = kernel.backward(device(np.ones(q.shape, dtype)), saved, (True,) * 3, (None,) * 3, **CAUSAL)
    np.testing.assert_array_equal(host(out)[0, 0, :67], 0)
    np.testing.assert_array_equal(host(grads[0])[0, 0, :67], 0)
    assert (host(out)[0, 0, 67:] != 0).any(-1).all() and all(np.isfinite(host(x)).all() for x in grads)


@TYPES
@pytest.mark.parametrize("q_shape, k_shape", [((0, 2, 3, 8), (0, 1, 3, 8)), ((1, 2, 0, 8), (1, 1, 3, 8)),
                                              ((1, 2, 3, 8), (1, 1, 0, 8))])  # fmt: skip
def test_no_batch_no_queries_no_keys(q_shape, k_shape, dtype):
    kernel, q, k = lookup("cuda", "attention"), *(device(np.ones(x, dtype)) for x in (q_shape, k_shape))
    out, saved = kernel.forward(q, k, k, **FULL)
    grads = kernel.backward(q, saved, (True,) * 3, (None,) * 3, **FULL)
    for x, shape in zip((out, *grads), (q_shape, q_shape, k_shape, k_shape), strict=True):
        np.testing.assert_array_equal(host(x), np.zeros(shape))


@TYPES
@pytest.mark.parametrize("params", [CAUSAL, FULL, window(9)])
def test_nan_in_a_query_stays_in_its_row(params, dtype):
    r = rng()
    q, k, v = (r.standard_normal((1, 1, 70, 8)).astype(dtype) for _ in range(3))
    q[0, 0, 20, 3] = np.nan
    out = host(lookup("cuda", "attention").forward(*map(device, (q, k, v)), **params)[0])
    assert np.isnan(out[0, 0, 20]).all() and np.isnan(out).sum() == 8


@TYPES
def test_large_scores_do_not_overflow(dtype):
    q = device(np.full((1, 1, 70, 4), 100.0, np.float32).astype(dtype))
    kernel, params = lookup("cuda", "attention"), {**CAUSAL, "scale": 1.0}
    out, saved = kernel.forward(q, q, q, **params)
    np.testing.assert_allclose(host(out), 100.0, rtol=EPS[dtype])
    # Each key's gv is the sum of its probabilities 1 / (t + 1), over queries t from its own on: up to 70 roundings to
    # float32. A logarithm of a sum near 57,700 is rounded by 2^-9, which is 2^-9 log 2 of a probability.
    gv = kernel.backward(device(np.ones(q.shape, dtype)), saved, (True,) * 3, (None,) * 3, **params)[2]
    expected = np.cumsum(1 / np.arange(1, 71)[::-1])[::-1]
    np.testing.assert_allclose(
        host(gv)[0, 0, :, 0], expected, rtol=EPS[dtype] + 70 * 2.0**-24 + (dtype != float32) * 2.0**-9
    )


@TYPES
def test_keys_of_score_minus_infinity_in_a_whole_tile_count_for_nothing(dtype):
    r = rng()
    q, k, v = (np.abs(r.standard_normal((1, 1, 200, 8))).astype(dtype) for _ in range(3))
    k[0, 0, :150] = -np.inf
    kernel = lookup("cuda", "attention")
    out = host(kernel.forward(*map(device, (q, k, v)), **CAUSAL)[0])
    rest = [np.ascontiguousarray(x[:, :, 150:]) for x in (q, k, v)]
    expected, _ = lookup("cpu", "attention").forward(*(x.astype(np.float64) for x in rest), **CAUSAL)
    assert np.isnan(out[0, 0, :150]).all()  # softmax of -inf alone
    np.testing.assert_allclose(out[:, :, 150:], expected, rtol=2 * EPS[dtype] + 1e-5)


@TYPES
def test_what_a_hidden_key_holds_reaches_only_queries_that_share_a_tile(dtype):
    """A tile is 64 keys and 32 queries at most."""
    r = rng()
    q, k, v = (r.standard_normal((1, 1, 160, 8)).astype(dtype) for _ in range(3))
    kernel = lookup("cuda", "attention")

    def run(q, k, v, **params):
        out, saved = kernel.forward(*map(device, (q, k, v)), **params)
        grads = kernel.backward(device(np.ones_like(q)), saved, (True,) * 3, (None,) * 3, **params)
        return [host(x)[0, 0] for x in (out, *grads)]

    v[0, 0, 140] = np.inf
    out = run(q, k, v, **CAUSAL)[0]
    assert np.isfinite(out[:128]).all() and not np.isfinite(out[140:]).any()
    v[0, 0, 140], v[0, 0, 3] = 1.0, np.inf
    out, _, _, gv = run(q, k, v, **window(4))
    assert np.isfinite(out[96:]).all() and not np.isfinite(out[3:7]).any() and np.isfinite(gv).all()
    k[0, 0, 140], v[...] = np.inf, 1.0
    gq = run(q, k, v, **CAUSAL)[1]
    assert np.isfinite(gq[:128]).all()


@TYPES
@pytest.mark.parametrize("n", [20, 2**63 - 1, 10**30])
def test_a_window_of_all_keys_and_more_is_no_window(n, dtype):
    q, k, v = (device(rng().standard_normal((1, 1, 20, 8)).astype(dtype)) for _ in range(3))
    kernel = lookup("cuda", "attention")
    out, expected = (kernel.forward(q, k, v, **params)[0] for params in (window(n), CAUSAL))
    np.testing.assert_array_equal(host(out), host(expected))


def test_float32_backward_has_forwards_probabilities_where_scores_are_large():
    # out is linear in v, so out . g = v . gv for the same probabilities. From one float32 logarithm of the sum, scores
    # near 10,000 would leave an error of 1e-3.
    r = rng()
    q, k, v, g = ((s * r.standard_normal((1, 2, 70, 16))).astype(np.float32) for s in (50, 50, 1, 1))
    kernel, params = lookup("cuda", "attention"), {**CAUSAL, "scale": 1.0}
    out, saved = kernel.forward(*map(device, (q, k, v)), **params)
    gv = kernel.backward(device(g), saved, (True,) * 3, (None,) * 3, **params)[2]
    ours, theirs = (np.sum(x * y) for x, y in ((host(out), g), (v, host(gv))))
    assert abs(ours - theirs) < 1e-6 * np.abs(host(out) * g).sum()


@pytest.mark.slow
@pytest.mark.parametrize(
    "dtype, t, d", [(float32, 20, 16), (bfloat16, 130, 64), (bfloat16, 70, 128), (bfloat16, 70, 32), (float16, 70, 13)]
)
def test_no_races(dtype, t, d):
    r = rng()
    q, k, v = (r.standard_normal((1, h, t, d)).astype(dtype) for h in (2, 1, 1))
    kernel = lookup("cuda", "attention")
    with race_checks():
        for dropped in ({}, DROPPED):
            out, saved = kernel.forward(*map(device, (q, k, v)), **window(50), **dropped)
            kernel.backward(device(np.ones_like(q)), saved, (True,) * 3, (None,) * 3, **window(50), **dropped)


@pytest.mark.slow
@pytest.mark.parametrize("d", [32, 64, 128])
def test_no_bank_conflicts(d):
    """What moves 16 bytes a lane to or from shared memory (ldmatrix, cp.async) takes its least number of wavefronts."""
    r = rng()
    q, k, v, g = (device(r.standard_normal((1, 1, 130, d)).astype(bfloat16)) for _ in range(4))
    kernel = lookup("cuda", "attention")
    with count_accesses() as records:
        out, saved = kernel.forward(q, k, v, **CAUSAL)
        for needs in ((True, False, False), (False, True, False)):
            kernel.backward(g, saved, needs, (None,) * 3, **CAUSAL)
    found = [r for r in records if r.memory == "shared" and r.bytes == 16]
    assert len(found) >= 9 and all(r.wavefronts == r.least_wavefronts for r in found), found


@pytest.mark.parametrize("d", [32, 64])
def test_a_largest_score_that_stays_the_same_changes_nothing_from_tile_to_tile(d):
    """Equal scores of 757 and 1,515: log2 of their sum is the score and log2 of their number, for any number of tiles."""
    t, scale = 64 * 24, 0.5  # a score whose product with the scale is rounded by much, so that an FMA has another
    q, k = np.full((1, 1, 1, d), 6.25), np.full((1, 1, t, d), 5.25)
    given = (q.astype(bfloat16), k.astype(bfloat16), np.ones((1, 1, t, d), bfloat16))
    out, saved = lookup("cuda", "attention").forward(*map(device, given), causal=False, window=None, scale=scale)
    expected = 6.25 * 5.25 * d * scale * np.log2(np.e) + np.log2(t)
    np.testing.assert_allclose(host(saved[-1]).ravel()[0], expected, rtol=EPS[float32])
    np.testing.assert_array_equal(host(out), 1)


@pytest.mark.parametrize("d", [32, 64])
def test_scores_that_grow_from_tile_to_tile(d):
    """By 5 in base 2 from each 64 keys to the next: sums are scaled down now and then, and never overflow."""
    t = 64 * 40  # 200 in all: 2^200 is no float32
    q, k = np.ones((1, 1, 1, d)), np.repeat(np.arange(40.0), 64).reshape(1, 1, t, 1) * np.full(d, 5 / d)
    v = rng().standard_normal((1, 1, t, d))
    given = [x.astype(bfloat16) for x in (q, k, v)]
    params = dict(causal=False, window=None, scale=float(np.log(2.0)))
    out, saved = lookup("cuda", "attention").forward(*map(device, given), **params)
    scores = (given[0].astype(np.float64) @ given[1].astype(np.float64).swapaxes(2, 3)).ravel()  # in base 2
    weights = np.exp2(scores - scores.max())
    expected = (weights @ given[2].astype(np.float64)[0, 0]) / weights.sum()
    np.testing.assert_allclose(host(saved[-1]).ravel()[0], scores.max() + np.log2(weights.sum()), rtol=8 * EPS[float32])
    np.testing.assert_allclose(host(out).ravel(), expected, atol=3 * EPS[bfloat16])
