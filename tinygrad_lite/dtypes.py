"""Element types, and PyTorch's rules of promotion for them."""

from __future__ import annotations

import ml_dtypes
import numpy as np

float64 = np.dtype("float64")
float32 = np.dtype("float32")
float16 = np.dtype("float16")
bfloat16 = np.dtype(ml_dtypes.bfloat16)
int64 = np.dtype("int64")
int32 = np.dtype("int32")
int16 = np.dtype("int16")
int8 = np.dtype("int8")
uint8 = np.dtype("uint8")
uint16 = np.dtype("uint16")
uint32 = np.dtype("uint32")
bool_ = np.dtype("bool")

default_float = float32

HALF = (float16, bfloat16)
FLOATS = (float32, float64, float16, bfloat16)

_ONE_OBJECT = {
    d: d for d in (float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8, uint16, uint32, bool_)
}
_NAMES = {"bfloat16": bfloat16, "half": float16, "float": float32, "double": float64, "long": int64, "int": int32}


def as_dtype(spec) -> np.dtype:
    """A dtype from a dtype, a NumPy type, a Python type or a name; Python's float means the default, float32."""
    if spec is float:
        return default_float
    if isinstance(spec, str) and spec in _NAMES:
        return _NAMES[spec]
    if spec is None:
        raise TypeError("dtype: expected a type or its name, 'float32' say, got None")
    try:
        dtype = np.dtype(spec)
    except TypeError:
        raise TypeError(f"dtype: {spec!r} is no element type: give one by name, 'float32' say") from None
    if not (is_float(dtype) or dtype.kind in "iub"):
        raise TypeError(f"dtype: expected a float, an integer or bool, got {dtype}: convert the data first")
    # The very objects above: ops on float32 and float64 are told from others by `is` (autograd/record.py).
    return _ONE_OBJECT.get(dtype.newbyteorder("="), dtype)


def is_float(dtype: np.dtype) -> bool:
    """Whether gradients can flow through this type."""
    return dtype.kind == "f" and dtype.itemsize in (2, 4, 8) or dtype == bfloat16


def check_fits(op: str, values: np.ndarray, dtype: np.dtype):
    """Raise where a number that the user wrote cannot be held by an integer type. Fractions are cut off."""
    info = np.iinfo(dtype)
    held = (values > info.min - 1) & (values < info.max + 1) if values.dtype.kind != "b" else np.True_
    if not np.all(held):
        bad = values[~held].flat[0]
        raise ValueError(f"{op}: {bad} is not in {dtype}'s range, {info.min} to {info.max}: give another dtype")


def _category(dtype: np.dtype) -> int:
    return 0 if dtype.kind == "b" else 1 if dtype.kind in "iu" else 2


def _join(a: np.dtype, b: np.dtype) -> np.dtype:
    if a == b:
        return a
    ca, cb = _category(a), _category(b)
    if ca != cb:
        return a if ca > cb else b
    if ca == 2 and a in HALF and b in HALF:
        return float32
    if ca == 2:
        return a if a.itemsize > b.itemsize else b
    return np.promote_types(a, b)


def result_type(arrays, scalars=()) -> np.dtype:
    """The type that arrays (with dtype and ndim) and Python scalars compute in together.

    As in PyTorch: among arrays the wider of the higher category (bool < integer < float); a 0-d array, and
    after it a Python scalar, counts only where its category is higher than that of what has dimensions.
    """
    result = None
    for group in ([a.dtype for a in arrays if a.ndim], [a.dtype for a in arrays if not a.ndim]):
        joined = None
        for dtype in group:
            joined = dtype if joined is None else _join(joined, dtype)
        if joined is not None and (result is None or _category(joined) > _category(result)):
            result = joined
    for scalar in scalars:
        dtype = bool_ if isinstance(scalar, bool) else int64 if isinstance(scalar, int) else default_float
        if result is None or _category(dtype) > _category(result):
            result = dtype
    return result
