"""Special tokens: which parts of a text may become control tokens, and which stay plain text.

Text that comes from outside must never be able to forge a control token such as ``<|endoftext|>``. So plain text is the
default here, and the caller names the exceptions, in one of two ways: by ``allowed_special`` for a whole text (the
argument names and the meaning of ``"all"`` follow tiktoken), or by building the input from spans.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .errors import SpecialTokenError

MAX_IDS = 1 << 24  # far above any vocabulary; without it, one wrong id in a file could ask for all the memory
Segment = str | int  # plain text to encode, or the id of a special token


@dataclass(frozen=True, slots=True)
class Trusted:
    """One special token, written by the program itself: ``Trusted("<|endoftext|>")``.

    The text must be exactly the name of a special token; anything else raises SpecialTokenError at encoding.
    """

    text: str


@dataclass(frozen=True, slots=True)
class Untrusted:
    """Ordinary text. Whatever it contains, no special token comes out of it."""

    text: str


TextOrSpans = str | bytes | Sequence[Trusted | Untrusted]


def check_special_tokens(special_tokens: Iterable[str] | Mapping[str, int], first_id: int) -> dict[str, int]:
    """Return the special tokens as a dict of name to id.

    Args:
        special_tokens: names in order, which get the ids first_id, first_id + 1, ...; or a mapping of name to id.
        first_id: the first id that is not taken by an ordinary token.

    Raises:
        SpecialTokenError: a name is empty, not a str or given twice; an id is not free or given twice.
    """
    if isinstance(special_tokens, str):
        raise SpecialTokenError(
            f"expected special_tokens as a list of names, got the string {special_tokens!r}; write [{special_tokens!r}]"
        )
    is_mapping = isinstance(special_tokens, Mapping)
    names = list(special_tokens)
    ids = [special_tokens[name] for name in names] if is_mapping else list(range(first_id, first_id + len(names)))
    for name, token_id in zip(names, ids, strict=True):
        if not isinstance(name, str) or not name:
            raise SpecialTokenError(f"expected a special token's name as a non-empty string, got {name!r}")
        if any("\ud800" <= character <= "\udfff" for character in name):
            raise SpecialTokenError(f"special token {name!r} holds a lone surrogate; use text that UTF-8 can express")
        if not isinstance(token_id, int) or isinstance(token_id, bool) or not first_id <= token_id < MAX_IDS:
            raise SpecialTokenError(
                f"special token {name!r} has id {token_id!r}; expected an integer from {first_id} to {MAX_IDS - 1}, "
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
    if isinstance(text, str | bytes):
        plain = as_text(text)
        allowed = _allowed_names(allowed_special, special_tokens)
        _reject_disallowed(plain, special_tokens, allowed, disallowed_special)
        return _split_at_names(plain, {name: special_tokens[name] for name in allowed})
    if isinstance(text, bytearray | memoryview) or not isinstance(text, Iterable):
        raise TypeError(f"expected str, bytes or a list of Trusted/Untrusted spans, got {type(text).__name__}")
    if allowed_special:
        raise SpecialTokenError(
            "allowed_special is for plain text; in a list of spans, mark each special token as Trusted(name) instead"
        )
    segments: list[Segment] = []
    for span in _join_untrusted(text):
        if isinstance(span, Trusted):
            segments.append(_known_id(span.text, special_tokens))
        else:
            _reject_disallowed(span, special_tokens, frozenset(), disallowed_special)
            segments.append(span)
    return segments


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


def _join_untrusted(spans: Iterable[Trusted | Untrusted]) -> Iterable[Trusted | str]:
    """Neighbouring plain spans are joined: how the caller cut the text must not change its tokens."""
    run: list[str] = []
    for span in spans:
        if isinstance(span, Untrusted):
            run.append(span.text)
        elif isinstance(span, Trusted):
            if run:
                yield as_text("".join(run))
                run = []
            yield span
        else:
            raise TypeError(f"expected Trusted or Untrusted spans in the list, got {span!r}; wrap text in Untrusted()")
    if run:
        yield as_text("".join(run))


def _allowed_names(allowed_special: str | Collection[str], special_tokens: Mapping[str, int]) -> frozenset[str]:
    if isinstance(allowed_special, str):
        if allowed_special != "all":
            raise SpecialTokenError(_not_a_set("allowed_special", allowed_special))
        return frozenset(special_tokens)
    for name in allowed_special:
        _known_id(name, special_tokens)
    return frozenset(allowed_special)


def _reject_disallowed(
    text: str, special_tokens: Mapping[str, int], allowed: frozenset[str], disallowed_special: str | Collection[str]
) -> None:
    if isinstance(disallowed_special, str):
        if disallowed_special != "all":
            raise SpecialTokenError(_not_a_set("disallowed_special", disallowed_special))
        disallowed: Collection[str] = special_tokens.keys() - allowed
    else:
        disallowed = disallowed_special
    for name in disallowed:
        position = text.find(name) if name else -1
        if position >= 0:
            raise SpecialTokenError(
                f"the text holds {name!r} at position {position}, which disallowed_special forbids; pass it in "
                "allowed_special to encode it as a control token, or leave it out of disallowed_special for plain text"
            )


def _split_at_names(text: str, ids: Mapping[str, int]) -> list[Segment]:
    if not ids:
        return [text] if text else []
    longest_first = sorted(ids, key=len, reverse=True)
    parts = re.split("(" + "|".join(map(re.escape, longest_first)) + ")", text)
    # re.split alternates: text, name, text, name, ..., text.
    return [ids[part] if odd else part for odd, part in ((n % 2, part) for n, part in enumerate(parts)) if part]


def _known_id(name: str, special_tokens: Mapping[str, int]) -> int:
    try:
        return special_tokens[name]
    except KeyError:
        known = ", ".join(map(repr, special_tokens)) or "none"
        raise SpecialTokenError(f"{name!r} is not a special token of this tokenizer; it has: {known}") from None


def _not_a_set(argument: str, value: str) -> str:
    return f'expected {argument} as "all" or a set of names, got the string {value!r}; write {{{value!r}}}'
