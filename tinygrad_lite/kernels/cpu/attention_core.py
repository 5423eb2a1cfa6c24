"""Attention on flat arrays, one task per (batch entry, key head); the layout is given by strides.

Scores exist for one block of QUERIES x KEYS at a time and are never kept: forward rescales what it has summed when a
block brings a larger score and saves each row's largest score and the reciprocal of its sum, backward makes the
probabilities again from them (Dao et al. 2022, arXiv:2205.14135). So the memory is O(T), and what a block works on
stays in the second cache: at D = 64 forward's is 190 kB, backward's 270 kB. With all keys in one strip, keys and values
came from memory again for every 4 queries: at T = 16,384 that took 3.7 times PyTorch's time.

Query t stands at the position of key t + S - T, and sees the keys from `behind` before it to `ahead` after it: causal
attention has ahead = 0, a sliding window of W keys behind = W - 1, and S + T stands for no limit. Tiles of which no
query sees a key are not computed.

Where `least` is not 0 weights are dropped, the same ones in forward and backward: a row's mask is drawn when it is
wanted (philox.py). Weight (b, h, t, s) is element ((b H + h) T + t) S + s of the draw.

A layout is nine strides in an int64 array, in elements:
    query batch, head, row;  key and value batch, head, row;  output batch, head, row.
Rows of queries, keys, values and outputs are contiguous over the head size D. The same kernels so read separate
(B, H, T, D) arrays and the columns of one packed (B, T, 3C) array; q_at, k_at, v_at are where each begins.
"""

import numpy as np

from ...native.compile import inline, jit, vectorise
from .elementary import exp, row_max
from .philox import dropout_mask
from .tile import COLUMNS, ROWS, multiply_tile

QUERIES = 64  # rows of a block
KEYS = 128  # columns of a block


def reach(t_count, s_count, causal, window):
    """`behind` and `ahead`, from what the ops are given: window counts the key at the query's own position."""
    everything = t_count + s_count
    return everything if window is None else min(window - 1, everything), 0 if causal else everything


@inline
def _ceil(n, multiple):
    return (n + multiple - 1) // multiple * multiple


@inline
def _row(n):
    """Floats from one row of scratch to the next: an odd number of cache lines for n a power of two, because rows a
    power of two apart share few sets of the first cache (a block's products: 64 instead of 78 GFLOP/s)."""
    return _ceil(n, COLUMNS) + COLUMNS


@inline
def _keys_seen(t, t_count, s_count, behind, ahead):
    """The first key that query t sees, and one past the last."""
    place = t + s_count - t_count
    first = max(0, place - behind)
    return first, max(first, min(s_count, place + ahead + 1))


@inline
def _seen_by(s, t_count, s_count, behind, ahead):
    """The first query that sees key s, and one past the last."""
    place = s + t_count - s_count
    first = max(0, place - ahead)
    return first, max(first, min(t_count, place + behind + 1))


@inline
def _tile_keys(t, count, t_count, s_count, behind, ahead, s0, keys):
    """The columns of the block at key s0 that some of the queries t to t + count see: the first, and one past the last."""
    first = _keys_seen(t, t_count, s_count, behind, ahead)[0]
    last = min(keys, max(0, _keys_seen(t + count - 1, t_count, s_count, behind, ahead)[1] - s0))
    return min(max(0, first - s0), last), last


@inline
def _row_keys(t, t_count, s_count, behind, ahead, begin, size):
    """Of `size` keys from key `begin` on, the first that query t sees, and one past the last, counted from there."""
    first, last = _keys_seen(t, t_count, s_count, behind, ahead)
    first = min(max(first - begin, 0), size)
    return first, max(first, min(last - begin, size))


@inline
def _load_rows(source, at, stride, count, d_count, row, scale, out):
    """out[r row + d] = scale source[at + r stride + d], zero up to whole tiles of rows and of columns."""
    vectorise()
    for r in range(_ceil(count, ROWS)):
        target = out[r * row : (r + 1) * row]
        if r < count:
            values = source[at + r * stride : at + r * stride + d_count]
            for d in range(values.size):
                target[d] = values[d] * scale
            target[d_count:] = 0
        else:
            target[:] = 0


@inline
def _load_columns(source, at, stride, count, d_count, row, place, out):
    """out[place + d row + s] = source[at + s stride + d]: the transpose, zero beyond `count`."""
    vectorise()
    whole = count // 16 * 16
    for first in range(0, whole, 16):  # 16 rows' cache lines at a time: 8 instead of 19 us for 256 x 64
        for d in range(d_count):
            target, begin = out[place + d * row + first : place + d * row + first + 16], at + first * stride + d
            for s in range(16):
                target[s] = source[begin + s * stride]
    for d in range(d_count):
        target = out[place + d * row : place + (d + 1) * row]
        for s in range(whole, count):
            target[s] = source[at + s * stride + d]
        target[count:] = 0


@inline
def _multiply(accumulate, c, c_at, c_row, a, a_at, a_row, a_step, b, b_at, b_row, rows, columns, k):
    """multiply_tile over `rows` and `columns` of c: the k x COLUMNS panel of b stays in the first cache for all rows."""
    vectorise()
    for j in range(0, columns, COLUMNS):
        for i in range(0, rows, ROWS):
            multiply_tile(
                accumulate, c, c_at + i * c_row + j, c_row, a, a_at + i * a_row, a_row, a_step, b, b_at + j, b_row, k
            )


@inline
def _multiply_seen(
    out, row, rows, rows_row, columns, at, columns_row, d_count, t0, block, s0, keys, t_count, s_count, behind, ahead
):
    """out = rows @ columns for a block, where some query sees some key: the rest keeps what it holds."""
    vectorise()
    for j in range(0, keys, COLUMNS):
        first = _seen_by(s0 + j, t_count, s_count, behind, ahead)[0]
        last = _seen_by(s0 + j + COLUMNS - 1, t_count, s_count, behind, ahead)[1]
        first, last = max(0, first - t0) // ROWS * ROWS, min(block, last - t0)
        _multiply(
            False, out, first * row + j, row, rows, first * rows_row, rows_row, 1, columns, at + j, columns_row,
            last - first, COLUMNS, d_count,
        )  # fmt: skip


@inline
def _softmax_row(scores, first, last, top):
    """scores[first:last] become exp(score - largest so far) and the rest 0.

    top is the largest of earlier blocks. Returns the largest, the factor for what was summed before, and the sum.
    scores.size is a multiple of COLUMNS: with -inf up to there no element is left to a scalar loop.
    """
    vectorise()
    real = scores.dtype.type
    scores[:first] = -np.inf
    scores[last:] = -np.inf
    before, total = top, real(0)
    top, factor = max(top, row_max(scores)), real(1)
    base = top if top > -np.inf else real(0)  # -inf - -inf would be NaN, and a later block may hold a finite score
    if top > before and before > -np.inf:
        factor = exp(before - top)
    for j in range(scores.size // COLUMNS * COLUMNS):
        e = exp(scores[j] - base)
        scores[j] = e
        total += e
    return top, factor, total


@inline
def _softmax_row_backward(scores, ds, first, last, top, share, delta):
    """scores[first:last] become p = exp(score - top) share, ds[first:last] p (ds - delta); the rest of both 0."""
    vectorise()
    scores[:first] = -np.inf
    scores[last:] = -np.inf
    for j in range(scores.size // COLUMNS * COLUMNS):
        p = exp(scores[j] - top) * share
        scores[j] = p
        ds[j] = p * (ds[j] - delta)
    scores[:first] = 0
    scores[last:] = 0
    ds[:first] = 0  # what a hidden key holds, even inf, must not come through
    ds[last:] = 0


@inline
def _drop(row, mask):
    """row *= mask; 0 where the mask is, whatever was there."""
    vectorise()
    for j in range(row.size):
        row[j] = row[j] * mask[j] if mask[j] > 0 else row.dtype.type(0)


@inline
def _one_query(q, k, v, q_at, k_at, v_at, stride, first, last, scale, p, out):
    """out = softmax(scale q k^T) v of one query, keys and values read where they are. Returns what to save."""
    vectorise()
    real = q.dtype.type
    query = q[q_at : q_at + out.size]
    for s in range(first, last):
        key, score = k[k_at + s * stride : k_at + s * stride + out.size], real(0)
        for d in range(out.size):
            score += query[d] * key[d]
        p[s - first] = score * scale
    top, _, total = _softmax_row(p, 0, last - first, real(-np.inf))
    out[:] = 0
    share = real(1) / total if last > first else real(0)
    for s in range(first, last):
        value, weight = v[v_at + s * stride : v_at + s * stride + out.size], p[s - first] * share
        for d in range(out.size):
            out[d] += weight * value[d]
    return top, share


@jit("i i r1 r1 r1 i i i i i i i i i i d R1 u u i d w1 w1")
def forward_heads(
    start, stop, q, k, v, q_at, k_at, v_at, key_heads, group, t_count, s_count, d_count, behind, ahead, scale, strides,
    key, offset, least, factor, out, stats,
):  # fmt: skip
    """out = dropout(softmax(scale q k^T)) v for tasks (b, key head) start to stop.

    stats (B, H, T, 2): each row's largest score and 1 / sum of exp(score - largest).
    """
    vectorise()
    real = q.dtype.type
    # As in generation: to turn the keys into columns would cost more than the products.
    few = group * t_count < ROWS and least == 0
    keys, queries = min(KEYS, _ceil(s_count, COLUMNS)), min(QUERIES, _ceil(t_count, ROWS))
    d_width, d_row, s_row, one = _ceil(d_count, COLUMNS), _row(d_count), _row(keys), 0 if few else 1
    k_columns = np.empty(one * _ceil(s_count, KEYS) // KEYS * d_count * s_row, q.dtype)
    v_rows = np.empty(one * _ceil(s_count, ROWS) * d_row, q.dtype)
    q_rows, o = np.empty(queries * d_row, q.dtype), np.empty(queries * d_row, q.dtype)
    p = np.empty(_ceil(s_count, COLUMNS) if few else queries * s_row, q.dtype)
    top, total, memory = np.empty(queries, q.dtype), np.empty(queries, q.dtype), np.empty(s_row + 6, q.dtype)
    for task in range(start, stop):
        b, key_head = task // key_heads, task % key_heads
        k_place = b * strides[3] + key_head * strides[4]
        if not few:
            for s0 in range(0, s_count, KEYS):
                _load_columns(
                    k, k_at + k_place + s0 * strides[5], strides[5], min(KEYS, s_count - s0), d_count, s_row,
                    s0 // KEYS * d_count * s_row, k_columns,
                )  # fmt: skip
            _load_rows(v, v_at + k_place, strides[5], s_count, d_count, d_row, real(1), v_rows)
        for head in range(key_head * group, (key_head + 1) * group):
            q_place = q_at + b * strides[0] + head * strides[1]
            out_place = b * strides[6] + head * strides[7]
            stats_at = 2 * (b * key_heads * group + head) * t_count
            if few:
                for t in range(t_count):
                    first, last = _keys_seen(t, t_count, s_count, behind, ahead)
                    place = out_place + t * strides[8]
                    stats[stats_at + 2 * t], stats[stats_at + 2 * t + 1] = _one_query(
                        q, k, v, q_place + t * strides[2], k_at + k_place, v_at + k_place, strides[5], first, last,
                        real(scale), p[: _ceil(last - first, COLUMNS)], out[place : place + d_count],
                    )  # fmt: skip
                continue
            for t0 in range(0, t_count, QUERIES):
                block = min(QUERIES, t_count - t0)
                _load_rows(q, q_place + t0 * strides[2], strides[2], block, d_count, d_row, real(scale), q_rows)
                top[:] = -np.inf
                total[:] = 0
                first = _keys_seen(t0, t_count, s_count, behind, ahead)[0]
                last = _keys_seen(t0 + block - 1, t_count, s_count, behind, ahead)[1]
                begin = first // KEYS * KEYS
                if begin >= last:
                    o[:] = 0
                for s0 in range(begin, last, KEYS):
                    _multiply_seen(
                        p, s_row, q_rows, d_row, k_columns, s0 // KEYS * d_count * s_row, s_row, d_count, t0, block, s0,
                        min(keys, _ceil(last - s0, COLUMNS)), t_count, s_count, behind, ahead,
                    )  # fmt: skip
                    for t in range(0, block, ROWS):
                        count = min(ROWS, block - t)
                        first, end = _tile_keys(t0 + t, count, t_count, s_count, behind, ahead, s0, keys)
                        first, end = first // COLUMNS * COLUMNS, _ceil(end, COLUMNS)
                        for r in range(t, t + count):
                            row_first, row_last = _row_keys(
                                t0 + r, t_count, s_count, behind, ahead, s0 + first, end - first
                            )
                            row = p[r * s_row + first : r * s_row + end]
                            top[r], shrink, row_total = _softmax_row(row, row_first, row_last, top[r])
                            total[r] = total[r] * shrink + row_total
                            if least:
                                at = (stats_at // 2 + t0 + r) * s_count + s0 + first
                                _drop(row, dropout_mask(at, row.size, key, offset, least, factor, memory))
                            if shrink != 1:
                                sums = o[r * d_row : r * d_row + d_width]
                                for d in range(sums.size):
                                    sums[d] *= shrink
                    for j in range(0, d_width, COLUMNS):
                        for t in range(0, block, ROWS):
                            count = min(ROWS, block - t)
                            first, end = _tile_keys(t0 + t, count, t_count, s_count, behind, ahead, s0, keys)
                            at, strip, n = t * d_row + j, t * s_row + first, end - first
                            v_place = (s0 + first) * d_row + j
                            if s0 == begin:
                                multiply_tile(False, o, at, d_row, p, strip, s_row, 1, v_rows, v_place, d_row, n)
                            else:
                                multiply_tile(True, o, at, d_row, p, strip, s_row, 1, v_rows, v_place, d_row, n)
                for r in range(block):
                    first, last = _keys_seen(t0 + r, t_count, s_count, behind, ahead)
                    share = real(1) / total[r] if last > first else real(0)
                    at = stats_at + 2 * (t0 + r)
                    stats[at], stats[at + 1] = top[r], share
                    place = out_place + (t0 + r) * strides[8]
                    target, sums = out[place : place + d_count], o[r * d_row : r * d_row + d_count]
                    for d in range(target.size):
                        target[d] = sums[d] * share


@jit("i i r1 r1 r1 i i i i i i i i i i d R1 u u i d r1 r1 r1 w1 w1 w1")
def backward_heads(
    start, stop, q, k, v, q_at, k_at, v_at, key_heads, group, t_count, s_count, d_count, behind, ahead, scale, strides,
    key, offset, least, factor, g, out, stats, gq, gk, gv,
):  # fmt: skip
    """With p = softmax(scale q k^T): gv = p^T g, ds = p (g v^T - rowsum(g out)), gq = scale ds k, gk = scale ds^T q.

    With dropout, whose mask holds 0 or `factor`: gv = (p mask)^T g, ds = p (g v^T mask - rowsum(g out)).
    gq, gk, gv are laid out as q, k, v. Keys are the outer blocks: gk and gv stay in cache, and gq is added to.
    """
    vectorise()
    real = q.dtype.type
    keys, queries = min(KEYS, _ceil(s_count, COLUMNS)), min(QUERIES, _ceil(t_count, ROWS))
    d_width, d_row, s_row = _ceil(d_count, COLUMNS), _row(d_count), _row(keys)
    k_columns, v_columns = np.empty(d_count * s_row, q.dtype), np.empty(d_count * s_row, q.dtype)
    k_rows = np.empty(keys * d_row, q.dtype)
    dk, dv = np.empty(keys * d_row, q.dtype), np.empty(keys * d_row, q.dtype)
    q_rows, g_rows, dq = (np.empty(queries * d_row, q.dtype), np.empty(queries * d_row, q.dtype),
                          np.empty(queries * d_row, q.dtype))  # fmt: skip
    p, ds = np.empty(queries * s_row, q.dtype), np.empty(queries * s_row, q.dtype)
    delta, memory = np.empty(group * t_count, q.dtype), np.empty(s_row + 6, q.dtype)
    # Whether the only block of keys meets every query: then gq is written, and else added to.
    at_once = 0 < s_count <= KEYS and _seen_by(s_count - 1, t_count, s_count, behind, ahead)[1] == t_count
    at_once = at_once and _seen_by(0, t_count, s_count, behind, ahead)[0] < QUERIES
    for task in range(start, stop):
        b, key_head = task // key_heads, task % key_heads
        k_place = b * strides[3] + key_head * strides[4]
        for head in range(group):
            q_place = q_at + b * strides[0] + (key_head * group + head) * strides[1]
            out_place = b * strides[6] + (key_head * group + head) * strides[7]
            for t in range(t_count):
                place = out_place + t * strides[8]
                g_row, out_row = g[place : place + d_count], out[place : place + d_count]
                product = real(0)
                for d in range(g_row.size):
                    product += g_row[d] * out_row[d]
                delta[head * t_count + t] = product
                if not at_once:
                    gq[q_place + t * strides[2] : q_place + t * strides[2] + d_count] = 0
        for s0 in range(0, s_count, KEYS):
            count = min(KEYS, s_count - s0)
            width, place = _ceil(count, COLUMNS), k_place + s0 * strides[5]
            _load_columns(k, k_at + place, strides[5], count, d_count, s_row, 0, k_columns)
            _load_columns(v, v_at + place, strides[5], count, d_count, s_row, 0, v_columns)
            _load_rows(k, k_at + place, strides[5], count, d_count, d_row, real(1), k_rows)
            dk[:] = 0
            dv[:] = 0
            first_query = _seen_by(s0, t_count, s_count, behind, ahead)[0]
            last_query = _seen_by(s0 + count - 1, t_count, s_count, behind, ahead)[1]
            for head in range(group):
                q_place = q_at + b * strides[0] + (key_head * group + head) * strides[1]
                out_place = b * strides[6] + (key_head * group + head) * strides[7]
                stats_at = 2 * (b * key_heads * group + key_head * group + head) * t_count
                for t0 in range(first_query // QUERIES * QUERIES, last_query, QUERIES):
                    block = min(QUERIES, t_count - t0)
                    _load_rows(q, q_place + t0 * strides[2], strides[2], block, d_count, d_row, real(scale), q_rows)
                    _load_rows(g, out_place + t0 * strides[8], strides[8], block, d_count, d_row, real(1), g_rows)
                    _multiply_seen(
                        p, s_row, q_rows, d_row, k_columns, 0, s_row, d_count, t0, block, s0, width, t_count, s_count,
                        behind, ahead,
                    )  # fmt: skip
                    _multiply_seen(
                        ds, s_row, g_rows, d_row, v_columns, 0, s_row, d_count, t0, block, s0, width, t_count, s_count,
                        behind, ahead,
                    )  # fmt: skip
                    for t in range(0, block, ROWS):
                        rows = min(ROWS, block - t)
                        first, end = _tile_keys(t0 + t, rows, t_count, s_count, behind, ahead, s0, width)
                        first, end = first // COLUMNS * COLUMNS, _ceil(end, COLUMNS)
                        for r in range(t, t + rows):
                            at, size = r * s_row + first, end - first
                            row_first, row_last = _row_keys(t0 + r, t_count, s_count, behind, ahead, s0 + first, size)
                            saved = stats_at + 2 * (t0 + r)
                            p_row, ds_row = p[at : at + size], ds[at : at + size]
                            if least:
                                element = saved // 2 * s_count + s0 + first
                                mask = dropout_mask(element, size, key, offset, least, factor, memory)
                                _drop(ds_row, mask)
                            _softmax_row_backward(
                                p_row, ds_row, row_first, row_last, stats[saved], stats[saved + 1],
                                delta[head * t_count + t0 + r],
                            )  # fmt: skip
                            if least:
                                _drop(p_row, mask)
                    for j in range(0, d_width, COLUMNS):
                        for t in range(0, block, ROWS):
                            rows = min(ROWS, block - t)
                            first, end = _tile_keys(t0 + t, rows, t_count, s_count, behind, ahead, s0, width)
                            multiply_tile(
                                False, dq, t * d_row + j, d_row, ds, t * s_row + first, s_row, 1,
                                k_rows, first * d_row + j, d_row, end - first,
                            )  # fmt: skip
                    for r in range(block):
                        at = q_place + (t0 + r) * strides[2]
                        target, sums = gq[at : at + d_count], dq[r * d_row : r * d_row + d_count]
                        if at_once:
                            for d in range(target.size):
                                target[d] = sums[d] * real(scale)
                        else:
                            for d in range(target.size):
                                target[d] += sums[d] * real(scale)
                    for j in range(0, d_width, COLUMNS):
                        for s in range(0, count, ROWS):
                            first = _seen_by(s0 + s, t_count, s_count, behind, ahead)[0]
                            last = _seen_by(s0 + s + ROWS - 1, t_count, s_count, behind, ahead)[1]
                            first, last = min(block, max(0, first - t0)), min(block, last - t0)
                            at, n = first * s_row + s, max(0, last - first)
                            multiply_tile(
                                True, dv, s * d_row + j, d_row, p, at, 1, s_row, g_rows, first * d_row + j, d_row, n
                            )
                            multiply_tile(
                                True, dk, s * d_row + j, d_row, ds, at, 1, s_row, q_rows, first * d_row + j, d_row, n
                            )
            for s in range(count):
                at = place + s * strides[5]
                gk_row, gv_row = gk[k_at + at : k_at + at + d_count], gv[v_at + at : v_at + at + d_count]
                dk_row, dv_row = dk[s * d_row : s * d_row + d_count], dv[s * d_row : s * d_row + d_count]
                for d in range(gk_row.size):
                    gk_row[d] = dk_row[d]
                    gv_row[d] = dv_row[d]
