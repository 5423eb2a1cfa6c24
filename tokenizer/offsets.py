"""Where each token lies in the text that it came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .special import TextOrSpans, Trusted, Untrusted, as_text

if TYPE_CHECKING:
    from .preparation import Part


def joined_text(text: TextOrSpans) -> str | bytes:
    """The text whose positions the offsets count: the input itself, or the texts of its spans joined.

    Raises:
        TypeError: the spans hold both str and bytes, so that there is no common unit to count in.
    """
    if isinstance(text, str | bytes):
        return text
    parts = [span.text for span in text if isinstance(span, Trusted | Untrusted)]
    if any(isinstance(part, bytes) for part in parts):
        raise TypeError("expected spans of str for offsets, got bytes; decode them, or encode them apart")
    return "".join(parts)


def token_offsets(text: str | bytes, byte_lengths: np.ndarray) -> list[tuple[int, int]]:
    """(start, stop) of each token: in bytes of a bytes object, in characters of a str.

    A token that holds only some bytes of a character gets the whole character, so neighbours can overlap there.

    Args:
        text: what was encoded.
        byte_lengths: the number of bytes of each token; together they are the UTF-8 form of the text.
    """
    stops = np.cumsum(byte_lengths)
    return in_text(text, stops - byte_lengths, stops)


def in_text(text: str | bytes, starts: np.ndarray, stops: np.ndarray) -> list[tuple[int, int]]:
    """Ranges of bytes of the text's UTF-8 form as ranges of the text: its bytes, or the whole characters they touch."""
    if isinstance(text, str) and not text.isascii():
        first_bytes = _first_bytes(text)
        starts = np.searchsorted(first_bytes, starts, side="right") - 1
        stops = np.maximum(np.searchsorted(first_bytes, stops, side="left"), starts)  # an empty range stays empty
    return list(zip(starts.tolist(), stops.tolist(), strict=True))


def aligned_offsets(text: str | bytes, parts: Sequence[Part], byte_lengths: np.ndarray) -> list[tuple[int, int]]:
    """token_offsets where the text was normalised before it was encoded: a token gets the characters of the original
    that its own come from; for one that a normaliser put in, an empty range.

    Args:
        text: what was encoded.
        parts: that the tokens spell (preparation.py).
        byte_lengths: the number of bytes of each token.
    """
    widths = np.diff(byte_bounds("".join(part.text for part in parts)))
    begins = np.repeat(np.concatenate([np.empty(0, np.int64), *(part.starts for part in parts)]), widths)
    ends = np.repeat(np.concatenate([np.empty(0, np.int64), *(part.stops for part in parts)]), widths)
    stops = np.cumsum(byte_lengths)
    in_bytes = byte_bounds(as_text(text))
    return in_text(text, in_bytes[begins[stops - byte_lengths]], in_bytes[ends[stops - 1]])


def _first_bytes(text: str) -> np.ndarray:
    """The byte at which each character starts in UTF-8, with surrogates as special.as_text treats them."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    widths = 1 + (codes >= 0x80) + (codes >= 0x800) + (codes >= 0x10000)  # a lone surrogate becomes U+FFFD: three bytes
    high = (codes >= 0xD800) & (codes < 0xDC00)
    low = (codes >= 0xDC00) & (codes < 0xE000)
    pairs = np.flatnonzero(high[:-1] & low[1:])
    widths[pairs] = widths[pairs + 1] = 2  # a pair is one character of four bytes
    return np.cumsum(widths) - widths


def byte_bounds(text: str, escape_width: int = 1) -> np.ndarray:
    """Where each character begins in bytes, and where the last one ends; text as as_text gives it.

    The escape of a byte that was not UTF-8 stands for one byte of the input, and for three in what words.encoded gives.
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    widths = 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)
    widths[(codes >= 0xDC80) & (codes < 0xDD00)] = escape_width
    return np.concatenate([[0], np.cumsum(widths)])
