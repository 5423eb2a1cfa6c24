"""This package's own single file: every kind of tokenizer, whole (serialize.py)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..base import Tokenizer
from ..errors import FormatError

NAME = "own"


def gather(path: Path) -> dict[str, bytes]:
    """The file's bytes. OSError where it cannot be read."""
    return {"": path.read_bytes()}


def parse(files: dict[str, bytes], ignore: frozenset[str]) -> Tokenizer:
    """The tokenizer of any kind that `files` wrote. FormatError for what is damaged or of a later version."""
    try:
        data = json.loads(files[""])
    except (ValueError, RecursionError) as error:
        raise FormatError(f"expected a tokenizer file in JSON, found something else ({error})") from error
    return Tokenizer.from_dict(data)


def files(tokenizer: Tokenizer, ignore: frozenset[str]) -> dict[str, bytes]:
    """The tokenizer as ASCII JSON: everything it has."""
    text = json.dumps(tokenizer.to_dict(), ensure_ascii=True, separators=(",", ":")) + "\n"
    return {"": text.encode("ascii")}


def options_of(tokenizer: Tokenizer) -> dict[str, Any]:
    """None: the file holds everything."""
    return {}
