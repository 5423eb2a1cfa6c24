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


def _apply(x, heads, size, start, base, turn, out):
    table = _table(x.shape[1], size, start, base, x.dtype)
    parallel_for(_turn[x.dtype], x.shape[0] * x.shape[1], grain(2 * x.shape[2]), rows(x), table, heads, turn, rows(out))
    return out


@jit("i i r2 r2 i i w2")
def _turn(start, stop, x, table, heads, turn, out):
    vectorise()
    t_count, size = table.shape
    half, sign = size // 2, x.dtype.type(turn)
    for i in range(start, stop):
        cos, sin, row, target = table[i % t_count, :half], table[i % t_count, half:], x[i], out[i]
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
