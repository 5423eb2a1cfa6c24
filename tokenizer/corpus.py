"""The texts to train on: what is in memory, in files, in folders, and in iterables of these."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path

from .special import as_text

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


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted((file for file in path.rglob("*") if file.is_file()), key=lambda file: file.relative_to(path).parts)


def _expected(found: object) -> str:
    return (
        f"expected the training texts as str, bytes, pathlib.Path or an iterable of these, got {type(found).__name__}"
    )
