"""A model from elsewhere as a run that has trained no step, so that every command reads it."""

from __future__ import annotations

from pathlib import Path

from .. import checkpoint
from ..presets import TrainConfig
from ..trainer import Progress
from .folder import Model


def check_free(out):
    """Raise CheckpointError where no run can be made."""
    if Path(out).is_file():
        raise checkpoint.CheckpointError(f"{out} is a file: a run needs a directory")
    if checkpoint.all_in(Path(out)):
        raise checkpoint.CheckpointError(f"{out} holds a run already: name another directory with --to")


def write_run(out, model: Model, source: str) -> Path:
    """Write a model as a run's directory, which must hold none; returns the checkpoint's. source: where it is from.

    Raises CheckpointError if there is a run.
    """
    out = Path(out)
    check_free(out)
    with checkpoint.lock(out):
        check_free(out)  # again: another import may have ended meanwhile
        settings = model.config.to_dict()
        settings.pop("vocab_size")
        state = {
            "version": 1,
            "train": TrainConfig(tokenizer=source, model=settings, steps=0).to_dict(),
            "model": model.config.to_dict(),
            "tokenizer": model.tokenizer.to_dict(),
            "source": [source],
            "text_sha256": None,
            "progress": Progress().__dict__,
            "begin": model.begin,
            "start": model.start,
            "end": model.end,
            "optimizer": None,
        }
        return checkpoint.save(out, 0, model.weights, {}, state)
