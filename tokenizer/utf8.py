"""Characters in UTF-8, for kernels: where the next one begins, and its spelling by the tokens of its bytes."""

from __future__ import annotations

from .native import inline, routine


@inline
def next_character(text, place, stop):
    """Where the character after that at place begins; stop at the end."""
    place += 1
    while place < stop and (text[place] & 0xC0) == 0x80:
        place += 1
    return place


@routine
def spell_bytes(text, first, start, stop, byte_ids, ids, ends, size):
    """Write the tokens of the bytes of the character at first + start to first + stop, and their ends; the new size.

    The escape of a byte that was not UTF-8, ED B2 80 to ED B3 BF, is spelt by that byte.
    """
    lead, second = text[first + start], text[first + min(start + 1, stop - 1)]
    if lead == 0xED and (second == 0xB2 or second == 0xB3):
        ids[size] = byte_ids[((second & 3) << 6) | (text[first + start + 2] & 63)]
        ends[size] = stop
        return size + 1
    for n in range(start, stop):
        ids[size], ends[size] = byte_ids[text[first + n]], n + 1
        size += 1
    return size
