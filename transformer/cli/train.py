"""`tgl train`: from text to a model, with what to expect said before it starts."""

from __future__ import annotations

import hashlib
import time
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

import tokenizer as tokenizers
from tinygrad_lite.device import get_device

from .. import checkpoint
from ..config import CHOICES, GPTConfig
from ..data import Corpus, load_corpus
from ..presets import DEVICES, DTYPES, FREE_ON_RESUME, OPTIMIZERS, PRESETS, SCHEDULES, TOKENIZERS, TrainConfig, preset
from ..trainer import Trainer
from .inspect import encoded
from .run_view import RunView, console, finish, quoted, run, say_expectations, size_of
from .tokenizer_files import read_tokenizer

MODEL_FLAGS = {f.name for f in fields(GPTConfig)} - {"vocab_size"}
TRAIN_FLAGS = {f.name for f in fields(TrainConfig)} - {"model"}
NO_SETTINGS = {"began", "out", "resume", "detect_anomaly"}  # of train()'s names
# Settings that change what is printed or written, not what is learned: the preset's expected loss still holds.
SILENT_FLAGS = {"seed", "eval_every", "sample_every", "save_every", "log_every", "keep"}


def _option(panel: str, text: str, *names: str):
    return typer.Option(*names, help=text, rich_help_panel=panel)


def _of(choices) -> str:
    return f"One of {', '.join(choices)}."


def train(
    data: Annotated[list[Path] | None, _option("Text", "A text file or directory; may be given several times. Default: Python's own standard library.")] = None,
    tokenizer: Annotated[str | None, _option("Text", f"{_of(TOKENIZERS)[:-1]}, or the file of one that tgl tokenizer train made.")] = None,
    vocab_size: Annotated[int | None, _option("Text", "Tokens of the bpe tokenizer.")] = None,
    preset_name: Annotated[str | None, _option("Run", f"{_of(PRESETS)} Default: quick; with --from, tune.", "--preset")] = None,
    init_from: Annotated[Path | None, _option("Run", "Begin with the newest weights of this run, or imported model, with its tokenizer and shape.", "--from")] = None,
    steps: Annotated[int | None, _option("Run", "Optimiser steps.")] = None,
    max_seconds: Annotated[float | None, _option("Run", "Time for training; turned into steps at the start, and again half way unless the schedule is cosine.")] = None,
    seed: Annotated[int | None, _option("Run", "Of the weights, the batches and dropout.")] = None,
    device: Annotated[str | None, _option("Run", _of(DEVICES))] = None,
    dtype: Annotated[str | None, _option("Run", f"Of weights and activations; the optimiser keeps float32. {_of(DTYPES)}")] = None,
    out: Annotated[Path, _option("Run", "The run's directory; an earlier run there is moved into it, not lost.")] = Path("runs/latest"),
    resume: Annotated[bool, _option("Run", "Continue the run in --out; --steps may lengthen it, which stretches the schedule of the learning rate.", "--resume")] = False,
    batch_size: Annotated[int | None, _option("Optimiser", "Sequences a micro-batch.")] = None,
    accumulate: Annotated[int | None, _option("Optimiser", "Micro-batches a step.")] = None,
    optimizer: Annotated[str | None, _option("Optimiser", _of(OPTIMIZERS))] = None,
    lr: Annotated[float | None, _option("Optimiser", "Peak learning rate.")] = None,
    min_lr: Annotated[float | None, _option("Optimiser", "Learning rate at the end.")] = None,
    muon_lr: Annotated[float | None, _option("Optimiser", "Muon's peak learning rate, for the matrices within blocks.")] = None,
    stochastic_rounding: Annotated[bool | None, _option("Optimiser", "Round bfloat16 weights by chance and keep no float32 copy of them: 4 bytes a parameter less.", "--stochastic-rounding")] = None,
    schedule: Annotated[str | None, _option("Optimiser", _of(SCHEDULES))] = None,
    warmup: Annotated[int | None, _option("Optimiser", "Steps from zero to the peak.")] = None,
    weight_decay: Annotated[float | None, _option("Optimiser", "Of matrices; vectors never decay.")] = None,
    clip: Annotated[float | None, _option("Optimiser", "Largest gradient norm; 0 for none.")] = None,
    block_size: Annotated[int | None, _option("Model", "Context, in tokens.")] = None,
    layers: Annotated[int | None, _option("Model", "Blocks.")] = None,
    heads: Annotated[int | None, _option("Model", "Attention heads.")] = None,
    kv_heads: Annotated[int | None, _option("Model", "Key-value heads, shared by the heads. Default: as many as heads.")] = None,
    channels: Annotated[int | None, _option("Model", "Width, a multiple of heads.")] = None,
    window: Annotated[int | None, _option("Model", "Positions that a token sees, its own among them. Default: all before it.")] = None,
    dropout: Annotated[float | None, _option("Model", "Probability.")] = None,
    positions: Annotated[str | None, _option("Model", _of(CHOICES["positions"]))] = None,
    norm: Annotated[str | None, _option("Model", _of(CHOICES["norm"]))] = None,
    mlp: Annotated[str | None, _option("Model", _of(CHOICES["mlp"]))] = None,
    mlp_size: Annotated[int | None, _option("Model", "Width of the MLP's hidden layer. Default: four times the channels, of swiglu 8/3.")] = None,
    rope_base: Annotated[float | None, _option("Model", "How slowly the slowest pair of rope turns. Default: 10,000.")] = None,
    tied: Annotated[bool | None, _option("Model", "Whether the head shares the embedding.", "--tied/--untied")] = None,
    bias: Annotated[bool | None, _option("Model", "Whether linear layers and norms have biases.", "--bias/--no-bias")] = None,
    eval_every: Annotated[int | None, _option("Reports", "Steps from one evaluation to the next.")] = None,
    sample_every: Annotated[int | None, _option("Reports", "Steps from one printed sample to the next; 0 for none.")] = None,
    save_every: Annotated[int | None, _option("Reports", "Save also every so many steps.")] = None,
    keep: Annotated[bool | None, _option("Reports", "Keep earlier checkpoints too: `tgl view` shows what was learned when.", "--keep")] = None,
    log_every: Annotated[int | None, _option("Reports", "Steps from one line of log.jsonl to the next.")] = None,
    detect_anomaly: Annotated[bool, _option("Reports", "Look at every result, and stop at the op where the first NaN or infinity begins. A step takes up to half as long again.", "--detect-anomaly")] = False,
):  # fmt: skip
    """Train a GPT. Without arguments: three minutes on Python's own source, then samples."""
    began = time.perf_counter()
    given = {k: v for k, v in locals().items() if v is not None and k not in NO_SETTINGS}
    if init_from is not None:
        given["init_from"] = str(init_from.resolve())
    stored = weights = ready = marks = None
    if resume:
        stored = checkpoint.load_to_resume(out)[2]
        config, data = _resumed(stored, given, out)
        at, before = stored["progress"]["step"], stored["train"]["steps"]
        console.say(f"Continuing {out} at step {at} of {config.steps}.")
        if config.steps != before and config.schedule != "constant":
            console.say(f"The learning rate's schedule is stretched from {before} to {config.steps} steps.")
    else:
        config = _configured(preset(given.get("preset_name", "quick" if init_from is None else "tune")), given)
        if init_from is not None:
            weights, ready, marks = _begun_with(config, given, init_from)
        if unused := config.unused(given):
            console.say(f"Not used: {', '.join(unused)}.")
    if out.is_file():
        raise ValueError(f"--out {out} is a file: a run needs a directory")
    config.check()
    config.gpt_config(config.vocab_size)  # raises now, and not after the text is read
    get_device(config.device)  # likewise
    if ready is None and not resume and config.tokenizer not in TOKENIZERS:
        ready = read_tokenizer(Path(config.tokenizer))  # likewise
    command = f"tgl train --resume --out {quoted(out)}"
    trainer = None
    try:
        with console.status("Reading the text and turning it into tokens"):
            corpus = load_corpus(data, leave_out=out)
            if config.expected and not _is_expected_text(config, corpus, data):
                config.expected = None
            if stored:
                tok = tokenizers.Tokenizer.from_dict(stored["tokenizer"])
            else:
                tok = ready or _train_tokenizer(config, corpus)
            train_ids, val_ids = (encoded(tok, text, corpus.source) for text in (corpus.train, corpus.val))
        console.say(f"Text: {corpus.source}, {size_of(corpus.train)} to train on, {size_of(corpus.val)} held out.")
        if corpus.skipped:
            console.say(
                f"Left out: {len(corpus.skipped)} files that are not UTF-8 text, {corpus.skipped[0]} the first."
            )
        per_token = corpus.val_bytes / max(len(val_ids), 1)
        console.say(f"Tokens: {len(train_ids):,} of {tok.vocab_size:,} kinds, {per_token:.2f} bytes each.")
        if "vocab_size" in given and tok.vocab_size < config.vocab_size and config.tokenizer == "bpe":
            console.say(f"The text has no more than these {tok.vocab_size:,} kinds to merge into.")
        del corpus  # 30 MB of text, not needed any more
        view = RunView()
        source = [str(Path(p).resolve()) for p in data] if data else []
        trainer = Trainer(config, train_ids, val_ids, tok, out, source, view, weights, marks)
        del weights
        with checkpoint.lock(out):
            if resume:
                trainer.resume(out)
            say_expectations(trainer)
            with _watch(out) if detect_anomaly else nullcontext():
                with console.status("Timing a few steps; the first ones compile the kernels"):
                    trainer.settle_steps()
                passes = config.steps * trainer.tokens_per_step / len(train_ids)
                console.say(
                    f"Steps: {config.steps:,} of {trainer.tokens_per_step:,} tokens ({passes:.2f} passes over the text)."
                )
                if not resume and (kept := checkpoint.move_aside(out)) is not None:
                    console.say(f"The run that was in {out} is now in {kept}.")
                run(trainer, view)
            p = trainer.progress
            if not trainer.finished:
                console.say(f"\nStopped at step {p.step}; all is saved. Go on with:", command)
                raise typer.Exit(130)
            finish(trainer, out, began)
    except KeyboardInterrupt:
        saved = stored["progress"]["step"] if stored else None
        if trainer is not None and trainer.saved_step is not None:
            saved = trainer.saved_step
        if saved is None:
            console.say("\nStopped at once; nothing of this run was saved.")
        else:
            console.say(f"\nStopped at once; step {saved} is saved. Go on with:", command)
        raise typer.Exit(130) from None


def _watch(out: Path):
    """The engine's anomaly mode; its replay file goes into the run's directory."""
    from tinygrad_lite.study import detect_anomaly  # here: a run without it loads no study code

    out.mkdir(parents=True, exist_ok=True)
    return detect_anomaly(out / "anomaly.npz")


def _is_expected_text(config: TrainConfig, corpus: Corpus, data) -> bool:
    if config.expected_text is None:
        return not data
    text = corpus.train + corpus.val
    return hashlib.sha256(text.encode("utf-8")).hexdigest() == config.expected_text


def _configured(config: TrainConfig, given: dict) -> TrainConfig:
    """The preset with what was given put in; a change to what is learned takes its expected loss away."""
    for name, value in given.items():
        if name in MODEL_FLAGS:
            config.model[name] = value
        elif name in TRAIN_FLAGS:
            setattr(config, name, value)
    learned = (given.keys() & (MODEL_FLAGS | TRAIN_FLAGS)) - SILENT_FLAGS
    if learned or (
        "data" in given and config.expected_unit == "bits a byte"
    ):  # a band measured on the standard library
        config.expected = None
    if "steps" in given:
        config.max_seconds = None
    elif "max_seconds" in given:
        config.steps = None
    return config


def _begun_with(config: TrainConfig, given: dict, run: Path) -> tuple[dict, tokenizers.Tokenizer, dict]:
    """(weights, tokenizer, marks) of the run to begin with, whose shape the config gets: a shorter context and another dropout
    may be asked for, since neither has weights."""
    weights, state = checkpoint.load_weights(run)
    model = {k: v for k, v in GPTConfig.from_dict(state["model"]).to_dict().items() if k != "vocab_size"}
    asked = {k: given[k] for k in given.keys() & MODEL_FLAGS}
    wrong = [f"{k} is {model[k]}" for k in asked if k not in ("dropout", "block_size") and asked[k] != model[k]]
    wrong += [f"{k} is the run's" for k in ("tokenizer", "vocab_size") if k in given]
    if asked.get("block_size", 0) > model["block_size"]:
        wrong.append(f"block_size is at most {model['block_size']}")
    if wrong:
        raise ValueError(
            f"--from {run} begins with a model as it is, and others are asked for ({'; '.join(sorted(wrong))}): leave them out "
            f"(only --dropout and a shorter --block-size can be given)"
        )
    config.model = model | asked
    config.tokenizer = config.init_from
    if "positions.weight" in weights:
        weights["positions.weight"] = weights["positions.weight"][: config.model["block_size"]]
    return weights, tokenizers.Tokenizer.from_dict(state["tokenizer"]), checkpoint.marks(state)


def _resumed(stored: dict, given: dict, out: Path) -> tuple[TrainConfig, list[Path] | None]:
    """(config, data) of the stored run, with what may change put in. To give what is stored anyway is no mistake."""
    config = TrainConfig.from_dict(stored["train"])
    asked = preset(given["preset_name"]) if "preset_name" in given else deepcopy(config)
    if config.init_from:  # whose these are, and no preset's
        asked.init_from, asked.tokenizer, asked.model = config.init_from, config.tokenizer, dict(config.model)
    before, now = _by_option(config), _by_option(_configured(asked, given))
    free = FREE_ON_RESUME | {"steps", "max_seconds", "expected", "expected_text", "expected_unit"}
    names = [name for name in before | now if name not in free and before.get(name) != now.get(name)]
    changed = [f"{name} was {before.get(name, 'not given')}" for name in names]
    if "max_seconds" in given and given["max_seconds"] != config.max_seconds:
        changed.append(f"the time was turned into {config.steps} steps")
    if changed:
        can = ", ".join("--" + name.replace("_", "-") for name in sorted(FREE_ON_RESUME))
        raise ValueError(
            f"--resume continues the run in {out} as it began, and other settings are asked for ({'; '.join(changed)}): "
            f"leave them out (only {can} can change), or start another run with another --out"
        )
    for name in given.keys() & FREE_ON_RESUME:
        setattr(config, name, given[name])
    return config, given.get("data") or [Path(p) for p in stored["source"]] or None  # the text is held to its SHA-256


def _by_option(config: TrainConfig) -> dict:
    """All settings, the model's among them, by what their options are called."""
    values = config.to_dict()
    values["from"] = values.pop("init_from")
    return values | values.pop("model")


def _train_tokenizer(config: TrainConfig, corpus: Corpus):
    if config.tokenizer == "char":
        return tokenizers.CharTokenizer.train(corpus.train + corpus.val)
    # A sample spread over the text keeps the training of merges under a second.
    return tokenizers.BPETokenizer.train(_spread_sample(corpus.train, 4_000_000), config.vocab_size)


def _spread_sample(text: str, size: int) -> str:
    if len(text) <= size:
        return text
    pieces = 64
    starts = np.linspace(0, len(text) - size // pieces, pieces).astype(int)
    return "\n".join(text[s : s + size // pieces] for s in starts)
