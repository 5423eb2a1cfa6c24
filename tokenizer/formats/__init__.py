"""Tokenizer files of other libraries, read and written; what cannot be carried over is refused by name."""

from ..errors import FormatError
from .check import check_same
from .registry import FORMATS, convert, read, recognise, write

__all__ = ["FORMATS", "FormatError", "check_same", "convert", "read", "recognise", "write"]
