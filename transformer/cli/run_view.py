"""What a training run shows on the terminal: what to expect, how it goes, how it ended."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from itertools import takewhile
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from tinygrad_lite import Generator

from ..baseline import baselines
from ..memory import COMPILING_BYTES, MIB, expected_bytes, kernels_bytes, peak_bytes, process_bytes
from ..sampling import generate, start_of_text
from ..trainer import Trainer
from .plot import loss_curve
from .screen import Screen


class _Screen(Screen):
    def on_broken_pipe(self):
        """`tgl train | head`: go on without a word, instead of ending a run that is not saved yet."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


console = _Screen()


def quoted(path, system: str = os.name) -> str:
    """A path as one types it in this system's shell: cmd.exe takes single quotes for part of the name."""
    return subprocess.list2cmdline([str(path)]) if system == "nt" else shlex.quote(str(path))


def size_of(text: str) -> str:
    """How much text in UTF-8, for a person."""
    size = len(text.encode("utf-8"))
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size:,} bytes"


def expected_peak_bytes(trainer: Trainer) -> int:
    """Resident memory of this process at the run's peak: what it has held, or holds now and a step beside it."""
    held = process_bytes() + kernels_bytes()  # first: to count a step's bytes imports Numba
    parameters = trainer.model.num_parameters()
    hidden = sum(p.size for p in trainer.model.blocks.parameters() if p.ndim == 2)
    step = expected_bytes(trainer.model.config, trainer.config, parameters, hidden)
    return max(peak_bytes(), held + step - 4 * parameters)  # weights are there


def say_expectations(trainer: Trainer):
    """Time or steps, memory, and losses: the first one, what counting reaches, and the preset's band."""
    config = trainer.config
    base = trainer.baselines = baselines(trainer.loader.tokens, trainer.val, trainer.tokenizer.vocab_size)
    length = f"about {config.max_seconds:.0f} s of training" if config.steps is None else f"{config.steps:,} steps"
    console.say(
        f"Model: {trainer.model.num_parameters():,} parameters. Expect {length}, "
        f"about {expected_peak_bytes(trainer) / MIB:,.0f} MiB of memory "
        f"({COMPILING_BYTES / MIB:.0f} more where kernels are not compiled yet)."
    )
    starts = "" if config.init_from else ", which is where training starts"
    console.say(
        f"Loss, in nats a token: a uniform guess has {base.uniform:.2f}{starts}; counting tokens reaches {base.single:.2f}, "
        f"counting pairs {base.pair:.2f}."
    )
    if config.init_from:
        console.say(f"Begins with the weights in {config.init_from}.")
    if config.expected:
        low, high = config.expected
        console.say(f"Expect {low} to {high} {config.expected_unit} on held-out text in the end.")


def _repeats(values) -> str:
    return f"A run with --steps {values['steps']} repeats this one."


class RunView:
    """The trainer's `report`: told of "calibrated", "settled", "step", "evaluating", "eval", "warning"; shows each once."""

    def __init__(self):
        self.progress = self.task = self.trainer = self.speed = None
        self.learning = ""  # what the bar says between evaluations

    def __call__(self, kind, values):
        if kind == "calibrated":
            more = ", to be settled again half way." if values["again"] else f". {_repeats(values)}"
            console.say(f"Timed: {values['step_ms']:.0f} ms a step, so {values['steps']:,} steps{more}")
        if self.progress is None:
            return
        if kind == "step":
            self.speed = values.get("tokens_per_s", self.speed)
            self.learning = f"loss {values['loss']:.3f}" + (f"  {self.speed:,.0f} tokens/s" if self.speed else "")
            self.progress.update(self.task, completed=values["step"], doing=self.learning)
            every = self.trainer.config.sample_every
            if every and values["step"] % every == 0:
                console.divide(f"sample at step {values['step']}")
                console.print(sample_text(self.trainer, 120))
        elif kind == "settled":
            self.progress.update(self.task, total=values["steps"])
            steps, before = values["steps"], values["before"]
            said = f"{steps:,} steps, as before" if steps == before else f"{steps:,} steps in place of {before:,}"
            console.say(f"Half way: {values['step_ms']:.0f} ms a step so far: {said}. {_repeats(values)}")
        elif kind == "evaluating":
            self.progress.update(self.task, doing=f"evaluating: {values['done']} of {values['of']} windows")
        elif kind == "eval":
            self.progress.update(self.task, doing=self.learning)
            console.say(
                f"step {values['step']:>6}  held-out loss {values['val_loss']:.4f} nats a token, "
                f"{values['bits_per_byte']:.3f} bits a byte"
            )
        elif kind == "warning":
            console.say(f"Warning: {values['text']}", style="yellow")


def run(trainer: Trainer, view: RunView):
    """Train behind a progress bar. The first Ctrl-C finishes the step and saves; the second stops at once."""
    columns = (TextColumn("{task.completed}/{task.total}"), BarColumn(), TextColumn("{task.fields[doing]}"),
               TimeRemainingColumn())  # fmt: skip

    def stop(signum, frame):
        if trainer.stop_requested:
            raise KeyboardInterrupt
        trainer.stop_requested = True
        console.say("\nFinishing this step and saving; press Ctrl-C again to stop at once.")

    found = signal.signal(signal.SIGINT, stop)
    try:
        with Progress(*columns, console=console) as progress:
            view.progress, view.trainer = progress, trainer
            view.task = progress.add_task("", total=trainer.config.steps, completed=trainer.progress.step, doing="")
            trainer.run()
    finally:
        signal.signal(signal.SIGINT, found)
        view.progress = None


def sample_text(trainer: Trainer, count: int, seed: int = 1) -> str:
    """What the model writes after a line end, or what it was imported to begin with, up to the end of the text."""
    start = trainer.marks["start"] or start_of_text(trainer.tokenizer)
    ids = generate(trainer.model, start, count, temperature=0.8, top_k=200, generator=Generator(seed))
    return trainer.tokenizer.decode(list(takewhile(lambda i: i not in trainer.marks["end"], ids))).strip("\n")


def finish(trainer: Trainer, out: Path, began: float):
    """Samples, the loss curve, the figures, and a warning where they are not as expected."""
    config, p, peak_mib = trainer.config, trainer.progress, peak_bytes() / MIB
    for seed in (1, 2):
        console.divide(f"sample {seed}")
        console.print(sample_text(trainer, 160, seed))
    console.divide()
    loss_curve(out / "log.jsonl", out / "loss.png", console)
    last = p.evaluations[-1]
    scored = (
        ""
        if last["val_tokens"] >= len(trainer.val) - 1
        else f" (over {last['val_tokens']:,} of its {len(trainer.val):,} tokens)"
    )
    console.say(
        f"Done: held-out loss {last['val_loss']:.4f} nats a token, {last['bits_per_byte']:.3f} bits a byte{scored}, after "
        f"{p.tokens_seen:,} tokens and {time.perf_counter() - began:.0f} s in all; {peak_mib:,.0f} MiB of memory "
        f"at the peak. Everything is in {out}."
    )
    reached = last["bits_per_byte"] if config.expected_unit == "bits a byte" else last["val_loss"]
    if config.expected and not config.expected[0] <= reached <= config.expected[1]:
        low, high = config.expected
        console.say(
            f"Warning: {reached:.3f} {config.expected_unit} is outside the expected {low} to {high}: "
            "compare log.jsonl with another seed's, and the text with the preset's.",
            style="yellow",
        )
    elif last["val_loss"] > trainer.baselines.pair:
        console.say(
            f"Warning: {last['val_loss']:.2f} nats a token is no better than counting pairs of tokens "
            f"({trainer.baselines.pair:.2f}): too few steps, or a learning rate that does not suit.",
            style="yellow",
        )
    console.say("Try:", f"tgl sample --from {quoted(out)}")
