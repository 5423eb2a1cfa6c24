"""Hooks that change what goes on: patch in a value from elsewhere, or ablate a head, a position, a whole layer."""

from __future__ import annotations

import numpy as np

from tinygrad_lite import Tensor, as_tensor, where

from .cache import Activations

WAYS = ("zero", "mean", "resample")


def patch(value, *, rows=None, positions=None, heads=None):
    """A hook that puts `value` in place of what was computed, there alone where rows, positions or heads are named.

    value: a Tensor, an array or a number that broadcasts to the value's shape; an `Activations` stands for its value of
    the hook's name. rows, positions, heads: an index, several, or a slice, of the batch, of time (for scores and
    patterns, of the query) and of the heads. Gradients flow into a Tensor that is patched in.
    """

    def hook(x, name):
        given = value[name] if isinstance(value, Activations) else value
        if type(given) is not Tensor:
            given = as_tensor(np.asarray(given, dtype=x.dtype), x.device)
        try:
            given = given.expand(*x.shape)
        except (ValueError, TypeError, RuntimeError):
            raise ValueError(f"patch: {name} is {x.shape}, got a value of {given.shape}") from None
        return where(as_tensor(_chosen(x, name, rows, positions, heads), x.device), given, x)

    return hook


def ablate(by: str = "zero", *, rows=None, positions=None, heads=None, of: Activations | None = None, seed: int = 0):
    """A hook that takes away what a value says, there alone where rows, positions or heads are named (as in `patch`).

    by: "zero"; "mean", over batch and time of the run itself, or of the activations `of` (of a pattern over the batch
    alone, since each query sees other keys); "resample", the same place in another row of the batch, drawn by `seed`, or
    in a row of `of`. The mean keeps what all inputs have in common, a resampled value also looks like a real one: a zero
    is neither (Wang et al. 2022, arXiv:2211.00593).

    Raises ValueError, when called, for the zero or the mean of attention.scores, which would undo the causal mask, for
    another row's pos_embed, which has no rows, and where one row alone is to be its own mean or stand-in.
    """
    if by not in WAYS:
        raise ValueError(f"ablate: by must be one of {', '.join(WAYS)}, got {by!r}")

    def hook(x, name):
        if by != "resample" and name.endswith("attention.scores"):
            raise ValueError(f"ablate: the {by} of {name} would undo the causal mask: ablate the pattern, or resample")
        if by == "resample" and x.ndim < 3:
            raise ValueError(f"ablate: {name} {x.shape} has no rows to resample from: all of the batch shares it")
        if by == "zero":
            return patch(0.0, rows=rows, positions=positions, heads=heads)(x, name)
        source = (of[name] if of is not None else x).detach()
        if of is None and source.shape[0] < 2 and (by == "resample" or _is_square(name)):
            raise ValueError(f"ablate: the {by} of {name} needs a batch of two rows or more, or of=activations")
        if by == "mean":
            time = (1,) if source.ndim > 2 and not _is_square(name) else ()
            given = source.mean((0, *time), keepdim=True)
        else:
            rng, count = np.random.default_rng(seed), source.shape[0]
            if of is None:
                order = rng.permutation(count)  # each row gives to the next in a random order: none keeps its own
                choice = np.empty(count, np.int64)
                choice[order] = np.roll(order, 1)
            else:
                choice = rng.integers(0, count, x.shape[0])
            given = source[as_tensor(choice, x.device)]
        return patch(given, rows=rows, positions=positions, heads=heads)(x, name)

    return hook


def _is_square(name: str) -> bool:
    """Whether a value is (B, H, T, T) and not (B, T, ...)."""
    return name.endswith(("attention.scores", "attention.pattern"))


def _chosen(x, name, rows, positions, heads) -> np.ndarray:
    """Where to change x: a boolean array that broadcasts to its shape."""
    time = 2 if _is_square(name) else 1 if x.ndim > 2 else 0
    head = (
        1
        if _is_square(name)
        else 2
        if name.endswith(("attention.q", "attention.k", "attention.v", "attention.z"))
        else None
    )
    axes = {"rows": (0 if x.ndim > 2 else None, rows), "positions": (time, positions), "heads": (head, heads)}
    chosen = np.ones((1,) * x.ndim, bool)
    for what, (axis, index) in axes.items():
        if index is None:
            continue
        if axis is None:
            raise ValueError(f"patch: {name} {x.shape} has no {what}")
        line = np.zeros(x.shape[axis], bool)
        try:
            line[index if isinstance(index, slice) else np.asarray(index) if np.size(index) else []] = True
        except IndexError:
            raise ValueError(f"patch: {what}={index!r} is outside {name} {x.shape}") from None
        chosen = chosen & line.reshape([-1 if a == axis else 1 for a in range(x.ndim)])
    return np.broadcast_to(chosen, x.shape)
