"""The gradient of an embedding on the GPU: rows added by index, in a fixed order."""

import numpy as np
import pytest
from kernels.cuda.checks import (
    EMULATED,
    TYPES,
    capture,
    device,
    host,
    needs_cuda,
    on_every_schedule,
    race_checks,
    rng,
    rounded,
    tolerance,
)

import tinygrad_lite as tgl
from tinygrad_lite import functional as F
from tinygrad_lite.dtypes import bfloat16, float32
from tinygrad_lite.kernels import lookup
from tinygrad_lite.kernels.cuda import sort_indices as sort_module
from tinygrad_lite.kernels.cuda.launch import cupy
from tinygrad_lite.kernels.cuda.sort_indices import sort_indices

pytestmark = needs_cuda
CHUNK = 32


def scatter_add_rows(*arrays):
    return lookup("cuda", "scatter_add_rows").scatter_add_rows(*arrays)


def check(indices, vocabulary, c, dtype):
    r = rng()
    start, g = (rounded(r.standard_normal((n, c)), dtype) for n in (vocabulary, len(indices)))
    expected = start.copy()
    np.add.at(expected, indices, g)

    def run():
        out = device(start.astype(dtype))
        assert scatter_add_rows(out, device(indices), device(g.astype(dtype))) is out
        return (out,)

    (out,) = on_every_schedule(run)
    most = np.bincount(indices, minlength=1).max(initial=0)
    atol = tolerance(dtype, most, np.abs(expected).max(initial=0))
    np.testing.assert_allclose(host(out), expected, rtol=0, atol=atol)
    untouched = np.setdiff1d(np.arange(vocabulary), indices)
    np.testing.assert_array_equal(host(out)[untouched], start[untouched])


def check_order(indices, bound):
    """By index, then by position: what a stable sort gives."""
    (entries,) = on_every_schedule(lambda: (sort_indices(device(indices), bound),))
    order = np.argsort(indices, kind="stable")
    np.testing.assert_array_equal(host(entries), np.stack([indices[order], order], axis=1))


@pytest.mark.parametrize("n, bound", [
    (1, 1), (33, 600), (1056, 513),   # one pass of digits and two, one part of positions and two
    (2100, 300_000),                  # three passes
])  # fmt: skip
def test_sort_indices(n, bound):
    indices = rng().integers(0, bound, n)
    indices[-1], indices[n // 2] = bound - 1, 0
    check_order(indices, bound)
    check_order(np.where(rng().random(n) < 0.9, bound // 2, indices), bound)  # one that comes often


def test_parts_of_several_tiles(monkeypatch):
    monkeypatch.setattr(sort_module, "BLOCKS", 2)
    check_order((rng().random(4133) ** 4 * 1000).astype(np.int64), 1000)


@TYPES
@pytest.mark.parametrize("n, vocabulary, c", [
    (0, 3, 4), (1, 1, 1), (31, 5, 33), (33, 100, 32),
    (300, 7, 8),       # runs longer than a chunk
    (200, 65, 1100),   # several blocks of columns
    (150, 3, 131),     # the same by single columns
])  # fmt: skip
def test_scatter_add_rows(n, vocabulary, c, dtype):
    check(rng().integers(0, vocabulary, n), vocabulary, c, dtype)


@TYPES
@pytest.mark.parametrize("lengths", [
    (CHUNK, CHUNK, 1), (CHUNK - 1, CHUNK + 1, 2 * CHUNK), (1, 2 * CHUNK - 1, 5), (40 * CHUNK + 3,), (5, 3 * CHUNK, 27),
    (CHUNK - 1, CHUNK + 2, CHUNK - 1), (3, 2 * CHUNK - 3, 2 * CHUNK + 1, 9), (2 * CHUNK, 2 * CHUNK + 1, 2),
    (1, 258 * CHUNK, 1),  # more pieces than a block has threads
], ids=str)  # fmt: skip
def test_runs_that_end_at_a_chunks_border_and_beyond(lengths, dtype):
    indices = np.repeat(np.arange(len(lengths)) * 2, lengths)
    check(rng().permutation(indices), 2 * len(lengths), 8, dtype)


def test_many_small_terms_are_not_lost_in_bfloat16():
    out = device(np.ones((1, 8)).astype(bfloat16))
    scatter_add_rows(out, device(np.zeros(1000, np.int64)), device(np.full((1000, 8), 2.0**-10).astype(bfloat16)))
    np.testing.assert_array_equal(host(out), np.full((1, 8), 1.9765625))  # 1 + 1000 / 1024, to 8 digits


def test_embedding_takes_the_kernel():
    weight = tgl.Tensor(rng().standard_normal((5, 8)).astype(np.float32)).to("cuda")
    weight.requires_grad = True
    ids = np.array([[0, 4, 4], [2, 0, 4]])
    if EMULATED:
        cupy().launches.clear()
    F.embedding(tgl.tensor(ids, device="cuda"), weight).sum().backward()
    np.testing.assert_array_equal(weight.grad.numpy(), np.repeat([[2.0], [0], [1], [0], [3]], 8, axis=1))
    assert not EMULATED or "add_runs<float, true>" in cupy().launches


@pytest.mark.slow
@TYPES
@pytest.mark.parametrize("c", [8, 9])
def test_no_races(c, dtype):
    indices, g = rng().integers(0, 3, 200), rng().standard_normal((200, c)).astype(dtype)
    with race_checks():
        scatter_add_rows(device(np.zeros((3, c), dtype)), device(indices), device(g))
        scatter_add_rows(device(np.zeros((1026, c), dtype)), device(indices * 500), device(g))


def test_nothing_comes_to_the_host_and_a_graph_replays_with_other_indices(monkeypatch):
    tokens, g = device(np.zeros(70, np.int64)), device(np.ones((70, 8), np.float32))
    out = device(np.zeros((600, 8), np.float32))
    graph, _ = capture(lambda: scatter_add_rows(out, tokens, g), monkeypatch)
    cupy().cuda.Device().synchronize()  # the run before the capture, on a stream of its own
    others = rng().integers(0, 600, 70)
    tokens[...], out[...] = device(others), 0
    graph.launch()
    np.testing.assert_array_equal(host(out)[:, 3], np.bincount(others, minlength=600))


def test_int32_indices_and_none_at_all():
    out = device(np.zeros((2, 3), np.float32))
    scatter_add_rows(out, device(np.array([1, 1], np.int32)), device(np.ones((2, 3), np.float32)))
    np.testing.assert_array_equal(host(out), [[0, 0, 0], [2, 2, 2]])
    assert out.dtype == float32
