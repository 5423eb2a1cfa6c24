"""The errors of this package: one root, one class per thing that can go wrong.

Every message says what was expected, what came instead, and what to do about it.
"""

from __future__ import annotations


class TokenizerError(ValueError):
    """Root of every error that this package raises on purpose."""


class UnknownCharacterError(TokenizerError):
    """A character tokenizer without byte fallback met a character outside its vocabulary.

    Attributes:
        character: the character (for undecodable input bytes: the surrogate escape that stands for the byte).
        code_point: its Unicode code point.
        position: its index, in characters, in the text that was passed in.
    """

    def __init__(self, character: str, position: int) -> None:
        self.character = character
        self.code_point = ord(character)
        self.position = position
        super().__init__(character, position)

    def __str__(self) -> str:
        if 0xDC80 <= self.code_point <= 0xDCFF:
            what = f"byte 0x{self.code_point - 0xDC00:02X} (not valid UTF-8)"
        else:
            what = f"character {self.character!r} (U+{self.code_point:04X})"
        return (
            f"{what} at position {self.position} is not in the vocabulary; "
            "train on text that contains it, or build the tokenizer with byte_fallback=True"
        )


class TokenIdError(TokenizerError):
    """An id passed to decode or token_bytes is not an id of this tokenizer."""


class SpecialTokenError(TokenizerError):
    """A special token is unknown, badly declared, or stands in text where the caller disallowed it."""


class TrainingError(TokenizerError):
    """Training cannot start: no text, or a vocabulary size that leaves no room for the base tokens."""


class FormatError(TokenizerError):
    """A tokenizer file or dictionary is malformed, or of another format, kind or version."""
