"""How GPT-2's files, and Hugging Face's after them, write bytes: each as one visible character.

A byte that is visible in Latin-1 is itself; the others take the characters from U+0100 on, in order. That is the order
of the ids in byte_order.py.
"""

from __future__ import annotations

from ..byte_order import BYTE_ORDER, VISIBLE_BYTES
from ..errors import FormatError

_HIDDEN = len(VISIBLE_BYTES)
CHARACTER_OF_BYTE = {
    value: chr(value) if number < _HIDDEN else chr(0x100 + number - _HIDDEN) for number, value in enumerate(BYTE_ORDER)
}
_BYTE_OF_CHARACTER = {character: value for value, character in CHARACTER_OF_BYTE.items()}
CHARACTERS = frozenset(_BYTE_OF_CHARACTER)


def to_characters(token: bytes) -> str:
    """The bytes as such a file writes them."""
    return "".join(map(CHARACTER_OF_BYTE.__getitem__, token))


def to_bytes(token: str) -> bytes:
    """The bytes that a file's token stands for. Raises FormatError for a character that stands for none."""
    try:
        return bytes(map(_BYTE_OF_CHARACTER.__getitem__, token))
    except KeyError as error:
        raise FormatError(
            f"token {token!r} holds the character {error}, which stands for no byte; is this a byte-level vocabulary?"
        ) from None
