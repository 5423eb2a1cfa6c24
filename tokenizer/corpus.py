"""The texts to train on: what is in memory, in files, in folders, and in iterables of these."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from itertools import chain
from os import PathLike
from pathlib import Path

from .errors import TrainingError
from .special import as_text

INVALID_UTF8 = ("keep", "replace", "ignore", "strict")
_BLOCK = 1 << 20

Corpus = str | bytes | PathLike[str] | Iterable[str | bytes | PathLike[str]]
"""A str or bytes is text itself; a pathlib.Path names a file, or a folder with all files below it."""


def read_texts(texts: Corpus) -> Iterator[str]:
    """The texts one after another, in the form that as_text gives; each file is one text, read when its turn comes.

    The files of a folder come in the order of their paths, so that the same folder gives the same texts everywhere.

    Raises:
        TypeError: something is neither text nor a path.
        OSError: a path does not exist or cannot be read.
    """
    if isinstance(texts, str | bytes | PathLike):
        texts = [texts]
    elif isinstance(texts, bytearray | memoryview) or not isinstance(texts, Iterable):
        raise TypeError(_expected(texts))
    for text in texts:
        if isinstance(text, str | bytes):
            yield as_text(text)
        elif isinstance(text, PathLike):
            for file in _files(Path(text)):
                yield as_text(file.read_bytes())
        else:
            raise TypeError(_expected(text))


def read_blocks(texts: Corpus, invalid_utf8: str = "keep") -> Iterator[Iterator[str | bytes]]:
    """The texts one after another, each in blocks that are short beside the memory, however long the text.

    Args:
        texts: as for read_texts.
        invalid_utf8: what to do with bytes that are not UTF-8: "keep" them, "replace" them by U+FFFD, "ignore" them,
            or raise TrainingError ("strict").

    Raises as read_texts does.
    """
    if invalid_utf8 not in INVALID_UTF8:
        raise TrainingError(f"expected invalid_utf8 as one of {INVALID_UTF8}, got {invalid_utf8!r}")
    if isinstance(texts, str | bytes | PathLike):
        texts = [texts]
    elif isinstance(texts, bytearray | memoryview) or not isinstance(texts, Iterable):
        raise TypeError(_expected(texts))
    for text in texts:
        if isinstance(text, str):
            yield (text[start : start + _BLOCK] for start in range(0, len(text), _BLOCK))
        elif isinstance(text, bytes):
            blocks = (text[start : start + _BLOCK] for start in range(0, len(text), _BLOCK))
            yield _decoded(blocks, invalid_utf8, "a text of bytes")
        elif isinstance(text, PathLike):
            for path in _files(Path(text)):
                with open(path, "rb") as file:
                    yield _decoded(iter(lambda file=file: file.read(_BLOCK), b""), invalid_utf8, str(path))
        else:
            raise TypeError(_expected(text))


def _decoded(blocks: Iterator[bytes], invalid_utf8: str, name: str) -> Iterator[str | bytes]:
    if invalid_utf8 == "keep":
        yield from blocks
        return
    decoder = codecs.getincrementaldecoder("utf-8")(invalid_utf8)
    place = 0
    for block in chain(blocks, [b""]):
        waiting = len(decoder.getstate()[0])
        try:
            yield decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            raise TrainingError(
                f"{name} is not UTF-8 at byte {place - waiting + error.start} ({error.reason}); convert it, or choose "
                'invalid_utf8="keep", "replace" or "ignore"'
            ) from None
        place += len(block)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted((file for file in path.rglob("*") if file.is_file()), key=lambda file: file.relative_to(path).parts)


def _expected(found: object) -> str:
    return (
        f"expected the training texts as str, bytes, pathlib.Path or an iterable of these, got {type(found).__name__}"
    )
