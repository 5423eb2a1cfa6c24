"""Normalisers: what is done to a text before it is cut into words, each with the way back to the original's positions.

Small immutable values, named after the components of Hugging Face's tokenizer.json, whose results they have. A few
facts hold for all: they never see special tokens, ``str`` in and ``str`` out, and bytes that were not UTF-8 are there
as surrogate escapes (special.as_text). Their tables of characters (normalizer_tables.py) do not change with Python.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import ClassVar

from . import normalizer_tables as tables
from .character_classes import LazyTable, character_class, character_expression, table_of
from .errors import TokenizerError
from .normalizer import METASPACE, Normalizer, Piece, check_text
from .sentencepiece_steps import CollapseSpaces, Precompiled, WhitespaceSplit

__all__ = [
    "METASPACE",
    "Bert",
    "CollapseSpaces",
    "Lowercase",
    "Metaspace",
    "Normalizer",
    "Precompiled",
    "Prepend",
    "Replace",
    "Strip",
    "StripAccents",
    "Unicode",
    "WhitespaceSplit",
]

_LONG_RUN = 100  # marks


@dataclass(frozen=True)
class Unicode(Normalizer):
    """One of Unicode's normal forms: "NFC", "NFD", "NFKC", "NFKD" (Unicode Standard Annex 15).

    Characters that the peers' tables do not know (about Unicode 9) stay as they are, and nothing moves across them.
    """

    form: str
    keeps_ascii: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.form not in ("NFC", "NFD", "NFKC", "NFKD"):
            raise TokenizerError(f"expected a normal form among NFC, NFD, NFKC and NFKD, got {self.form!r}")

    def apply(self, text: str) -> str:
        # Parts of a text in a normal form are in it, too, so what is one between the younger characters stays one.
        if text.isascii() or unicodedata.is_normalized(self.form, text):
            return text
        younger = character_expression("YOUNGER")
        if not any(map(younger.match, set(text))):  # each distinct character once: 50 times as fast as a search
            return _normal_form(self.form, text)
        parts = younger.split(text)
        parts[::2] = [_normal_form(self.form, part) for part in parts[::2]]
        return "".join(parts)

    def pieces(self, text: str) -> Iterator[Piece]:
        start = 0
        for stop in range(1, len(text) + 1):
            if stop == len(text) or not _joins_backwards(text[stop]):
                before, after = text[start:stop], self.apply(text[start:stop])
                if before == after:  # each mark, say, has its own place
                    yield from ((1, character) for character in before)
                else:
                    yield stop - start, after
                start = stop

    def last_border(self, text: str) -> int:
        """The last place within text that nothing is joined or moved across, whatever follows; 0 if there is none."""
        return next((place for place in range(len(text) - 1, 0, -1) if not _joins_backwards(text[place])), 0)


def _normal_form(form: str, text: str) -> str:
    """unicodedata.normalize, which takes quadratic time to sort a long run of marks: such a run is sorted before."""
    decomposed = "NFKD" if form in ("NFKC", "NFKD") else "NFD"
    marks = {character for character in set(text) if _is_sorted(decomposed, character)}
    if sum(map(text.count, marks)) >= _LONG_RUN:
        run = re.compile(f"[{''.join(map(re.escape, sorted(marks)))}]{{{_LONG_RUN},}}")
        text = run.sub(lambda found: _in_order(decomposed, found[0]), text)
    return unicodedata.normalize(form, text)


def _in_order(decomposed: str, run: str) -> str:
    parts = "".join([unicodedata.normalize(decomposed, character) for character in run])
    return "".join(sorted(parts, key=unicodedata.combining))  # stable, as the canonical order is


@cache
def _is_sorted(decomposed: str, character: str) -> bool:
    """Whether the normal form moves it past its neighbours, by the combining class."""
    return unicodedata.combining(unicodedata.normalize(decomposed, character)[0]) > 0


@cache
def _joins_backwards(character: str) -> bool:
    """Whether normalisation may join or reorder it with what stands before it: marks, and the later parts of Hangul."""
    first = unicodedata.normalize("NFKD", character)[0]
    return unicodedata.category(first)[0] == "M" or "\u1160" <= first <= "\u11ff"


class _CharacterMap(Normalizer):
    """Each character becomes a string of its own, wherever it stands."""

    @property
    def table(self) -> Mapping[int, str]:
        raise NotImplementedError

    def apply(self, text: str) -> str:
        return text.translate(self.table)

    def pieces(self, text: str) -> Iterator[Piece]:
        return ((1, character.translate(self.table)) for character in text)


@dataclass(frozen=True)
class Lowercase(_CharacterMap):
    """Lower case, one character at a time: a capital sigma at the end of a word becomes a plain small one."""

    @property
    def table(self) -> Mapping[int, str]:
        return _lower_table()


@dataclass(frozen=True)
class StripAccents(_CharacterMap):
    """Removes combining marks. Put NFD before it, which parts them from their letters."""

    keeps_ascii: ClassVar[bool] = True

    @property
    def table(self) -> Mapping[int, str]:
        return table_of("COMBINING_MARK", "")


@dataclass(frozen=True)
class Prepend(Normalizer):
    """Puts a string before a text that is not empty."""

    prepend: str

    def __post_init__(self) -> None:
        check_text(self.prepend)

    def pieces(self, text: str) -> Iterator[Piece]:
        if text:
            yield 0, self.prepend
            yield from ((1, character) for character in text)


@dataclass(frozen=True)
class Metaspace(Normalizer):
    """Spaces become "\u2581", and one more is put before a text that does not begin with it.

    scheme: "always"; "first", at the beginning of the whole input only, not after a special token; or "never".
    """

    scheme: str = "always"

    def __post_init__(self) -> None:
        if self.scheme not in ("always", "first", "never"):
            raise TokenizerError(f'expected the scheme as "always", "first" or "never", got {self.scheme!r}')

    def pieces(self, text: str) -> Iterator[Piece]:
        if self.scheme != "never" and text and text[0] not in (" ", METASPACE):
            yield 0, METASPACE
        yield from ((1, METASPACE if character == " " else character) for character in text)

    def apply(self, text: str) -> str:
        text = text.replace(" ", METASPACE)
        return METASPACE + text if self.scheme != "never" and text and text[0] != METASPACE else text


@dataclass(frozen=True)
class Replace(Normalizer):
    """Each occurrence of a string becomes another one, from left to right."""

    pattern: str
    content: str

    def __post_init__(self) -> None:
        check_text(self.pattern, self.content)
        if not self.pattern:
            raise TokenizerError("Replace needs a pattern that is not empty")

    @property
    def local(self) -> bool:  # type: ignore[override]
        spaces = (" ", METASPACE)
        if re.search(f"[^ {METASPACE}][ {METASPACE}]", self.pattern):  # the space may be a metaspace by now
            return False
        # A space stays one at the beginning, and the end of what is no space stays something else.
        if self.pattern[0] in spaces:
            return self.content[:1] in spaces
        return self.content[-1:] not in ("", *spaces)

    @property
    def beginning_needs_text(self) -> bool:  # type: ignore[override]
        return len(self.pattern) > 1

    def beginning(self, text, head):
        # The peer says that what replaces several characters comes from the last of them.
        return "" if len(self.pattern) > len(head) and text.startswith(self.pattern) else self.apply(head)

    def apply(self, text: str) -> str:
        return text.replace(self.pattern, self.content)

    def pieces(self, text: str) -> Iterator[Piece]:
        for number, part in enumerate(text.split(self.pattern)):
            if number:
                yield len(self.pattern), self.content
            yield from ((1, character) for character in part)


@dataclass(frozen=True)
class Strip(Normalizer):
    """Removes white space at the beginning, at the end, or both."""

    left: bool = True
    right: bool = True
    local: ClassVar[bool] = False
    beginning_needs_text: ClassVar[bool] = True

    def beginning(self, text, head):
        return Strip(right=False).apply(head) if self.left else head

    def pieces(self, text: str) -> Iterator[Piece]:
        space = character_expression("WHITE_SPACE")
        first, last = 0, len(text)
        while self.left and first < last and space.match(text, first):
            first += 1
        while self.right and first < last and space.match(text, last - 1):
            last -= 1
        for place, character in enumerate(text):
            yield 1, character if first <= place < last else ""


@dataclass(frozen=True)
class Bert(Normalizer):
    """What BERT does (Devlin et al. 2019, arXiv:1810.04805): up to four steps, in this order.

    clean_text: control characters, U+FFFD and bytes that were not UTF-8 are removed, white space becomes U+0020;
    handle_chinese_chars: a space before and after each CJK ideograph; strip_accents: NFD, then without the marks
    (None: as lowercase says); lowercase.
    """

    clean_text: bool = True
    handle_chinese_chars: bool = True
    strip_accents: bool | None = None
    lowercase: bool = True

    @cached_property
    def steps(self) -> tuple[Normalizer, ...]:
        accents = self.lowercase if self.strip_accents is None else self.strip_accents
        return (
            *([_BertClean()] if self.clean_text else []),
            *([_BertChinese()] if self.handle_chinese_chars else []),
            *([Unicode("NFD"), _BertAccents()] if accents else []),
            *([Lowercase()] if self.lowercase else []),
        )

    def apply(self, text: str) -> str:
        for step in self.steps:
            text = step.apply(text)
        return text


class _BertClean(_CharacterMap):
    @property
    def table(self) -> Mapping[int, str]:
        return _clean_table()


class _BertChinese(_CharacterMap):
    @property
    def table(self) -> Mapping[int, str]:
        return table_of("BERT_CHINESE", " {} ")


class _BertAccents(_CharacterMap):
    @property
    def table(self) -> Mapping[int, str]:
        return table_of("BERT_ACCENT", "")


@cache
def _clean_table() -> Mapping[int, str]:
    removed = re.compile(f"[{character_class('BERT_REMOVED')}\udc80-\udcff]")
    space = character_expression("BERT_SPACE")
    return LazyTable(lambda c: "" if removed.match(c) else " " if space.match(c) else c)


@cache
def _lower_table() -> Mapping[int, str]:
    table = {0x130: "i\u0307"}
    for word in tables.LOWER.split():
        first, last, step, sign, distance = re.fullmatch(r"(\w+)-(\w+)/(\d)([+-])(\w+)", word).groups()
        shift = int(sign + distance, 16)
        for code in range(int(first, 16), int(last, 16) + 1, int(step)):
            table[code] = chr(code + shift)
    return table
