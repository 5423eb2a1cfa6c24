"""All lessons, in the order in which they teach: those of the engine, then attention, then training."""

from __future__ import annotations

import difflib

from tinygrad_lite.study.lessons import LESSONS as ENGINE
from tinygrad_lite.study.lessons import Lesson

from .attention import CAUSAL_MASK, SCALE
from .training import INITIALISATION, WARM_UP

LESSONS = (*ENGINE, SCALE, CAUSAL_MASK, WARM_UP, INITIALISATION)


def find(name: str) -> Lesson:
    """The lesson of a name or a number from 1; ValueError names the nearest."""
    by_name = {lesson.name: lesson for lesson in LESSONS}
    if name.isdecimal() and 1 <= int(name) <= len(LESSONS):
        return LESSONS[int(name) - 1]
    if name not in by_name:
        near = difflib.get_close_matches(name, by_name)
        choices = f"there are {', '.join(by_name)}, or a number from 1 to {len(LESSONS)}"
        hint = f"did you mean {' or '.join(near)}?" if near else choices
        raise ValueError(f"there is no lesson {name!r}: {hint}")
    return by_name[name]
