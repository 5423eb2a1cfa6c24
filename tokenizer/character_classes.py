"""Classes of characters (normalizer_tables.py) as expressions and as tables for str.translate."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache

from . import normalizer_tables as tables


def character_class(*names: str) -> str:
    """The inside of a regular expression's [...] for the ranges of these tables."""
    found = []
    for name in names:
        for first, last in parse_ranges(getattr(tables, name)):
            found.append(f"{re.escape(chr(first))}-{re.escape(chr(last))}")
    return "".join(found)


def parse_ranges(text: str) -> Iterator[tuple[int, int]]:
    """(first, last) of each range in a table's text."""
    for word in text.split():
        first, _, last = word.partition("-")
        yield int(first, 16), int(last or first, 16)


@cache
def character_expression(name: str) -> re.Pattern[str]:
    """Matches one character of a table's ranges, as its first group. AttributeError for a name that no table has."""
    return re.compile(f"([{character_class(name)}])")


class LazyTable(dict[int, str]):
    """For str.translate: asks once for each character it meets, so that a class of 137,000 takes no memory."""

    def __init__(self, find: Callable[[str], str]) -> None:
        self._find = find

    def __missing__(self, code: int) -> str:
        self[code] = result = self._find(chr(code))
        return result


@cache
def table_of(name: str, form: str) -> Mapping[int, str]:
    """The characters of a class take this form, with {} for themselves."""
    inside = character_expression(name)
    return LazyTable(lambda character: form.format(character) if inside.match(character) else character)
