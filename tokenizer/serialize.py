"""The file format: one JSON object with a format name, a version, a kind, and the kind's own fields.

JSON, because a tokenizer file is shared and loaded from places one does not control, and reading JSON runs no code.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

from .errors import FormatError

FORMAT = "transformer-stack/tokenizer"
VERSION = 2  # 1 had the single bytes in another order
VERSION_OF_PREPARED = 3  # byte-level BPE with added tokens or normalisers, which a reader of 2 would leave out unseen


def check_header(data: Any) -> str:
    """Return the kind that the header names.

    Raises:
        FormatError: no object, another format, or a version that this code does not read.
    """
    if not isinstance(data, dict):
        raise FormatError(f"expected a JSON object with format {FORMAT!r}, found {type(data).__name__}")
    if data.get("format") != FORMAT:
        raise FormatError(
            f"expected format {FORMAT!r}, found {data.get('format')!r}; only what save() or to_dict() wrote can be read"
        )
    version = data.get("version")
    if version not in (VERSION, VERSION_OF_PREPARED) or isinstance(version, bool):
        raise FormatError(
            f"expected version {VERSION} or {VERSION_OF_PREPARED}, found {version!r}; read it with the release that wrote it"
        )
    kind = data.get("kind")
    if not isinstance(kind, str):
        raise FormatError(f"expected the tokenizer's kind as a string, found {kind!r}; the data is damaged")
    return kind


def write_json(path: str | PathLike[str], data: dict[str, Any]) -> None:
    """Write data as one line of JSON, with write_bytes."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":")) + "\n"
    write_bytes(path, [text.encode("ascii")])


def write_bytes(path: str | PathLike[str], chunks: Iterable[bytes]) -> None:
    """Write the chunks to path so that path holds either its old content or all of the new one.

    They go to a new file in the same folder (a move between disks is not atomic), reach the disk, and the file is then
    moved over path. On any failure, also one of the iterable, the new file is removed.
    """
    with replacing(path) as file:
        file.writelines(chunks)


@contextmanager
def replacing(path: str | PathLike[str]) -> Iterator[BinaryIO]:
    """A new file to write and seek in, which takes path's place when the block ends, and is removed if it fails."""
    target = Path(os.path.realpath(path))  # a link keeps pointing to the file, which is replaced
    aside = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    try:
        with open(aside, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, target)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def read_json(path: str | PathLike[str]) -> Any:
    """Read the JSON value in path.

    Raises:
        FormatError: the file is not JSON in UTF-8.
        OSError: the file cannot be read.
    """
    raw = Path(path).read_bytes()
    try:
        return json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: expected a tokenizer file in JSON, found something else ({error})") from error
