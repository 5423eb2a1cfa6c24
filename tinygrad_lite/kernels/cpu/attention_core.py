"""Attention on flat arrays, one task per (batch entry, key head); the layout is given by strides.

Scores exist for a few query rows at a time and are never kept: forward saves each row's log-sum-exp, backward makes the
probabilities again from it (Dao et al. 2022, arXiv:2205.14135). A strip of rows holds all its keys, so softmax is exact
in one go, without FlashAttention's rescaling: on a CPU a strip of 8 rows x 4096 keys is 128 kB and stays in cache.
Causal attention computes only the tiles that some query of the tile's rows can see.

A layout is nine strides in an int64 array, in elements:
    query batch, head, row;  key and value batch, head, row;  output batch, head, row.
Rows of queries, keys, values and outputs are contiguous over the head size D. The same kernels so read separate
(B, H, T, D) arrays and the columns of one packed (B, T, 3C) array; q_at, k_at, v_at are where each begins.
"""

import numpy as np

from ...native.compile import inline, jit, routine, vectorise
from .elementary import exp, row_max
from .tile import COLUMNS, ROWS, multiply_tile

BLOCK = 64  # query rows whose probabilities backward holds at a time


@inline
def _ceil(n, multiple):
    return (n + multiple - 1) // multiple * multiple


@inline
def _visible(t, t_count, s_count, causal):
    """How many keys query t sees: the last query sees them all."""
    if not causal:
        return s_count
    return max(0, min(s_count, t + 1 + s_count - t_count))


@routine
def _load_rows(source, at, stride, count, d_count, width, scale, out):
    """out[r * width + d] = scale source[at + r stride + d], zero up to `width` columns and whole tiles of rows."""
    vectorise()
    for r in range(_ceil(count, ROWS)):
        row = out[r * width : (r + 1) * width]
        if r < count:
            values = source[at + r * stride : at + r * stride + d_count]
            for d in range(values.size):
                row[d] = values[d] * scale
            row[d_count:] = 0
        else:
            row[:] = 0


@routine
def _load_columns(source, at, stride, count, d_count, width, out):
    """out[d * width + s] = source[at + s stride + d]: the transpose, zero beyond `count`."""
    vectorise()
    whole = count // 16 * 16
    for first in range(0, whole, 16):  # 16 rows' cache lines at a time: 8 instead of 19 us for 256 x 64
        for d in range(d_count):
            row, place = out[d * width + first : d * width + first + 16], at + first * stride + d
            for s in range(16):
                row[s] = source[place + s * stride]
    for d in range(d_count):
        row = out[d * width : (d + 1) * width]
        for s in range(whole, count):
            row[s] = source[at + s * stride + d]
        row[count:] = 0


@routine
def _multiply(accumulate, c, c_at, c_row, a, a_at, a_row, a_step, b, b_at, b_row, width, k):
    """multiply_tile over `width` columns, a multiple of COLUMNS, of c and b."""
    vectorise()
    for j in range(0, width, COLUMNS):
        multiply_tile(accumulate, c, c_at + j, c_row, a, a_at, a_row, a_step, b, b_at + j, b_row, k)


@routine
def _softmax_row(scores, n):
    """scores[:n] become exp(score - top) and the rest 0. Returns top and the sum, (-inf, 0) if n is 0.

    scores.size is a multiple of COLUMNS: with -inf up to there no element is left to a scalar loop.
    """
    vectorise()
    real = scores.dtype.type
    scores[n:] = -np.inf
    top, total = row_max(scores), real(0)
    if n == 0:
        scores[:] = 0
        return top, total
    for j in range(scores.size // COLUMNS * COLUMNS):
        e = exp(scores[j] - top)
        scores[j] = e
        total += e
    scores[n:] = 0
    return top, total


@routine
def _softmax_row_backward(scores, ds, n, lse, delta):
    """scores[:n] become p = exp(score - lse), ds[:n] becomes p (ds - delta); the rest of both 0."""
    vectorise()
    scores[n:] = -np.inf
    for j in range(scores.size // COLUMNS * COLUMNS):
        p = exp(scores[j] - lse)
        scores[j] = p
        ds[j] = p * (ds[j] - delta)
    scores[n:] = 0
    ds[n:] = 0  # what a hidden key holds, even inf, must not come through


@jit("i i r1 r1 r1 i i i i i i i i i d R1 w1 w1")
def forward_heads(
    start, stop, q, k, v, q_at, k_at, v_at, key_heads, group, t_count, s_count, d_count, causal, scale, strides,
    out, lse,
):  # fmt: skip
    """out = softmax(scale q k^T) v and lse (B, H, T), for tasks (b, key head) start to stop."""
    vectorise()
    real = q.dtype.type
    d_width, s_width = _ceil(d_count, COLUMNS), _ceil(s_count, COLUMNS)
    k_columns = np.empty(d_count * s_width, q.dtype)
    v_rows = np.empty(_ceil(s_count, ROWS) * d_width, q.dtype)
    q_rows = np.empty(ROWS * d_width, q.dtype)
    p = np.empty(ROWS * s_width, q.dtype)
    o = np.empty(ROWS * d_width, q.dtype)
    for task in range(start, stop):
        b, key_head = task // key_heads, task % key_heads
        k_place = b * strides[3] + key_head * strides[4]
        _load_columns(k, k_at + k_place, strides[5], s_count, d_count, s_width, k_columns)
        _load_rows(v, v_at + k_place, strides[5], s_count, d_count, d_width, real(1), v_rows)
        for head in range(key_head * group, (key_head + 1) * group):
            q_place = q_at + b * strides[0] + head * strides[1]
            out_place = b * strides[6] + head * strides[7]
            for t in range(0, t_count, ROWS):
                count = min(ROWS, t_count - t)
                seen = _visible(t + count - 1, t_count, s_count, causal)
                seen_width = _ceil(seen, COLUMNS)
                _load_rows(q, q_place + t * strides[2], strides[2], count, d_count, d_width, real(scale), q_rows)
                _multiply(False, p, 0, s_width, q_rows, 0, d_width, 1, k_columns, 0, s_width, seen_width, d_count)
                for r in range(count):
                    n = _visible(t + r, t_count, s_count, causal)
                    top, total = _softmax_row(p[r * s_width : r * s_width + seen_width], n)
                    lse[(b * key_heads * group + head) * t_count + t + r] = top + np.log(total)
                    q_rows[r] = real(1) / total if n else real(0)  # q is spent: its room keeps the row's divisor
                _multiply(False, o, 0, d_width, p, 0, s_width, 1, v_rows, 0, d_width, d_width, seen)
                for r in range(count):
                    place = out_place + (t + r) * strides[8]
                    target, source, factor = out[place : place + d_count], o[r * d_width : (r + 1) * d_width], q_rows[r]
                    for d in range(target.size):
                        target[d] = source[d] * factor


@jit("i i r1 r1 r1 i i i i i i i i i d R1 r1 r1 r1 w1 w1 w1")
def backward_heads(
    start, stop, q, k, v, q_at, k_at, v_at, key_heads, group, t_count, s_count, d_count, causal, scale, strides,
    g, out, lse, gq, gk, gv,
):  # fmt: skip
    """With p = exp(scale q k^T - lse): gv = p^T g, ds = p (g v^T - rowsum(g out)), gq = scale ds k, gk = scale ds^T q.

    gq, gk, gv are laid out as q, k, v, and written once each: a task owns its key head's whole group.
    """
    vectorise()
    real = q.dtype.type
    d_width, s_width = _ceil(d_count, COLUMNS), _ceil(s_count, COLUMNS)
    k_columns, v_columns = np.empty(d_count * s_width, q.dtype), np.empty(d_count * s_width, q.dtype)
    k_rows = np.empty(_ceil(s_count, ROWS) * d_width, q.dtype)
    dk, dv = np.empty(s_width * d_width, q.dtype), np.empty(s_width * d_width, q.dtype)
    q_rows, g_rows = np.empty(BLOCK * d_width, q.dtype), np.empty(BLOCK * d_width, q.dtype)
    p, ds = np.empty(BLOCK * s_width, q.dtype), np.empty(BLOCK * s_width, q.dtype)
    dq = np.empty(ROWS * d_width, q.dtype)
    for task in range(start, stop):
        b, key_head = task // key_heads, task % key_heads
        k_place = b * strides[3] + key_head * strides[4]
        _load_columns(k, k_at + k_place, strides[5], s_count, d_count, s_width, k_columns)
        _load_columns(v, v_at + k_place, strides[5], s_count, d_count, s_width, v_columns)
        _load_rows(k, k_at + k_place, strides[5], s_count, d_count, d_width, real(1), k_rows)
        dk[:] = 0
        dv[:] = 0
        for head in range(key_head * group, (key_head + 1) * group):
            q_place = q_at + b * strides[0] + head * strides[1]
            out_place = b * strides[6] + head * strides[7]
            lse_place = (b * key_heads * group + head) * t_count
            for t0 in range(0, t_count, BLOCK):
                block = min(BLOCK, t_count - t0)
                _load_rows(q, q_place + t0 * strides[2], strides[2], block, d_count, d_width, real(scale), q_rows)
                _load_rows(g, out_place + t0 * strides[8], strides[8], block, d_count, d_width, real(1), g_rows)
                for t in range(0, block, ROWS):
                    count = min(ROWS, block - t)
                    seen = _visible(t0 + t + count - 1, t_count, s_count, causal)
                    seen_width = _ceil(seen, COLUMNS)
                    row_at, strip = t * d_width, t * s_width
                    _multiply(
                        False, p, strip, s_width, q_rows, row_at, d_width, 1, k_columns, 0, s_width, seen_width, d_count
                    )
                    _multiply(
                        False, ds, strip, s_width, g_rows, row_at, d_width, 1, v_columns, 0, s_width, seen_width, d_count
                    )  # fmt: skip
                    for r in range(count):
                        place = out_place + (t0 + t + r) * strides[8]
                        g_row, out_row = g[place : place + d_count], out[place : place + d_count]
                        delta = real(0)
                        for d in range(g_row.size):
                            delta += g_row[d] * out_row[d]
                        n = _visible(t0 + t + r, t_count, s_count, causal)
                        at = strip + r * s_width
                        row_lse = lse[lse_place + t0 + t + r]
                        _softmax_row_backward(p[at : at + seen_width], ds[at : at + seen_width], n, row_lse, delta)
                    _multiply(False, dq, 0, d_width, ds, strip, s_width, 1, k_rows, 0, d_width, d_width, seen)
                    for r in range(count):
                        place = q_place + (t0 + t + r) * strides[2]
                        target, source = gq[place : place + d_count], dq[r * d_width : (r + 1) * d_width]
                        for d in range(target.size):
                            target[d] = source[d] * real(scale)
                for s in range(0, _ceil(_visible(t0 + block - 1, t_count, s_count, causal), ROWS), ROWS):
                    first = 0  # the first query of the block that sees key s: the others' probabilities are not there
                    if causal:
                        first = max(0, s - (s_count - t_count) - t0)
                    at, row_at, n = first * s_width + s, first * d_width, block - first
                    _multiply(True, dv, s * d_width, d_width, p, at, 1, s_width, g_rows, row_at, d_width, d_width, n)
                    _multiply(True, dk, s * d_width, d_width, ds, at, 1, s_width, q_rows, row_at, d_width, d_width, n)
        for s in range(s_count):
            place = k_place + s * strides[5]
            gk_row, gv_row = gk[k_at + place : k_at + place + d_count], gv[v_at + place : v_at + place + d_count]
            dk_row, dv_row = dk[s * d_width : (s + 1) * d_width], dv[s * d_width : (s + 1) * d_width]
            for d in range(gk_row.size):
                gk_row[d] = dk_row[d]
                gv_row[d] = dv_row[d]
