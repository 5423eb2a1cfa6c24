"""Out of and into a module's Tensors: the two halves of saving."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..dtypes import is_float
from ..tensor import Tensor


class Mismatch(NamedTuple):
    """Names that the module has and the state lacks, and the other way round."""

    missing: list[str]
    unexpected: list[str]


def copy_state(named) -> dict[str, np.ndarray]:
    """Name to a copy on the host; Tensors under several names share one copy."""
    copies: dict[int, np.ndarray] = {}
    state = {}
    for name, x in named:
        if id(x) not in copies:
            copies[id(x)] = np.array(x.device.to_host(x.data), order="C")
        state[name] = copies[id(x)]
    return state


def load_state(owner: str, named, state, strict: bool) -> Mismatch:
    """Write a state into Tensors in place, or raise one ValueError that lists all that is wrong."""
    if not isinstance(state, Mapping):
        raise TypeError(f"load_state_dict: expected a dict from names to arrays, got {type(state).__name__}")
    wrong, chosen = [], {}
    known = {name for name, _ in named}
    for name, x in named:
        if name not in state:
            continue
        value = state[name]
        value = value.device.to_host(value.data) if type(value) is Tensor else np.asarray(value)
        if value.shape != x.shape:
            wrong.append(f"shape of {name}: expected {x.shape}, got {value.shape}")
        elif not _fits(value.dtype, x.dtype):
            wrong.append(f"type of {name}: expected {x.dtype}, got {value.dtype}")
        elif _overflows(value, x.dtype):
            wrong.append(f"values of {name}: some are finite in {value.dtype} and infinite in {x.dtype}")
        elif id(x) in chosen and not _same(chosen[id(x)][2], value):
            wrong.append(f"values of {name}: tied to {chosen[id(x)][0]}, yet the two differ")
        else:
            chosen.setdefault(id(x), (name, x, value))
    loaded_or_wrong = {id(x) for name, x in named if name in state}
    missing = [name for name, x in named if name not in state and id(x) not in loaded_or_wrong]
    unexpected = [name for name in state if name not in known]
    if strict:
        wrong = [f"missing: {name}" for name in missing] + [f"unexpected: {name}" for name in unexpected] + wrong
    if wrong:
        raise ValueError(
            f"load_state_dict: the state does not fit {owner}; nothing was loaded. {len(wrong)} mismatch(es):\n  "
            + "\n  ".join(wrong)
            + ("\nWith strict=False missing and unexpected names are let pass." if missing or unexpected else "")
        )
    for _, x, value in chosen.values():
        x.data[...] = x.device.xp.asarray(value.astype(x.dtype, copy=False))
        if x.cell is None:
            x.cell = [0]
        x.cell[0] += 1
    return Mismatch(missing, unexpected)


def _fits(source, target) -> bool:
    return (is_float(source) and is_float(target)) or np.can_cast(source, target, "same_kind")


def _overflows(value, dtype) -> bool:
    if not is_float(value.dtype) or np.can_cast(value.dtype, dtype, "safe"):
        return False
    with np.errstate(over="ignore"):
        return bool((np.isinf(value.astype(dtype)) & np.isfinite(value)).any())


def _same(a, b) -> bool:
    return a is b or bool(np.array_equal(a, b))
