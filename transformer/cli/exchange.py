"""`tgl import`, `export`: models from elsewhere, and to there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import Progress

from tokenizer import FormatError

from .. import checkpoint
from ..hf import export
from .inspect import From, load_model
from .run_view import console, quoted


def import_command(
    folder: Annotated[
        Path, typer.Argument(help="As save_pretrained writes it: config.json, model.safetensors, tokenizer.json.")
    ],
    to: Annotated[Path, typer.Option("--to", help="The run's directory to make.")],
    tokenizer: Annotated[Path | None, typer.Option(help="The tokenizer's file, in place of the folder's.")] = None,
    block_size: Annotated[int | None, typer.Option(help="A shorter context than the model's.")] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(help="What the tokenizer's file asks for and may be left out, by the error's name."),
    ] = None,
):
    """Make a run of a model in Hugging Face's format (GPT-2, Llama, Mistral, Qwen2), to sample, study or train on."""
    from ..hf.folder import load
    from ..hf.run import check_free, write_run

    check_free(to)  # now, and not after the weights are read
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(escape(f"Reading {folder}"), total=None)
        model = load(
            folder, tokenizer=tokenizer, block_size=block_size, ignore=ignore or (),
            progress=lambda done, of: progress.update(task, completed=done, total=of),
        )  # fmt: skip
    write_run(to, model, str(folder.resolve()))
    parameters = sum(w.size for w in model.weights.values())
    c = model.config
    console.say(
        f"In {to}: {parameters:,} parameters, {c.layers} layers of {c.channels} channels, {c.vocab_size:,} tokens, a context "
        f"of {c.block_size:,}."
    )
    if model.left_out:
        console.say(f"Left out: {model.left_out:,} rows of the embedding that no token of the tokenizer's has.")
    console.say("\nWrite with it, or train on from it:", f'tgl sample --from {quoted(to)} --prompt "Hello"')
    console.print(f"    tgl train --from {quoted(to)} --data FILE --out runs/tuned")


def export_command(
    directory: From = Path("runs/latest"),
    to: Annotated[Path, typer.Option("--to", help="The directory to make.")] = Path("runs/huggingface"),
):
    """Write a model for Hugging Face's from_pretrained: weights, config and tokenizer, as GPT-2, Llama or Mistral."""
    model, tok, state = load_model(directory)
    marks = checkpoint.marks(state)
    weights = {name: p.numpy() for name, p in model.named_parameters()}
    try:
        export(to, weights, model.config, tok, marks)
        console.print(f"In {to}: model.safetensors, config.json and tokenizer.json.")
    except FormatError as error:
        export(to, weights, model.config, marks=marks)
        console.say(f"In {to}: model.safetensors and config.json. The tokenizer stays with the run: {error}.")
