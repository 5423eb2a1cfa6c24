"""Philox4x32-10 as a kernel: random bits that are a function of key and position, so a mask is never stored.

Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3". The readable twin, with the published
test vectors, is tinygrad_lite/philox.py.
"""

import math

import numpy as np

from ...native.compile import inline, jit, vectorise
from ...threads import parallel_for
from .arrays import GRAIN_ELEMENTS


@inline
def philox_block(counter, key):
    """The four 32-bit words of block `counter` (uint64) under `key` (uint64)."""
    low, high = np.uint64(0xFFFFFFFF), np.uint64(32)
    k0, k1 = np.uint32(key & low), np.uint32(key >> high)
    c0, c1, c2, c3 = np.uint32(counter & low), np.uint32(counter >> high), np.uint32(0), np.uint32(0)
    for _ in range(10):
        product0 = np.uint64(c0) * np.uint64(0xD2511F53)
        product1 = np.uint64(c2) * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (
            np.uint32(np.uint32(product1 >> high) ^ c1 ^ k0),
            np.uint32(product1 & low),
            np.uint32(np.uint32(product0 >> high) ^ c3 ^ k1),
            np.uint32(product0 & low),
        )
        k0 = np.uint32((np.uint64(k0) + np.uint64(0x9E3779B9)) & low)
        k1 = np.uint32((np.uint64(k1) + np.uint64(0xBB67AE85)) & low)
    return c0, c1, c2, c3


def random_bits(n, key, offset):
    """n uint32 words: element i is word i % 4 of block offset + i // 4 under the 64-bit key. offset counts blocks."""
    blocks = -(-n // 4)
    out = np.empty(4 * blocks, np.uint32)
    parallel_for(_fill[out.dtype], blocks, GRAIN_ELEMENTS // 4, np.uint64(key), np.uint64(offset), out)
    return out[:n]


def uniform(n, key, offset):
    """n float32 in [0, 1): the upper 24 bits of random_bits times 2^-24, every value exact."""
    return (random_bits(n, key, offset) >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def dropout_parameters(p, key, offset):
    """What a kernel that drops is told: key, offset, the least 24 bits of a number that is kept, the factor for those.

    uniform = bits >> 8 times 2^-24, so uniform >= p is an integer comparison.
    """
    least = math.ceil(float(np.float32(p)) * 2.0**24)
    return np.uint64(key), np.uint64(offset), least, 1.0 / (1.0 - p) if p < 1 else 0.0  # p = 1 keeps nothing


@inline
def dropout_mask(at, count, key, offset, least, factor, memory):
    """For elements `at` to at + count of a draw: factor where kept, else 0. A view of `memory`: count + 6 numbers."""
    vectorise()
    real, eight, first = memory.dtype.type, np.uint32(8), offset + np.uint64(at // 4)
    least, kept, dropped = np.uint32(least), real(factor), real(0)
    for block in range((at % 4 + count + 3) // 4):
        a, b, c, d = philox_block(first + np.uint64(block), key)
        memory[4 * block] = kept if np.uint32(a >> eight) >= least else dropped
        memory[4 * block + 1] = kept if np.uint32(b >> eight) >= least else dropped
        memory[4 * block + 2] = kept if np.uint32(c >> eight) >= least else dropped
        memory[4 * block + 3] = kept if np.uint32(d >> eight) >= least else dropped
    return memory[at % 4 : at % 4 + count]


@jit("i i u u w1")
def _fill(start, stop, key, offset, out):
    vectorise()
    out = out[4 * start : 4 * stop]
    first = offset + np.uint64(start)
    for block in range(out.size // 4):
        a, b, c, d = philox_block(first + np.uint64(block), key)
        out[4 * block] = a
        out[4 * block + 1] = b
        out[4 * block + 2] = c
        out[4 * block + 3] = d
