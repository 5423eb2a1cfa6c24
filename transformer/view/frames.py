"""Checkpoints of one run, seen by the same text: what the slider moves through."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tinygrad_lite import Generator

from .. import checkpoint
from ..model import GPT
from .collect import Checkpoint, Collected, load
from .pack import BYTE, EIGHT, Packer, statistics
from .twin import ATTENTION, attention_weights

TOP = 5  # likeliest next tokens that a frame keeps
MOST_FRAMES = 12
BINS = 8  # rows of a small picture of values: what a strip of the page has room for


def untrained(of: Checkpoint) -> Checkpoint:
    """The model before its first step: the weights that the run's seed drew."""
    model = GPT(of.model.config, Generator(of.train.seed)).eval()
    return Checkpoint(model, of.tokenizer, 0, of.train, None, "untrained")


def checkpoints_of(run: Path) -> list[Path]:
    """The checkpoints that a run kept, the newest of each step, oldest first, at most `MOST_FRAMES` of them."""
    by_step = {path.name.partition(".")[0]: path for path in checkpoint.all_in(run)}
    found = [by_step[name] for name in sorted(by_step)]
    if len(found) > MOST_FRAMES:
        found = [found[i] for i in np.unique(np.linspace(0, len(found) - 1, MOST_FRAMES).astype(int))]
    return found


def frames_for(newest: Checkpoint, directory: Path, others: list[Path]) -> list[Checkpoint]:
    """The frames before the newest: those that were named, or all that the run kept, and the untrained model.

    Raises ValueError for one of another model, or of a later step.
    """
    directory, found = Path(directory), {0: untrained(newest)}
    run = directory.parent if (directory / "state.json").exists() else directory  # one checkpoint may be named, too
    for path in others or checkpoints_of(run):
        one = load(path)
        if one.model.config != newest.model.config or one.tokenizer.to_dict() != newest.tokenizer.to_dict():
            raise ValueError(f"--checkpoints {path} holds another model or tokenizer than the run: leave it out")
        if others and one.step > newest.step:
            raise ValueError(
                f"--checkpoints {path} is of step {one.step}, after the page's {newest.step}: name it with --from"
            )
        if one.step < newest.step:
            found[one.step] = one
    return [found[step] for step in sorted(found)]


def frame(collected: Collected, packer: Packer, names: list[str], strips: bool) -> dict:
    """What is kept of a checkpoint: losses, likeliest tokens, attention, and the size of everything, not the values.

    names: the parameters, in the order in which their figures stand; strips: with a small picture of each op's values.
    """
    c, update = collected, collected.update
    logits = c.logits.astype(np.float64)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    top = np.argsort(-p, axis=1, kind="stable")[:, :TOP]
    weights = [attention_weights(c.twins[e.index]).out.numpy()[0] for e in c.trace if e.op.name in ATTENTION]
    return {
        "step": c.source.step,
        "name": c.source.name,
        "loss": c.loss,
        "losses": _rounded(c.losses),
        "top": top.tolist(),
        "top_p": [_rounded(row) for row in np.take_along_axis(p, top, axis=1)],
        "attention": packer.add(np.stack(weights), BYTE) if weights else None,  # (L, H, T, T)
        "strips": packer.add(_strips(c), EIGHT) if strips else None,  # (2, ops, BINS, T): values, gradients
        "out": [_rms(e.out.numpy()) for e in c.trace],
        "g": [_norm(c.by_event[e.index].g) if e.index in c.by_event else None for e in c.trace],
        "parameters": [
            [_norm(update.changes[n].before), _norm(update.changes[n].gradient),
             _norm(update.changes[n].after - update.changes[n].before)]
            for n in names
        ],
        "update": {"optimizer": update.optimizer, "lr": update.lr, "norm": update.norm, "clip": update.clip,
                   "note": update.note},
    }  # fmt: skip


def _strips(c: Collected) -> np.ndarray:
    count = len(c.ids)
    out = np.zeros((2, len(c.trace), BINS, count), np.float32)
    for event in c.trace:
        step = c.by_event.get(event.index)
        for which, array in enumerate((event.out.numpy(), None if step is None else np.asarray(step.g))):
            if array is not None and array.ndim and count in (array.shape[0], array.shape[-2:][0]):
                out[which, event.index] = strip(array, count)
    return out


def strip(array: np.ndarray, count: int) -> np.ndarray:
    """(BINS, count) of an array whose rows are `count` tokens: of each group of channels the value of the largest size,
    over the size at which colours end."""
    rows = array.reshape(count, -1).astype(np.float64)
    channels = rows.shape[1]
    starts = np.arange(BINS) * channels // BINS
    out = np.zeros((BINS, count))
    for i, (a, b) in enumerate(zip(starts, [*starts[1:], channels])):
        group = rows[:, a : max(b, a + 1)]
        out[i] = np.take_along_axis(group, np.abs(group).argmax(axis=1)[:, None], axis=1)[:, 0]
    full = statistics(array)["full"]
    return np.clip(out / full, -1.0, 1.0) if full else out


def _rounded(values) -> list[float]:
    return [float(f"{v:.5g}") for v in values]


def _norm(x) -> float:
    return float(f"{np.linalg.norm(np.asarray(x, np.float64).reshape(-1)):.5g}")


def _rms(x) -> float:
    return float(f"{np.sqrt(np.mean(np.square(x, dtype=np.float64))):.5g}")
