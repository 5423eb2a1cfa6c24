"""Attention of one new row over a cache, at a position that stands in an array: the formula's values on the CPU."""

import numpy as np
import pytest
from kernels.checks import tolerance
from support.decode_attention import case, formula

from tinygrad_lite import threads
from tinygrad_lite.kernels import lookup

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def attend(*arrays, **params):
    return lookup("cpu", "attention_decode").attend(*arrays, **params)


# The first position, the last, windows that begin in the text, at its start and before it, grouped heads, odd sizes.
@DTYPES
@pytest.mark.parametrize("b, heads, key_heads, room, d, position, window", [
    (1, 1, 1, 1, 1, 0, None), (2, 2, 1, 70, 8, 0, 5), (2, 4, 2, 140, 24, 139, None), (1, 12, 12, 300, 64, 250, None),
    (1, 6, 2, 300, 64, 299, 120), (1, 3, 1, 140, 13, 60, 61), (1, 2, 1, 65, 128, 64, 1000), (3, 1, 1, 20, 37, 19, 1),
])  # fmt: skip
def test_values_are_the_formulas(b, heads, key_heads, room, d, position, window, dtype):
    exact, params = (
        case(b, heads, key_heads, room, d, position, window, dtype),
        dict(heads=heads, window=window, scale=d**-0.5),
    )
    qkv, keys, values = given = [x.astype(dtype) for x in exact]
    out = attend(*given, np.array([position]), **params)
    expected, *cache = formula(*(x.astype(np.float64) for x in given), position, **params)
    assert out.dtype == dtype
    np.testing.assert_allclose(out, expected, rtol=0, atol=tolerance(dtype, position + d))
    for got, x in zip((keys, values), cache):
        np.testing.assert_array_equal(got, x)


def test_the_same_bits_on_one_thread_and_on_three():
    params, n, found = dict(heads=12, window=None, scale=0.1), threads.get_num_threads(), []
    try:
        for count in (1, 3):
            threads.set_num_threads(count)
            given = [x.astype(np.float32) for x in case(2, 12, 4, 900, 64, 880, None, np.float32)]
            found.append(attend(*given, np.array([880]), **params))
    finally:
        threads.set_num_threads(n)
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("position", [-1, 4, 2**40])
def test_a_position_outside_the_cache_gives_nan_and_writes_nothing(position):
    qkv, keys, values = (np.ones(shape, np.float32) for shape in ((1, 1, 32), (1, 1, 4, 8), (1, 1, 4, 8)))
    out = attend(2 * qkv, keys, values, np.array([position]), heads=2, window=None, scale=1.0)
    assert np.isnan(out).all() and (keys == 1).all() and (values == 1).all()


@pytest.mark.parametrize("shape, heads, dtype", [
    ((1, 1, 32), 3, np.float32), ((1, 1, 32), 2, np.float64), ((1, 2, 16), 2, np.float32),
])  # fmt: skip
def test_a_row_of_another_cache_is_refused(shape, heads, dtype):
    keys, values = np.zeros((2, 1, 1, 4, 8), np.float32)
    with pytest.raises(ValueError, match=r"expected one row of . \+ 2 x 1 heads of 8 columns in float32"):
        attend(np.zeros(shape, dtype), keys, values, np.array([0]), heads=heads, window=None, scale=1.0)
