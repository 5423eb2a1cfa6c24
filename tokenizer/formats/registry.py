"""Which formats there are, how a file's is recognised, and how files are written: checked first, then moved into place."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from os import PathLike
from pathlib import Path
from typing import Any

from ..base import Tokenizer
from ..errors import FormatError, TokenizerError
from ..serialize import FORMAT, write_bytes
from . import gpt2, huggingface, own, tiktoken, wordpiece_vocab
from .check import PROBES, check_same
from .refuse import refuse

FORMATS = {module.NAME: module for module in (own, huggingface, tiktoken, gpt2, wordpiece_vocab)}
"""By name, modules with the same functions:

gather(path)                       the content of each file of a tokenizer, by file name
parse(files, ignore, **options)    the tokenizer of these; FormatError for what is malformed or not supported
files(tokenizer, ignore)           the content of each file for a tokenizer; FormatError for what they cannot say
options_of(tokenizer)              the options that parse needs beside the files
looks_like(raw)                    where a file has no name or JSON to tell it by: whether its bytes are of this format
"""


def read(
    path: str | PathLike[str], format: str | None = None, *, ignore: Collection[str] = (), **options: Any
) -> Tokenizer:
    """The tokenizer in a file.

    Args:
        path: the file; for "gpt2" either of its two files, or their folder.
        format: a name in FORMATS; recognised from the file if None.
        ignore: names of what the file asks for and may be left out: those that the error about it gives.
        options: what the format does not hold: pattern and special_tokens for "tiktoken"; pattern for "gpt2";
            normalizers for "wordpiece-vocab".

    Raises:
        FormatError: the file is malformed, or asks for what is not supported.
        OSError: it cannot be read.
    """
    path = Path(path)
    module = _module(format or recognise(path))
    left_out = _names(ignore)
    try:
        return module.parse(module.gather(path), left_out, **options)
    except TokenizerError as error:
        raise FormatError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        if isinstance(error, TypeError) and "unexpected keyword" in str(error):
            raise
        raise FormatError(f"{path}: the {module.NAME} file is damaged: {error!r}") from error


def write(
    tokenizer: Tokenizer,
    path: str | PathLike[str],
    format: str = "own",
    *,
    ignore: Collection[str] = (),
    probes: Iterable[str] = PROBES,
) -> None:
    """Write a tokenizer, once what would be written has been read back and gives the same ids for the probes.

    Args:
        path: the file; for "gpt2" the folder, which must exist.
        ignore: names of what the format cannot hold and may be left out.
        probes: texts to compare on.

    Raises:
        FormatError: the format cannot hold this tokenizer, or the ids differ. Nothing is written then.
        OSError: the file cannot be written.
    """
    module = _module(format)
    path = Path(path)
    contents = module.files(tokenizer, _names(ignore))
    copy = module.parse(contents, _names(ignore), **module.options_of(tokenizer))
    check_same(tokenizer, copy, [*probes, *(token.text for token in tokenizer.added_tokens)])
    if copy.special_tokens != tokenizer.special_tokens:
        names = sorted(copy.special_tokens.items() ^ tokenizer.special_tokens.items())
        refuse(_names(ignore), "special_tokens", f"special tokens would be others when the file is read: {names}")
    for name, content in contents.items():
        write_bytes(path / name if name else path, [content])


def convert(
    source: str | PathLike[str],
    target: str | PathLike[str],
    format: str,
    *,
    source_format: str | None = None,
    ignore: Collection[str] = (),
    probes: Iterable[str] = PROBES,
    **options: Any,
) -> Tokenizer:
    """Read one file and write another, which is read again and compared; returns the tokenizer.

    The arguments and errors are those of read and write.
    """
    tokenizer = read(source, source_format, ignore=ignore, **options)
    probes = list(probes)
    write(tokenizer, target, format, ignore=ignore, probes=probes)
    check_same(tokenizer, read(target, format, ignore=ignore, **_module(format).options_of(tokenizer)), probes)
    return tokenizer


def recognise(path: str | PathLike[str]) -> str:
    """The name of a file's format.

    Raises:
        FormatError: it looks like none of them.
        OSError: it cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        if gpt2.pair_in(path) is not None:
            return gpt2.NAME
        raise FormatError(f"{path}: expected vocab.bpe and encoder.json in this folder; or name the tokenizer's file")
    if gpt2.companion(path) is not None:
        return gpt2.NAME
    raw = path.read_bytes()
    if raw.lstrip()[:1] == b"{":
        try:
            data = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise FormatError(f"{path}: expected JSON, found something else ({error})") from error
        if data.get("format") == FORMAT:
            return own.NAME
        if "model" in data:
            return huggingface.NAME
    elif tiktoken.looks_like(raw):
        return tiktoken.NAME
    elif wordpiece_vocab.looks_like(raw):
        return wordpiece_vocab.NAME
    raise FormatError(f"{path}: this looks like none of the formats {sorted(FORMATS)}; name the format if it is one")


def _module(name: str) -> Any:
    if name not in FORMATS:
        raise FormatError(f"unknown format {name!r}; expected one of {sorted(FORMATS)}")
    return FORMATS[name]


def _names(ignore: Collection[str]) -> frozenset[str]:
    if isinstance(ignore, str):
        raise TypeError(f"expected ignore as a set of names, got the string {ignore!r}; write {{{ignore!r}}}")
    return frozenset(ignore)
