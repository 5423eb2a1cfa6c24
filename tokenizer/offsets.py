"""Where each token lies in the text that it came from."""

from __future__ import annotations

import numpy as np

from .special import TextOrSpans, Trusted, Untrusted


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


def _first_bytes(text: str) -> np.ndarray:
    """The byte at which each character starts in UTF-8, with surrogates as special.as_text treats them."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    widths = 1 + (codes >= 0x80) + (codes >= 0x800) + (codes >= 0x10000)  # a lone surrogate becomes U+FFFD: three bytes
    high = (codes >= 0xD800) & (codes < 0xDC00)
    low = (codes >= 0xDC00) & (codes < 0xE000)
    pairs = np.flatnonzero(high[:-1] & low[1:])
    widths[pairs] = widths[pairs + 1] = 2  # a pair is one character of four bytes
    return np.cumsum(widths) - widths
