"""What an explanation consists of: a text in pieces, pieces in tokens, and the steps that made each."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from .bpe_steps import MergeStep
from .normalizer import Normalizer
from .visible import visible


@dataclass(frozen=True)
class ExplainedToken:
    """A token of the text.

    Attributes:
        token_id, token: its id and its bytes, or the name that the vocabulary has for it, in UTF-8.
        start, stop: where it lies in the text, in characters; a part of a character has the whole one.
        steps: the merges that made it, in order.
        note: in words, what the steps do not say of it at this place; "" for nothing.
    """

    token_id: int
    token: bytes
    start: int
    stop: int
    steps: tuple[MergeStep, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Piece:
    """A part of the text within which tokens are made, and which none crosses.

    Attributes:
        start, stop: in characters.
        rule: what cut it out, as an expression; "" where there is none.
        note: the same in words.
        special: whether it is a special token.
    """

    start: int
    stop: int
    rule: str
    note: str
    tokens: tuple[ExplainedToken, ...]
    special: bool = False


@dataclass(frozen=True)
class Explanation:
    """A text and its tokens.

    Attributes:
        about: sentences on the tokenizer and on the text as a whole.
        text: with bytes that are no UTF-8 as surrogate escapes.
    """

    about: tuple[str, ...]
    text: str
    pieces: tuple[Piece, ...]

    @property
    def tokens(self) -> list[ExplainedToken]:
        return [token for piece in self.pieces for token in piece.tokens]


def token_piece(token_id: int, name: str, start: int, stop: int, special: bool) -> Piece:
    """A special token that the caller allowed, or an added token, as a piece of its own."""
    note = "a special token, which the caller allowed here" if special else "an added token, found in any text"
    return Piece(start, stop, "", note, (ExplainedToken(token_id, name.encode("utf-8"), start, stop),), special)


def made_of(text: str, original: str, start: int, stop: int) -> str:
    """A note on what stands from start to stop in the original, if normalisation made another text of it."""
    before = original[start:stop]
    if before == text:
        return ""
    note = f"normalised to {visible(text)}"
    if unicodedata.normalize("NFC", before) == unicodedata.normalize("NFC", text):  # the eye sees no difference
        note += f" ({len(before):,} code points, now {len(text):,})"
    return note


def names_of(normalizers: Iterable[Normalizer]) -> str:
    """The normalisers by name, in order."""
    return ", ".join(getattr(step, "form", type(step).__name__) for step in normalizers)
