"""Stochastic rounding to bfloat16: up or down by chance, so that a sum of steps below its last digit still moves it.

A bfloat16 is the upper half of a float32. To add a random lower half and cut off gives the upper neighbour as often as x is
near it, so that the rounding is x on average. Gupta et al. 2015, arXiv:1502.02551; for weights without a float32 copy:
Zamirai et al. 2020, arXiv:2010.06192.
"""

from __future__ import annotations

import numpy as np

from .. import philox
from ..dtypes import bfloat16

ELEMENTS = 8  # that a Philox block of 128 bits rounds
STEP_SHIFT = 40  # a step has 2**40 blocks for itself, and 2**24 steps fit a counter of 64 bits


def round_stochastically(x: np.ndarray, key: int, step: int, start: int = 0) -> np.ndarray:
    """float32 (N,) as bfloat16, each element one of its two neighbours; infinity and NaN as they are.

    x is a part of an array, from its element `start` on, a multiple of 8. Element i of the whole array draws 16 bits: half
    i % 8 of Philox block step 2**40 + i / 8 under `key`, the lower half of a word first.
    """
    words = philox.random_bits(-(-x.size // 2), key, (step << STEP_SHIFT) + start // ELEMENTS)
    halves = np.stack([words & np.uint32(0xFFFF), words >> np.uint32(16)], axis=1).reshape(-1)[: x.size]
    cut = (x.view(np.uint32) + halves >> np.uint32(16)).astype(np.uint16).view(bfloat16)
    return np.where(np.isfinite(x), cut, x.astype(bfloat16))
