"""Where the pieces of the named patterns begin in 64 bytes of ASCII at once.

The scanner of one piece at a time (scan.py) has to guess, for each, of what kind and how long it is, and a processor's
wrong guesses were most of its 10 ns. Here the classes of 64 bytes are numbers of 64 bits, bit n for byte n, from which a
few shifts say at once where pieces begin (the idea is that of Langdale and Lemire's simdjson, arXiv:1902.08318): x << 1
are the bytes after those of x.

Each function is told a place where a piece begins, with 64 bytes of text from there. It answers for as many bytes as it
can be sure of, and leaves contractions out: its second answer are the apostrophes at which there may be one.
"""

from __future__ import annotations

import numpy as np

from .bits import bytes_in_range, highest_bit, lowest_bit
from .native import inline

_ONE = np.uint64(1)
_TWO = np.uint64(2)
_THREE = np.uint64(3)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@inline
def _letters(data, place):
    return bytes_in_range(data, place, 0x20, 0x61, 26)


@inline
def _in_order(data, place):
    """Bytes that are ASCII and have nothing but ASCII before them."""
    high = bytes_in_range(data, place, 0, 0x80, 0x80)
    return (high & (~high + _ONE)) - _ONE  # all of them where high is 0


@inline
def starts_of_gpt2(data, place):
    """For GPT-2's pattern. Whether a piece begins at a byte depends on the one before and the one after it."""
    letter = _letters(data, place)
    number = bytes_in_range(data, place, 0, 0x30, 10)
    blank = bytes_in_range(data, place, 0, 0x20, 1)
    white = blank | bytes_in_range(data, place, 0, 0x09, 5)
    symbol = ~(letter | number | white)
    same = (letter & letter << _ONE) | (number & number << _ONE) | (symbol & symbol << _ONE) | (white & white << _ONE)
    # The last of a run of white space is left to what follows, which takes a blank for its own and nothing else.
    starts = ~same & ~(blank << _ONE)
    starts |= white & white << _ONE & ~(white >> _ONE)
    starts &= (_in_order(data, place) >> _ONE) & ~_ONE
    return starts, (starts | _ONE) & bytes_in_range(data, place, 0, 0x27, 1)


@inline
def starts_of_later(data, place, cases):
    """For the patterns of cl100k and, if cases, of o200k: the difference that ASCII shows is that a capital after a
    small letter begins a piece there, and that a contraction belongs to the word before it."""
    letter = _letters(data, place)
    number = bytes_in_range(data, place, 0, 0x30, 10)
    blank = bytes_in_range(data, place, 0, 0x20, 1)
    space = blank | bytes_in_range(data, place, 0, 0x09, 1) | bytes_in_range(data, place, 0, 0x0B, 2)
    newline = bytes_in_range(data, place, 0, 0x0A, 1) | bytes_in_range(data, place, 0, 0x0D, 1)
    symbol = ~(letter | number | space | newline)

    # Newlines after symbols belong to them. An addition carries through a run of ones, which become zeros.
    free = newline & (newline + (newline & symbol << _ONE))
    white = space | free
    starts = white & ~(white << _ONE)
    # A run of white space ends, as a piece, with its last newline: spaces after a newline begin one if no other follows.
    tails = space & free << _ONE
    if (space + tails) & ~space & newline:
        left = tails
        while left:
            first = lowest_bit(left)
            left &= left - _ONE
            after = space + (_ONE << np.uint64(first))
            if after & ~space & newline:
                tails &= ~(_ONE << np.uint64(first))
    starts |= tails
    # The last space of a run is left to what follows: a letter takes any, a symbol a blank, a number none.
    starts |= space & space << _ONE & ~((space | newline) >> _ONE)
    first_symbol = symbol & ~(symbol << _ONE) & ~(blank << _ONE)
    starts |= first_symbol
    starts |= letter & ~((letter | space | first_symbol) << _ONE)  # a letter takes one symbol as well
    threes = number & ~(number << _ONE)
    while threes:
        starts |= threes
        threes = threes << _THREE & number & number << _ONE & number << _TWO
    apostrophe = bytes_in_range(data, place, 0, 0x27, 1)

    known = _in_order(data, place)
    if cases:
        capital = bytes_in_range(data, place, 0, 0x41, 26)
        starts |= capital & (letter & ~capital) << _ONE
        slash = bytes_in_range(data, place, 0, 0x2F, 1) & newline << _ONE  # may belong to symbols before the newlines
        if slash:
            known &= (slash & (~slash + _ONE)) - _ONE
    # What spaces are depends on what comes after all of them.
    sure = known & ~space
    starts &= (_ALL >> np.uint64(63 - highest_bit(sure))) & ~_ONE if sure else np.uint64(0)
    return starts, apostrophe & (starts & letter << _ONE if cases else starts | _ONE)
