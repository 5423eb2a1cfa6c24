"""Special tokens: which parts of a text may become control tokens, and which stay plain text.

Text that comes from outside must never be able to forge a control token such as ``<|endoftext|>``. So plain text is the
default here, and the caller names the exceptions, in one of two ways: by ``allowed_special`` for a whole text (the
argument names and the meaning of ``"all"`` follow tiktoken), or by building the input from spans.
"""

from __future__ import annotations

import operator
import re
import types
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .errors import SpecialTokenError

MAX_IDS = 1 << 24  # far above any vocabulary; without it, one wrong id in a file could ask for all the memory
Segment = str | int  # plain text to encode, or the id of a special token
ByteSegment = Segment | bytes  # or plain text as UTF-8


@dataclass(frozen=True, slots=True)
class Trusted:
    """One special token, written by the program itself: ``Trusted("<|endoftext|>")``.

    The text must be exactly the name of a special token; anything else raises SpecialTokenError at encoding.
    """

    text: str


@dataclass(frozen=True, slots=True)
class Untrusted:
    """Ordinary text. Whatever it contains, no special token comes out of it."""

    text: str | bytes


TextOrSpans = str | bytes | Sequence[Trusted | Untrusted]


def check_special_tokens(
    special_tokens: Iterable[str] | Mapping[str, int], first_id: int, free: Collection[int] = ()
) -> dict[str, int]:
    """Return the special tokens as a dict of name to id.

    Args:
        special_tokens: names in order, which get the ids first_id, first_id + 1, ...; or a mapping of name to id. No
            set: its order, and with it the ids, would change from one process to the next.
        first_id: from here on no id is taken by an ordinary token.
        free: ids below first_id that are not taken either; a mapping may name them.

    Raises:
        SpecialTokenError: a name is empty, not a str or given twice; an id is not free or given twice.
    """
    if isinstance(special_tokens, str):
        raise SpecialTokenError(
            f"expected special_tokens as a list of names, got the string {special_tokens!r}; write [{special_tokens!r}]"
        )
    if isinstance(special_tokens, set | frozenset):
        raise SpecialTokenError(
            f"expected special_tokens in an order, got the set {special_tokens!r}; write a list, or a mapping of name to id"
        )
    names = list(special_tokens)
    if isinstance(special_tokens, Mapping):
        ids = [as_integer(special_tokens[name]) for name in names]
    else:
        ids = list(range(first_id, first_id + len(names)))
    for name, token_id in zip(names, ids, strict=True):
        if not isinstance(name, str) or not name:
            raise SpecialTokenError(f"expected a special token's name as a non-empty string, got {name!r}")
        if any("\ud800" <= character <= "\udfff" for character in name):
            raise SpecialTokenError(f"special token {name!r} holds a lone surrogate; use text that UTF-8 can express")
        if token_id is None or not (first_id <= token_id < MAX_IDS or token_id in free):
            given = special_tokens[name] if isinstance(special_tokens, Mapping) else token_id
            raise SpecialTokenError(
                f"special token {name!r} has id {given!r}; expected an integer from {first_id} to {MAX_IDS - 1}, "
                "because the ids below belong to ordinary tokens"
            )
    if len(set(names)) < len(names) or len(set(ids)) < len(ids):
        raise SpecialTokenError(f"expected special tokens with distinct names and ids, got {names!r} with ids {ids!r}")
    return dict(zip(names, ids, strict=True))


def split_segments(
    text: TextOrSpans,
    special_tokens: Mapping[str, int],
    allowed_special: str | Collection[str],
    disallowed_special: str | Collection[str],
) -> list[Segment]:
    """Cut the input into plain text and special-token ids, applying the caller's allowance.

    Where several allowed special tokens match at one place, the longest wins.

    Raises:
        SpecialTokenError: unknown name, or disallowed text found.
        TypeError: the input is neither text nor a sequence of spans.
    """
    return split_by(SpecialRules(special_tokens, allowed_special, disallowed_special), text, special_tokens)


def split_byte_segments(
    text: TextOrSpans,
    special_tokens: Mapping[str, int],
    allowed_special: str | Collection[str],
    disallowed_special: str | Collection[str],
) -> list[ByteSegment]:
    """split_segments for encoders that work on bytes: a text in which nothing is looked for becomes UTF-8 at once.

    The check for surrogates makes the same bytes, so a str is gone through once in place of twice.
    """
    if not isinstance(text, str | bytes) or not (is_none(allowed_special) and is_none(disallowed_special)):
        rules = SpecialRules(special_tokens, allowed_special, disallowed_special)
        if rules.allowed or rules.disallowed or not isinstance(text, str | bytes):
            return list(split_by(rules, text, special_tokens))
    data = as_bytes(text)
    return [data] if data else []


def is_none(names: str | Collection[str]) -> bool:
    """Whether it is one of the defaults: of a short text, rules would take a quarter of the time."""
    return not names and isinstance(names, frozenset | tuple)


def split_by(rules: SpecialRules, text: TextOrSpans, special_tokens: Mapping[str, int]) -> list[Segment]:
    """split_segments by rules that are there already."""
    if isinstance(text, str | bytes):
        plain = as_text(text)
        rules.reject_disallowed(plain)
        return rules.split(plain)
    if isinstance(text, bytearray | memoryview) or not isinstance(text, Iterable):
        raise TypeError(f"expected str, bytes or a list of Trusted/Untrusted spans, got {type(text).__name__}")
    if rules.allowed:
        raise SpecialTokenError(
            "allowed_special is for plain text; in a list of spans, mark each special token as Trusted(name) instead"
        )
    segments: list[Segment] = []
    for span in _join_untrusted(text):
        if isinstance(span, Trusted):
            segments.append(_known_id(span.text, special_tokens))
        elif span:
            rules.reject_disallowed(span)
            segments += rules.split(span)
    return segments


class SpecialRules:
    """What the caller allows and forbids in plain text, checked once and applied to any number of texts.

    Args:
        special_tokens, allowed_special, disallowed_special: as for split_segments.
        added_tokens: text to id of the tokens that are found whatever the caller allows (added.py).

    Attributes:
        allowed: name to id of the special tokens to recognise.
        disallowed: the strings that must not occur.
    """

    def __init__(
        self,
        special_tokens: Mapping[str, int],
        allowed_special: str | Collection[str],
        disallowed_special: str | Collection[str],
        added_tokens: Mapping[str, int] = types.MappingProxyType({}),
    ) -> None:
        names = special_tokens.keys() if allowed_special == "all" else _names("allowed_special", allowed_special)
        self.allowed = {name: _known_id(name, special_tokens) for name in names}
        if disallowed_special == "all":
            self.disallowed = special_tokens.keys() - self.allowed.keys()
        else:
            self.disallowed = _names("disallowed_special", disallowed_special) - {""}
        self._found = {**self.allowed, **added_tokens}
        self._any_found = name_expression(self._found)

    @property
    def longest(self) -> int:
        """The length of the longest string that the rules look for; 0 if they look for none."""
        return max(map(len, [*self._found, *self.disallowed]), default=0)

    def reject_disallowed(self, text: str, position: int = 0) -> None:
        """Raise SpecialTokenError for the first disallowed string; position is that of the text in the whole input."""
        found = [(place, name) for name in self.disallowed if (place := text.find(name)) >= 0]
        if found:
            place, name = min(found)
            raise SpecialTokenError(
                f"the text holds {name!r} at position {position + place}, which disallowed_special forbids; pass it in "
                "allowed_special to encode it as a control token, or leave it out of disallowed_special for plain text"
            )

    def split(self, text: str) -> list[Segment]:
        """Plain texts, none of them empty, and the ids of the allowed names and added tokens between them."""
        if self._any_found is None:
            return [text] if text else []
        # re.split alternates: text, name, text, name, ..., text.
        parts = self._any_found.split(text)
        return [self._found[part] if n % 2 else part for n, part in enumerate(parts) if part]

    def end_of_last_name(self, text: str, limit: int) -> int:
        """Where the last name ends of those that split finds and that start before limit; 0 if none does."""
        end = 0
        for match in self._any_found.finditer(text) if self._any_found is not None else ():
            if match.start() >= limit:
                break
            end = match.end()
        return end


def name_expression(names: Iterable[str]) -> re.Pattern[str] | None:
    """An expression with one group that matches each name, the longest at each place; None if there is no name."""
    longest_first = sorted(names, key=len, reverse=True)
    return re.compile("(" + "|".join(map(re.escape, longest_first)) + ")") if longest_first else None


def as_integer(value: object) -> int | None:
    """A Python or NumPy integer as an int; None for anything else, truth values included."""
    try:
        return None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def as_text(text: str | bytes) -> str:
    """Return text in the one form that the encoders work on.

    Bytes that are not valid UTF-8 become surrogate escapes (PEP 383), which turn back into the same bytes on the way
    out. A str therefore must not hold surrogates of its own: surrogate pairs are joined and lone ones become U+FFFD,
    as tiktoken does, because UTF-8 has no form for them.
    """
    if isinstance(text, bytes):
        return text.decode("utf-8", "surrogateescape")
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def as_bytes(text: str | bytes) -> bytes:
    """as_text(text) in UTF-8."""
    if isinstance(text, bytes):
        return text
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return as_text(text).encode("utf-8")


def _join_untrusted(spans: Iterable[Trusted | Untrusted]) -> Iterable[Trusted | str]:
    """Neighbouring plain spans are joined: how the caller cut the text must not change its tokens."""
    run: list[str | bytes] = []
    for span in spans:
        if isinstance(span, Untrusted):
            if not isinstance(span.text, str | bytes):
                raise TypeError(f"expected str or bytes in Untrusted, got {type(span.text).__name__}")
            run.append(span.text)
        elif isinstance(span, Trusted):
            yield _joined(run)
            run = []
            yield span
        else:
            raise TypeError(f"expected Trusted or Untrusted spans in the list, got {span!r}; wrap text in Untrusted()")
    yield _joined(run)


def _joined(run: list[str | bytes]) -> str:
    if all(isinstance(part, str) for part in run):
        return as_text("".join(run))  # joined first: a surrogate pair may have been cut
    return as_text(b"".join(part if isinstance(part, bytes) else as_text(part).encode("utf-8") for part in run))


def _names(argument: str, value: Collection[str]) -> frozenset[str]:
    if isinstance(value, str):
        raise SpecialTokenError(
            f'expected {argument} as "all" or a set of names, got the string {value!r}; write {{{value!r}}}'
        )
    names = list(value) if isinstance(value, Iterable) else [value]
    for name in names:
        if not isinstance(name, str):
            raise SpecialTokenError(f'expected {argument} as "all" or a set of names, got {name!r}')
    return frozenset(names)


def _known_id(name: str, special_tokens: Mapping[str, int]) -> int:
    if not isinstance(name, str) or name not in special_tokens:
        known = ", ".join(map(repr, special_tokens)) or "none"
        raise SpecialTokenError(f"{name!r} is not a special token of this tokenizer; it has: {known}")
    return special_tokens[name]
