"""rotary: pairs of columns turned by an angle that grows with the position. Su et al. 2021, arXiv:2104.09864."""

from functools import lru_cache

import numpy as np

from ...native.compile import jit, vectorise
from ...threads import parallel_for
from .arrays import buffer, grain, rows


@lru_cache(maxsize=64)
def _table(t, size, start, base, dtype):
    """(T, D): cosines of the D/2 angles of each position, then their sines; angles in float64."""
    angle = np.outer(np.arange(start, start + t), base ** (-np.arange(0, size, 2) / size))
    table = np.concatenate([np.cos(angle), np.sin(angle)], axis=1).astype(dtype)
    table.setflags(write=False)
    return table


def forward(x, *, heads, size, start, base, turn):
    """(a, b) becomes (a cos - b sin, a sin + b cos) in the first `heads` heads of x (B, T, P); saves nothing."""
    return _apply(x, heads, size, start, base, turn, np.empty_like(x)), ()


def backward(g, saved, needs, into, *, heads, size, start, base, turn):
    """A turn is undone by its opposite, which is also its transpose."""
    return (_apply(g, heads, size, start, base, -turn, buffer(into[0], g)) if needs[0] else None,)


def forward_at(x, position, room, *, heads, size, base):
    """forward of x (B, 1, P) at a position that stands in an int64 array (1,); it is below room."""
    table, out = _table(room, size, 0, base, x.dtype), np.empty(x.shape, x.dtype)
    parallel_for(_turn[x.dtype], x.shape[0], grain(2 * x.shape[2]), rows(x), table, 1, position, heads, 1, rows(out))
    return out


def _apply(x, heads, size, start, base, turn, out):
    table, t = _table(x.shape[1], size, start, base, x.dtype), x.shape[1]
    parallel_for(
        _turn[x.dtype], x.shape[0] * t, grain(2 * x.shape[2]), rows(x), table, t, _AT_START, heads, turn, rows(out)
    )
    return out


_AT_START = np.zeros(1, np.int64)


@jit("i i r2 r2 i R1 i i w2")
def _turn(start, stop, x, table, t_count, first, heads, turn, out):
    """Rows start to stop of x: row i by the angles in row first[0] + i % t_count of the table, the last where there is none."""
    vectorise()
    size = table.shape[1]
    half, sign = size // 2, x.dtype.type(turn)
    for i in range(start, stop):
        place = min(max(first[0], 0) + i % t_count, table.shape[0] - 1)
        cos, sin, row, target = table[place, :half], table[place, half:], x[i], out[i]
        for head in range(heads):
            at = head * size
            a, b = row[at : at + half], row[at + half : at + size]
            u, v = target[at : at + half], target[at + half : at + size]
            for j in range(half):
                u[j] = a[j] * cos[j] - b[j] * (sign * sin[j])
                v[j] = a[j] * (sign * sin[j]) + b[j] * cos[j]
        rest, target_rest = row[heads * size :], target[heads * size :]
        for j in range(rest.size):
            target_rest[j] = rest[j]
