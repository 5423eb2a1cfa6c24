"""A function of the user's, named on the command line as module:function or path/to/file.py:function."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from pathlib import Path

MISUSE = 2  # exit code


class Usage(Exception):
    """A mistake in what was asked: one line, exit code 2."""


def find_function(target: str):
    """The function that module:function or path/to/file.py:function names; C: is a drive, not a module."""
    where, _, name = target.rpartition(":")
    if not where or not name or re.search(r"[\\/]", name) or name.endswith(".py"):
        raise Usage(f"name the function too: {target.rstrip(':')}:function")
    sys.path.insert(0, "")
    is_file = where.endswith(".py") or "/" in where or "\\" in where
    if is_file and not Path(where).is_file():
        raise Usage(f"there is no file {where}")
    try:
        module = _module_of(Path(where)) if is_file else importlib.import_module(where)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and not is_file and f"{where}.".startswith(f"{error.name}."):
            raise Usage(f"there is no module {error.name!r}: for a file, write path/to/file.py:{name}") from None
        raise Usage(f"importing {where} raised {in_a_line(error)}") from None
    fn = module
    for part in name.split("."):
        if not hasattr(fn, part):
            names = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
            near = difflib.get_close_matches(part, names) or names[:5]
            hint = f": did you mean {' or '.join(near)}?" if near else ""
            raise Usage(f"{where} has no function {name!r}{hint}")
        fn = getattr(fn, part)
    if not callable(fn):
        raise Usage(f"{target} is not a function, but of type {type(fn).__name__}")
    return fn


def _module_of(path: Path):
    sys.path.insert(0, str(path.resolve().parent))  # its neighbours can be imported, as by `python file.py`
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise Usage(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def in_a_line(error: BaseException) -> str:
    """The error, and the innermost line that raised it."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error}"  # names its place itself
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}".replace("\n", " ") + place


def shapes_of(fn, name: str, texts) -> list[tuple[int, ...]]:
    """One shape an input: those given, or 2x3 for each parameter without a default."""
    shapes = [shape_of(text) for text in texts or ()]
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return shapes or [(2, 3)]
    placed = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = [p.name for p in placed if p.default is p.empty]
    most = len(shapes) if any(p.kind is p.VAR_POSITIONAL for p in parameters) else len(placed)
    if not shapes:
        return [(2, 3)] * max(len(needed), 1)
    if not len(needed) <= len(shapes) <= most:
        takes = f"{len(needed)} inputs ({', '.join(needed)})" if needed else "no inputs"
        raise Usage(f"{name} takes {takes}, got {len(shapes)} shapes: give --shape once for each")
    return shapes


def shape_of(text: str) -> tuple[int, ...]:
    """ "2x3" or "2,3" as (2, 3), "scalar" as (); Usage for anything else."""
    if text in ("scalar", "()"):
        return ()
    if not re.fullmatch(r"\d+([x,]\d+)*", text):
        raise Usage(f"--shape must be numbers joined by x, 2x3 say, or scalar; got {text!r}")
    return tuple(map(int, re.split("[x,]", text)))
