"""The run's record: JSON lines, and what each layer's gradient and update look like."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from .files import replace


class JsonLines:
    """Appends one JSON object a line; `truncate` drops what a resumed run will write again."""

    def __init__(self, path: Path | None):
        self.path = path
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, entry: dict):
        """Append a line."""
        if self.path is not None:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")

    def truncate(self, step: int, evaluated: set[int]):
        """Keep only the lines up to a step, and of evaluations those named (a line cut short by a kill is dropped)."""
        if self.path is None or not self.path.exists():
            return
        kept = [line for line in read_log(self.path) if line.get("step", step + 1) <= step]
        kept = [line for line in kept if "val_loss" not in line or line["step"] in evaluated]
        writing = self.path.with_name(self.path.name + ".writing")
        writing.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        replace(writing, self.path)


def read_log(path) -> list[dict]:
    """All complete lines of a log."""
    entries = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return entries


def _layer_of(name: str) -> str:
    """blocks.3.mlp.up.weight belongs to blocks.3; tokens.weight to tokens."""
    parts = name.split(".")
    return ".".join(parts[:2]) if parts[0] == "blocks" else parts[0]


def _weights(model) -> dict:
    return {name: parameter.data.copy() for name, parameter in model.named_parameters()}


def _compare(model, before: dict) -> dict:
    """Per layer: the norm of the gradient, and the norm of the update over that of the weights."""
    squares: dict[str, list[float]] = {}
    for name, parameter in model.named_parameters():
        sums = squares.setdefault(_layer_of(name), [0.0, 0.0, 0.0])
        grad = None if parameter.grad is None else parameter.grad.data
        change = parameter.data - before[name]
        for i, array in enumerate((grad, change, before[name])):
            if array is not None:
                line = array.reshape(-1)
                line = line.astype(np.float32) if line.dtype.itemsize == 2 else line  # a half's sum has three digits
                sums[i] += float(parameter.device.xp.matmul(line, line))
    return {
        "layer_grad_norm": {k: s[0] ** 0.5 for k, s in squares.items()},
        "layer_update_ratio": {k: (s[1] / s[2]) ** 0.5 if s[2] else 0.0 for k, s in squares.items()},
    }


layer_report = SimpleNamespace(weights=_weights, compare=_compare)
