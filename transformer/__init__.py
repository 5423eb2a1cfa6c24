"""A GPT by hand: attention, embeddings, training, sampling, and the command line `tgl`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .config import GPTConfig
    from .evaluation import evaluate
    from .model import GPT
    from .presets import TrainConfig, preset
    from .sampling import generate
    from .trainer import Trainer

__all__ = ["GPT", "GPTConfig", "TrainConfig", "Trainer", "evaluate", "generate", "preset"]

_MODULE_OF = {
    "GPT": "model",
    "GPTConfig": "config",
    "TrainConfig": "presets",
    "Trainer": "trainer",
    "evaluate": "evaluation",
    "generate": "sampling",
    "preset": "presets",
}


def __getattr__(name: str):
    # Imported when first asked for: `tgl` must be running already when the engine refuses a setting of the environment.
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    return value


def __dir__():
    return sorted({*globals(), *__all__})
