"""Where a key is looked for first in an open-addressing table, for kernels."""

from __future__ import annotations

import numpy as np

from .native import inline


@inline
def home_of(key, mask):
    """Fibonacci hashing (Knuth, The Art of Computer Programming 3, 6.4)."""
    mixed = key * np.uint64(0x9E3779B97F4A7C15)
    return np.int64((mixed >> np.uint64(32)) & np.uint64(mask))
