"""`tgl`: its commands."""

from __future__ import annotations

from typing import Annotated

import typer

import tinygrad_lite

from .check import gradcheck
from .cuda import cuda
from .draw import draw
from .exchange import export_command, import_command
from .inspect import evaluate_command, info, sample
from .lens import lens
from .lesson import lesson
from .replay import replay
from .step import step
from .tokenizer import tokenizer
from .train import train
from .view import view

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  help="Train a small GPT without a framework, look inside it, prove its gradients.")  # fmt: skip
app.command()(train)
app.command("eval")(evaluate_command)
app.command()(sample)
app.command()(info)
app.command("import")(import_command)
app.command("export")(export_command)
app.command()(gradcheck)
app.command()(step)
app.command()(lesson)
app.command()(replay)
app.command()(draw)
app.command()(view)
app.add_typer(lens, name="lens")
app.add_typer(cuda, name="cuda")
app.add_typer(tokenizer, name="tokenizer")


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
