"""Sums of columns on the GPU, in a fixed order."""

import numpy as np
import pytest
from kernels.cuda.checks import TYPES, device, host, needs_cuda, on_every_schedule, race_checks, rng, rounded, tolerance

from tinygrad_lite.kernels.cuda.column_sums import column_sums
from tinygrad_lite.kernels.cuda.launch import cupy

pytestmark = needs_cuda


@TYPES
@pytest.mark.parametrize("n, c", [(0, 5), (1, 1), (31, 33), (64, 32), (65, 264), (300, 7), (70, 0)])
def test_column_sums(n, c, dtype):
    x = rounded(rng().standard_normal((n, c)), dtype)
    (out,) = on_every_schedule(lambda: (column_sums(device(x.astype(dtype)), cupy().empty((c,), dtype=dtype)),))
    expected = x.sum(0)
    assert out.dtype == dtype
    np.testing.assert_allclose(host(out), expected, rtol=0, atol=tolerance(dtype, n, np.abs(expected).max(initial=0)))


def test_a_nan_stays_in_its_column():
    x = np.zeros((100, 40), np.float32)
    x[70, 3], x[1, 39] = np.nan, np.inf
    out = host(column_sums(device(x), cupy().empty((40,), dtype=np.float32)))
    assert np.isnan(out[3]) and out[39] == np.inf and np.count_nonzero(out) == 2


@pytest.mark.slow
@TYPES
@pytest.mark.parametrize("c", [40, 41])
def test_no_races(c, dtype):
    with race_checks():
        column_sums(device(np.ones((200, c), dtype)), cupy().empty((c,), dtype=dtype))
