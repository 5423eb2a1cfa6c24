"""Where the pieces of GPT-2's pattern end in 64 bytes of ASCII at once.

The scanner of one piece at a time (scan.py) has to guess, for each, of what kind and how long it is, and a processor's
wrong guesses were most of its 10 ns. Here the classes of 64 bytes are four numbers of 64 bits, from which a few shifts
say at once where pieces begin (the idea is that of Langdale and Lemire's simdjson, arXiv:1902.08318).
"""

from __future__ import annotations

import numpy as np

from .bits import bytes_in_range
from .native import inline

_ONE = np.uint64(1)
_INNER = np.uint64((1 << 63) - 2)  # whether a piece begins at a byte depends on the one before and the one after


@inline
def piece_starts(data, place):
    """Bit n is set if a piece begins at place + n, for the bytes up to the first that is not ASCII, 62 at most.

    A piece begins at place, and data has 64 bytes there. Contractions are not looked for; the second answer is the
    apostrophes at which a piece begins.
    """
    high = bytes_in_range(data, place, 0, 0x80, 0x80)
    known = _INNER
    if high:
        known &= (high & (~high + _ONE)) - _ONE  # the bytes before the first
        known &= known >> _ONE
    letter = bytes_in_range(data, place, 0x20, 0x61, 26)
    number = bytes_in_range(data, place, 0, 0x30, 10)
    blank = bytes_in_range(data, place, 0, 0x20, 1)
    white = blank | bytes_in_range(data, place, 0, 0x09, 5)
    symbol = ~(letter | number | white)
    before_letter, before_number, before_symbol = letter << _ONE, number << _ONE, symbol << _ONE
    before_blank, before_white = blank << _ONE, white << _ONE
    same = (letter & before_letter) | (number & before_number) | (symbol & before_symbol) | (white & before_white)
    # The last of a run of white space is left to what follows, which takes a blank for its own and nothing else.
    starts = ~same & ~(before_blank & ~white)
    starts |= white & before_white & ~(white >> _ONE)
    starts &= known
    return starts, (starts | _ONE) & bytes_in_range(data, place, 0, 0x27, 1)
