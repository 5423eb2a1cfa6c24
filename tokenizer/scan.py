"""The named split patterns as compiled scanners over UTF-8: where each piece ends.

Each function _next_... is one expression of patterns.py, its alternatives in the same order, as tests at the place where
a piece begins. Code points come in eight classes, one bit each. Where the text is ASCII, scan_block.py finds the pieces
of 64 bytes at once, five times as fast; these functions do the rest: other characters, pieces that reach out of a block,
the end of a text. No place is looked at more than a bounded number of times: the time is linear. A byte that is no part
of valid UTF-8 is a character of its own, of the class OTHER, as the surrogate escape that stands for it in a str.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from . import unicode_classes
from .bits import BLOCK, lowest_bit
from .native import BYTES, INDEX, INT64, INT64_OUT, compiled, inline, routine
from .native import types as t
from .scan_block import starts_of_gpt2, starts_of_later

OTHER, SPACE, NEWLINE, NUMBER, UPPER, LOWER, CASELESS, MARK = (1 << n for n in range(8))
LETTER = UPPER | LOWER | CASELESS
WHITE = SPACE | NEWLINE
SYMBOL = OTHER | MARK
LEADS_UPPER = UPPER | CASELESS | MARK  # o200k: what may come first in a word
LEADS_LOWER = LOWER | CASELESS | MARK  # and what may come after that
GPT2, CL100K, O200K = range(3)
KINDS = {"gpt2": GPT2, "cl100k": CL100K, "o200k": O200K}

_ONE = np.uint64(1)
_APOSTROPHE, _BLANK, _SLASH = b"' /"
_S, _T, _M, _D, _L, _V, _R, _E = b"stmdlvre"


@cache
def class_table() -> np.ndarray:
    """The class of each code point: uint8 (0x110000,)."""
    table = np.full(0x110000, OTHER, dtype=np.uint8)
    for name in ("SPACE", "NEWLINE", "NUMBER", "UPPER", "LOWER", "CASELESS", "MARK"):
        for item in getattr(unicode_classes, name).split():
            first, _, last = item.partition("-")
            table[int(first, 16) : int(last or first, 16) + 1] = globals()[name]
    table.flags.writeable = False
    return table


def scan_pieces(kind: int, data: np.ndarray, limits: np.ndarray, ends: np.ndarray, segment: int, place: int):
    """Write where the next pieces end into ends; (how many, the segment and the place to go on from).

    Args:
        kind: GPT2, CL100K or O200K.
        data: uint8, UTF-8 of several texts end to end.
        limits: int64, where each text ends; no piece goes across.
        ends: int64, written.
        segment, place: where to begin; the place lies in the text with that number.
    """
    return _scan(kind, data, limits, class_table(), ends, segment, place)


def last_cut(kind: int, data: np.ndarray) -> int:
    """The last place where the pieces are the same whether data is cut there or not, whatever follows; 0 if none is known.

    Between a letter or number and another kind of character, a piece ends whatever stands around the two, but for an
    apostrophe (a contraction may belong to the word) and for marks. White space begins a piece after any other
    character, but newlines may belong to symbols before them.
    """
    return _last_cut(kind, data, class_table())


@inline
def _class_at(data, i, stop, table):
    """The class of the character at i, and its length in bytes."""
    if data[i] < 0x80:
        return table[data[i]], 1
    return _long_class_at(data, i, stop, table)


@routine
def _long_class_at(data, i, stop, table):
    first = np.int64(data[i])
    if first < 0xE0:
        if first >= 0xC2 and i + 1 < stop and data[i + 1] & 0xC0 == 0x80:
            return table[(first & 0x1F) << 6 | (data[i + 1] & 0x3F)], 2
    elif first < 0xF0:
        if i + 2 < stop and data[i + 1] & 0xC0 == 0x80 and data[i + 2] & 0xC0 == 0x80:
            code = (first & 0x0F) << 12 | np.int64(data[i + 1] & 0x3F) << 6 | (data[i + 2] & 0x3F)
            if code >= 0x800 and not 0xD800 <= code < 0xE000:  # neither overlong nor a surrogate
                return table[code], 3
    elif first < 0xF5 and i + 3 < stop:
        if data[i + 1] & 0xC0 == 0x80 and data[i + 2] & 0xC0 == 0x80 and data[i + 3] & 0xC0 == 0x80:
            code = (
                (first & 0x07) << 18
                | np.int64(data[i + 1] & 0x3F) << 12
                | np.int64(data[i + 2] & 0x3F) << 6
                | (data[i + 3] & 0x3F)
            )
            if 0x10000 <= code < 0x110000:
                return table[code], 4
    return table[0], 1  # U+0000 is of the class OTHER


@inline
def _run(data, i, stop, table, mask):
    """The end of the characters from i on whose class is in mask."""
    while i < stop:
        kind, width = _class_at(data, i, stop, table)
        if not kind & mask:
            break
        i += width
    return i


@routine
def _numbers(data, i, stop, table):
    """The end of at most three numbers."""
    for _ in range(3):
        if i < stop:
            kind, width = _class_at(data, i, stop, table)
            if not kind & NUMBER:
                break
            i += width
    return i


@routine
def _contraction(data, i, stop, any_case):
    """The end of 's, 't, 'm, 'd, 'll, 've or 're that begins at i, or i. The long s, U+017F, is an s of either case."""
    if i + 1 >= stop or data[i] != _APOSTROPHE:
        return i
    fold = 0x20 if any_case else 0
    first = data[i + 1] | fold
    if first == _S or first == _T or first == _M or first == _D:
        return i + 2
    if i + 2 < stop:
        second = data[i + 2] | fold
        if first == _L and second == _L:
            return i + 3
        if (first == _V or first == _R) and second == _E:
            return i + 3
        if any_case and data[i + 1] == 0xC5 and data[i + 2] == 0xBF:
            return i + 3
    return i


@routine
def _white(data, i, stop, table, newlines, end_first):
    """The end of a piece of white space that begins at i.

    newlines: up to the last newline of the run, if it has one. The last character of a run is left to what follows,
    unless it is the only one or the text ends there; end_first: this end comes before newlines.
    """
    last = i
    newline = i
    j = i
    while j < stop:
        kind, width = _class_at(data, j, stop, table)
        if not kind & WHITE:
            break
        last = j
        j += width
        if kind == NEWLINE:
            newline = j
    if j == stop and end_first:
        return j
    if newlines and newline > i:
        return newline
    return last if j < stop and last > i else j


@inline
def _next_gpt2(data, i, stop, table):
    kind, width = _class_at(data, i, stop, table)
    if data[i] == _APOSTROPHE:
        end = _contraction(data, i, stop, False)
        if end > i:
            return end
    if data[i] == _BLANK and i + 1 < stop:
        kind, width = _class_at(data, i + 1, stop, table)
        if kind & WHITE:
            return _white(data, i, stop, table, False, True)
        i += 1
    if kind & LETTER:
        return _run(data, i + width, stop, table, LETTER)
    if kind & SYMBOL:
        return _run(data, i + width, stop, table, SYMBOL)
    if kind & NUMBER:
        return _run(data, i + width, stop, table, NUMBER)
    return _white(data, i, stop, table, False, True)


@inline
def _next_cl100k(data, i, stop, table):
    end = _contraction(data, i, stop, True)
    if end > i:
        return end
    kind, width = _class_at(data, i, stop, table)
    if kind & LETTER:
        return _run(data, i + width, stop, table, LETTER)
    if kind & NUMBER:
        return _numbers(data, i, stop, table)
    if i + width < stop:
        following, next_width = _class_at(data, i + width, stop, table)
        if kind != NEWLINE and following & LETTER:
            return _run(data, i + width + next_width, stop, table, LETTER)
        if data[i] == _BLANK and following & SYMBOL:
            kind, i = following, i + 1
    if kind & SYMBOL:
        return _run(data, _run(data, i, stop, table, SYMBOL), stop, table, NEWLINE)
    return _white(data, i, stop, table, True, True)


@routine
def _word_o200k(data, i, stop, table):
    """The end of [upper]*[lower]+, else of [upper]+, at i; i if neither is there; and whether it was the first."""
    j = i
    last = i  # after the last character that may also stand in the second part
    while j < stop:
        kind, width = _class_at(data, j, stop, table)
        if not kind & LEADS_UPPER:
            break
        j += width
        if kind & LEADS_LOWER:
            last = j
    end = _run(data, j, stop, table, LEADS_LOWER)
    if end > j:
        return end, True
    return (last, True) if last > i else (j, False)


@inline
def _next_o200k(data, i, stop, table):
    kind, width = _class_at(data, i, stop, table)
    if kind & LETTER:
        end, _ = _word_o200k(data, i, stop, table)
        return _contraction(data, end, stop, True)
    if kind & (OTHER | SPACE | MARK):
        end, has_lower = _word_o200k(data, i + width, stop, table)
        if kind == MARK and not has_lower:  # then the mark is a word by itself, rather than the lead of capitals
            end, _ = _word_o200k(data, i, stop, table)
        if end > i + width or kind == MARK:
            return _contraction(data, end, stop, True)
    if kind & NUMBER:
        return _numbers(data, i, stop, table)
    if data[i] == _BLANK and i + 1 < stop:
        following, _ = _class_at(data, i + 1, stop, table)
        if following & SYMBOL:
            kind, i = following, i + 1
    if kind & SYMBOL:
        i = _run(data, i, stop, table, SYMBOL)
        while i < stop and (data[i] == _SLASH or table[data[i]] == NEWLINE):
            i += 1
        return i
    return _white(data, i, stop, table, True, False)


@inline
def _block(kind, data, place, stop, ends, count):
    """Write the ends of pieces that are sure in the next 64 bytes: how many there are then, and the last."""
    if kind == GPT2:
        starts, apostrophes = starts_of_gpt2(data, place)
    else:
        starts, apostrophes = starts_of_later(data, place, kind == O200K)
    while apostrophes:
        first = lowest_bit(apostrophes)
        apostrophes &= apostrophes - _ONE
        end = _contraction(data, place + first, stop, kind != GPT2) - place
        if end > first:
            # It begins a piece, or in o200k goes on with one; either ends with it.
            before = _ONE << np.uint64(first)
            kept = before - _ONE if kind == O200K else (before - _ONE) | before
            if end >= BLOCK:
                starts &= kept
                break
            following = _ONE << np.uint64(end)
            starts = starts & (kept | ~(following - _ONE)) | following
            if kind == O200K:
                apostrophes &= ~following  # a word has one contraction
    after = place
    while starts:
        after = place + lowest_bit(starts)
        starts &= starts - _ONE
        ends[count] = after
        count += 1
    return count, after


@compiled(t.UniTuple(INDEX, 3), [INDEX, BYTES, INT64, BYTES, INT64_OUT, INDEX, INDEX])
def _scan(kind, data, limits, table, ends, segment, place):
    count = 0
    while segment < limits.size:
        stop = limits[segment]
        while place < stop and count < ends.size:
            # Not where other scripts begin: there a block says nothing, and costs as much as a piece.
            if place + BLOCK <= stop and data[place + 1] < 0x80 and count + BLOCK <= ends.size:
                count, after = _block(kind, data, place, stop, ends, count)
                if after > place:
                    place = after
                    continue
            if kind == GPT2:
                place = _next_gpt2(data, place, stop, table)
            elif kind == CL100K:
                place = _next_cl100k(data, place, stop, table)
            else:
                place = _next_o200k(data, place, stop, table)
            ends[count] = place
            count += 1
        if place < stop:
            break
        segment += 1
    return count, segment, place


@compiled(INDEX, [INDEX, BYTES, BYTES])
def _last_cut(kind, data, table):
    cut = i = 0
    before = 0  # the class of the character before i
    while i < data.size:
        here, width = _class_at(data, i, data.size, table)
        if before & LETTER:
            safe = here & (WHITE | NUMBER) or (here == OTHER and data[i] != _APOSTROPHE)
        elif before & NUMBER:
            safe = here & NUMBER == 0
        else:
            safe = before & SYMBOL and (here == SPACE or (here == NEWLINE and kind == GPT2))
        if safe:
            cut = i
        before = here
        i += width
    return cut
