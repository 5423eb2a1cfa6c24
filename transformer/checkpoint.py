"""Checkpoints: one directory a step, written whole or not at all.

    DIR/step-00000250/model.safetensors       weights
                      optimizer.safetensors   moments
                      state.json              configs, step, generator, tokenizer, history
    DIR/latest                                the name of the newest complete one
    DIR/earlier-20261124-150312/              a run that was here before, moved aside

A checkpoint is written to a temporary name, flushed, then renamed, and only then named in `latest`: a process
killed at any moment leaves the previous one usable.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file


class CheckpointError(ValueError):
    """A directory that holds no usable checkpoint, and why."""


def save(out: Path, step: int, weights: dict, moments: dict, state: dict) -> Path:
    """Write a checkpoint and drop the one before; returns its directory."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob(".writing-*"):
        shutil.rmtree(old, ignore_errors=True)
    writing, final = out / f".writing-{os.getpid()}", out / f"step-{step:08d}"
    writing.mkdir()
    save_file({k: np.ascontiguousarray(v) for k, v in weights.items()}, writing / "model.safetensors")
    save_file({k: np.ascontiguousarray(v) for k, v in moments.items()}, writing / "optimizer.safetensors")
    (writing / "state.json").write_text(json.dumps(state), encoding="utf-8")
    for file in writing.iterdir():
        _flush(file)
    if final.exists():  # the same step again: after a resume that stopped at once
        shutil.rmtree(final)
    os.replace(writing, final)
    pointer = out / ".latest"
    pointer.write_text(final.name, encoding="utf-8")
    _flush(pointer)
    os.replace(pointer, out / "latest")
    for old in out.glob("step-*"):
        if old.name != final.name:
            shutil.rmtree(old, ignore_errors=True)
    return final


def move_aside(out: Path) -> Path | None:
    """Move a run that is in `out` into a directory of its own within it, named by when it was last saved.

    Returns where it is now; None if there was none, and then nothing is touched.
    """
    try:
        saved = find(out)
    except CheckpointError:
        return None
    out = Path(out)
    if saved == out:  # a checkpoint's own directory, not a run's
        raise CheckpointError(f"{out} is a checkpoint of another run: choose another --out")
    kept = out / time.strftime("earlier-%Y%m%d-%H%M%S", time.localtime((saved / "state.json").stat().st_mtime))
    number = 1
    while kept.exists():
        kept, number = kept.with_name(f"{kept.name.partition('.')[0]}.{number}"), number + 1
    kept.mkdir()
    for path in [*out.glob("step-*"), *(out / name for name in ("latest", "log.jsonl", "loss.png"))]:
        if path.exists():
            os.replace(path, kept / path.name)
    return kept


def _flush(path: Path):
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def find(out) -> Path:
    """The newest complete checkpoint in a directory."""
    out = Path(out)
    if (out / "state.json").exists():
        return out
    pointer = out / "latest"
    if pointer.exists():
        path = out / pointer.read_text(encoding="utf-8").strip()
        if (path / "state.json").exists():
            return path
    # Killed between dropping a step of the same name and the rename: any complete one is whole.
    complete = sorted(p for p in out.glob("step-*") if (p / "state.json").exists())
    if complete:
        return complete[-1]
    raise CheckpointError(f"{out}: no checkpoint here: train one with `tgl train --out {out}`")


def load(out) -> tuple[dict, dict, dict]:
    """(weights, moments, state) of the newest checkpoint in a directory."""
    path = find(out)
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        return load_file(path / "model.safetensors"), load_file(path / "optimizer.safetensors"), state
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: {Path(error.filename).name} is missing: the checkpoint is not whole") from None
    except Exception as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from None


def put_weights(model, weights: dict, where):
    """Copy named arrays into a model's parameters; CheckpointError lists every name or shape that does not fit."""
    parameters = dict(model.named_parameters())
    wrong = [f"{n} is missing" for n in parameters.keys() - weights.keys()]
    wrong += [f"{n} is not of this model" for n in weights.keys() - parameters.keys()]
    wrong += [
        f"{n} must be {p.shape}, is {weights[n].shape}"
        for n, p in parameters.items()
        if n in weights and weights[n].shape != p.shape
    ]
    if wrong:
        raise CheckpointError(f"{where}: {'; '.join(sorted(wrong))}")
    for name, parameter in parameters.items():
        parameter.data[...] = weights[name]


def load_weights(out) -> tuple[dict, dict]:
    """(weights, state) only, for sampling and evaluation."""
    weights, _, state = load(out)
    return weights, state


def digest(out) -> str:
    """SHA-256 over weights, moments and state of the newest checkpoint."""
    path, sha = find(out), hashlib.sha256()
    for name in ("model.safetensors", "optimizer.safetensors"):
        sha.update(b"".join(_canonical(load_file(path / name))))
    state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    sha.update(json.dumps(state, sort_keys=True).encode())
    return sha.hexdigest()


def _canonical(tensors: dict):
    for name in sorted(tensors):
        array = tensors[name]
        yield f"{name} {array.dtype} {array.shape}".encode()
        yield array.tobytes()
