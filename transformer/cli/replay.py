"""`tgl replay`: the op where a NaN or an infinity began, run again alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .screen import Screen
from .target import MISUSE

console = Screen()


def replay(
    file: Annotated[Path, typer.Argument(help="The .npz that detect_anomaly() or tgl train --detect-anomaly wrote.")],
    step: Annotated[bool, typer.Option("--step", help="Step through it, forward and backward.")] = False,
):
    """Run the op where a NaN or an infinity began again, alone, on the inputs that it had.

    Exit code 0: it gives the same again. 1: it does not. 2: there is no such file, or it is damaged.
    """
    from tinygrad_lite.study import replay as run_again  # here: `tgl train` loads no study code

    try:
        again = run_again(file)
    except ValueError as error:
        print(f"tgl: {error}", file=sys.stderr)
        raise typer.Exit(MISUSE) from None
    console.say(again.said)
    console.say("")
    console.say(f"Run again alone, {again.op.name} gives {again.holds}.")
    if not again.is_same:
        console.say("That is not what it gave then: other versions of the software, or another device.")
        raise typer.Exit(1)
    if step:
        from .step import _show

        _show(again.stepper(), every=False, plain=False)
