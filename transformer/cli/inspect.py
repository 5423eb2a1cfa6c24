"""`tgl sample`, `eval`, `info`, `export`: what a trained model says, knows and holds, and taking it elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

import tokenizer as tokenizers
from tinygrad_lite import Generator

from .. import checkpoint
from ..config import GPTConfig
from ..data import DataError, read_text
from ..evaluation import check_stride, evaluate
from ..hf import export
from ..memory import MIB, expected_bytes
from ..model import GPT
from ..presets import TrainConfig
from ..sampling import generate, start_of_text

# Paths and texts are printed as they are: no markup, no emoji, no break that a terminal would not make itself.
console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
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
    if prompt is not None:  # where the locale is C, Python reads the shell's UTF-8 as ASCII and keeps the rest as bytes
        prompt = prompt.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
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
    if stride is None:
        stride = max(1, model.config.block_size // 2)
    check_stride(stride, model.config.block_size)  # now, and not after the disjoint windows
    for number, path in enumerate(data):
        tokens = tok.encode_to_array(read_text(path))
        for name, step in (("disjoint", None), (f"sliding by {stride}", stride)):
            try:
                result = _evaluate_shown(model, tokens, tok, step, f"{path.name}, {name}")
            except DataError as error:
                raise DataError(f"{path}: {error}") from None
            if step is None:
                console.print(f"\n{path}" if number else str(path))
                _print_row("windows", "tokens", "nats/token", "bits/byte", "ppl/token", "ppl/word")
            _print_row(name, f"{result.tokens:,}", _number(result.loss, 4), _number(result.bits_per_byte, 4),
                       _number(result.token_perplexity, 2), _number(result.word_perplexity, 2))  # fmt: skip


def _evaluate_shown(model, tokens, tok, stride, title):
    """evaluate(), with a bar where a terminal can take it away again."""
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(escape(title), total=None)
        return evaluate(model, tokens, tok, stride=stride,
                        progress=lambda done, of: progress.update(task, completed=done, total=of))  # fmt: skip


def _print_row(windows, tokens, *figures):
    # Plain columns, 78 wide: a table of rich's would cut the figures where the terminal, or a pipe, is narrow.
    console.print(f"  {windows:<15}  {tokens:>11}  " + "  ".join(f"{f:>10}" for f in figures))


def _number(value: float, digits: int) -> str:
    """At most ten characters: with fixed digits, or where large in scientific notation."""
    return f"{value:.{digits}f}" if value < 10 ** (7 - digits) else f"{value:.3e}"


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
    console.print(table, soft_wrap=False)
    c, p = state["model"], state["progress"]
    console.print(", ".join(f"{k} {v}" for k, v in c.items()))
    console.print(f"Tokenizer: {type(tok).__name__}, {tok.vocab_size:,} tokens.")
    console.print(
        f"Step {p['step']:,} of {state['train']['steps']:,}, {p['tokens_seen']:,} tokens seen, {p['clipped']:,} steps clipped."
    )
    if p["loss"] is not None:
        console.print(f"Training loss {p['first_loss']:.4f} at first, {p['loss']:.4f} last.")
    for e in p["evaluations"][-5:]:
        console.print(
            f"step {e['step']:>6}: held-out loss {e['val_loss']:.4f} nats a token, {e['bits_per_byte']:.3f} bits a byte"
        )
    hidden = sum(q.size for q in model.blocks.parameters() if q.ndim == 2)
    expected = expected_bytes(model.config, TrainConfig.from_dict(state["train"]), total, hidden)
    console.print(f"Memory to continue training: {expected / MIB:,.0f} MiB beside the text and the interpreter.")
