"""The file format: one JSON object with a format name, a version, a kind, and the kind's own fields.

JSON, because a tokenizer file is shared and loaded from places one does not control, and reading JSON runs no code.
"""

from __future__ import annotations

import json
import os
import secrets
from os import PathLike
from pathlib import Path
from typing import Any

from .errors import FormatError

FORMAT = "transformer-stack/tokenizer"
VERSION = 2  # 1 had the single bytes in another order


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
    if version != VERSION or isinstance(version, bool):
        raise FormatError(f"expected version {VERSION}, found {version!r}; read it with the release that wrote it")
    kind = data.get("kind")
    if not isinstance(kind, str):
        raise FormatError(f"expected the tokenizer's kind as a string, found {kind!r}; the data is damaged")
    return kind


def write_json(path: str | PathLike[str], data: dict[str, Any]) -> None:
    """Write data to path so that path holds either its old content or all of the new one.

    The text goes to a new file in the same folder (a move between disks is not atomic), reaches the disk, and is then
    moved over path. On any failure the new file is removed.
    """
    target = Path(os.path.realpath(path))  # a link keeps pointing to the file, which is replaced
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":")) + "\n"
    aside = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    try:
        with open(aside, "x", encoding="ascii", newline="\n") as file:
            file.write(text)
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
