"""cross_entropy over visible logits, which it never alters. Label smoothing: Szegedy et al. 2015, arXiv:1512.00567."""

import numpy as np

from ...dtypes import bfloat16, float16, float32, int32
from .arrays import buffer, empty, rows
from .launch import Source

DTYPES = (float32, bfloat16, float16)

THREADS, TOTAL_THREADS = 256, 1024
kernels = Source(
    "cross_entropy.cu", "cross_entropy_forward<T>", "cross_entropy_backward<T>", "cross_entropy_in_place<T>",
    "count_targets", "mean_loss",
)  # fmt: skip


def forward(logits, targets, *, ignore_index, label_smoothing):
    """Mean over rows whose target is not ignore_index of lse - (1 - e) logits[target] - e mean(logits), e smoothing.

    logits (..., V), targets (...) int64. Returns a 0-d float32 array whatever the logits' type, for a loss rounded to
    bfloat16's three digits would hide all progress; NaN if every target is ignored or one is no class. Saves logits,
    targets, the two parts of each row's log-sum-exp (N, 2), the second in base 2, and how many targets are valid.
    Nothing here waits for the device.
    """
    x, t = rows(logits), targets.reshape(-1)
    valid, losses, lse = count_valid(x.dtype, t, ignore_index), empty(t.size, float32), empty((t.size, 2), float32)
    row_losses(x, t, losses, lse, ignore_index, label_smoothing)
    return mean(x.dtype, losses, valid), (logits, targets, lse, valid)


def backward(g, saved, needs, into, *, ignore_index, label_smoothing):
    """glogits = g / valid (softmax - (1 - e) onehot - e / V), zero in ignored rows. Targets have none.

    g is a scalar on the device (0-d), which the kernel reads there.
    """
    if not needs[0]:
        return None, None
    logits, targets, lse, valid = saved
    x, gx = rows(logits), buffer(into[0], logits)
    if x.size:
        kernels[x.dtype]["cross_entropy_backward<T>"](
            (x.shape[0],), (THREADS,), gx, x, targets, lse, scalar(g), valid, x.shape[1], np.int64(ignore_index),
            float(label_smoothing),
        )  # fmt: skip
    return gx, None


def row_losses(x, targets, losses, lse, ignore_index, label_smoothing):
    """losses[i], and the parts of the log-sum-exp unless lse is None, of each row of x (N, V)."""
    if x.size:
        kernels[x.dtype]["cross_entropy_forward<T>"](
            (x.shape[0],), (THREADS,), losses, lse, x, targets, x.shape[1], np.int64(ignore_index),
            float(label_smoothing),
        )  # fmt: skip


def count_valid(dtype, targets, ignore_index):
    """How many targets are not ignored, as a 0-d int32 array; dtype: whose kernels are compiled anyway."""
    valid = empty((), int32)
    kernels[dtype]["count_targets"](
        (1,), (TOTAL_THREADS,), valid, targets, np.int64(targets.size), np.int64(ignore_index)
    )
    return valid


def mean(dtype, losses, valid):
    """sum(losses) / valid as a 0-d float32 array."""
    loss = empty((), float32)
    kernels[dtype]["mean_loss"]((1,), (TOTAL_THREADS,), loss, losses, valid, np.int64(losses.size))
    return loss


def scalar(g):
    """A 0-d array as float32, on the device."""
    return g if g.dtype == float32 else g.astype(float32)
