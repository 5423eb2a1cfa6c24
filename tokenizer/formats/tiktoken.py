"""tiktoken's rank files: a line for each token, its bytes in base64 and its rank, which is its id.

Such a file holds neither the split pattern nor the special tokens: the program that loads it knows them.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..base import Tokenizer
from ..bpe import BPETokenizer
from ..bpe_vocabulary import BPEVocabulary
from ..errors import FormatError
from .refuse import refuse, refuse_preparation

NAME = "tiktoken"
_LINE = re.compile(rb"[A-Za-z0-9+/]+={0,2} \d+\r?")
_NOT_GIVEN = object()


def looks_like(raw: bytes) -> bool:
    """Whether the first line is a token in base64 and a rank."""
    return _LINE.fullmatch(raw.split(b"\n", 1)[0]) is not None


def gather(path: Path) -> dict[str, bytes]:
    """The file's bytes. OSError where it cannot be read."""
    return {"": path.read_bytes()}


def parse(
    files: dict[str, bytes],
    ignore: frozenset[str],
    *,
    pattern: Any = _NOT_GIVEN,
    special_tokens: Iterable[str] | Mapping[str, int] = (),
) -> BPETokenizer:
    """The tokenizer of tiktoken's ranks, with the pattern and special tokens that the file does not hold.

    FormatError for lines that are no ranks, and where no pattern is given.
    """
    if pattern is _NOT_GIVEN:
        raise FormatError('a tiktoken file does not hold its split pattern: pass pattern="cl100k", "o200k" or the like')
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(files[""].split(b"\n"), 1):
        if not line.strip():
            continue
        if not _LINE.fullmatch(line):
            raise FormatError(f"line {number} is {line[:60]!r}; expected a token in base64, a space, and its rank")
        coded, rank = line.split()
        try:
            token = base64.b64decode(coded, validate=True)
        except binascii.Error as error:
            raise FormatError(f"line {number}: {coded[:60]!r} is not base64 ({error})") from error
        if token in ranks:
            raise FormatError(f"line {number}: the token {token!r} occurs twice")
        ranks[token] = int(rank)
    return BPETokenizer(BPEVocabulary.from_ranks(ranks), pattern=pattern, special_tokens=special_tokens)


def files(tokenizer: Tokenizer, ignore: frozenset[str]) -> dict[str, bytes]:
    """A line for each token: its bytes in base64, and its rank. FormatError for what ranks cannot say."""
    if not isinstance(tokenizer, BPETokenizer):
        raise FormatError(f"a tiktoken file holds byte-level BPE, not a {type(tokenizer).__name__}")
    refuse_preparation(tokenizer, "a tiktoken file")
    if tokenizer.special_tokens:
        names = list(tokenizer.special_tokens)
        refuse(ignore, "special_tokens", f"a tiktoken file does not hold special tokens, and there are {names}")
    lines = []
    seen: set[bytes] = set()
    for rank, token in enumerate(tokenizer.vocabulary.tokens):
        if token is not None:
            if token in seen:
                raise FormatError(f"two ids have the bytes {token!r}; a tiktoken file holds each only once")
            seen.add(token)
            lines.append(base64.b64encode(token) + b" %d\n" % rank)
    return {"": b"".join(lines)}


def options_of(tokenizer: BPETokenizer) -> dict[str, Any]:
    """The pattern and the special tokens, which `parse` needs beside the file."""
    return {"pattern": tokenizer.pattern, "special_tokens": tokenizer.special_tokens}
