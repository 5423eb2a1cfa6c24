"""Checkpoints: one directory a step, written whole or not at all.

    DIR/step-00000250/model.safetensors       weights
                      optimizer.safetensors   moments
                      state.json              configs, step, generator, tokenizer, history
    DIR/latest                                the name of the newest complete one
    DIR/earlier-20261124-150312/              a run that was here before, moved aside

A checkpoint is written to a temporary name, flushed, then renamed, then named in `latest`, and only then the one before
is removed: a process killed at any moment leaves a whole one, and what it had begun to write or to remove the next run
in the directory clears away. A second one of the same step is step-00000250.1.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors.numpy import load_file

from .files import replace, save_arrays

FILES = ("model.safetensors", "optimizer.safetensors", "state.json")
_REMOVING = ".removing-"  # begins the name of what is about to be removed


class CheckpointError(ValueError):
    """A directory that holds no usable checkpoint, and why."""


def lock(out):
    """A context that holds the run's directory, so that no second run writes into it. CheckpointError if one does.

    The operating system lets go of it when the process ends, however it ends.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    held = FileLock(out / ".lock")
    try:
        context = held.acquire(timeout=0)
    except Timeout:
        raise CheckpointError(
            f"{out}: another process is training there: wait for it, or choose another --out"
        ) from None
    _sweep(out)  # whether this run will save anything or not
    return context


def _sweep(out: Path):
    """Remove what a process had begun to write or to remove when it was killed."""
    for pattern in (".writing-*", f"{_REMOVING}*"):
        for left in out.glob(pattern):
            shutil.rmtree(left, ignore_errors=True)


def save(out: Path, step: int, weights: dict, moments: dict, state: dict, keep: bool = False) -> Path:
    """Write a checkpoint, point `latest` at it, and only then drop the ones before, unless all are kept; returns its directory."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    _sweep(out)  # before anything is written: the disk may be full
    before = [] if keep else all_in(out)
    writing, final, number = out / f".writing-{os.getpid()}", out / f"step-{step:08d}", 0
    while (
        final.exists()
    ):  # the same step again, after its evaluation say: what `latest` names stays until the new one stands
        number += 1
        final = out / f"step-{step:08d}.{number}"
    writing.mkdir()
    try:
        save_arrays(writing / "model.safetensors", weights)
        save_arrays(writing / "optimizer.safetensors", moments)
        (writing / "state.json").write_text(json.dumps(state), encoding="utf-8")
        for file in writing.iterdir():
            _flush(file)
        replace(writing, final)
    except BaseException:  # on a full disk it would stay in the way until the next run
        shutil.rmtree(writing, ignore_errors=True)
        raise
    pointer = out / ".latest"
    pointer.write_text(final.name, encoding="utf-8")
    _flush(pointer)
    replace(pointer, out / "latest")
    for old in before:  # under another name first: a removal that is cut short is known by it, and finished by the next
        # Where it is open elsewhere it stays whole, and the next save's to remove.
        with contextlib.suppress(OSError):
            replace(old, out / f"{_REMOVING}{os.getpid()}-{old.name}")
    _sweep(out)
    return final


def all_in(out: Path) -> list[Path]:
    """The complete checkpoints in a run's directory, oldest first."""
    found = [(m, p) for p in out.glob("step-*") if (m := re.fullmatch(r"step-(\d{8,})(?:\.(\d+))?", p.name))]
    ordered = [p for m, p in sorted(found, key=lambda pair: (int(pair[0][1]), int(pair[0][2] or 0)))]
    return [p for p in ordered if all((p / name).exists() for name in FILES)]


def move_aside(out: Path) -> Path | None:
    """Move a run that is in `out` into a directory of its own within it, named by when it was last written.

    Returns where it is now; None if there was none, and then nothing is touched.
    """
    out = Path(out)
    _refuse_checkpoint(out)
    # The checkpoint last: killed half way, what is left is found again and moved by the next run.
    parts = [p for p in (out / "log.jsonl", out / "loss.png", out / "latest") if p.exists()] + all_in(out)
    if not parts:
        return None
    written = max(p.stat().st_mtime for p in parts)
    kept = out / time.strftime("earlier-%Y%m%d-%H%M%S", time.localtime(written))
    number = 1
    while kept.exists():
        kept, number = kept.with_name(f"{kept.name.partition('.')[0]}.{number}"), number + 1
    kept.mkdir()
    for path in parts:
        replace(path, kept / path.name)
    return kept


def _refuse_checkpoint(out: Path):
    if (out / "state.json").exists():
        raise CheckpointError(f"{out} is one checkpoint of a run: name the run's directory, {out.parent}")


def _flush(path: Path):
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def find(out) -> Path:
    """The newest complete checkpoint in a run's directory; a checkpoint's own directory is itself."""
    out = Path(out)
    if out.is_file():
        raise CheckpointError(f"{out} is a file: name the run's directory, {out.parent} perhaps")
    if (out / "state.json").exists():
        return out
    named, whole = _latest(out), all_in(out)
    if named in whole:
        return named
    if whole:
        return whole[-1]
    earlier = sorted(out.glob("earlier-*"))
    where = f"; an earlier run is in {earlier[-1]}" if earlier else f": train one with `tgl train --out {out}`"
    raise CheckpointError(f"{out}: no checkpoint here{where}")


def _latest(out: Path) -> Path | None:
    try:
        return out / (out / "latest").read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _steadily(out, read):
    """read(the newest checkpoint); again where a run replaced that one by a newer one meanwhile.

    Without a lock, so that reading never writes and never keeps a run waiting.
    """
    while True:
        named = _latest(Path(out))
        try:
            return read(find(out))
        except CheckpointError:
            if _latest(Path(out)) == named:  # nothing has changed: it is damaged
                raise


def load(out) -> tuple[dict, dict, dict]:
    """(weights, moments, state) of the newest checkpoint in a directory."""

    def read(path):
        weights, state = _weights_and_state(path)
        return weights, _read(path / "optimizer.safetensors", load_file), state

    return _steadily(out, read)


def load_weights(out) -> tuple[dict, dict]:
    """(weights, state) only, for sampling and evaluation."""
    return _steadily(out, _weights_and_state)


def _weights_and_state(path: Path):
    state = _read(path / "state.json", lambda file: json.loads(file.read_text(encoding="utf-8")))
    return _read(path / "model.safetensors", load_file), state


def _read(file: Path, reader):
    if not file.exists():
        raise CheckpointError(f"{file.parent}: {file.name} is missing: the checkpoint is not whole")
    try:
        return reader(file)
    except Exception as error:
        raise CheckpointError(f"{file}: cannot be read: {error}") from None


def marks(state: dict) -> dict:
    """Of an imported model, and of what is trained on from one: the ids that "begin" every text, that a text without a
    prompt has at its "start", and that "end" one."""
    return {name: state.get(name, []) for name in ("begin", "start", "end")}


def load_to_resume(out) -> tuple[dict, dict, dict]:
    """As `load`, for a run that goes on writing into the directory."""
    _refuse_checkpoint(Path(out))
    found = load(out)
    if found[2]["text_sha256"] is None:
        raise CheckpointError(
            f"{out} holds an imported model, not a run to continue: tgl train --from {out} --out ANOTHER begins one with it"
        )
    return found


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
        parameter.data[...] = parameter.device.xp.asarray(weights[name], dtype=parameter.dtype)


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
