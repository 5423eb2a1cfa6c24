"""One seeded generator: a key and a counter. The same seed gives the same bits on every device."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import numpy as np

from . import philox


class _Watch(threading.local):
    used = None  # while someone watches: each generator that this thread draws from, and where it stood before


_watch = _Watch()


@contextmanager
def generators_used():
    """Inside, a dict fills with each generator drawn from and its state before: for drawing the same again."""
    outer, _watch.used = _watch.used, {}
    try:
        yield _watch.used
    finally:
        inner, _watch.used = _watch.used, outer
        if outer is not None:
            for generator, state in inner.items():
                outer.setdefault(generator, state)


class Generator:
    """Philox4x32-10 with its place in the stream: `key` is the seed, `offset` the next unused block."""

    __slots__ = ("key", "offset")

    def __init__(self, seed: int = 0):
        self.manual_seed(seed)

    def manual_seed(self, seed: int) -> Generator:
        """Start again from a seed, any integer of 64 bits."""
        if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool):
            raise TypeError(f"manual_seed: expected an integer, got {seed!r}")
        self.key, self.offset = int(seed) & 0xFFFFFFFFFFFFFFFF, 0
        return self

    def get_state(self) -> tuple[int, int]:
        """(key, offset): all there is to save."""
        return self.key, self.offset

    def set_state(self, state) -> None:
        """Continue from a saved (key, offset)."""
        self.key, self.offset = int(state[0]), int(state[1])

    def reserve(self, n: int) -> tuple[int, int]:
        """(key, offset) of a draw of n elements, and move on past it."""
        at = self.key, self.offset
        if _watch.used is not None:
            _watch.used.setdefault(self, at)
        self.offset += philox.blocks_used(n)
        return at

    def bits(self, n: int) -> np.ndarray:
        """n uint32."""
        return philox.random_bits(n, *self.reserve(n))

    def uniform(self, n: int) -> np.ndarray:
        """n float32 in [0, 1)."""
        return philox.uniform(n, *self.reserve(n))

    def normal(self, n: int) -> np.ndarray:
        """n float64 of mean 0 and variance 1, by Box and Muller 1958 on pairs of 32-bit words."""
        pairs = (n + 1) // 2
        bits = self.bits(2 * pairs).astype(np.float64)
        u1, u2 = (bits[:pairs] + 1.0) * 2.0**-32, bits[pairs:] * 2.0**-32
        radius, angle = np.sqrt(-2.0 * np.log(u1)), 2.0 * np.pi * u2
        return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:n]

    def integers(self, low: int, high: int, n: int) -> np.ndarray:
        """n int64 in [low, high), by a 32 x 32 bit product: the bias is below 2**-32 times the span."""
        span = high - low
        if not 0 < span <= 2**32:
            raise ValueError(f"integers: expected low < high within 2**32, got {low} and {high}")
        return low + (self.bits(n).astype(np.uint64) * np.uint64(span) >> np.uint64(32)).astype(np.int64)

    def permutation(self, n: int) -> np.ndarray:
        """The integers below n in a random order."""
        return np.argsort(self.bits(n), kind="stable")


default_generator = Generator(0)


def given_or_default(op: str, generator) -> Generator:
    """The generator to draw from: the library's where none is given."""
    if generator is None:
        return default_generator
    if not isinstance(generator, Generator):
        raise TypeError(f"{op}: generator must be a tinygrad_lite.Generator or None, got {type(generator).__name__}")
    return generator


def manual_seed(seed: int) -> Generator:
    """Seed the generator that the library uses where none is given."""
    return default_generator.manual_seed(seed)
