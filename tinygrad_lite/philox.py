"""Philox4x32-10: random bits as a pure function of a key and a counter.

Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3". Element i of a draw is word i % 4 of block
offset + i // 4, so any device and any number of threads make the same bits, and a mask can be made again in
backward instead of being kept.
"""

from __future__ import annotations

import numpy as np

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)  # multipliers
_W0, _W1 = 0x9E3779B9, 0xBB67AE85  # key increments: golden ratio, sqrt(3) - 1
_LOW, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)


def rounds(c0, c1, c2, c3, key: int):
    """Ten rounds on uint32 counter words (arrays); returns the four output words."""
    k0, k1 = key & 0xFFFFFFFF, key >> 32 & 0xFFFFFFFF
    c0, c1, c2, c3 = (np.asarray(c, dtype=np.uint64) for c in (c0, c1, c2, c3))
    for _ in range(10):
        p0, p1 = c0 * _M0, c2 * _M1
        c0, c1, c2, c3 = (p1 >> _32) ^ c1 ^ np.uint64(k0), p1 & _LOW, (p0 >> _32) ^ c3 ^ np.uint64(k1), p0 & _LOW
        k0, k1 = (k0 + _W0) & 0xFFFFFFFF, (k1 + _W1) & 0xFFFFFFFF
    return tuple(c.astype(np.uint32) for c in (c0, c1, c2, c3))


def random_bits(n: int, key: int, offset: int = 0) -> np.ndarray:
    """n uint32 words: word i % 4 of block offset + i // 4 under a 64-bit key."""
    blocks = np.arange((n + 3) // 4, dtype=np.uint64) + np.uint64(offset)
    zero = np.zeros_like(blocks)
    words = rounds(blocks & _LOW, blocks >> _32, zero, zero, key)
    return np.stack(words, axis=1).reshape(-1)[:n]


def uniform(n: int, key: int, offset: int = 0) -> np.ndarray:
    """n float32 in [0, 1): the upper 24 bits of each word, so that every value is exact."""
    return (random_bits(n, key, offset) >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def blocks_used(n: int) -> int:
    """By how much a draw of n elements moves the offset on."""
    return (n + 3) // 4
