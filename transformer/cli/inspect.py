"""`tgl sample`, `eval`, `info`: what a trained model says, knows and holds."""

from __future__ import annotations

import sys
from itertools import takewhile
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import Progress

import tokenizer as tokenizers
from tinygrad_lite import Generator

from .. import checkpoint
from ..config import GPTConfig
from ..data import DataError, read_text
from ..evaluation import check_stride, evaluate
from ..memory import MIB, expected_bytes
from ..model import GPT
from ..presets import TrainConfig
from ..sampling import check_sampling, generate, start_of_text
from .screen import Screen

console = Screen()
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
    top_k: Annotated[int | None, typer.Option(help="Draw from the so many most likely tokens only.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Draw from the most likely tokens that together have this probability.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed draws the same text.")] = 0,
    samples: Annotated[int, typer.Option(min=1, help="How many texts; each one's seed is the next.")] = 1,
    stream: Annotated[bool, typer.Option("--stream/--no-stream", help="Print while it is made.")] = True,
):
    """Continue a prompt. The text of a model that was imported, or trained on from one, ends where the model says so."""
    check_sampling(temperature, top_k, top_p)  # now, and not after the prompt is printed
    model, tok, state = load_model(directory)
    marks = checkpoint.marks(state)
    if prompt is not None:  # where the locale is C, Python reads the shell's UTF-8 as ASCII and keeps the rest as bytes
        prompt = prompt.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if prompt is None:
        ids = marks["start"] or start_of_text(tok)
    elif ids := encoded(tok, prompt, "--prompt").tolist():
        ids = marks["begin"] + ids
    if not ids:
        raise ValueError("--prompt is empty: give at least one character, or leave it out")
    if len(ids) > (size := model.config.block_size):
        print(f"tgl: the prompt has {len(ids)} tokens; the model sees the last {size}", file=sys.stderr)
    settings = dict(temperature=temperature, top_k=top_k, top_p=top_p)
    for number in range(samples):
        if samples > 1:
            console.divide(f"sample {number + 1}, --seed {seed + number}")
            sys.stdout.flush()
        tokens = generate(model, ids, count, **settings, generator=Generator(seed + number))
        _write(tok, prompt or "", takewhile(lambda token: token not in marks["end"], tokens), stream)


def _write(tok, prompt: str, tokens, stream: bool):
    """The prompt and what follows it, on standard output."""
    decoder, pieces = tok.stream_decoder(), [prompt]
    if stream:
        sys.stdout.write(pieces[0])
    for token in tokens:
        pieces.append(decoder.feed(token))
        if stream:
            sys.stdout.write(pieces[-1])
            sys.stdout.flush()
    pieces.append(decoder.flush())
    sys.stdout.write(pieces[-1] + "\n" if stream else "".join(pieces) + "\n")


def encoded(tok, text: str, what):
    """The ids of a text, an array; ValueError names a character that the tokenizer does not know, and the way out."""
    try:
        return tok.encode_to_array(text)
    except tokenizers.UnknownCharacterError as error:
        character = str(error).partition(";")[0]
        raise ValueError(
            f"{what}: {character}: leave it out, train on text that has it, or train with --tokenizer bpe"
        ) from None


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
        tokens = encoded(tok, read_text(path), path)
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


def info(directory: Annotated[Path, typer.Argument(help="The run's directory.")] = Path("runs/latest")):
    """Parameters by module, memory, tokens seen, losses."""
    model, tok, state = load_model(directory)
    total = model.num_parameters()
    _print_parameters(model, total)
    c, p = state["model"], state["progress"]
    console.say("\nModel: " + ", ".join(f"{k}={v}" for k, v in c.items()) + ".")
    console.say(f"Tokenizer: {type(tok).__name__}, {tok.vocab_size:,} tokens.")
    if state["text_sha256"] is None:
        console.say(f"Imported from {state['source'][0]}; no step trained here.")
        return
    console.say(
        f"Step {p['step']:,} of {state['train']['steps']:,}, {p['tokens_seen']:,} tokens seen, {p['clipped']:,} steps clipped."
    )
    if p["loss"] is not None:
        console.say(f"Training loss {p['first_loss']:.4f} at first, {p['loss']:.4f} last.")
    if p["evaluations"]:
        console.say("Held-out loss, in nats a token, and bits a byte:")
    for e in p["evaluations"][-5:]:
        console.print(f"  step {e['step']:>7,}  {e['val_loss']:.4f}  {e['bits_per_byte']:.3f}")
    hidden = sum(q.size for q in model.blocks.parameters() if q.ndim == 2)
    expected = expected_bytes(model.config, TrainConfig.from_dict(state["train"]), total, hidden)
    console.say(f"Memory to continue training: {expected / MIB:,.0f} MiB beside the text and the interpreter.")


def _print_parameters(model: GPT, total: int):
    rows, blocks = {}, {}
    for name, parameter in model.named_parameters():
        parts = name.split(".")
        into, key = (blocks, ".".join(parts[2:-1])) if parts[0] == "blocks" else (rows, parts[0])
        if into is blocks:
            rows.setdefault("blocks", 0)  # here, so that the rows stand in the model's order
            rows["blocks"] += parameter.size
        into[key] = into.get(key, 0) + parameter.size
    lines = [("module", "parameters", "share", "MiB")]
    for key, n in (*rows.items(), ("all", total)):
        lines.append(_parameter_row(key if key != "blocks" else f"blocks ({len(model.blocks)})", n, total))
        if key == "blocks":
            lines += [_parameter_row(f"  {inner}", m, total) for inner, m in blocks.items()]
    widths = [max(map(len, column)) for column in zip(*lines)]
    if console.is_terminal and sum(widths) + 6 > console.width:
        widths = widths[:-1]  # MiB are the parameters again
    for name, *figures in lines:
        console.print(name.ljust(widths[0]) + "".join(f"  {f:>{w}}" for f, w in zip(figures, widths[1:])))


def _parameter_row(name: str, n: int, total: int):
    return name, f"{n:,}", f"{n / total:.1%}", f"{n * 4 / MIB:,.2f}"
