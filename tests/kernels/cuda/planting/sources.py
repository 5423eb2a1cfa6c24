"""Bugs planted in copies of CUDA sources, all at once: each sleeps until the program is told its number.

    c < columns              becomes   c < planted(17) + columns
    __syncthreads()          becomes   (planted(18) ? (void)0 : __syncthreads())

so one compilation serves them all. Nothing is parsed: the sources are formatted, which puts blanks around the `<` of a
comparison and none around a template's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tinygrad_lite.kernels.cuda.emulator.compiler import _closing

HEADER = """\
#pragma once
#define VISIBLE __attribute__((visibility("default")))
extern "C" {
VISIBLE int planted_bug = 0;                      // the number of the one that is awake
VISIBLE unsigned char planted_reached[%d] = {};  // which have been come by
}
// Whether this bug is awake. Not a part of the kernel, whose accesses are watched.
__attribute__((no_sanitize("thread"))) inline bool planted(int bug) {
  planted_reached[bug] = 1;
  return bug == planted_bug;
}
"""
UNTOUCHED = {"gpu.cuh", "wgmma.cuh"}  # they define the barriers
CALLS = re.compile(r"\b(__syncthreads|__syncwarp|barrier_sync|cp_async_commit|cp_async_wait<(?P<groups>\w+)>"
                   r"|wgmma_begin|wgmma_commit|wgmma_publish|wgmma_wait<\w+>)\s*\(")  # fmt: skip
COMPARISON = re.compile(r"(?<=\s)(<=|>=|<|>)\s+")
LIMIT = re.compile(r"\b(min|max)\s*\(")
IGNORED = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|^[ \t]*#(?:[^\n]*\\\n)*[^\n]*', re.S | re.M)
COMPILE_TIME = re.compile(r"\b(?:if\s+constexpr\s*\(|static_assert\s*\(|constexpr\b[^;{]*)")
CONSTANT = re.compile(r"\bconstexpr \w+ ([a-z]\w*)")
FLOAT = re.compile(r"\d\.|\de[+-]?\d|\bINFINITY\b|\bLOWEST\b|\bNAN\b")


@dataclass(frozen=True)
class Bug:
    """`text`, which stands in a line of a file, is `planted` while the bug is awake. source: the whole line."""

    number: int
    file: str
    line: int
    source: str
    text: str
    planted: str

    def __str__(self):
        return f"{self.file}:{self.line}: {self.text}  ->  {self.planted}"


def plant(source: Path, into: Path) -> list[Bug]:
    """Copy the .cu and .cuh files of a folder into another, with every bug in them. Bugs are numbered from 1 on."""
    bugs = []
    for file in sorted((*source.glob("*.cu"), *source.glob("*.cuh"))):
        text = file.read_text()
        if file.name not in UNTOUCHED:
            text, found = plant_in(text, file.name, 1 + len(bugs))
            text = f'#include "planted.h"\n#line 1\n{text}'
            bugs += found
        (into / file.name).write_text(text)
    (into / "planted.h").write_text(HEADER % (1 + len(bugs)))
    return bugs


def plant_in(text: str, file: str, number: int) -> tuple[str, list[Bug]]:
    """A source's text with every bug in it, and the bugs, numbered from `number` on."""
    code = _blanked(text)
    bugs, insertions = [], []

    def add(at, was, becomes):
        line = text.count("\n", 0, at) + 1
        bugs.append(Bug(number + len(bugs), file, line, text.split("\n")[line - 1].strip(), was, becomes))
        return f"planted({bugs[-1].number})"

    places = [(match.start(), change, match) for pattern, change in KINDS for match in pattern.finditer(code)]
    for at, change, match in sorted(places, key=lambda place: place[0]):
        insertions += change(code, at, match, add)
    pieces, end = [], 0
    for place, inserted in sorted(insertions, key=lambda insertion: insertion[0]):
        pieces += text[end:place], inserted
        end = place
    return "".join(pieces) + text[end:], bugs


# -- kinds of bugs: each gives (place, text to insert there) -------------------------------------------------------
def _call(code, at, match, add):
    """A barrier, a wait or a commit that is not there; a wait for one group of copies less."""
    end = _closing(code, match.end())
    call = code[at:end]
    opening = f"({add(at, call, 'nothing')} ? (void)0 : "
    if match["groups"]:
        less = f"cp_async_wait<{match['groups']} + 1>()"
        opening += f"{add(at, call, less)} ? {less} : "
    return [(at, opening), (end, ")")]


def _comparison(code, at, match, add):
    """A bound that lets one more through: `x < n + 1`, `x >= n - 1`; the other way round where it decides who leaves."""
    left, right = _left(code, at), _right(code, match.end())
    if FLOAT.search(left + right) or _is_constant(code, at, left) and _is_constant(code, at, right):
        return []
    widens = match[1][0] == "<"
    sign = "+-"[widens == _leaves(code, at)]
    was = f"{left} {match[1]} {right}"
    return [(match.end(), f"{sign.replace('+', '')}{add(at, was, f'{was} {sign} 1')} + ")]


def _limit(code, at, match, add):
    """min(...) + 1, max(...) - 1."""
    end = _closing(code, match.end())
    if _is_constant(code, at, code[match.end() : end - 1]) or FLOAT.search(code[at:end]):
        return []
    sign = "+" if match[1] == "min" else "-"
    call = code[at:end]
    return [(at, f"({sign.replace('+', '')}{add(at, call, f'{call} {sign} 1')} + "), (end, ")")]


KINDS = (CALLS, _call), (COMPARISON, _comparison), (LIMIT, _limit)


# -- reading C++ without a parser ----------------------------------------------------------------------------------
def _blanked(code: str) -> str:
    """code, as long as before, with blanks for what is no code or is evaluated by the compiler."""

    def blank(text):
        return re.sub(r"[^\n]", " ", text)

    constants = CONSTANT.findall(code)
    code = IGNORED.sub(lambda match: blank(match[0]), code)
    for match in COMPILE_TIME.finditer(code):
        end = _closing(code, match.end()) if match[0].endswith("(") else match.end()
        code = code[: match.start()] + blank(code[match.start() : end]) + code[end:]
    for name in constants:  # in capitals, as others are
        code = re.sub(rf"\b{name}\b", name.upper(), code)
    return code


def _line(text: str) -> str:
    return " ".join(text.split())


def _left(code: str, at: int) -> str:
    """What stands before a comparison, back to what binds less."""
    depth, i = 0, at
    while i > 0:
        c, two = code[i - 1], code[i - 2 : i]
        if c in ")]":
            depth += 1
        elif c in "([":
            if depth == 0:
                break
            depth -= 1
        elif depth == 0 and (c in ";,{}?" or two in ("&&", "||", "= ") or c == ":" and two != "::"):
            if two != "= " or code[i - 3] not in "=<>!":
                break
        elif depth == 0 and code[i - 7 : i] == "return ":
            break
        i -= 2 if two == "::" else 1
    return _line(code[i:at])


def _right(code: str, start: int) -> str:
    """What stands behind a comparison, up to what binds less."""
    depth, i = 0, start
    while i < len(code):
        c, two = code[i], code[i : i + 2]
        if c in "([":
            depth += 1
        elif c in ")]":
            if depth == 0:
                break
            depth -= 1
        elif depth == 0 and (c in ";,{}?" or two in ("&&", "||") or c == ":" and two != "::"):
            break
        i += 2 if two == "::" else 1
    return _line(code[start:i])


def _leaves(code: str, at: int) -> bool:
    """Whether a comparison stands in an if that leaves the loop or the function."""
    for match in reversed(list(re.finditer(r"\bif \(", code[:at]))):
        end = _closing(code, match.end())
        if end > at:
            return re.match(r"\s*(return|break|continue)\b", code[end:]) is not None
        if code.find(";", end, at) >= 0:
            break
    return False


def _is_constant(code: str, at: int, expression: str) -> bool:
    """Whether the compiler knows an expression's value, as far as names tell: macros, template arguments and constants
    are written in capitals, a variable that a loop counts from one such value to another is unrolled."""
    expression = re.sub(r"\b\w+(<[^<>]*>)?::\w+", "0", expression)
    names = re.findall(r"\b[A-Za-z_]\w*", expression)
    return all(name.upper() == name or name == "sizeof" or _is_unrolled(code, at, name) for name in names)


def _is_unrolled(code: str, at: int, name: str) -> bool:
    """Whether the last thing of this name before here is a loop's variable with constant bounds, or such a constant."""
    places = list(re.finditer(rf"\b{name} =(?!=)\s*|\b(?:int|Index|i64|u32) {name}\s*[,)]", code[:at]))
    if not places or places[-1][0][-1] in ",)":  # a parameter
        return False
    found = places[-1]
    header = re.search(r"\bfor \([\w ]*$", code[: found.start()])
    first = re.match(r"[^;]*", code[found.end() :])[0]
    if not header or not _is_constant(code, found.start(), first):
        return False
    bound = re.match(rf"\s*{name} (?:<|<=|>|>=) ([^;]*);", code[found.end() + len(first) + 1 :])
    return bound is not None and _is_constant(code, found.start(), bound[1])
