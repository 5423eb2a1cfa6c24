"""Normalisers: what is done to a text before it is cut into words, each with the way back to the original's positions.

Small immutable values, named after the components of Hugging Face's tokenizer.json, whose results they have. A few
facts hold for all: they never see special tokens, ``str`` in and ``str`` out, and bytes that were not UTF-8 are there
as surrogate escapes (special.as_text). Their tables of characters (normalizer_tables.py) do not change with Python.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import ClassVar

from . import normalizer_tables as tables
from .charsmap import Charsmap
from .errors import TokenizerError

Piece = tuple[int, str]
"""How many characters of the input, and what they become: alignments are sequences of these."""

_LONG_RUN = 100  # marks
_LONGEST_GRAPHEME = 5  # bytes
METASPACE = "\u2581"  # the block that stands for a space in SentencePiece's vocabularies


class Normalizer:
    """One step. ``local`` says that a text can be cut before a space that follows another character, and the parts
    normalised apart: what makes streaming and work by words possible."""

    local: ClassVar[bool] = True
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


@dataclass(frozen=True)
class Unicode(Normalizer):
    """One of Unicode's normal forms: "NFC", "NFD", "NFKC", "NFKD" (Unicode Standard Annex 15).

    Characters that the peers' tables do not know (about Unicode 9) stay as they are, and nothing moves across them.
    """

    form: str

    def __post_init__(self) -> None:
        if self.form not in ("NFC", "NFD", "NFKC", "NFKD"):
            raise TokenizerError(f"expected a normal form among NFC, NFD, NFKC and NFKD, got {self.form!r}")

    def apply(self, text: str) -> str:
        if text.isascii():
            return text
        younger = _class("YOUNGER")
        if not any(map(younger.match, set(text))):  # each distinct character once: 50 times as fast as a search
            return _normal_form(self.form, text)
        parts = younger.split(text)
        parts[::2] = [_normal_form(self.form, part) for part in parts[::2]]
        return "".join(parts)

    def pieces(self, text: str) -> Iterator[Piece]:
        start = 0
        for stop in range(1, len(text) + 1):
            if stop == len(text) or not _joins_backwards(text[stop]):
                yield stop - start, self.apply(text[start:stop])
                start = stop


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


def _check_text(*values: object) -> None:
    for value in values:
        if not isinstance(value, str):
            raise TokenizerError(f"expected a normaliser's text as str, got {value!r}")


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

    @property
    def table(self) -> Mapping[int, str]:
        return _table_of("COMBINING_MARK", "")


@dataclass(frozen=True)
class Prepend(Normalizer):
    """Puts a string before a text that is not empty."""

    prepend: str

    def __post_init__(self) -> None:
        _check_text(self.prepend)

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
        _check_text(self.pattern, self.content)
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
        space = _class("WHITE_SPACE")
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
        return _LazyTable(lambda character: character if (found := self._map.get(character)) is None else found)

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
        _check_text(self.content)

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
        space = _class("WHITE_SPACE")
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
        words = filter(None, _class("WHITE_SPACE").sub(" ", text).split(" "))
        return "".join([word if word[0] == METASPACE else " " + word for word in words])


@cache
def _graphemes() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What makes graphemes of several characters but CRLF (those of Hangul are too long to matter), and a grapheme."""
    import regex  # here: few tokenizers need it

    kinds = "".join(rf"\p{{GCB={name}}}" for name in ("Extend", "ZWJ", "SpacingMark", "Prepend"))
    return regex.compile(f"[{kinds}]"), regex.compile(r"\X")


class _BertClean(_CharacterMap):
    @property
    def table(self) -> Mapping[int, str]:
        return _clean_table()


class _BertChinese(_CharacterMap):
    @property
    def table(self) -> Mapping[int, str]:
        return _table_of("BERT_CHINESE", " {} ")


class _BertAccents(_CharacterMap):
    @property
    def table(self) -> Mapping[int, str]:
        return _table_of("BERT_ACCENT", "")


def character_class(*names: str) -> str:
    """The inside of a regular expression's [...] for the ranges of these tables."""
    found = []
    for name in names:
        for first, last in parse_ranges(getattr(tables, name)):
            found.append(f"{re.escape(chr(first))}-{re.escape(chr(last))}")
    return "".join(found)


def parse_ranges(text: str) -> Iterator[tuple[int, int]]:
    """(first, last) of each range in a table's text."""
    for word in text.split():
        first, _, last = word.partition("-")
        yield int(first, 16), int(last or first, 16)


@cache
def _class(name: str) -> re.Pattern[str]:
    return re.compile(f"([{character_class(name)}])")


class _LazyTable(dict[int, str]):
    """For str.translate: asks once for each character it meets, so that a class of 137,000 takes no memory."""

    def __init__(self, find: Callable[[str], str]) -> None:
        self._find = find

    def __missing__(self, code: int) -> str:
        self[code] = result = self._find(chr(code))
        return result


@cache
def _table_of(name: str, form: str) -> Mapping[int, str]:
    """The characters of a class take this form, with {} for themselves."""
    inside = _class(name)
    return _LazyTable(lambda character: form.format(character) if inside.match(character) else character)


@cache
def _clean_table() -> Mapping[int, str]:
    removed = re.compile(f"[{character_class('BERT_REMOVED')}\udc80-\udcff]")
    space = _class("BERT_SPACE")
    return _LazyTable(lambda c: "" if removed.match(c) else " " if space.match(c) else c)


@cache
def _lower_table() -> Mapping[int, str]:
    table = {0x130: "i\u0307"}
    for word in tables.LOWER.split():
        first, last, step, sign, distance = re.fullmatch(r"(\w+)-(\w+)/(\d)([+-])(\w+)", word).groups()
        shift = int(sign + distance, 16)
        for code in range(int(first, 16), int(last, 16) + 1, int(step)):
            table[code] = chr(code + shift)
    return table
