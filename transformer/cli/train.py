"""`tgl train`: from text to a model, with what to expect said before it starts."""

from __future__ import annotations

import math
import signal
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

import tokenizer as tokenizers
from tinygrad_lite import Generator

from .. import checkpoint
from ..data import load_corpus
from ..generate import generate, start_of_text
from ..presets import PRESETS, TrainConfig, preset
from ..trainer import Trainer
from .plot import loss_curve

console = Console(highlight=False)


def train(
    data: Annotated[
        list[Path] | None, typer.Option(help="Text files or directories; default: Python's own standard library.")
    ] = None,
    tokenizer: Annotated[str | None, typer.Option(help="char or bpe.")] = None,
    vocab_size: Annotated[int | None, typer.Option(help="Tokens of the bpe tokenizer.")] = None,
    preset_name: Annotated[str, typer.Option("--preset", help=f"One of {', '.join(PRESETS)}.")] = "quick",
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    max_seconds: Annotated[
        float | None, typer.Option(help="Time for training; turned into steps at the start.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Sequences a step.")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Micro-batches a step.")] = None,
    block_size: Annotated[int | None, typer.Option(help="Context, in tokens.")] = None,
    layers: Annotated[int | None, typer.Option()] = None,
    heads: Annotated[int | None, typer.Option()] = None,
    kv_heads: Annotated[int | None, typer.Option(help="Shared key-value heads.")] = None,
    channels: Annotated[int | None, typer.Option()] = None,
    dropout: Annotated[float | None, typer.Option()] = None,
    positions: Annotated[str | None, typer.Option(help="learned, rope or none.")] = None,
    norm: Annotated[str | None, typer.Option(help="layernorm or rmsnorm.")] = None,
    mlp: Annotated[str | None, typer.Option(help="gelu, relu or swiglu.")] = None,
    tied: Annotated[bool | None, typer.Option("--tied/--untied", help="Head shares the embedding.")] = None,
    bias: Annotated[bool | None, typer.Option("--bias/--no-bias")] = None,
    optimizer: Annotated[str | None, typer.Option(help="adamw or muon.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    min_lr: Annotated[float | None, typer.Option()] = None,
    muon_lr: Annotated[float | None, typer.Option()] = None,
    schedule: Annotated[str | None, typer.Option(help="cosine, wsd or constant.")] = None,
    warmup: Annotated[int | None, typer.Option()] = None,
    weight_decay: Annotated[float | None, typer.Option()] = None,
    clip: Annotated[float | None, typer.Option(help="Largest gradient norm; 0 for none.")] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    eval_every: Annotated[int | None, typer.Option()] = None,
    sample_every: Annotated[int | None, typer.Option(help="Print a sample every so many steps.")] = None,
    save_every: Annotated[int | None, typer.Option(help="Save also every so many steps.")] = None,
    log_every: Annotated[int | None, typer.Option()] = None,
    out: Annotated[Path, typer.Option(help="The run's directory.")] = Path("runs/latest"),
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
):
    """Train a GPT. Without arguments: three minutes on Python's own source, then samples."""
    began = time.perf_counter()
    given = {k: v for k, v in locals().items() if v is not None}
    config = _configured(preset(preset_name), given)
    stored = None
    if resume:
        _, _, stored = checkpoint.load(out)
        config = TrainConfig.from_dict(stored["train"])
        data = [Path(p) for p in stored["source"]] if stored["source"] else None
        console.print(f"Continuing {out} at step {stored['progress']['step']} of {config.steps}.")
    corpus = load_corpus(data)
    console.print(f"Text: {corpus.source}, {_size(len(corpus.train))} to train on, {_size(len(corpus.val))} held out.")
    tok = tokenizers.Tokenizer.from_dict(stored["tokenizer"]) if stored else _train_tokenizer(config, corpus)
    train_ids, val_ids = tok.encode_to_array(corpus.train), tok.encode_to_array(corpus.val)
    bytes_per_token = corpus.val_bytes / max(len(val_ids), 1)
    console.print(f"Tokens: {len(train_ids):,} of {tok.vocab_size:,} kinds, {bytes_per_token:.2f} bytes each.")
    view = _View(tok)
    source = [str(Path(p).resolve()) for p in data] if data else []
    trainer = Trainer(config, train_ids, val_ids, tok, out, source, view)
    if resume:
        trainer.resume(out)
    _say_expectations(trainer, config, tok)
    trainer.settle_steps()
    per_step = trainer.tokens_per_step
    console.print(
        f"Steps: {config.steps:,} of {per_step:,} tokens ({config.steps * per_step / len(train_ids):.2f} passes over the text)."
    )
    _run(trainer, view)
    p = trainer.progress
    if trainer.stop_requested and p.step < config.steps:
        console.print(f"\nStopped at step {p.step}; all is saved. Go on with: tgl train --resume --out {out}")
        raise typer.Exit(130)
    _finish(trainer, out, began)


def _configured(config: TrainConfig, given: dict) -> TrainConfig:
    for name in (
        "block_size",
        "layers",
        "heads",
        "kv_heads",
        "channels",
        "dropout",
        "positions",
        "norm",
        "mlp",
        "tied",
        "bias",
    ):
        if name in given:
            config.model[name] = given[name]
            config.expected = None
    for name in ("tokenizer", "vocab_size", "steps", "max_seconds", "batch_size", "accumulate", "optimizer", "lr", "min_lr", "muon_lr",
                 "schedule", "warmup", "weight_decay", "clip", "seed", "eval_every", "sample_every", "save_every", "log_every"):  # fmt: skip
        if name in given:
            setattr(config, name, given[name])
            if name not in ("seed", "eval_every", "sample_every", "save_every", "log_every"):
                config.expected = None
    if "data" in given and config.expected_unit == "bits a byte":
        config.expected = None  # the band was measured on the standard library
    if "steps" in given:
        config.max_seconds = None
    elif "max_seconds" in given:
        config.steps = None
    return config


def _train_tokenizer(config: TrainConfig, corpus):
    if config.tokenizer == "char":
        return tokenizers.CharTokenizer.train(corpus.train + corpus.val)
    if config.tokenizer != "bpe":
        raise ValueError(f"--tokenizer must be char or bpe, got {config.tokenizer!r}")
    # A sample spread over the text keeps the training of merges under a second.
    return tokenizers.BPETokenizer.train(_spread_sample(corpus.train, 4_000_000), config.vocab_size)


def _spread_sample(text: str, size: int) -> str:
    if len(text) <= size:
        return text
    pieces = 64
    starts = np.linspace(0, len(text) - size // pieces, pieces).astype(int)
    return "\n".join(text[s : s + size // pieces] for s in starts)


def _say_expectations(trainer: Trainer, config: TrainConfig, tok):
    model = trainer.model
    mib = expected_mib(trainer)
    parts = [f"about {config.max_seconds:.0f} s of training" if config.steps is None else f"{config.steps:,} steps"]
    parts.append(f"about {mib:.0f} MiB for a step beside the text and the interpreter")
    parts.append(f"a first loss near {math.log(tok.vocab_size):.2f} nats a token")
    if config.expected:
        parts.append(f"in the end {config.expected[0]} to {config.expected[1]} {config.expected_unit} on held-out text")
    console.print(f"Model: {model.num_parameters():,} parameters. Expect {', '.join(parts)}.")


def expected_mib(trainer: Trainer) -> float:
    """A training step's memory: weights, gradients, two moments, and what backward keeps of each layer, float32."""
    c, b = trainer.model.config, trainer.config.batch_size
    # Kept a layer: two norms (2C), qkv (3C), attention's output (C), the MLP's hidden layer before and after, residuals (2C).
    row = c.layers * (8 * c.channels + 2 * c.hidden) + 4 * c.channels
    if c.dropout:
        row += c.layers * 3 * c.heads * c.block_size
    return (16 * trainer.model.num_parameters() + 4 * b * c.block_size * row) / 2**20


class _View:
    """What the trainer reports, on the terminal."""

    def __init__(self, tok):
        self.tok, self.progress, self.task, self.trainer = tok, None, None, None

    def __call__(self, kind, values):
        if kind == "calibrated":
            console.print(
                f"Timed: {values['step_ms']:.0f} ms a step, so {values['steps']:,} steps. A run with --steps {values['steps']} repeats this one."
            )
        elif kind == "step" and self.progress is not None:
            speed = values.get("tokens_per_s")
            fields = {"loss": f"{values['loss']:.3f}"} | ({"speed": f"{speed:,.0f}"} if speed else {})
            self.progress.update(self.task, completed=values["step"], **fields)
            every = self.trainer.config.sample_every
            if every and values["step"] % every == 0:
                self.progress.print(
                    f"--- sample at step {values['step']}\n{_sample_text(self.trainer, 120)}", markup=False
                )
        elif kind == "eval" and self.progress is not None:
            self.progress.print(
                f"step {values['step']:>6}  held-out loss {values['val_loss']:.4f} nats a token, {values['bits_per_byte']:.3f} bits a byte"
            )


def _run(trainer: Trainer, view: _View):
    columns = (TextColumn("{task.completed}/{task.total}"), BarColumn(), TextColumn("loss {task.fields[loss]}"),
               TextColumn("{task.fields[speed]} tokens/s"), TimeRemainingColumn())  # fmt: skip

    def stop(signum, frame):
        if trainer.stop_requested:
            raise KeyboardInterrupt
        trainer.stop_requested = True
        console.print("\nFinishing this step and saving; press Ctrl-C again to stop at once.")

    found = signal.signal(signal.SIGINT, stop)
    try:
        with Progress(*columns, console=console) as progress:
            view.progress, view.trainer = progress, trainer
            view.task = progress.add_task(
                "", total=trainer.config.steps, completed=trainer.progress.step, loss="", speed=""
            )
            trainer.run()
    finally:
        signal.signal(signal.SIGINT, found)
        view.progress = None


def _sample_text(trainer: Trainer, count: int, seed: int = 1) -> str:
    ids = generate(
        trainer.model, start_of_text(trainer.tokenizer), count, temperature=0.8, top_k=200, generator=Generator(seed)
    )
    return trainer.tokenizer.decode(list(ids)).strip("\n")


def _finish(trainer: Trainer, out: Path, began: float):
    config, p = trainer.config, trainer.progress
    for seed in (1, 2):
        console.rule(f"sample {seed}", align="left")
        console.print(_sample_text(trainer, 160, seed), markup=False)
    console.rule()
    loss_curve(out / "log.jsonl", out / "loss.png", console)
    last = p.evaluations[-1]
    reached = last["bits_per_byte"] if config.expected_unit == "bits a byte" else last["val_loss"]
    console.print(
        f"Done: held-out loss {last['val_loss']:.4f} nats a token, {last['bits_per_byte']:.3f} bits a byte, after "
        f"{p.tokens_seen:,} tokens and {time.perf_counter() - began:.0f} s in all. Everything is in {out}."
    )
    if config.expected and not config.expected[0] <= reached <= config.expected[1]:
        console.print(
            f"Warning: {reached:.3f} {config.expected_unit} is outside the expected {config.expected[0]} to {config.expected[1]}: "
            "compare the log with another seed's, and the text with the preset's."
        )
    console.print(f'Try: tgl sample --from {out} --prompt "def "')


def _size(characters: int) -> str:
    return f"{characters / 1e6:.1f} MB" if characters >= 1e5 else f"{characters:,} characters"
