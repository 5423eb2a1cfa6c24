"""Pre-tokenisation: cutting text into the pieces within which byte pairs may merge.

All ways work on UTF-8 and say where each piece ends. The named patterns run as compiled scanners (scan.py; in their
plain form, patterns.py), any other through the ``regex`` package.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cache

import numpy as np

from .errors import TokenizerError
from .patterns import PATTERNS, without_younger

_NEAR_END = 1 << 10
_BATCH = 1 << 14  # pieces; their ends stay in the processor's cache until they are used


class Pretokenizer(ABC):
    """Where texts are cut. It does not change once built, and any number of threads may use it."""

    @abstractmethod
    def ends(self, data: np.ndarray, limits: np.ndarray) -> Iterator[np.ndarray]:
        """Where each piece ends, in order, as arrays of int64, each valid until the next.

        Args:
            data: uint8, several texts in UTF-8 end to end; a byte that is no part of valid UTF-8 is a character.
            limits: int64, ascending: where each text ends. No piece goes across, and none is empty.
        """

    def safe_cut(self, text: str) -> int:
        """The last place where text can be cut without a change of its pieces, whatever follows it; 0 if none is known."""
        return 0

    def split(self, text: str) -> list[str]:
        """The pieces of one text; joined, they are the text."""
        data = text.encode("utf-8", "surrogateescape")
        result = []
        start = 0
        for ends in self.ends(as_array(data), np.array([len(data)])):
            for stop in ends.tolist():
                result.append(data[start:stop].decode("utf-8", "surrogateescape"))
                start = stop
        return result


def make_pretokenizer(pattern: str | None) -> Pretokenizer:
    """The splitter for a pattern: "gpt2", "cl100k", "o200k", None (no cut: a text is one piece), or an expression.

    Text that the expression does not match is kept, as pieces of its own, so that nothing is lost.

    Raises:
        TokenizerError: the expression is not valid.
    """
    if pattern is None:
        return _Uncut()
    names = ", ".join(map(repr, PATTERNS))
    if not isinstance(pattern, str):
        raise TokenizerError(f"expected pattern as one of {names}, None or a regular expression, got {pattern!r}")
    if pattern in PATTERNS:
        return _Scanner(pattern)
    if re.fullmatch(r"[\w-]*", pattern):  # as an expression it would match nothing but itself
        raise TokenizerError(f"unknown pattern name {pattern!r}; expected one of {names}, None or a regular expression")
    return _Expression(pattern)


def as_array(data: bytes) -> np.ndarray:
    """The bytes as uint8, not copied."""
    return np.frombuffer(data, dtype=np.uint8) if data else np.empty(0, dtype=np.uint8)


class _Uncut(Pretokenizer):
    def ends(self, data, limits):
        yield limits[np.diff(limits, prepend=0) > 0]


@cache
def _scan():
    from . import scan  # here: it loads Numba

    return scan


class _Scanner(Pretokenizer):
    def __init__(self, name: str) -> None:
        self._name = name

    def ends(self, data, limits):
        scan = _scan()
        kind = scan.KINDS[self._name]
        ends = np.empty(min(_BATCH, len(data) + 1), dtype=np.int64)
        segment = place = 0
        while segment < len(limits):
            count, segment, place = scan.scan_pieces(kind, data, limits, ends, segment, place)
            yield ends[:count]

    def safe_cut(self, text):
        scan = _scan()
        for start in {max(0, len(text) - _NEAR_END): None, 0: None}:  # the last place is usually near the end
            tail = text[start:]
            data = tail.encode("utf-8", "surrogateescape")
            cut = scan.last_cut(scan.KINDS[self._name], as_array(data))
            if cut:
                return start + (cut if tail.isascii() else len(data[:cut].decode("utf-8", "surrogateescape")))
        return 0


class _Expression(Pretokenizer):
    def __init__(self, pattern: str) -> None:
        import regex  # here, because the named patterns do without it

        try:
            self._compiled = regex.compile(pattern)
        except (regex.error, RecursionError, OverflowError) as error:
            raise TokenizerError(
                f"the pre-tokenisation pattern {pattern!r} is not a valid expression: {error}"
            ) from error

    def ends(self, data, limits):
        batch: list[int] = []
        place = 0
        for limit in limits.tolist():
            text = data[place:limit].tobytes().decode("utf-8", "surrogateescape")
            one_byte_each = text.isascii()
            start = 0
            for stop in self._cuts(text):
                place += stop - start if one_byte_each else len(text[start:stop].encode("utf-8", "surrogateescape"))
                start = stop
                batch.append(place)
                if len(batch) == _BATCH:
                    yield np.array(batch, dtype=np.int64)
                    batch = []
        yield np.array(batch, dtype=np.int64)

    def _cuts(self, text: str) -> Iterator[int]:
        """Where the pieces of a text end, in characters."""
        end = 0
        for match in self._compiled.finditer(without_younger(text)):
            start, stop = match.span()
            if start < end or start == stop:  # an empty match, or one of an expression that searches backwards
                continue
            if start > end:
                yield start
            yield stop
            end = stop
        if end < len(text):
            yield len(text)
