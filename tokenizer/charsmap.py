"""The map of characters that a SentencePiece model carries: what its normaliser puts in place of which string.

The bytes are those of "precompiled_charsmap" in a model and in tokenizer.json: the size of a trie in bytes as uint32, the
trie, and then the strings that are put in, each ended by a zero byte. The trie is a double array (Aoe 1989, "An efficient
digital search algorithm by using a double-array structure") in the units of 32 bits of the library Darts-clone: a label,
whether a string ends here, and the offset to the children, whose places are the offset xor their byte.
"""

from __future__ import annotations

import base64
import binascii

import numpy as np

from .errors import TokenizerError

_ENDS = 1 << 8
_LABEL = 1 << 31 | 0xFF
_VALUE = (1 << 31) - 1


class Charsmap:
    """Args: encoded, the map's bytes in base64. Raises TokenizerError if they are no such map."""

    def __init__(self, encoded: str) -> None:
        try:
            data = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError, TypeError) as error:
            raise TokenizerError(f"expected the charsmap in base64, found something else ({error})") from error
        size = int.from_bytes(data[:4], "little")
        if len(data) < 4 or size % 4 or not 4 <= size <= len(data) - 4:
            raise TokenizerError(f"the charsmap of {len(data)} bytes is cut off: it names a trie of {size} bytes")
        self._units = np.frombuffer(data, dtype="<u4", count=size // 4, offset=4).tolist()
        self._strings = data[4 + size :]
        try:
            self._strings.decode("utf-8")
        except UnicodeDecodeError as error:
            raise TokenizerError(f"the strings of the charsmap are not UTF-8: {error}") from error

    def get(self, text: str) -> str | None:
        """What stands for the shortest beginning of the text that the map knows; None if it knows none."""
        units = self._units
        place = _offset(units[0])
        for byte in text.encode("utf-8", "surrogatepass"):
            place ^= byte
            if not byte or place >= len(units) or units[place] & _LABEL != byte:
                return None
            unit = units[place]
            place ^= _offset(unit)
            if unit & _ENDS:
                if place >= len(units):
                    return None
                start = units[place] & _VALUE
                stop = self._strings.find(b"\0", start)
                return self._strings[start : stop if stop >= 0 else None].decode("utf-8", "replace")
        return None


def _offset(unit: int) -> int:
    """Bits 10 to 30, shifted by 8 more if bit 9 is set."""
    return (unit >> 10) << ((unit & 1 << 9) >> 6)
