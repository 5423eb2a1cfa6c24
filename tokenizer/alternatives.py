"""Which alternative of a pre-tokenisation pattern cut out a piece, and what it is in words."""

from __future__ import annotations

import re
from functools import cache

from .patterns import PATTERNS, over_committed_classes

_WORD = "a word, with the one sign before it that is neither letter, number nor line break"

IN_WORDS = {
    # gpt2
    r"'(?:[sdmt]|ll|ve|re)": "the ending of a contraction, as in don't",
    r" ?\p{L}+": "letters, with the space before them",
    r" ?\p{N}+": "digits, with the space before them",
    r" ?[^\s\p{L}\p{N}]+": "other signs, with the space before them",
    r"\s+(?!\S)": "white space, but for its last character where something follows",
    r"\s+": "white space",
    # cl100k
    r"'(?i:[sdmt]|ll|ve|re)": "the ending of a contraction, as in don't",
    r"[^\r\n\p{L}\p{N}]?+\p{L}++": _WORD,
    r"\p{N}{1,3}+": "up to three digits",
    r" ?[^\s\p{L}\p{N}]++[\r\n]*+": "other signs, with the space before them and the line breaks after them",
    r"\s++\Z": "white space at the end of the text",
    r"\s*[\r\n]": "white space up to a line break",
    r"\s": "one character of white space",
    # o200k
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?":
        f"{_WORD}: capitals, then small letters, and the ending of a contraction",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?":
        f"{_WORD}: capitals, and the ending of a contraction",
    r"\p{N}{1,3}": "up to three digits",
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*": "other signs, with the space before them and the line breaks and slashes after them",
    r"\s*[\r\n]+": "white space up to the last line break",
}  # fmt: skip
"""The alternatives of the named patterns."""

_FLAGS = re.compile(r"(?:\(\?[a-zA-Z01]+\))*")  # that hold for the whole expression


def split_alternatives(pattern: str) -> list[str]:
    """The parts between the ``|`` that stand outside of every group and class; flags at the start go to each."""
    prefix = _FLAGS.match(pattern).group()
    parts = []
    start = position = first = len(prefix)
    depth = 0
    in_class = False
    while position < len(pattern):
        sign = pattern[position]
        if sign == "\\":
            position += 1
        elif in_class:
            in_class = sign != "]" or position == first
        elif sign == "[":
            in_class = True
            first = position + (2 if pattern[position + 1 : position + 2] == "^" else 1)  # where "]" is itself a member
        elif sign in "()":
            depth += 1 if sign == "(" else -1
        elif sign == "|" and depth == 0:
            parts.append(prefix + pattern[start:position])
            start = position + 1
        position += 1
    return [*parts, prefix + pattern[start:]]


def matching_alternative(pattern: str, text: str, start: int, stop: int) -> str | None:
    """The alternative that matches from start to stop, and before which none matches at start; None if there is none.

    That is the one which cut the piece: an alternation takes the first alternative that matches. The pattern is a name
    of patterns.PATTERNS or an expression.
    """
    for expression, alternative in _compiled(pattern):
        found = expression.match(text, start)
        if found is not None and found.end() > start:
            return alternative if found.end() == stop else None
    return None


@cache
def _compiled(pattern: str) -> list[tuple]:
    import regex  # here, since importing the package does without it

    compiled = over_committed_classes if pattern in PATTERNS else regex.compile
    try:
        return [(compiled(part), part) for part in split_alternatives(PATTERNS.get(pattern, pattern))]
    except regex.error:  # a part alone may be none, as one that refers to a group of another
        return []
