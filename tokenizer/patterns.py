"""The split patterns that have names, and the plain way to apply them: the judge of the compiled scanners.

A pattern cuts text into the pieces within which byte pairs may merge, so that no token crosses, say, from one word into
the next (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"). The expressions are those that
OpenAI's tiktoken publishes for its encodings gpt2, cl100k_base and o200k_base, which decide the ids.
"""

from __future__ import annotations

import re
from functools import cache

import numpy as np

from . import unicode_classes as classes

_O200K_PREFIX = r"[^\r\n\p{L}\p{N}]?"
_O200K_SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"

PATTERNS = {
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "cl100k": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++\Z|\s*[\r\n]|\s+(?!\S)|\s",
    "o200k": "|".join(
        (
            _O200K_PREFIX + r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+" + _O200K_SUFFIX,
            _O200K_PREFIX + r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*" + _O200K_SUFFIX,
            r"\p{N}{1,3}",
            r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
            r"\s*[\r\n]+",
            r"\s+(?!\S)",
            r"\s+",
        )
    ),
}
"""By name. Written for the regex package; each cuts as its original does (\\Z is the end of the text, their $)."""


def split_readable(name: str, text: str) -> list[str]:
    """The pieces of a text by a named pattern; joined, they are the text."""
    return _expression(name).findall(text)


@cache
def _expression(name: str):
    return over_committed_classes(PATTERNS[name])


def over_committed_classes(expression: str):
    """One of the patterns, or an alternative of it, compiled over the committed classes: the regex package's own are
    those of another version of Unicode."""
    import regex  # here, because the scanners do without it

    letters = {"Lu": classes.UPPER, "Lt": "", "Ll": classes.LOWER, "Lm": classes.CASELESS, "Lo": ""}
    members = {
        **{rf"\p{{{category}}}": _members(ranges) for category, ranges in letters.items()},
        r"\p{L}": _members(" ".join(letters.values())),
        r"\p{M}": _members(classes.MARK),
        r"\p{N}": _members(classes.NUMBER),
        r"\s": _members(f"{classes.SPACE} {classes.NEWLINE}"),
    }
    white, black = members[r"\s"], r"(?!\S)"
    parts = []
    inside = False  # of brackets, where members stand as they are
    position = 0
    text = expression.replace(black, f"(?![^{white}])")
    while position < len(text):
        found = next((key for key in members if text.startswith(key, position)), None)
        if found is not None:
            parts.append(members[found] if inside else f"[{members[found]}]")
            position += len(found)
            continue
        inside = text[position] == "[" or (inside and text[position] != "]")
        parts.append(text[position])
        position += 1
    return regex.compile("".join(parts))


def without_younger(text: str) -> str:
    """The text, in which characters that the regex package knows and the committed classes do not are replaced by one
    that has no class: so other expressions, too, cut alike with every version of that package.

    An expression over the committed classes themselves would do the same 19 times as slowly: the package tests sets of
    hundreds of ranges one by one.
    """
    return text if text.isascii() else _younger().sub("\u0378", text)


@cache
def _younger() -> re.Pattern[str]:
    import regex

    everything = "".join(chr(code) if not 0xD800 <= code < 0xE000 else "\0" for code in range(0x110000))
    known = np.zeros(len(everything), dtype=bool)
    for match in regex.finditer(r"[\p{L}\p{M}\p{N}]+", everything):
        known[match.start() : match.end()] = True
    for ranges in (classes.UPPER, classes.LOWER, classes.CASELESS, classes.MARK, classes.NUMBER):
        for item in ranges.split():
            first, _, last = item.partition("-")
            known[int(first, 16) : int(last or first, 16) + 1] = False
    edges = np.flatnonzero(np.diff(known, prepend=False, append=False)).tolist()
    members = "".join(f"\\U{first:08x}-\\U{stop - 1:08x}" for first, stop in zip(edges[::2], edges[1::2], strict=True))
    return re.compile(f"[{members}]" if members else r"(?!)")


def _members(ranges: str) -> str:
    """Ranges "first-last" in hexadecimal as they stand between brackets."""
    pairs = [item.partition("-")[::2] for item in ranges.split()]
    return "".join(f"\\U{first:0>8}" + (f"-\\U{last:0>8}" if last else "") for first, last in pairs)
