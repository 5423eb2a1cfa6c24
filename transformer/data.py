"""Text in, batches out. The embedded corpus is the standard library's own source: on every machine, no network."""

from __future__ import annotations

import hashlib
import os
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tinygrad_lite import philox


class DataError(ValueError):
    """Text that cannot be read or is too short, with the way out."""


@dataclass
class Corpus:
    """Training and held-out text, and where it came from."""

    train: str
    val: str
    source: str
    skipped: list = field(default_factory=list)  # files that are not UTF-8 text

    @property
    def val_bytes(self) -> int:
        """UTF-8 bytes of the held-out text."""
        return len(self.val.encode("utf-8"))


def standard_library() -> Corpus:
    """The source of the running interpreter's standard library (about 31 MB), one file in twenty held out."""
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = (p for p in root.rglob("*.py") if "site-packages" not in p.parts and "dist-packages" not in p.parts)
    # Sorted as text and line ends as "\n": Windows sorts paths otherwise, and has other line ends in the same files.
    corpus = _join(sorted((p.relative_to(root).as_posix(), p) for p in paths), newline=None)
    if len(corpus.train) < 1_000_000 or not corpus.val:
        raise DataError(
            f"the standard library's source is not at {root} (a stripped or zipped Python): give a text with --data FILE"
        )
    # A few test files are deliberately not UTF-8: nothing that a user could mend.
    return Corpus(corpus.train, corpus.val, "the source of Python's standard library")


def load_corpus(paths=None, val_fraction: float = 0.1, leave_out=None) -> Corpus:
    """Text from files and directories; None means the standard library's source.

    One file: its last `val_fraction` of characters is held out. Several, or a directory: one file in twenty by a
    hash of its name, or if that leaves less than 1,000 characters, the last part of all the text. A file that was
    named must be UTF-8 text; in a directory others are left out and listed in `skipped`, hidden ones and what is in the
    directory `leave_out`, the run's own, silently.
    """
    if not paths:
        return standard_library()
    named = []
    for path in map(Path, paths):
        if path.is_dir():
            own = None if leave_out is None else Path(leave_out).resolve()
            inside = [
                (p.relative_to(path), p) for p in path.rglob("*") if p.is_file() and own not in p.resolve().parents
            ]
            # As text, since paths are sorted without regard to case on Windows.
            named += sorted((r.as_posix(), p) for r, p in inside if not any(part.startswith(".") for part in r.parts))
        elif path.exists():
            read_text(path)  # raises where a named file cannot be used
            named.append((path.name, path))
        else:
            raise DataError(f"--data: there is no file or directory {path}")
    corpus = _join(named)
    if len(named) == 1 or len(corpus.val) < 1000:
        text = corpus.train + corpus.val
        if not text:
            raise DataError(f"--data: there is no UTF-8 text in {', '.join(map(str, paths))}")
        cut = int(len(text) * (1.0 - val_fraction))
        corpus.train, corpus.val = text[:cut], text[cut:]
    corpus.source = ", ".join(str(p) for p in paths)
    return corpus


def _held_out(name: str) -> bool:
    # By a hash of the name: the same files on every machine and in every run. One file in twenty.
    return hashlib.sha256(os.fsencode(name)).digest()[0] < 256 // 20


def _join(named, newline: str | None = "") -> Corpus:
    """Text of (name, path) pairs, held out by name."""
    train, val, skipped = [], [], []
    for name, path in named:
        try:
            text = _read(path, newline)
        except (UnicodeDecodeError, OSError):
            skipped.append(path)
            continue
        (val if _held_out(name) else train).append(text)
    return Corpus("\n".join(train), "\n".join(val), "", skipped)


def read_text(path) -> str:
    """A UTF-8 text file; anything else is a DataError that says where it breaks."""
    try:
        text = _read(path, "")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}: convert it first (iconv -t utf-8)") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if not text:
        raise DataError(f"{path}: the file is empty")
    return text


def _read(path, newline):
    # newline="" keeps line ends as they are: bytes are counted as in the file.
    with open(path, encoding="utf-8", newline=newline) as file:
        return file.read().removeprefix("\ufeff")  # the byte order mark that some editors put first is no text


class Loader:
    """Random windows of a token array. The batch is a function of (seed, step): nothing to save, nothing to lose."""

    def __init__(self, tokens: np.ndarray, batch_size: int, block_size: int, seed: int):
        if len(tokens) < block_size + 2:
            raise DataError(
                f"the training text has {len(tokens)} tokens, fewer than a context of {block_size} needs: "
                "give more text or a smaller --block-size"
            )
        self.tokens, self.batch_size, self.block_size, self.seed = tokens, batch_size, block_size, seed

    def batch(self, step: int, micro: int = 0, of: int = 1):
        """(inputs, targets), each (B, T) int64, of a step's micro-batch; K micro-batches cut one large batch."""
        total = self.batch_size * of
        key = (self.seed ^ 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF  # apart from the stream that dropout uses
        bits = philox.random_bits(total, key, step * philox.blocks_used(total))
        bits = bits[micro * self.batch_size : (micro + 1) * self.batch_size].astype(np.uint64)
        starts = (bits * np.uint64(len(self.tokens) - self.block_size) >> np.uint64(32)).astype(np.int64)
        window = self.tokens[starts[:, None] + np.arange(self.block_size + 1)]
        window = window.astype(np.int64)
        return window[:, :-1], window[:, 1:]
