"""Arrays in few bytes, and how the page gets them back.

A value is rounded to 11 binary digits: float16 times one power of two for the whole array, so that a gradient of 1e-9 is
kept as well as an activation of 100. float32 where every digit matters, 4 digits (float8) where the picture does. The
bytes are sorted by their place in the number, exponents with exponents, which compresses, then deflated together (RFC
1950) and written in base85, 5 characters for 4 bytes: base64 would take 7 percent more, of 5 MB.
"""

from __future__ import annotations

import base64
import math
import zlib

import ml_dtypes
import numpy as np

SINGLE, HALF, EIGHT = "f4", "f2", "f1"
BYTE = "u1"  # values of [0, 1] in steps of 1/255
_TYPES = {SINGLE: np.dtype("<f4"), HALF: np.dtype("<f2"), EIGHT: np.dtype(ml_dtypes.float8_e4m3), BYTE: np.dtype("u1")}
_TOP = {HALF: 15, EIGHT: 7}  # the largest magnitude lies within 2**top: float16 ends at 65504, e4m3 at 240
ROUNDING = {SINGLE: 0.0, HALF: 2.0**-11, EIGHT: 2.0**-4, BYTE: 0.5 / 255}  # the largest, as a share of the value


class Packer:
    """Collects arrays; equal ones, such as a reshape's and its input's, are stored once."""

    def __init__(self):
        self.entries: list[dict] = []
        self._chunks: dict[bytes, int] = {}  # where each lies, in order
        self._data: list[bytes] = []
        self.size = 0

    def add(self, array, kind: str = HALF, picks: dict | None = None, whole=None) -> int:
        """The number of an array in the page. Of a part: picks is what `cut` said of it, whole what it was cut from."""
        array = np.asarray(array)
        exponent = _exponent(array, _TOP[kind]) if kind in _TOP else 0
        data = _encoded(array, kind, exponent)
        if data not in self._chunks:
            self._chunks[data] = self.size
            self.size += len(data)
        at = self._chunks[data]
        entry = {
            "shape": list(array.shape),
            "type": kind,
            "exponent": exponent,
            "at": at,
            **statistics(array if whole is None else whole),
        }
        entry |= picks or {}
        self.entries.append(entry)
        self._data.append(data)
        return len(self.entries) - 1

    def decoded(self, number: int) -> np.ndarray:
        """What the page will show: the array after rounding."""
        return decode(self._data[number], self.entries[number])

    def compressed(self) -> str:
        """All the bytes, as `as_text` writes them."""
        return as_text(b"".join(self._chunks))


def as_text(data: bytes) -> str:
    """Deflated, in Python's base85 with "," for "<", so that no tag is in it. Its length in bytes stands before it."""
    deflated = zlib.compress(data, 9)
    return f"{len(deflated)}:" + base64.b85encode(deflated, pad=True).decode("ascii").replace("<", ",")


def decode(data: bytes, entry: dict) -> np.ndarray:
    """The array of an entry, from its bytes."""
    dtype = _TYPES[entry["type"]]
    planes = np.frombuffer(data, np.uint8).reshape(dtype.itemsize, -1)
    values = np.ascontiguousarray(planes.T).view(dtype).reshape(entry["shape"])
    if entry["type"] == BYTE:
        return values.astype(np.float32) / 255.0
    return np.ldexp(values.astype(np.float32), entry["exponent"])


def _exponent(array, top: int) -> int:
    size = np.abs(array[np.isfinite(array)].astype(np.float64)).max(initial=0.0)
    return math.frexp(size)[1] - top if size else 0


def _encoded(array, kind, exponent) -> bytes:
    if kind == BYTE:
        values = np.rint(np.clip(np.nan_to_num(array), 0.0, 1.0) * 255.0).astype(np.uint8)  # no byte is left for NaN
    else:
        values = np.ldexp(array.astype(np.float32), -exponent).astype(_TYPES[kind])
    planes = np.ascontiguousarray(values).reshape(-1).view(np.uint8).reshape(-1, values.dtype.itemsize).T
    return np.ascontiguousarray(planes).tobytes()


def statistics(array) -> dict:
    """Measured on the values themselves, not on what is left of them after rounding. `full`: where colours end."""
    values = array.astype(np.float64).reshape(-1)
    finite = values[np.isfinite(values)]
    if not finite.size:
        return {"rms": None, "norm": None, "least": None, "most": None, "mean": None, "full": 0.0}
    size = np.abs(finite)
    # The 99.5th percentile: one outlier would leave the rest of a heat map without colour.
    full = float(np.partition(size, k)[k]) if (k := int(0.995 * (size.size - 1))) else float(size.max())
    norm = float(np.sqrt(np.sum(finite * finite)))
    found = {
        "rms": norm / math.sqrt(finite.size),
        "norm": norm,
        "least": finite.min(),
        "most": finite.max(),
        "mean": finite.mean(),
        "full": full or size.max(),
    }
    return {name: float(f"{float(value):.6g}") for name, value in found.items()}


def cut(array: np.ndarray, most: int, keys: dict | None = None) -> tuple[np.ndarray, dict]:
    """At most about `most` entries of an array, and what was left out.

    keys: {axis: a number for each index}: of that axis the indices with the largest numbers stay; else evenly spaced ones
    of the last axis. Returns (array, {} or {"of": full shape, "picks": {axis: indices}}).
    """
    if array.size <= most:
        return array, {}
    axis, rank = next(iter((keys or {}).items()), (array.ndim - 1, None))
    axis %= array.ndim
    count = max(1, array.shape[axis] * most // array.size)
    if rank is None:
        kept = np.unique(np.linspace(0, array.shape[axis] - 1, count).astype(int))
    else:
        kept = np.sort(np.argsort(-np.asarray(rank), kind="stable")[:count])
    return np.take(array, kept, axis=axis), {"of": list(array.shape), "picks": {axis: kept.tolist()}}
