"""What every normaliser is (normalizers.py)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from .errors import TokenizerError

Piece = tuple[int, str]
"""How many characters of the input, and what they become: alignments are sequences of these."""

METASPACE = "\u2581"  # the block that stands for a space in SentencePiece's vocabularies


class Normalizer:
    """One step. ``local`` says that a text can be cut before a space that follows another character, and the parts
    normalised apart: what makes streaming and work by words possible."""

    local: ClassVar[bool] = True
    keeps_ascii: ClassVar[bool] = False  # whether a text of ASCII characters alone stays as it is
    beginning_needs_text: ClassVar[bool] = False

    def beginning(self, text: str, head: str) -> str:
        """What becomes of a text's head, its beginning that comes from the first character of the original: "" if
        what follows is no longer the beginning for Hugging Face. beginning_needs_text: head alone does not say so."""
        return self.apply(head)

    def apply(self, text: str) -> str:
        """The normalised text."""
        return "".join(output for _, output in self.pieces(text))

    def pieces(self, text: str) -> Iterator[Piece]:
        """The same, in pieces that say which characters they come from, in order and without gaps."""
        raise NotImplementedError


def check_text(*values: object) -> None:
    """Raise TokenizerError for a value that is no str."""
    for value in values:
        if not isinstance(value, str):
            raise TokenizerError(f"expected a normaliser's text as str, got {value!r}")
