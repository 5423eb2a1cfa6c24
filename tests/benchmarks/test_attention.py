"""The attention benchmark's comparison and its measure of memory."""

import numpy as np
import pytest
from kernels.checks import python

from benchmarks.attention import NAMES, largest_difference, make_ours, make_torch


def test_memory_beyond_what_a_call_returns_is_found():
    text = """
        import time
        import numpy as np
        from benchmarks.attention import HEADS, _extra_bytes

        MIB, rows = 2**20, 4 * 2**20  # one float a row and head must be kept too

        def run():
            result = np.ones(32 * MIB // 4, np.float32)
            beside = np.ones(96 * MIB // 4, np.float32)
            time.sleep(0.1)
            return [result, beside[:0]]

        print(_extra_bytes(run, t=0) / MIB, _extra_bytes(lambda: [], t=0) / MIB)
        print((_extra_bytes(run, rows) + 4 * HEADS * rows) / MIB)
    """
    all_of_it, nothing, beyond_the_rows = (float(x) for x in python(text).split())
    assert 90 < all_of_it < 100 and nothing < 4 and 90 < beyond_the_rows < 100


def test_the_largest_difference_is_relative_to_its_own_array_and_a_nan_is_never_missed():
    ours = [np.ones(3), np.full(3, 100.0), np.ones(3), np.ones(3)]
    theirs = [x.copy() for x in ours]
    assert largest_difference(ours, theirs)[0] == 0
    ours[1][0] += 0.1
    assert largest_difference(ours, theirs) == (pytest.approx(1e-3), NAMES[1])
    ours[2][1] = np.nan
    assert np.isnan(largest_difference(ours, theirs)[0])


def test_both_sides_compute_the_same():
    pytest.importorskip("torch", reason="the peer whose results are compared is not installed")
    from tinygrad_lite.threads import get_num_threads

    sides = make_ours(get_num_threads()), make_torch(1)
    for side in sides:
        side(("prepare", 70))
        side("run")
    assert largest_difference(*(side("results") for side in sides))[0] < 1e-5
