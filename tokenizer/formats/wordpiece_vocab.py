"""BERT's vocab.txt: a token a line, whose number is its id. It does not hold the normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..base import Tokenizer
from ..errors import FormatError
from ..normalizers import Bert, Normalizer
from ..wordpiece import BERT_SPECIAL_TOKENS, WordPieceTokenizer
from .refuse import refuse

NAME = "wordpiece-vocab"


def looks_like(raw: bytes) -> bool:
    """Whether a line is [UNK], without which there is no WordPiece."""
    return b"[UNK]" in raw.splitlines()


def gather(path: Path) -> dict[str, bytes]:
    """The file's bytes. OSError where it cannot be read."""
    return {"": path.read_bytes()}


def parse(
    files: dict[str, bytes], ignore: frozenset[str], *, normalizers: Sequence[Normalizer] = (Bert(),)
) -> WordPieceTokenizer:
    """The tokenizer of a token a line, whose ids are the lines' numbers. FormatError for what is damaged."""
    lines = files[""].decode("utf-8").split("\n")  # not splitlines: U+2028 is a token of BERT's multilingual vocabulary
    tokens = [line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]
    return WordPieceTokenizer(tokens, normalizers=normalizers)


def files(tokenizer: Tokenizer, ignore: frozenset[str]) -> dict[str, bytes]:
    """vocab.txt in UTF-8. FormatError for what it cannot say."""
    if not isinstance(tokenizer, WordPieceTokenizer):
        raise FormatError(f"vocab.txt holds WordPiece, not a {type(tokenizer).__name__}")
    tokens = tokenizer.vocabulary
    for token_id, token in enumerate(tokens):
        if token is None:
            raise FormatError(f"id {token_id} has no token, and a line of vocab.txt cannot say so")
        if "\n" in token or token.endswith("\r"):
            raise FormatError(f"token {token_id}, {token!r}, holds the end of a line; vocab.txt cannot hold it")
    if set(tokenizer.special_tokens) != {name for name in BERT_SPECIAL_TOKENS if name in tokens}:
        refuse(ignore, "special_tokens", f"vocab.txt does not say that {list(tokenizer.special_tokens)} are special")
    if (tokenizer.unknown_token, tokenizer.longest_word, tokenizer.cleanup) != ("[UNK]", 100, True):
        refuse(ignore, "settings", "vocab.txt does not hold another unknown token, longest word or cleanup than BERT's")
    return {"": "".join(f"{token}\n" for token in tokens).encode("utf-8")}


def options_of(tokenizer: WordPieceTokenizer) -> dict[str, Any]:
    """The normalisers, which `parse` needs beside the file."""
    return {"normalizers": tokenizer.normalizers}
