"""Errors that name the op, what was expected, what came, and the way out."""

from __future__ import annotations

import math
from numbers import Real


def describe(x) -> str:
    """An input in a few words: float32 (2, 3), or the scalar itself."""
    data = getattr(x, "data", x) if hasattr(x, "cell") else x
    if hasattr(data, "shape") and hasattr(data, "dtype"):
        return f"{data.dtype} {tuple(data.shape)}"
    return repr(x) if len(repr(x)) < 60 else type(x).__name__


def explain(op, xs, params, error: Exception) -> Exception:
    """The array library's complaint, retold with the op's name and what came in."""
    message = str(error)
    if message.startswith(f"{op.name}:"):
        return error
    given = ", ".join(describe(x) for x in xs)
    settings = "".join(f", {k}={v!r}" for k, v in (params or {}).items())
    if "broadcast" in message or "could not be broadcast" in message:
        message = "shapes do not broadcast: align the last axes, each pair equal or one of them 1"
    elif "did not contain a loop" in message or "ufunc" in message and "not supported" in message:
        message = "this element type is not supported: convert with .to(dtype)"
    elif "Integers to negative integer powers" in message:
        message = "an integer to a negative power is no integer: convert with .float()"
    elif "out of bounds for" in message and message.startswith("Python integer"):
        message += ": convert the tensor to a wider type first, with .long() say"
    elif isinstance(error, AttributeError):
        message = f"expected Tensors for {', '.join(op.inputs)}"
        error = TypeError(message)
    kind = IndexError if isinstance(error, IndexError) else TypeError if isinstance(error, TypeError) else ValueError
    return kind(f"{op.name}: got {given}{settings}: {message}")


def number(owner: str, name: str, value):
    """value, if it is a real number; a 0-d Tensor or array gives its own."""
    if hasattr(value, "item") and getattr(value, "size", 1) == 1:
        value = value.item()
    if not isinstance(value, Real):
        raise TypeError(f"{owner}: {name} must be a number, got {value!r}")
    return value


def function(owner: str, fn):
    """fn, if it can be called."""
    if not callable(fn):
        raise TypeError(f"{owner}: expected a function first, got {type(fn).__name__}")
    return fn


def several(owner: str, what: str, xs) -> tuple:
    """A sequence of things as a tuple."""
    if isinstance(xs, str) or not hasattr(xs, "__iter__"):
        raise TypeError(f"{owner}: expected {what}, got {type(xs).__name__}")
    return tuple(xs)


def check_number(owner: str, name: str, value, below: float = math.inf):
    """Raise unless a setting is a number of at least 0 and below a bound."""
    if not isinstance(value, Real):
        raise TypeError(f"{owner}: {name} must be a number, got {value!r}")
    if not 0.0 <= value < below:
        limits = "at least 0 and finite" if below == math.inf else f"in [0, {below:g})"
        raise ValueError(f"{owner}: {name} must be {limits}, got {value}")
