"""The generator's bits are the published ones, and the stream has no overlaps."""

import numpy as np
import pytest

import tinygrad_lite as tgl
from tinygrad_lite import philox

ALL = 0xFFFFFFFF


@pytest.mark.parametrize("counter, key, words", [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ALL,) * 4, (ALL, ALL), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
     (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
])  # fmt: skip
def test_known_answers(counter, key, words):
    out = philox.rounds(*counter, key[0] | key[1] << 32)
    assert tuple(int(w) for w in out) == words


def test_random_bits_are_the_blocks_in_order():
    bits = philox.random_bits(10, key=0, offset=0)
    assert [int(b) for b in bits[:4]] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    np.testing.assert_array_equal(philox.random_bits(6, key=0, offset=1), bits[4:])
    high = philox.random_bits(4, key=5, offset=2**32 - 1)
    assert not np.array_equal(high, philox.random_bits(4, key=5, offset=2**32))


def test_draws_of_a_generator_never_share_blocks():
    g = tgl.Generator(3)
    a, b, c = g.bits(5), g.bits(3), g.bits(8)
    assert g.get_state() == (3, 2 + 1 + 2)
    assert not set(a.tolist()) & set(b.tolist()) and not set(b.tolist()) & set(c.tolist())


def test_state_is_saved_and_restored():
    g = tgl.Generator(2**63 + 5)
    g.uniform(7)
    state = g.get_state()
    first = g.normal(9)
    g.set_state(state)
    np.testing.assert_array_equal(g.normal(9), first)
    other = tgl.Generator(0)
    other.set_state(state)
    np.testing.assert_array_equal(other.normal(9), first)
    with pytest.raises(TypeError, match="^manual_seed: "):
        g.manual_seed(1.5)


def test_permutation_is_one():
    assert sorted(tgl.Generator(1).permutation(1000).tolist()) == list(range(1000))
