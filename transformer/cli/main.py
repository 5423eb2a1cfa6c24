"""`tgl`: the entry point, and how errors reach the terminal."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import tinygrad_lite

from .check import gradcheck
from .inspect import evaluate_command, export_command, info, sample
from .train import train

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  help="Train a small GPT without a framework, look inside it, prove its gradients.")  # fmt: skip
app.command()(train)
app.command("eval")(evaluate_command)
app.command()(sample)
app.command()(info)
app.command("export")(export_command)
app.command()(gradcheck)


def _show_version(wanted: bool):
    if wanted:
        print(f"tgl {tinygrad_lite.__version__}")
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Say which.")
    ] = False,
):
    pass


def main():
    """Run a command; a mistake in what was asked is one line, not a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a text with any character prints on any terminal
            stream.reconfigure(errors="replace")
    try:
        app()
    except (ValueError, TypeError, IndexError, RuntimeError, OSError) as error:
        print(f"tgl: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
