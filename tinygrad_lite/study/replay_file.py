"""A file with one op and what it read, and its run again, alone: the NaN without the model around it.

An .npz of plain arrays and one text in JSON: nothing in it is executed when it is read.
"""

from __future__ import annotations

import json
import math
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np

from ..autograd.node import Leaf, Node
from ..autograd.walk import Walk
from ..device import CPU
from ..dtypes import as_dtype, is_float
from ..ops.registry import OPS, Op
from ..tensor import Tensor, functional, wrap
from .finite import Holds, holds
from .origin import Origin

VERSION = 1


@dataclass
class Replayed:
    """An op run again alone: `result` is what it gave now, `was` what it gave then, `said` the report of that time."""

    op: Op
    phase: str
    inputs: list
    params: dict
    result: np.ndarray
    was: np.ndarray
    said: str
    gradient: np.ndarray | None  # that reached it, in backward

    @property
    def is_same(self) -> bool:
        """Whether the same elements are NaN and infinite again."""
        now, was = self.result.astype(np.float64), self.was.astype(np.float64)
        if now.shape != was.shape:
            return False
        return bool((np.isnan(now) == np.isnan(was)).all() and (np.isinf(now) == np.isinf(was)).all())

    @property
    def holds(self) -> Holds:
        """What the result holds now."""
        return holds(self.result)

    def stepper(self):
        """A Stepper through the op, both ways. Raises ValueError where the file has no more than a rule reads."""
        from .stepper import Stepper

        if self.phase == "backward" and not self.op.is_fused:
            raise ValueError(
                f"replay: the file holds what {self.op.name}'s backward rule reads, and not the op's inputs: step through "
                "your own function instead, with tgl step"
            )
        inputs, gradient = [x.detach() if type(x) is Tensor else x for x in self.inputs], self.gradient
        for name, x in zip(self.op.inputs * (len(inputs) if self.op.variadic else 1), inputs, strict=True):
            if type(x) is Tensor and is_float(x.dtype) and name not in self.op.integer_inputs:
                x.requires_grad_()
        if gradient is None:
            gradient = np.ones(self.result.shape, self.result.dtype)

        def function(*xs):
            with np.errstate(all="ignore"):
                return self.op.call(*xs, **self.params)

        return Stepper(function, *inputs, gradient=Tensor(gradient))


def save(origin: Origin, path: Path) -> Path:
    """Write an origin to `path` (.npz). Raises TypeError where there is no op to run again, OSError from the disk."""
    if origin.cause not in ("op", "input", "arrival", "saved") or origin.op is None or origin.op.replay is not None:
        raise TypeError("no single op makes it")
    if origin.cause == "arrival" and not origin.is_alone:
        raise TypeError("no single value makes it, but a sum of several")
    arrays, values = {}, []
    for value in origin.values:
        values.append([value.name, value.label, _pack(value.data, arrays)])
    meta = {
        "version": VERSION, "op": origin.name, "phase": origin.phase, "which": origin.which, "values": values,
        "params": {k: _pack(v, arrays) for k, v in origin.params.items()}, "shapes": origin.shapes,
        "was": _pack(origin.result, arrays), "said": origin.text(),
    }  # fmt: skip
    path = path if path.suffix == ".npz" else Path(f"{path}.npz")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            np.savez(file, meta=np.array(json.dumps(meta)), **arrays)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def replay(path) -> Replayed:
    """Run the op of a replay file again, on the CPU, alone. Raises ValueError if it is none, or its op is unknown."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"replay: there is no file {path}: detect_anomaly() and tgl train --detect-anomaly write one")
    refused = f"replay: {path} is no replay file of detect_anomaly(), or a damaged one"
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        meta = json.loads(str(arrays.pop("meta")))
        version = meta["version"]
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{refused}: {error}") from None
    if version != VERSION:
        raise ValueError(f"replay: {path} is of version {version}, this reads {VERSION}: write it again")
    if (op := OPS.get(meta.get("op"))) is None:
        raise ValueError(
            f"replay: {path} holds the op {meta.get('op')!r}, which is not registered: in Python, import its module, then "
            "call tinygrad_lite.study.replay"
        )
    try:
        return _run_again(op, meta, arrays)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"{refused}: {op.name} cannot be run on what it holds: {error}") from None


def _run_again(op, meta, arrays):
    values = [_unpack(value, arrays) for _, _, value in meta["values"]]
    params = {k: _unpack(v, arrays) for k, v in meta["params"].items()}
    with np.errstate(all="ignore"):
        if meta["phase"] == "forward":
            inputs = [wrap(v, None, CPU) if isinstance(v, np.ndarray) else v for v in values]
            result = op.call(*inputs, **params).data
        else:
            inputs, result = _backward(op, params, values, meta)
    was, gradient = _unpack(meta["was"], arrays), values[0] if meta["phase"] == "backward" else None
    return Replayed(op, meta["phase"], inputs, params, result, was, meta["said"], gradient)


def _backward(op, params, values, meta):
    """The op's rules on the gradient that reached it, by a real walk over this node alone."""
    g, saved = values[0], values[1:]
    shapes, which = meta["shapes"], meta["which"]
    if op.is_fused:
        inputs = [
            Tensor(v, requires_grad=shapes[i] is not None and is_float(v.dtype)) if isinstance(v, np.ndarray) else v
            for i, v in enumerate(saved)
        ]
        out = op.call(*inputs, **params)
        out.backward(Tensor(g.astype(out.dtype)))
        return inputs, inputs[which].grad.data
    leaves = [None if s is None else Leaf(np.empty(s[0], as_dtype(s[1])), CPU) for s in shapes]
    given = [tuple(v) if isinstance(v, list) else v for v in saved]
    if op.variadic:
        names = [name for name, _, _ in meta["values"][1:]]
        given = [tuple(v for v, n in zip(saved, names, strict=True) if n == name) for name in op.reads]
    node = Node(op, tuple(leaves), tuple(given), params, g, CPU)
    for _ in Walk([node], [g], wrap=wrap, functional=functional, accumulating=True):
        pass
    return [wrap(v, None, CPU) for v in saved if isinstance(v, np.ndarray)], leaves[which].grad.data


# -- values as JSON and arrays ----------------------------------------------------------------------------
def _pack(x, arrays):
    if isinstance(x, Tensor):
        x = x.numpy()
    if isinstance(x, np.generic):
        x = x.item()
    if isinstance(x, np.ndarray):
        name = f"a{len(arrays)}"
        bits = x.view(np.uint16) if x.dtype == ml_dtypes.bfloat16 else x  # .npz has no bfloat16
        arrays[name] = np.ascontiguousarray(bits).reshape(x.shape)
        return {"array": name, "dtype": str(x.dtype)}
    if isinstance(x, float) and not math.isfinite(x):
        return {"float": repr(x)}
    if x is None or isinstance(x, (bool, int, float, str)):
        return x
    if isinstance(x, (tuple, list)):
        return {"tuple": [_pack(v, arrays) for v in x]}
    if isinstance(x, slice):
        return {"slice": [_pack(v, arrays) for v in (x.start, x.stop, x.step)]}
    if x is Ellipsis:
        return {"ellipsis": True}
    if isinstance(x, np.dtype):
        return {"type": str(x)}
    raise TypeError(f"a parameter of type {type(x).__name__} cannot be written")


def _unpack(x, arrays):
    if not isinstance(x, dict):
        return x
    ((kind, value), *_) = x.items()
    if kind == "array":
        array = arrays[value]
        return array.view(ml_dtypes.bfloat16) if x["dtype"] == "bfloat16" else array
    if kind == "float":
        return float(value)
    if kind == "tuple":
        return tuple(_unpack(v, arrays) for v in value)
    if kind == "slice":
        return slice(*(_unpack(v, arrays) for v in value))
    return Ellipsis if kind == "ellipsis" else as_dtype(value)
