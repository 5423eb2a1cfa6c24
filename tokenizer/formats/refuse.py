"""The one way to say that a file, or a format, has something that cannot be carried over."""

from __future__ import annotations

from collections.abc import Collection

from ..bpe import BPETokenizer
from ..errors import FormatError


def refuse(ignore: Collection[str], name: str, what: str) -> None:
    """Raise FormatError unless the caller said that what goes by this name may be left out."""
    if name not in ignore:
        raise FormatError(f"{what}; pass ignore={{{name!r}}} to go on without it")


def refuse_preparation(tokenizer: BPETokenizer, format: str) -> None:
    """Raise FormatError for a tokenizer with added tokens or normalisers, in a format that has neither."""
    what = "added tokens" if tokenizer.added_tokens else "normalisers"
    if tokenizer.added_tokens or tokenizer.normalizers:
        raise FormatError(
            f'{format} cannot hold {what}, and without them the ids would be others; write "huggingface" or "own", '
            "or read the tokenizer with ignore={'special', 'normalizer'}, which makes special tokens of added ones"
        )


def check_fields(data: object, known: Collection[str], where: str) -> dict:
    """The data, if it is a JSON object that has no other fields than these."""
    if not isinstance(data, dict):
        raise FormatError(f"expected {where} as a JSON object, found {type(data).__name__}")
    unknown = sorted(set(data) - set(known))
    if unknown:
        raise FormatError(
            f"{where} has the field {unknown[0]!r}, which is not supported: its meaning for the ids is not known here"
        )
    return data
