"""The normalisers that tokenizers made by SentencePiece need: its map of characters, and what is done to spaces."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import ClassVar

from .character_classes import LazyTable, character_expression
from .charsmap import Charsmap
from .normalizer import METASPACE, Normalizer, Piece, check_text

_LONGEST_GRAPHEME = 5  # bytes


@dataclass(frozen=True)
class Precompiled(Normalizer):
    """The map of characters of a SentencePiece model (charsmap.py), as Hugging Face's tokenizers apply it.

    charsmap: the map in base64, as in tokenizer.json. What is looked up is each grapheme of at most 5 bytes, a letter
    with its accent say, and where that is not known each of its characters. Graphemes are those of the regex package:
    a mark that only one of it and the peer knows yet (both follow the newest Unicode) may stay where the peer drops it.
    """

    charsmap: str
    local: ClassVar[bool] = False  # the map may make spaces, or nothing, of anything
    beginning_needs_text: ClassVar[bool] = True

    def beginning(self, text, head):
        place = length = 0
        for taken, output in self.pieces(text):
            if place >= len(head):
                break
            place += taken
            length += len(output) if taken == 1 else min(len(output), 1)  # the rest comes from the second character
        # Where the beginning vanishes, the peer takes what follows for it.
        return self.apply(text)[: max(1, length)] if head else ""

    def __post_init__(self) -> None:
        _ = self._map  # says what is wrong with it

    @cached_property
    def _map(self) -> Charsmap:
        return Charsmap(self.charsmap)

    @cached_property
    def _characters(self) -> Mapping[int, str]:
        return LazyTable(lambda character: character if (found := self._map.get(character)) is None else found)

    def apply(self, text: str) -> str:
        if "\r\n" not in text and not any(map(_graphemes()[0].match, set(text))):  # each character is a grapheme
            return text.translate(self._characters)
        graphemes = _graphemes()[1].findall(text)
        distinct = dict.fromkeys(graphemes)
        for one in distinct:
            distinct[one] = "".join(output for _, output in self._pieces_of(one))
        return "".join(map(distinct.__getitem__, graphemes))

    def pieces(self, text: str) -> Iterator[Piece]:
        for one in _graphemes()[1].findall(text):
            yield from self._pieces_of(one)

    def _pieces_of(self, grapheme: str) -> Iterator[Piece]:
        if 1 < len(grapheme) and len(grapheme.encode("utf-8", "surrogatepass")) <= _LONGEST_GRAPHEME:
            if (found := self._map.get(grapheme)) is not None:
                yield len(grapheme), found
                return
        yield from ((1, character.translate(self._characters)) for character in grapheme)


@dataclass(frozen=True)
class CollapseSpaces(Normalizer):
    """Two or more spaces in a row become one string: Hugging Face's Replace with the expression " {2,}"."""

    content: str = " "

    def __post_init__(self) -> None:
        check_text(self.content)

    @property
    def local(self) -> bool:  # type: ignore[override]
        return self.content[:1] in (" ", METASPACE)

    beginning_needs_text: ClassVar[bool] = True

    def beginning(self, text, head):
        spaces = len(text) - len(text.lstrip(" "))
        return "" if spaces > 1 and spaces > len(head) else self.apply(head)  # as for Replace

    def apply(self, text: str) -> str:
        return re.sub(" {2,}", lambda _: self.content, text)

    def pieces(self, text: str) -> Iterator[Piece]:
        for part in re.findall(" {2,}|[^ ]+| ", text):
            if part[0] == " " and len(part) > 1:
                yield len(part), self.content
            else:
                yield from ((1, character) for character in part)


@dataclass(frozen=True)
class WhitespaceSplit(Normalizer):
    """One space before each word, and no other white space: before Metaspace it does what the pre-tokenizers
    WhitespaceSplit and Metaspace do one after the other. A word that begins with "\u2581" gets no space."""

    def pieces(self, text: str) -> Iterator[Piece]:
        space = character_expression("WHITE_SPACE")
        within = False
        for character in text:
            if space.match(character):
                within = False
                yield 1, ""
                continue
            if not within and character != METASPACE:
                yield 0, " "
            within = True
            yield 1, character

    def apply(self, text: str) -> str:
        words = filter(None, character_expression("WHITE_SPACE").sub(" ", text).split(" "))
        return "".join([word if word[0] == METASPACE else " " + word for word in words])


@cache
def _graphemes() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What makes graphemes of several characters but CRLF (those of Hangul are too long to matter), and a grapheme."""
    import regex  # here: few tokenizers need it

    kinds = "".join(rf"\p{{GCB={name}}}" for name in ("Extend", "ZWJ", "SpacingMark", "Prepend"))
    return regex.compile(f"[{kinds}]"), regex.compile(r"\X")
