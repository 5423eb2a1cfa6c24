"""What `tgl tokenizer` reads and writes: tokenizers, texts, ids."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
import typer

import tokenizer as tokenizers
from tokenizer.serialize import replacing

from .. import checkpoint

STDIN = "-"
ID_SUFFIXES = (".npy", ".bin", ".txt")
_CHUNK_BYTES = 1 << 16
_CHUNK_IDS = 1 << 16


def read_tokenizer(path: Path) -> tokenizers.Tokenizer:
    """A tokenizer from a file of any format, or the one of a training run from the run's directory."""
    from tokenizer import formats

    if path.is_dir() and formats.gpt2.pair_in(path) is None:
        state = json.loads((checkpoint.find(path) / "state.json").read_text(encoding="utf-8"))
        return tokenizers.Tokenizer.from_dict(state["tokenizer"])
    if not path.exists():
        raise ValueError(f"there is no tokenizer {path}: make one with tgl tokenizer train FILES --out {path}")
    if (name := formats.recognise(path)) == "tiktoken":
        raise ValueError(
            f"{path} has ranks, but not the pattern that cuts text: tgl tokenizer convert {path} OUT --to own --pattern P"
        )
    return formats.read(path, name)


@contextmanager
def stoppable():
    """Ctrl-C ends a command without a traceback: what it was writing is not there."""
    try:
        yield
    except KeyboardInterrupt:
        print("\ntgl: stopped; nothing was written", file=sys.stderr)
        raise typer.Exit(130) from None


def refuse_to_overwrite(path: Path | None, force: bool, option: str = "--out"):
    """Raises ValueError for a file that exists, unless forced."""
    if path is not None and path.exists() and not force:
        raise ValueError(f"{path} exists: give another name to {option}, or --force to replace it")


def argument(text: str) -> str | bytes:
    """What was typed: where the locale is C, Python reads the shell's UTF-8 as ASCII and keeps the rest as bytes."""
    raw = text.encode("utf-8", "surrogateescape")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw


def chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a file, or of standard input for -, a part at a time."""
    if str(path) == STDIN:
        yield from iter(lambda: stdin().read(_CHUNK_BYTES), b"")
        return
    with open(path, "rb") as file:
        yield from iter(lambda: file.read(_CHUNK_BYTES), b"")


def stdin() -> BinaryIO:
    """Standard input in bytes; says so where somebody would have to type it."""
    if sys.stdin.isatty():
        print("Reading from the keyboard; Ctrl-D ends it.", file=sys.stderr)
    return typer.get_binary_stream("stdin")


def text_of(arguments: list[str], paths: list[Path]) -> str | bytes:
    """All of the text that is meant: the arguments joined by spaces, or the files, or standard input."""
    if arguments and paths:
        raise ValueError("give the text itself or --file, not both")
    if arguments:
        return argument(" ".join(arguments))
    raw = b"".join(chain.from_iterable(chunks(path) for path in paths or [Path(STDIN)]))
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw


# Ids


def write_ids(path: Path, ids: Iterable[int], dtype: np.dtype) -> int:
    """Write ids as they come, and return how many: .npy, .bin (the bare numbers, little-endian) or .txt."""
    dtype = np.dtype(dtype).newbyteorder("<")
    ids, count = iter(ids), 0
    with replacing(path) as file:
        if path.suffix == ".npy":
            _npy_header(file, 0, dtype)
        while len(part := np.fromiter(islice(ids, _CHUNK_IDS), dtype)):
            count += len(part)
            file.write((" ".join(map(str, part.tolist())) + "\n").encode() if path.suffix == ".txt" else part.tobytes())
        if path.suffix == ".npy":
            file.seek(0)
            _npy_header(file, count, dtype)
    return count


def _npy_header(file: BinaryIO, count: int, dtype: np.dtype):
    """NumPy leaves room for a longer shape, so the header of the whole fits where that of nothing was."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(file, header)


def check_ids_file(path: Path):
    """Raises ValueError for a name that says no format for ids."""
    if path.suffix not in ID_SUFFIXES:
        raise ValueError(f"{path}: ids are kept as {', '.join(ID_SUFFIXES)} files, and the name says as which")


def read_ids(path: Path, dtype: np.dtype) -> Iterator[list[int]]:
    """The ids of a file, some at a time; those of a .bin file have the type that encode gives them."""
    if path.suffix == ".npy":
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            raise ValueError(f"{path}: expected an array of ids as encode writes it ({error})") from error
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise ValueError(f"{path}: expected a row of integers, got {array.dtype} of shape {array.shape}")
        for start in range(0, len(array), _CHUNK_IDS):
            yield array[start : start + _CHUNK_IDS].tolist()
    elif path.suffix == ".bin":
        dtype = np.dtype(dtype).newbyteorder("<")
        if path.stat().st_size % dtype.itemsize:
            raise ValueError(f"{path}: {path.stat().st_size} bytes are no whole number of {dtype.name} ids")
        with open(path, "rb") as file:
            while raw := file.read(_CHUNK_IDS * dtype.itemsize):
                yield np.frombuffer(raw, dtype).tolist()
    else:
        yield from parse_ids(chunk.decode("utf-8", "replace") for chunk in chunks(path))


def parse_ids(texts: Iterable[str]) -> Iterator[list[int]]:
    """Ids written in text, however they are separated: "1 2", "1, 2", "[1, 2]". A number may be cut between texts."""
    held = ""
    for text in chain(texts, [" "]):
        words = re.split(r"[\s,;\[\]()]+", held + text)
        held = words.pop()
        wrong = next((word for word in words if word and not re.fullmatch(r"-?[0-9]{1,20}", word)), None)
        if wrong is not None:
            raise ValueError(f"expected token ids as whole numbers, got {wrong[:40]!r}")
        yield [int(word) for word in words if word]
