"""cross_entropy over visible logits, which it never alters. Label smoothing: Szegedy et al. 2015, arXiv:1512.00567."""

import numpy as np

from ...native.compile import jit, vectorise
from ...threads import parallel_for
from .arrays import buffer, grain, rows
from .elementary import exp
from .row_formulas import log_probability, log_sum_exp


def forward(logits, targets, *, ignore_index, label_smoothing):
    """Mean over rows whose target is not ignore_index of lse - (1 - e) logits[target] - e mean(logits), e the smoothing.

    logits (..., V), targets (...) int64. Returns a 0-d array, NaN if every target is ignored; saves logits, targets and
    the two parts of each row's log-sum-exp (N, 2).
    """
    x, t = rows(logits), targets.reshape(-1)
    n, vocabulary = x.shape
    lse, losses = np.empty((n, 2), x.dtype), np.empty(n, x.dtype)
    parallel_for(_forward[x.dtype], n, grain(vocabulary), x, t, ignore_index, label_smoothing, lse, losses)
    valid = np.count_nonzero(t != ignore_index)
    loss = losses.sum(dtype=np.float64) / valid if valid else np.nan
    return np.array(loss, x.dtype), (logits, targets, lse)


def backward(g, saved, needs, into, *, ignore_index, label_smoothing):
    """glogits = g / valid (softmax - (1 - e) onehot - e / V), zero in ignored rows. Targets have none."""
    if not needs[0]:
        return None, None
    logits, targets, lse = saved
    x, t = rows(logits), targets.reshape(-1)
    gx = buffer(into[0], logits)
    valid = np.count_nonzero(t != ignore_index)
    scale = float(g) / valid if valid else 0.0
    parallel_for(
        _backward[x.dtype], x.shape[0], grain(x.shape[1]), x, t, lse, ignore_index, label_smoothing, scale, rows(gx)
    )
    return gx, None


@jit("i i r2 R1 i d w2 w1")
def _forward(start, stop, x, targets, ignore_index, smoothing, lse, losses):
    vectorise()
    real = x.dtype.type
    for i in range(start, stop):
        row = x[i]
        if targets[i] == ignore_index:
            lse[i], losses[i] = 0, 0
            continue
        top, rest = log_sum_exp(row)
        lse[i, 0], lse[i, 1] = top, rest
        loss = -real(1 - smoothing) * log_probability(row[targets[i]], top, rest)
        if smoothing != 0:
            total = real(0)
            for j in range(row.size):
                total += log_probability(row[j], top, rest)
            loss -= real(smoothing) * (total / real(row.size))
        losses[i] = loss


@jit("i i r2 R1 r2 i d d w2")
def _backward(start, stop, x, targets, lse, ignore_index, smoothing, scale, gx):
    vectorise()
    real = x.dtype.type
    for i in range(start, stop):
        row, out = x[i], gx[i]
        if targets[i] == ignore_index:
            out[:] = 0
            continue
        top, rest, uniform, factor = lse[i, 0], lse[i, 1], real(smoothing / row.size), real(scale)
        for j in range(row.size):
            out[j] = (exp(log_probability(row[j], top, rest)) - uniform) * factor
        out[targets[i]] -= real(1 - smoothing) * factor
