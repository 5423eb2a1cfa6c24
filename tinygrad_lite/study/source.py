"""Where in the user's source an op was called: the file, the line, and the very expression.

Python keeps for each instruction the span of text that it came from (PEP 657), so of `d = a * b + b**3` each of the
three ops is told apart. Only code and instruction are noted while the program runs; text is read when somebody asks.
"""

from __future__ import annotations

import ast
import itertools
import linecache
import os
import sys
from functools import lru_cache
from types import CodeType
from typing import NamedTuple

from ..nn.module import Module

_LIBRARY = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_FORMULAS = os.path.join(_LIBRARY, "ops") + os.sep
_ENTERS_MODULE = Module.__call__.__code__
_is_library: dict[CodeType, bool] = {}  # by code object: a string comparison for each frame would cost half


class Place(NamedTuple):
    """A point in a program: `text` is the expression there, `statement` the whole line of source, stripped.

    start, end: where the expression stands in the statement, in characters; (0, 0) where Python does not know.
    """

    file: str
    line: int
    function: str
    text: str
    statement: str
    start: int = 0
    end: int = 0

    def __str__(self):
        return f"{self.file}:{self.line}"


class Call(NamedTuple):
    """What `capture` notes: frames outside this package, innermost first, and the modules that were being called."""

    frames: tuple[tuple[CodeType, int], ...]  # code and index of its instruction
    modules: tuple[Module, ...]  # outermost first

    @property
    def place(self) -> Place | None:
        """The innermost line outside this package; None where all of the program is inside."""
        return place_of(*self.frames[0]) if self.frames else None

    @property
    def places(self) -> list[Place]:
        """All lines outside this package, innermost first."""
        return [place_of(*frame) for frame in self.frames]


def capture(depth: int = 1) -> Call:
    """Where the caller's caller (and so on, `depth` times) was called from."""
    frame, frames, modules = sys._getframe(depth + 1), [], []
    while frame is not None:
        code = frame.f_code
        inside = _is_library.get(code)
        if inside is None:
            inside = _is_inside(code)
        if not inside:
            frames.append((code, frame.f_lasti))
        elif code is _ENTERS_MODULE:
            modules.append(frame.f_locals["self"])
        frame = frame.f_back
    return Call(tuple(frames), tuple(reversed(modules)))


def capture_inside(formula: CodeType, depth: int = 1) -> Call:
    """The same seen from within an op's formula: its lines, innermost first, the engine's left out."""
    frame, frames = sys._getframe(depth + 1), []
    while frame is not None:
        code = frame.f_code
        if not code.co_filename.startswith(_LIBRARY) or code.co_filename.startswith(_FORMULAS):
            frames.append((code, frame.f_lasti))
        if code is formula:
            break
        frame = frame.f_back
    return Call(tuple(frames), ())


def user_frame(depth: int = 1):
    """The innermost live frame outside this package: for the names of the user's variables."""
    frame = sys._getframe(depth + 1)
    while frame is not None and _is_inside(frame.f_code):
        frame = frame.f_back
    return frame


def _is_inside(code):
    inside = _is_library.get(code)
    if inside is None:
        inside = _is_library[code] = os.path.abspath(code.co_filename).startswith(_LIBRARY)
    return inside


@lru_cache(maxsize=65536)
def place_of(code: CodeType, instruction: int) -> Place:
    """The place of an instruction."""
    line, last, start, end = _span(code, instruction)
    whole = linecache.getline(code.co_filename, line)
    statement = whole.strip()
    text = _segment(code.co_filename, line, last, start, end)
    if text is None:
        return Place(code.co_filename, line, code.co_name, statement, statement)
    indent = len(whole) - len(whole.lstrip())
    first = _characters(whole, start) - indent
    until = _characters(whole, end) - indent if last == line else len(statement)
    return Place(code.co_filename, line, code.co_name, text, statement, first, until)


def _characters(line: str, column: int) -> int:
    """A column in characters: Python counts bytes of UTF-8."""
    return len(line.encode()[:column].decode(errors="replace"))


@lru_cache(maxsize=65536)
def target_of(code: CodeType, instruction: int) -> str | None:
    """The variable that receives the value, where the statement is `name = expression` and the whole of it is meant."""
    line, last, start, end = _span(code, instruction)
    statement = _statements(code.co_filename).get(line)
    if not isinstance(statement, (ast.Assign, ast.AnnAssign, ast.AugAssign)) or statement.value is None:
        return None
    value = statement.value
    whole = value if not isinstance(statement, ast.AugAssign) else statement  # x += y: the op spans the statement
    span = (whole.lineno, whole.end_lineno, whole.col_offset, whole.end_col_offset)
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    if span != (line, last, start, end) or len(targets) != 1 or not isinstance(targets[0], (ast.Name, ast.Attribute)):
        return None
    return ast.unparse(targets[0])


def _span(code, instruction):
    """(first line, last line, first column, end column), columns in UTF-8 bytes or None."""
    found = next(itertools.islice(code.co_positions(), instruction // 2, None), (None,) * 4)
    line, last, start, end = found
    return line or code.co_firstlineno, last or line or code.co_firstlineno, start, end


def _segment(file, line, last, start, end):
    if start is None or end is None:
        return None
    lines = [linecache.getline(file, n).encode() for n in range(line, last + 1)]
    if not all(lines):
        return None
    lines[-1] = lines[-1][:end]
    lines[0] = lines[0][start:]
    return " ".join(part.decode(errors="replace").strip() for part in lines)


@lru_cache(maxsize=64)
def _statements(file) -> dict[int, ast.stmt]:
    """The statements of a file by the line on which they begin."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:  # a notebook's magic, say: names are a comfort only
        return {}
    return {node.lineno: node for node in ast.walk(tree) if isinstance(node, ast.stmt)}
