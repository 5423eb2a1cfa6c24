"""`tgl draw`: a computation as a picture."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from .screen import Screen
from .step import _stepper
from .target import MISUSE, Usage

console = Screen()


def draw(
    target: Annotated[
        str | None,
        typer.Argument(help="As for tgl step: 'a=-4.0; b=2.0; a*b + b**3', path/to/file.py:function, or a program."),
    ] = None,
    to: Annotated[Path, typer.Option(help="The SVG file to write.")] = Path("graph.svg"),
    let: Annotated[
        list[str] | None, typer.Option(help="A name's value, as for tgl step: a=2.0 or a=2x3. Once for each.")
    ] = None,
    directory: Annotated[Path | None, typer.Option("--from", help="Draw a run's model instead ...")] = None,
    text: Annotated[str | None, typer.Option(help="... on this text.")] = None,
    opened: Annotated[
        list[str] | None, typer.Option("--open", help="A module to look into: blocks.0, 'blocks.*', or all.")
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="Boxes to draw; what ran before them is one box.")] = 500,
    right: Annotated[bool, typer.Option("--right", help="From left to right instead of downwards.")] = False,
    seed: Annotated[int, typer.Option(help="Of random values.")] = 0,
):
    """Draw a computation as an SVG, with values and gradients, folded by module."""
    try:
        if to.is_dir():
            raise Usage(f"--to {to} is a directory: name a file, {to / 'graph.svg'} say")
        if not to.parent.is_dir():
            raise Usage(f"--to {to}: there is no directory {to.parent}: make it first")
        from tinygrad_lite.study import draw_graph  # `tgl train` loads no study code

        with np.errstate(all="ignore"):  # what is not finite stands in the picture
            stepper = _stepper(target, let or (), directory, text, np.random.default_rng(seed))
            if stepper.output is not None and stepper.output.node is not None:
                stepper.end()
        picture = draw_graph(stepper, open=opened or (), most=most, direction="right" if right else "down")
    except (Usage, ValueError) as error:
        said = re.sub("^(step|Stepper|draw_graph): ", "", str(error))
        print(f"tgl: draw: {said}", file=sys.stderr)
        raise typer.Exit(MISUSE) from None
    picture.save(to)
    console.say(f"{to}: {len(picture.graph.boxes):,} boxes. Open it in a browser.")
