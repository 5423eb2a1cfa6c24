"""What a lesson is: a question, the right and the wrong engine on the same numbers, and why they differ."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from typing import NamedTuple

import numpy as np

from ...tensor import Tensor

WIDTH = 96  # columns of a report, at most
RUNS, CHANGED = "What runs:", "The one thing changed in the wrong engine:"


class Row(NamedTuple):
    """One line of the comparison: what was looked at, and what came of it. Numbers, arrays, Tensors or texts."""

    what: str
    right: object
    wrong: object


class Curve(NamedTuple):
    """What changed over the steps: a value a step of the right and of the wrong run.

    every: drawn as the mean of so many steps, where single ones are noisy.
    """

    what: str
    right: list[float]
    wrong: list[float]
    every: int = 1

    def points(self) -> tuple[list, list]:
        """(step, value) of the right and of the wrong run, as they are drawn."""
        return tuple(
            [(i + self.every, float(np.mean(values[i : i + self.every]))) for i in range(0, len(values), self.every)]
            for values in (self.right, self.wrong)
        )


@dataclass(frozen=True)
class Outcome:
    """What a run gave, from which the texts take what was measured.

    rows      the comparison
    answer    which of the lesson's choices came true, from 0
    happened  what happened, in words
    why       the reason
    curves    values over steps, to be drawn
    """

    rows: list[Row]
    answer: int
    happened: str
    why: str
    curves: list[Curve] = field(default_factory=list)

    def __getitem__(self, what: str) -> Row:
        for row in self.rows:
            if row.what == what:
                return row
        raise KeyError(f"{what!r} is not among the rows: {', '.join(row.what for row in self.rows)}")


@dataclass(frozen=True)
class Lesson:
    """One way to break the engine.

    name       what the command line calls it
    title      what is broken
    question   what to predict before it is run
    choices    possible answers
    code       functions and classes whose source is shown first: what runs on both engines
    change     those whose source is shown as the one thing changed
    run        run(progress) gives the Outcome; progress(done, of), steps, is told of longer runs
    then       what to try next
    """

    name: str
    title: str
    question: str
    choices: tuple[str, ...]
    code: tuple
    change: tuple
    run: Callable[[Callable[[int, int], None]], Outcome]
    then: tuple[str, ...]

    def introduction(self, width: int = WIDTH) -> str:
        """The code, the change, and the question with its choices."""
        code, change = (textwrap.indent(source_of(*pieces), "    ") for pieces in (self.code, self.change))
        title = f"{self.title}\n{'=' * len(self.title)}"
        return "\n\n".join([title, RUNS, code, CHANGED, change, self.asked(width)])

    def asked(self, width: int = WIDTH) -> str:
        """The question and its choices."""
        choices = (filled(f"  {i}) {choice}", width, "     ") for i, choice in enumerate(self.choices, 1))
        return "\n".join([filled(f"Predict first. {self.question}", width), "", *choices])

    def report(self, outcome: Outcome | None = None, width: int = WIDTH) -> str:
        """The whole lesson as text, run now if no outcome is given."""
        outcome = outcome or self.run(no_progress)
        return "\n\n".join([self.introduction(width), self.answer(outcome, width=width)])

    def answer(self, outcome: Outcome, predicted: int | None = None, width: int = WIDTH) -> str:
        """The comparison, what happened, why, and what next. predicted: the choice that was made, from 0."""
        true = f"{outcome.answer + 1}) {self.choices[outcome.answer]}"
        verdict = f"It is {true}"
        if predicted is not None:
            verdict = f"Right: {true}" if predicted == outcome.answer else f"You said {predicted + 1}. {verdict}"
        texts = [filled(t, width) for t in (verdict, f"What happened. {outcome.happened}", f"Why. {outcome.why}")]
        then = "\n".join(filled(f"- {text}", width, "  ") for text in self.then)
        return "\n\n".join([table(outcome.rows, width), *texts, f"Try next:\n{then}"])

    def _repr_html_(self):
        return f"<pre>{escape(self.introduction())}</pre>"


def no_progress(done: int, of: int):
    """For whoever does not watch."""


def filled(text: str, width: int = WIDTH, indent: str = "") -> str:
    """A paragraph broken between words."""
    return textwrap.fill(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def source_of(*pieces) -> str:
    """The source of functions and classes; texts as they are."""
    texts = [piece if isinstance(piece, str) else inspect.getsource(piece) for piece in pieces]
    return "\n\n".join(textwrap.dedent(text).rstrip() for text in texts)


def shown(value) -> str:
    """A value as a table shows it: four digits, arrays row by row."""
    if isinstance(value, Tensor):
        value = value.detach().numpy()
    if value is None:
        return "none"
    if isinstance(value, (float, np.floating)):
        return f"{value:.4g}"
    if isinstance(value, np.ndarray):
        return np.array2string(value, formatter={"float_kind": lambda v: f"{v:.4g}"}, separator=", ", max_line_width=40)
    return str(value)


def table(rows: list[Row], width: int = WIDTH) -> str:
    """Three columns of text; what is longer than a column goes on below."""
    cells = [("", "right engine", "wrong engine"), *((r.what, shown(r.right), shown(r.wrong)) for r in rows)]
    longest = [max(len(line) for row in cells for line in row[i].split("\n")) for i in range(3)]
    first = min(longest[0], 38, max(12, width - 28))  # the others have 12 and their gaps, at least
    widths = [first, *(min(n, max(12, (width - first - 4) // 2)) for n in longest[1:])]
    lines = []
    for number, row in enumerate(cells):
        columns = [_lines(text, most) for text, most in zip(row, widths)]
        for i in range(max(map(len, columns))):
            lines.append("  ".join((c[i] if i < len(c) else "").ljust(w) for c, w in zip(columns, widths)).rstrip())
        if number == 0:
            lines.append("  ".join("-" * w for w in widths))
    return "\n".join(lines)


def _lines(text, width):
    # Spaces are kept: a sample of text may be made of them.
    return [part for line in text.split("\n") for part in textwrap.wrap(line, width, drop_whitespace=False) or [""]]
