"""The split patterns that have names, and the plain way to apply them: the judge of the compiled scanners.

A pattern cuts text into the pieces within which byte pairs may merge, so that no token crosses, say, from one word into
the next (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"). The expressions are those that
OpenAI's tiktoken publishes for its encodings gpt2, cl100k_base and o200k_base, which decide the ids.
"""

from __future__ import annotations

from functools import cache

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


def over_committed_classes(expression: str, cases: bool = True):
    """An expression compiled over the committed classes: the regex package's own are those of another version of Unicode.

    cases: also for \\p{Lu}, \\p{Lt}, \\p{Ll}, \\p{Lm} and \\p{Lo}, which must stand together as in o200k's pattern: the
    classes keep Lu with Lt, and Lm with Lo.
    """
    import regex  # here, because the scanners do without it

    letters = {"Lu": classes.UPPER, "Lt": "", "Ll": classes.LOWER, "Lm": classes.CASELESS, "Lo": ""}
    members = {
        **({rf"\p{{{category}}}": _members(ranges) for category, ranges in letters.items()} if cases else {}),
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
        if text[position] == "\\":
            parts.append(text[position : position + 2])
            position += 2
            continue
        inside = text[position] == "[" or (inside and text[position] != "]")
        parts.append(text[position])
        position += 1
    return regex.compile("".join(parts))


def _members(ranges: str) -> str:
    """Ranges "first-last" in hexadecimal as they stand between brackets."""
    pairs = [item.partition("-")[::2] for item in ranges.split()]
    return "".join(f"\\U{first:0>8}" + (f"-\\U{last:0>8}" if last else "") for first, last in pairs)
