"""Pre-tokenisation: cutting text into the pieces within which byte pairs may merge.

GPT-2 (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners") keeps merges within words by a
regular expression. Its rule is local: whether a piece starts at a character depends only on the character classes close
by. So long texts are split on whole arrays with NumPy, two to three times as fast as by the ``regex`` package; for short
ones that takes too long to set up, and ASCII text is split fastest by Python's own expressions. GPT2_PATTERN is the
reference for all three in the tests. Any other pattern runs through the ``regex`` package.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise

import numpy as np

from .errors import TokenizerError

GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

_ASCII_PATTERN = re.compile(  # the same for text that is ASCII
    r"'(?:[sdmt]|ll|ve|re)| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+", re.ASCII
)
_WHITE_SPACE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # Python's \s has U+001C to U+001F too
_UP_TO_LAST_CUT = re.compile(f".*[^{_WHITE_SPACE}](?=[{_WHITE_SPACE}])", re.DOTALL)

Splitter = Callable[[str], Iterator[list[str]]]
"""Yields the pieces of a text in order, in batches; joined, they are the text."""

_OTHER, _LETTER, _NUMBER, _SPACE = range(4)
_BATCH_CHARACTERS = 1 << 19  # bounds the memory for piece objects to some tens of MB
_FEW_CHARACTERS = 2000  # below, setting up the arrays costs more than they save
_CLASS_TABLE_SIZE = 0x40000  # no letter, number or space is assigned beyond plane 3


def make_splitter(pattern: str | None) -> Splitter:
    """The splitter for a pattern: "gpt2", None (no cut: the text is one piece), or a regular expression.

    Text that the expression does not match is kept, as pieces of its own, so that nothing is lost.

    Raises:
        TokenizerError: the expression is not valid.
    """
    if pattern is None:
        return lambda text: iter([[text]] if text else [])
    if not isinstance(pattern, str):
        raise TokenizerError(f'expected pattern as "gpt2", None or a regular expression, got {pattern!r}')
    if pattern == "gpt2":
        return split_gpt2
    if re.fullmatch(r"[\w-]*", pattern):  # as an expression it would match nothing but itself
        raise TokenizerError(f'unknown pattern name {pattern!r}; expected "gpt2", None or a regular expression')
    import regex  # here, because the two common cases above do without it

    try:
        compiled = regex.compile(pattern)
    except (regex.error, RecursionError, OverflowError) as error:
        raise TokenizerError(f"the pre-tokenisation pattern {pattern!r} is not a valid expression: {error}") from error
    return lambda text: _split_by_expression(compiled, text)


def split_gpt2(text: str) -> Iterator[list[str]]:
    """Split as GPT2_PATTERN does."""
    start = 0
    size = _BATCH_CHARACTERS
    while start < len(text):
        part = text[start : start + size]
        if start + size < len(text):
            part = part[: safe_cut_gpt2(part)]
            if not part:
                size *= 2
                continue
        yield _split_part(part)
        start += len(part)
        size = _BATCH_CHARACTERS


def safe_cut_gpt2(text: str) -> int:
    """The last place where text can be cut so that the pieces stay the same, whatever follows it; 0 if there is none.

    It is before a space that follows a non-space: a piece starts there whatever stands around it.
    """
    match = _UP_TO_LAST_CUT.match(text)
    return match.end() if match else 0


def _split_part(text: str) -> list[str]:
    if text.isascii():
        return _ASCII_PATTERN.findall(text)
    if len(text) < _FEW_CHARACTERS:
        return _compiled_gpt2().findall(text)
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    return _split_by_classes(text, codes, _classes().take(codes, mode="clip"))


@cache
def _compiled_gpt2():
    import regex  # here, because ASCII text does without it

    return regex.compile(GPT2_PATTERN)


@cache
def _classes() -> np.ndarray:
    """The class of each code point, with one more entry for what lies above the table.

    From the regex package, not from unicodedata: so all ways to split agree on every Python version.
    """
    import regex

    table = np.full(_CLASS_TABLE_SIZE, _OTHER, dtype=np.uint8)
    characters = "".join(map(chr, range(_CLASS_TABLE_SIZE)))
    for expression, kind in ((r"\p{L}+", _LETTER), (r"\p{N}+", _NUMBER), (r"\s+", _SPACE)):
        for match in regex.finditer(expression, characters):
            table[match.start() : match.end()] = kind
    return table


def _split_by_classes(text: str, codes: np.ndarray, classes: np.ndarray) -> list[str]:
    starts = np.flatnonzero(_starts_gpt2(codes, classes)).tolist()
    starts.append(len(codes))
    return [text[start:stop] for start, stop in pairwise(starts)]


def _starts_gpt2(codes: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Whether a piece starts at each character. The text must not be empty."""
    starts = np.empty(len(codes), dtype=bool)
    starts[0] = True
    np.not_equal(classes[1:], classes[:-1], out=starts[1:])

    # A run of spaces gives its last character away to what follows: U+0020 joins the next piece, any other space
    # becomes a piece of its own. A run at the end of the text stays whole.
    is_space = classes == _SPACE
    last_spaces = np.flatnonzero(is_space[:-1] & ~is_space[1:])
    starts[last_spaces] = True
    starts[last_spaces[codes[last_spaces] == ord(" ")] + 1] = False

    # An apostrophe that starts a piece takes s, d, m, t, ll, ve or re with it; further letters start a new piece.
    quotes = np.flatnonzero((codes[:-1] == ord("'")) & starts[:-1] & (classes[1:] == _LETTER))
    first = codes[quotes + 1]
    second = codes[np.minimum(quotes + 2, len(codes) - 1)]
    second[quotes + 2 == len(codes)] = 0
    taken = np.isin(first, np.frombuffer(b"sdmt", dtype=np.uint8)).astype(np.int64)
    for ending in (b"ll", b"ve", b"re"):
        taken[(first == ending[0]) & (second == ending[1])] = 2
    quotes, taken = quotes[taken > 0], taken[taken > 0]
    starts[quotes + 1] = False
    ends = quotes + 1 + taken
    starts[ends[ends < len(codes)]] = True
    return starts


def _split_by_expression(compiled, text: str) -> Iterator[list[str]]:
    pieces = []
    end = 0
    for match in compiled.finditer(text):
        start, stop = match.span()
        if start < end or start == stop:  # an empty match, or one of an expression that searches backwards
            continue
        if start > end:
            pieces.append(text[end:start])
        pieces.append(text[start:stop])
        end = stop
        if len(pieces) >= _BATCH_CHARACTERS // 4:
            yield pieces
            pieces = []
    if end < len(text):
        pieces.append(text[end:])
    if pieces:
        yield pieces
