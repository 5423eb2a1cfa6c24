"""`tgl lesson`: break the engine on purpose, predict what happens, and see."""

from __future__ import annotations

import sys
from textwrap import indent
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .screen import Screen
from .target import MISUSE

console = Screen()


def lesson(
    name: Annotated[str, typer.Argument(help="A lesson's name or number; list shows them all.")] = "list",
):
    """Break the engine on purpose: predict, run right and wrong side by side, understand.

    On a terminal it asks for your prediction and waits; in a pipe it runs through.
    """
    from .. import lessons  # study code is loaded by the command alone: `tgl train` never does

    name = name.lower()
    if name == "list":
        _list(lessons.LESSONS)
        return
    try:
        chosen = lessons.find(name)
    except ValueError as error:
        print(f"tgl: lesson: {error}", file=sys.stderr)
        raise typer.Exit(MISUSE) from None
    try:
        _teach(chosen, lessons.LESSONS)
    except KeyboardInterrupt:
        print()
        raise typer.Exit(130) from None


def _list(lessons):
    for number, one in enumerate(lessons, 1):
        print(f"{number:2}  {one.name:16}  {one.title}")
    console.say("\nPredict, run, understand. Begin with:", "tgl lesson 1")


def _teach(lesson, lessons):
    from tinygrad_lite.study.lessons.lesson import WIDTH

    width = min(console.width, WIDTH) if console.is_terminal else WIDTH
    predicted = None
    if console.is_terminal:
        _introduce(lesson, width)
        if sys.stdin.isatty():
            predicted = _ask(len(lesson.choices))
    else:
        print(lesson.introduction() + "\n")
    outcome = _run(lesson)
    for curve in outcome.curves:
        _draw(curve)
    print(lesson.answer(outcome, predicted, width))
    number = lessons.index(lesson) + 1
    if number < len(lessons):
        print(f"\nThe next lesson: tgl lesson {lessons[number].name}")


def _introduce(lesson, width):
    from rich.syntax import Syntax  # with it comes pygments, which no other command needs

    from tinygrad_lite.study.lessons.lesson import CHANGED, RUNS, source_of

    highlighter = Syntax("", "python", theme="ansi_dark", background_color="default")
    console.print(lesson.title, style="bold")
    for text, pieces in ((RUNS, lesson.code), (CHANGED, lesson.change)):
        console.print(f"\n{text}\n")
        console.print(highlighter.highlight(indent(source_of(*pieces), "    ")), end="")
    console.print(f"\n{lesson.asked(width)}\n")


def _ask(count: int) -> int | None:
    """The choice that was typed, from 0; None for Enter alone, or at the end of input."""
    while True:
        try:
            typed = console.input(f"Your prediction, 1 to {count} (Enter: just run it): ").strip()
        except EOFError:
            console.print()
            return None
        if not typed:
            return None
        if typed.isdecimal() and 1 <= int(typed) <= count:
            console.print()
            return int(typed) - 1
        console.say(f"A number from 1 to {count}, please, or Enter alone.")


def _run(lesson):
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Running both", total=None, visible=False)  # until a longer run says how far it is
        return lesson.run(lambda done, of: bar.update(task, completed=done, total=of, visible=True))


def _draw(curve):
    from .plot import is_printable, text_curve

    width, color = min(console.width, 90), console.is_terminal and not console.no_color
    drawn = text_curve(
        *curve.points(),
        width,
        color,
        labels=("right engine", "wrong engine"),
        what=curve.what,
        marker=None if color else "x",
    )
    if is_printable(drawn, console.encoding):
        print(drawn + "\n")
