"""`tgl sample`, `eval`, `info`, `export`: what a trained model says, knows and holds, and taking it elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import tokenizer as tokenizers
from tinygrad_lite import Generator

from .. import checkpoint
from ..config import GPTConfig
from ..data import read_text
from ..evaluation import evaluate
from ..hf import export
from ..model import GPT
from ..sampling import generate, start_of_text

console = Console(highlight=False)
From = Annotated[Path, typer.Option("--from", help="The run's directory.")]


def load_model(directory) -> tuple[GPT, object, dict]:
    """(model, tokenizer, state) of the newest checkpoint in a directory."""
    weights, state = checkpoint.load_weights(directory)
    model = GPT(GPTConfig.from_dict(state["model"]))
    checkpoint.put_weights(model, weights, directory)
    return model.eval(), tokenizers.Tokenizer.from_dict(state["tokenizer"]), state


def sample(
    directory: From = Path("runs/latest"),
    prompt: Annotated[str | None, typer.Option(help="What the text begins with.")] = None,
    count: Annotated[int, typer.Option("--tokens", min=0, help="Tokens to add.")] = 200,
    temperature: Annotated[float, typer.Option(help="0 takes the most likely token each time.")] = 0.8,
    top_k: Annotated[int | None, typer.Option()] = None,
    top_p: Annotated[float | None, typer.Option()] = None,
    seed: Annotated[int, typer.Option()] = 0,
    stream: Annotated[bool, typer.Option("--stream/--no-stream", help="Print while it is made.")] = True,
):
    """Continue a prompt."""
    model, tok, _ = load_model(directory)
    ids = tok.encode(prompt) if prompt is not None else start_of_text(tok)
    if not ids:
        raise ValueError("--prompt is empty: give at least one character")
    tokens = generate(model, ids, count, temperature=temperature, top_k=top_k, top_p=top_p, generator=Generator(seed))
    decoder, pieces = tok.stream_decoder(), [prompt or ""]
    if stream:
        sys.stdout.write(pieces[0])
    for token in tokens:
        pieces.append(decoder.feed(token))
        if stream:
            sys.stdout.write(pieces[-1])
            sys.stdout.flush()
    pieces.append(decoder.flush())
    sys.stdout.write(pieces[-1] + "\n" if stream else "".join(pieces) + "\n")


def evaluate_command(
    directory: From = Path("runs/latest"),
    data: Annotated[list[Path] | None, typer.Option(help="Text files, each scored on its own.")] = None,
    stride: Annotated[
        int | None, typer.Option(help="Tokens a sliding window scores; default half the context.")
    ] = None,
):
    """Loss, bits a byte and perplexity of a text, with disjoint and sliding windows."""
    if not data:
        raise ValueError("eval: name a text with --data FILE")
    model, tok, _ = load_model(directory)
    table = Table("text", "windows", "tokens", "nats/token", "bits/byte", "ppl/token", "ppl/word")
    for path in data:
        tokens = tok.encode_to_array(read_text(path))
        for name, step in (("disjoint", None), ("sliding", stride or max(1, model.config.block_size // 2))):
            with Progress(console=console, transient=True) as progress:
                task = progress.add_task(f"{path.name}, {name}", total=None)
                result = evaluate(model, tokens, tok, stride=step,
                                  progress=lambda done, of, p=progress, t=task: p.update(t, completed=done, total=of))  # fmt: skip
            table.add_row(path.name, name if step is None else f"{name} by {step}", f"{result.tokens:,}", f"{result.loss:.4f}",
                          f"{result.bits_per_byte:.4f}", f"{result.token_perplexity:,.2f}", f"{result.word_perplexity:,.1f}")  # fmt: skip
    console.print(table)


def export_command(
    directory: From = Path("runs/latest"),
    to: Annotated[Path, typer.Option("--to", help="The directory to make.")] = Path("runs/huggingface"),
):
    """Write a GPT-2 shaped model for Hugging Face's GPT2LMHeadModel.from_pretrained (weights and config)."""
    model, _, _ = load_model(directory)
    export(to, {name: p.numpy() for name, p in model.named_parameters()}, model.config)
    console.print(f"In {to}: model.safetensors and config.json. The tokenizer stays with the run.")


def info(directory: Annotated[Path, typer.Argument(help="The run's directory.")] = Path("runs/latest")):
    """Parameters by module, memory, tokens seen, losses."""
    model, tok, state = load_model(directory)
    table = Table("module", "parameters", "share", "MiB")
    rows: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        parts = name.split(".")
        key = "blocks.*." + ".".join(parts[2:-1]) if parts[0] == "blocks" else parts[0]
        rows[key] = rows.get(key, 0) + parameter.size
    total = sum(rows.values())
    for key, n in rows.items():
        table.add_row(key, f"{n:,}", f"{n / total:.1%}", f"{n * 4 / 2**20:.2f}")
    table.add_row("all", f"{total:,}", "100 %", f"{total * 4 / 2**20:.2f}", style="bold")
    console.print(table)
    c, p = state["model"], state["progress"]
    console.print(", ".join(f"{k} {v}" for k, v in c.items()))
    console.print(f"Tokenizer: {type(tok).__name__}, {tok.vocab_size:,} tokens.")
    console.print(
        f"Step {p['step']:,} of {state['train']['steps']:,}, {p['tokens_seen']:,} tokens seen, {p['clipped']:,} steps clipped."
    )
    console.print(f"Training loss {p['first_loss']:.4f} at first, {p['loss']:.4f} last.")
    for e in p["evaluations"][-5:]:
        console.print(
            f"step {e['step']:>6}: held-out loss {e['val_loss']:.4f} nats a token, {e['bits_per_byte']:.3f} bits a byte"
        )
    console.print(
        f"Memory to continue training: {total * 16 / 2**20:.1f} MiB for weights, gradients and moments, activations aside."
    )
