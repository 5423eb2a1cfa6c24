"""What the commands of `tgl lens` share: texts in, tables and pictures out."""

from __future__ import annotations

import re
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tinygrad_lite import Generator
from tokenizer.visible import visible

from ..sampling import generate, start_of_text
from .inspect import encoded
from .screen import Screen

# Nothing of ..lens up here: `tgl train` loads this file and no more.
console = Screen()
OWN_SAMPLE = 24  # tokens


def _directory(out: Path) -> Path:
    if out.is_file():  # now, and not after the work
        raise ValueError(f"--out {out} is a file: name a directory")
    return out


Out = Annotated[Path, typer.Option("--out", help="The directory for the PNG and the HTML file.", callback=_directory)]


def unicode(text: str) -> str:
    """What was typed, as text that can be encoded."""
    # Where the locale is C, Python reads the shell's UTF-8 as ASCII and keeps the rest as bytes.
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def ids_of(model, tok, text: str | None, option: str = "--text", least: int = 1) -> np.ndarray:
    """The tokens of a text, as many as the model reads; without a text, a sample of the model."""
    if text is None:
        size = min(OWN_SAMPLE, model.config.block_size)
        start = start_of_text(tok)
        ids = [*start, *generate(model, start, size, temperature=0.8, generator=Generator(0))][-size:]
        console.say(f"No {option} is given, so the model reads its own sample: {tok.decode(ids)!r}")
    else:
        ids = encoded(tok, unicode(text), option)
    ids, most = np.asarray(ids, np.int64), model.config.block_size
    if len(ids) < least:
        had = f"{len(ids)} token{'s' * (len(ids) != 1)}"
        raise ValueError(f"{option} has {had} and needs {least}: give a longer text")
    if len(ids) > most:
        console.say(f"{option} has {len(ids)} tokens; the model reads the last {most}.")
    return ids[-most:]


def token_of(tok, text: str, option: str) -> int:
    """The id of a text that is one token; ValueError names the tokens of one that is not."""
    ids = encoded(tok, unicode(text), option)
    if len(ids) != 1:
        pieces = ", ".join(repr(tok.decode([int(i)])) for i in ids) or "none"
        raise ValueError(f"{option} must be one token, {text!r} is {len(ids)}: {pieces}")
    return int(ids[0])


def names_of(tok, ids) -> list[str]:
    """What each id stands for: blanks marked, bytes that are no text escaped, four equal signs or more told as one."""
    shown = (visible(tok.decode_bytes([int(i)]), borders="×") for i in ids)
    return [re.sub(r"(.)\1{3,}", lambda run: f"{run[1]}×{len(run[0])}", name) or "∅" for name in shown]


def write(name: str, panels, out: Path, title: str, lines=()):
    """The panels as OUT/NAME.png and OUT/NAME.html."""
    from ..lens.page import write_page
    from ..lens.picture import draw

    out.mkdir(parents=True, exist_ok=True)
    draw(panels, out / f"{name}.png", title)
    write_page(panels, out / f"{name}.html", title, lines)
    console.say(f"In {out}: {name}.png and {name}.html.")


@contextmanager
def bar(text: str):
    """A progress bar, where a terminal can take it away again; yields advance(done, of)."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True,
                  disable=not console.is_terminal) as shown:  # fmt: skip
        task = shown.add_task(text, total=None)
        yield lambda done, of, *_: shown.update(task, completed=done, total=of)


def table(rows):
    """Rows of strings in columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    for first, *others in rows:
        line = "".join(f"  {cell:>{w}}" for cell, w in zip(others, widths[1:]))
        console.print(f"  {first:<{widths[0]}}{line}".rstrip())
