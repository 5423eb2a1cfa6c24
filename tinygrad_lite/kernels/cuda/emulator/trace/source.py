"""Names of a kernel's parameters and shared arrays, and the text of its lines."""

from __future__ import annotations

import functools
import re
import subprocess
from pathlib import Path
from typing import NamedTuple


class Variable(NamedTuple):
    """A __shared__ array: where it begins among all of the library's, and how long it is."""

    name: str
    begin: int
    bytes: int


@functools.cache
def _lines(path: Path) -> list[str]:
    return path.read_text().split("\n") if path.is_file() else []


def text_of(folders, place: tuple[str, int]) -> str:
    """The line at (file, line), without what surrounds it; empty where the file is not in these folders."""
    file, number = place
    for folder in folders:
        lines = _lines(Path(folder, file))
        if 0 < number <= len(lines):
            return lines[number - 1].strip()
    return ""


def parameter_names(folders, kernel: str) -> list[str]:
    """Of a kernel, by its name without template arguments. Empty where these folders have no such kernel."""
    start = re.compile(rf"__global__[^;{{}}]*?\b{re.escape(kernel)}\s*\(([^{{}};]*?)\)\s*\{{", re.S)
    for folder in folders:
        for path in sorted(Path(folder).glob("*.cu*")):
            if found := start.search(re.sub(r"//[^\n]*", "", path.read_text())):
                parameters = [_expanded(folder, text.strip()) for text in _split(found[1])]
                return [re.findall(r"\w+", p)[-1] for p in _split(", ".join(parameters)) if p.strip()]
    return []


def _expanded(folder, text: str) -> str:
    """What a macro stands for that is several parameters; other text as it is."""
    if text.isidentifier():
        for path in sorted(Path(folder).glob("*.cu*")):
            if found := re.search(rf"#define {text} ((?:.*\\\n)*.*)", path.read_text()):
                return found[1].replace("\\\n", " ")
    return text


def _split(text: str) -> list[str]:
    """At the commas outside of brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "(<[") - (letter in ")>]")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def shared_variables(library: str) -> list[Variable]:
    """The __shared__ arrays of a library, as they lie."""
    said = subprocess.run(["nm", "-C", "-S", library], capture_output=True, text=True).stdout
    found = []
    for line in said.splitlines():
        match = re.match(r"([0-9a-f]+) ([0-9a-f]+) [bBdDuVW] (?!guard variable)(.*)", line)
        if match and "::" in match[3] and not match[3].startswith("emulator::"):
            found.append(Variable(match[3].rpartition("::")[2], int(match[1], 16), int(match[2], 16)))
    return sorted(found, key=lambda v: v.begin)
