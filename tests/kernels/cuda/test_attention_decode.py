"""One new row of attention over a cache whose length only the device knows."""

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
    tolerance,
)
from support.decode_attention import case, formula

from tinygrad_lite.dtypes import bfloat16, float32
from tinygrad_lite.kernels import lookup
from tinygrad_lite.kernels.cuda.attention_decode import CHUNK
from tinygrad_lite.kernels.cuda.launch import cupy

pytestmark = needs_cuda


def attend(*arrays, **params):
    return lookup("cuda", "attention_decode").attend(*arrays, **params)


def check(b, heads, key_heads, room, d, position, window, dtype):
    qkv, keys, values = case(b, heads, key_heads, room, d, position, window, dtype)
    params = dict(heads=heads, window=window, scale=1.5 / np.sqrt(d))

    def run():
        given = [device(x.astype(dtype)) for x in (qkv, keys, values)]
        return attend(*given, device(np.array([position])), **params), *given[1:]

    out, *cache = on_every_schedule(run)
    expected, *after = formula(qkv, keys, values, position, **params)
    largest = np.nanmax(np.abs(after[1]))
    np.testing.assert_allclose(host(out), expected, rtol=0, atol=tolerance(dtype, position + d, largest))
    for got, x in zip(cache, after):
        np.testing.assert_array_equal(host(got), x)


# A chunk's first key and its last; keys that fill the groups of threads and not; windows that begin in a chunk, at its
# border and before the text; whole vectors, padded widths, rows that are not aligned; the cache's last row.
@TYPES
@pytest.mark.parametrize("b, heads, key_heads, room, d, position, window", [
    (1, 1, 1, 1, 1, 0, None),
    (2, 2, 1, 70, 8, 0, 5),
    (1, 2, 2, 140, 32, CHUNK - 1, None),
    (2, 4, 2, 140, 24, CHUNK, None),
    (1, 2, 1, 300, 64, 299, None),
    (1, 2, 2, 300, 64, 250, CHUNK + 20),
    (1, 1, 1, 300, 64, 2 * CHUNK, CHUNK + 1),
    (1, 3, 1, 140, 13, 139, 11),
    (1, 1, 1, 140, 80, 77, 1),
    (1, 2, 1, 65, 128, 64, 1000),
    (1, 1, 1, 20, 37, 19, None),
    (1, 1, 1, 20, 75, 19, None),
])  # fmt: skip
def test_attention_decode(b, heads, key_heads, room, d, position, window, dtype):
    check(b, heads, key_heads, room, d, position, window, dtype)


def test_large_scores_do_not_overflow_and_the_largest_wins():
    keys = np.zeros((1, 1, 130, 8))
    keys[0, 0, 70], keys[0, 0, 3] = 300.0, -300.0
    values = np.broadcast_to(np.arange(130.0)[:, None], keys.shape)
    given = [device(x.astype(np.float32)) for x in (np.ones((1, 1, 24)), keys, values)]
    out = attend(*given, device(np.array([129])), heads=1, window=None, scale=1.0)
    np.testing.assert_array_equal(host(out), np.full((1, 1, 8), 70.0))


@pytest.mark.parametrize("window", [None, 40])
def test_one_capture_serves_every_position(window, monkeypatch):
    room, params = 2 * CHUNK + 2, dict(heads=2, window=window, scale=0.4)
    qkv, keys, values = (x.astype(np.float32) for x in case(1, 2, 1, room, 16, room, None, float32))
    position, given = device(np.array([0])), [device(x) for x in (qkv, keys, values)]
    graph, out = capture(lambda: attend(*given, position, **params), monkeypatch)
    for p in (0, 1, CHUNK - 1, CHUNK, room - 1, 5):
        for place, x in zip((position, *given), (np.array([p]), qkv, keys, values)):
            place.set(x)
        graph.launch(cupy().cuda.get_current_stream())
        expected = formula(*(x.astype(np.float64) for x in (qkv, keys, values)), p, **params)[0]
        np.testing.assert_allclose(host(out), expected, rtol=0, atol=tolerance(float32, p + 16))


def test_a_row_of_another_cache_is_refused():
    qkv, keys, values = (device(x.astype(np.float32)) for x in case(1, 2, 1, 4, 8, 0, None, float32))
    for row, heads in ((qkv, 3), (qkv.astype(bfloat16), 2), (qkv.reshape(1, 2, 16), 2)):
        with pytest.raises(
            ValueError, match=r"attention_decode: expected one row of . \+ 2 x 1 heads of 8 columns in float32"
        ):
            attend(row, keys, values, device(np.array([0])), heads=heads, window=None, scale=1.0)


@pytest.mark.slow
@pytest.mark.skipif(not EMULATED, reason="the emulator finds races")
@TYPES
@pytest.mark.parametrize("d", [13, 24, 64, 128])
def test_no_races(d, dtype):
    with race_checks():
        check(1, 4, 2, 150, d, 130, 100, dtype)
