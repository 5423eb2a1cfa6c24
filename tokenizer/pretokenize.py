"""Pre-tokenisation: cutting text into the pieces within which byte pairs may merge.

GPT-2 (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners") keeps merges within words by a
regular expression. Its rule is local: whether a piece starts at a character depends only on the character classes close
by. So the splitter for it works on whole arrays with NumPy, faster than a regular-expression engine; any other pattern
runs through the ``regex`` package. The GPT-2 pattern itself, in GPT2_PATTERN, is the reference in the tests.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise

import numpy as np

from .errors import TokenizerError

GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

Splitter = Callable[[str], Iterator[list[str]]]
"""Yields the pieces of a text in order, in batches; joined, they are the text."""

_OTHER, _LETTER, _NUMBER, _SPACE = range(4)
_BATCH_CHARACTERS = 1 << 19  # bounds the memory for piece objects to some tens of MB
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
        codes, classes = _classify(part)
        stop = len(part)
        if start + stop < len(text):
            stop = _last_safe_cut(classes)
            if not stop:
                size *= 2
                continue
        yield _split_batch(part, codes[:stop], classes[:stop])
        start += stop
        size = _BATCH_CHARACTERS


def safe_cut_gpt2(text: str) -> int:
    """The last place where text can be cut so that the pieces stay the same, whatever follows it; 0 if there is none."""
    return _last_safe_cut(_classify(text)[1])


def _classify(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Code point and class of each character."""
    if text.isascii():
        codes = np.frombuffer(text.encode("ascii"), dtype=np.uint8)
        return codes, _ascii_classes()[codes]
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    return codes, _unicode_classes().take(codes, mode="clip")


@cache
def _ascii_classes() -> np.ndarray:
    table = np.full(256, _OTHER, dtype=np.uint8)
    table[[*range(ord("A"), ord("Z") + 1), *range(ord("a"), ord("z") + 1)]] = _LETTER
    table[ord("0") : ord("9") + 1] = _NUMBER
    table[[*b"\t\n\v\f\r "]] = _SPACE
    return table


@cache
def _unicode_classes() -> np.ndarray:
    """From the regex package, not from unicodedata: so "gpt2" and GPT2_PATTERN agree on every Python version."""
    import regex

    table = np.full(_CLASS_TABLE_SIZE, _OTHER, dtype=np.uint8)
    characters = "".join(map(chr, range(_CLASS_TABLE_SIZE)))
    for expression, kind in ((r"\p{L}+", _LETTER), (r"\p{N}+", _NUMBER), (r"\s+", _SPACE)):
        for match in regex.finditer(expression, characters):
            table[match.start() : match.end()] = kind
    return table


def _last_safe_cut(classes: np.ndarray) -> int:
    """The last place before a space that follows a non-space, or 0: a piece starts there whatever stands around it."""
    is_space = classes == _SPACE
    cuts = np.flatnonzero(is_space[1:] & ~is_space[:-1])
    return int(cuts[-1]) + 1 if len(cuts) else 0


def _split_batch(text: str, codes: np.ndarray, classes: np.ndarray) -> list[str]:
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
