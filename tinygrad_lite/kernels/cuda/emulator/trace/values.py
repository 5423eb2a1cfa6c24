"""Numbers, rows of them, places in arrays, and matrices of the tensor cores, as text."""

from __future__ import annotations

import numpy as np

from .....dtypes import bfloat16, float16, float32

TYPES = {"float": float32, "bf16": bfloat16, "half": float16, "double": np.dtype("f8"), "int": np.dtype("i4"),
         "uint": np.dtype("u4"), "int64": np.dtype("i8"), "byte": np.dtype("u1")}  # fmt: skip
_KINDS = {(b"f", 4): "f4", (b"f", 8): "f8", (b"i", 1): "i1", (b"i", 2): "i2", (b"i", 4): "i4", (b"i", 8): "i8",
          (b"u", 1): "u1", (b"u", 2): "u2", (b"u", 4): "u4", (b"u", 8): "u8"}  # fmt: skip


def number(x) -> str:
    """Four digits of it."""
    return f"{float(x):.4g}" if np.dtype(type(x)).kind not in "iu" else str(int(x))


def numbers(data: bytes, dtype) -> list[str]:
    """What stands in these bytes; hexadecimal where they are not a whole number of elements."""
    dtype = np.dtype(dtype)
    if len(data) % dtype.itemsize:
        return ["0x" + data[::-1].hex()]
    return [number(x) for x in np.frombuffer(data, dtype)]


def lane_value(data: bytes, kind) -> str:
    """What a lane brings to a warp operation, or receives from it: an event's input or output by its `value`."""
    size = int(kind["bytes"])
    name = _KINDS.get((bytes(kind["kind"]), size))
    return numbers(data[:size], name)[0] if name else "0x" + data[:size][::-1].hex()


def guess(pieces: list[bytes], half) -> np.dtype:
    """What shared memory seems to hold, where only bytes are known: half the kernel's 16-bit type or None."""
    size = len(pieces[0])
    if size == 1:
        return TYPES["byte"]
    if half is not None and size in (2, 16):
        return half
    if size % 4:
        return np.dtype("u2")
    if size == 8 and (np.abs(np.frombuffer(b"".join(pieces), np.int64)) < 2**23).all():
        return TYPES["int64"]  # as two floats, subnormal ones
    words = np.frombuffer(b"".join(pieces), np.uint32)
    exponents = words >> 23 & 255
    if ((exponents == 0) & (words != 0)).any() and not ((exponents > 0) & (exponents < 255)).any():
        return TYPES["int"]  # as floats these would be subnormal
    return float32


def row(texts: list[str], width: int) -> str:
    """As many as fit, then ...; one where all are the same."""
    if len(texts) > 1 and len(set(texts)) == 1:
        return f"{texts[0]} in all {len(texts)}"
    out = ""
    for i, text in enumerate(texts):
        if len(out) + len(text) + 1 > width - (4 if i < len(texts) - 1 else 0):
            return out + " ..."
        out += (" " if out else "") + text
    return out.rstrip()


def aligned(*rows: list[str]) -> list[list[str]]:
    """The same rows, with what belongs to a lane below each other."""
    sizes = [max(map(len, lane)) for lane in zip(*rows)]
    return [[text.rjust(size) for text, size in zip(texts, sizes)] for texts in rows]


def table(lanes: list[int], texts: list[str], width: int, indent: str) -> list[str]:
    """Every lane's text, several to a line."""
    size = max(map(len, texts))
    most = max(1, (width - len(indent)) // (size + 7))
    columns = next(c for c in (16, 8, 4, 2, 1) if c <= most)  # so that lanes stand below each other
    cells = [f"{lane:>2}: {text:<{size}}" for lane, text in zip(lanes, texts)]
    return [indent + "   ".join(cells[i : i + columns]).rstrip() for i in range(0, len(cells), columns)]


def runs(begins: list[int], length: int) -> list[tuple[int, int]]:
    """[begin, end) of what lanes touch, joined where one goes on where the last one ended; as the lanes come."""
    found: list[list[int]] = []
    for begin in begins:
        if found and found[-1][1] == begin:
            found[-1][1] = begin + length
        elif not found or found[-1] != [begin, begin + length]:
            found.append([begin, begin + length])
    return [tuple(run) for run in found]


def describe(begins: list[int], length: int, say, unit: str) -> str:
    """What lanes touch, by say(begin, end): few runs all, many at equal distances by the first, else lane by lane."""
    found = runs(begins, length)
    if len(found) <= 3:
        return ", ".join(say(*run) for run in found)
    apart = {b[0] - a[0] for a, b in zip(found, found[1:])}
    if len(apart) == 1:
        first = ", ".join(say(*run) for run in found[:2])
        return f"{first} ... {say(*found[-1])} ({len(found)} places, {apart.pop()} {unit} apart)"
    first = " ".join(say(begin, begin + 1) for begin in begins[:8])
    return f"{first}{' ...' if len(begins) > 8 else ''} by lane"


def indices(begin: int, end: int, shape) -> str:
    """Elements [begin, end) of an array, counted as they lie, by their indices: [2, 0..31]."""
    if not shape:
        return ""
    first, last = ([int(i) for i in np.unravel_index(at, shape)] for at in (begin, end - 1))
    if first[:-1] != last[:-1]:
        return f"{first}..{last}"
    span = str(first[-1]) if first == last else f"{first[-1]}..{last[-1]}"
    return "[" + ", ".join([*map(str, first[:-1]), span]) + "]"


def fragments(events, half) -> dict[str, np.ndarray]:
    """A (16 x 16), B (16 x 8), D before and after (16 x 8), gathered from 32 lanes' operands of mma_16816.

    The inverse of the table in gpu.cuh.
    """
    A, B = np.zeros((16, 16), np.float32), np.zeros((16, 8), np.float32)
    before, after = np.zeros((16, 8), np.float32), np.zeros((16, 8), np.float32)
    for event in events:
        lane, data = int(event["thread"]) % 32, bytes(event["input"])
        group, pair = lane // 4, lane % 4 * 2
        a, b = (np.frombuffer(part, half).astype(np.float32) for part in (data[:16], data[16:24]))
        d, result = np.frombuffer(data[24:40], np.float32), np.frombuffer(bytes(event["output"]), np.float32)
        for i in range(2):
            A[group, pair + i], A[group + 8, pair + i] = a[i], a[2 + i]
            A[group, pair + 8 + i], A[group + 8, pair + 8 + i] = a[4 + i], a[6 + i]
            B[pair + i, group], B[pair + 8 + i, group] = b[i], b[2 + i]
            for matrix, values in ((before, d), (after, result)):
                matrix[group, pair + i], matrix[group + 8, pair + i] = values[i], values[2 + i]
    return {"A": A, "B": B, "D before": before, "D after": after}


def matrix(name: str, x: np.ndarray, indent: str) -> list[str]:
    """A row a line, columns below each other, two decimals; whole numbers as such."""
    head = f"{indent}{name}, {x.shape[0]} x {x.shape[1]}"
    if not x.any():
        return [f"{head}: zeros"]
    whole, large = (x == np.round(x)).all(), np.abs(x).max() >= 1000
    cells = [[f"{v:.0f}" if whole else f"{v:.2g}" if large else f"{v:.2f}" for v in line] for line in x]
    size = max(len(c) for line in cells for c in line) + 1
    return [f"{head}:", *(indent + "".join(c.rjust(size) for c in line) for line in cells)]
