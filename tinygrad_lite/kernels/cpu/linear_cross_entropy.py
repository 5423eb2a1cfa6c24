"""linear_cross_entropy: the output layer and its loss in one op, so that all logits never exist at once.

GPT-2's vocabulary makes logits 65 times the size of the hidden states: 50 MB for 256 rows. Rows go through in chunks,
and the chunk's logits become their own gradient in place. Where one chunk holds all rows it waits for backward, which
writes the products where they belong. Of many chunks the products are computed in forward, as for a loss whose own
gradient is 1, and backward scales them. Wijmans et al. 2024 ("Cut your losses"), arXiv:2411.09009.
"""

import numpy as np

from ...native.compile import jit, vectorise
from ...threads import host, parallel_for
from ...xp.product import matmul
from .arrays import buffer, grain, rows, scale_into
from .row_formulas import log_probability, log_sum_exp, softmax_row

FORWARD_TAKES_NEEDS = True  # tells the engine to pass `needs` to forward

# A chunk has this many bytes of logits, or as many as the weight has, or LEAST_ROWS, whichever is most. Each chunk reads
# the whole weight and adds to the whole of gw. 512 rows, 50304 tokens, in chunks of 64, 128, 256, 512 rows, on a busy
# machine: 768 channels 4.6, 3.2, 2.6, 1.6 s; 64 channels 0.91, 0.38, 0.22, 0.17 s.
LOGITS_BYTES = 8 << 20
LEAST_ROWS = 256
VOCABULARY_BLOCK = 4096  # rows of gw that later chunks add to at a time, so the addend stays in cache


def chunk_rows(rows: int, channels: int, vocabulary: int, itemsize: int) -> int:
    """How many rows' logits exist at once."""
    return min(rows, max(LEAST_ROWS, channels, LOGITS_BYTES // (itemsize * max(1, vocabulary)))) or 1


def forward(h, weight, targets, *, ignore_index=-100, needs=(True, True)):
    """Mean over rows whose target is not ignore_index of -log softmax(h @ weight.T)[target].

    h (..., C), weight (V, C), targets (...) int64; needs: whether h and weight want gradients. Returns a 0-d array, NaN
    if every target is ignored, and saves h, weight, and the logits' gradient or, of many chunks, gh (..., C) and gw (V, C).
    """
    h2, flat_targets = h.reshape(targets.size, h.shape[-1]), targets.reshape(-1)
    n, vocabulary = h2.shape[0], weight.shape[0]
    valid = int(np.count_nonzero(flat_targets != ignore_index))
    scale = 1.0 / valid if valid else float("nan")
    losses = np.empty(n, h.dtype)
    size = chunk_rows(n, h2.shape[1], vocabulary, h.itemsize)
    waits = size >= n
    gh = np.empty_like(h2) if needs[0] and not waits else None
    gw = None
    logits = np.empty((size, vocabulary), h.dtype)
    for start in range(0, n, size):
        part = h2[start : start + size]
        chunk = logits[: len(part)]
        matmul(part, weight.T, out=chunk)
        parallel_for(
            _loss_rows[h.dtype], len(part), grain(2 * vocabulary),
            chunk, flat_targets[start : start + size], ignore_index, scale, needs[0] or needs[1],
            losses[start : start + size],
        )  # fmt: skip
        # logits = h @ weight.T, so gh = glogits @ weight and gw = glogits.T @ h
        if needs[0] and not waits:
            matmul(chunk, weight, out=gh[start : start + size])
        if needs[1] and not waits:
            gw = _add_product(chunk, part, gw)
    loss = np.empty((), h.dtype)
    host(_scaled_sum, losses, scale, loss)
    glogits = logits[:n] if waits and (needs[0] or needs[1]) else None
    return loss, (h, weight, glogits, gh, gw)


def backward(g, saved, needs, into, *, ignore_index=-100):
    """gh = g glogits @ weight and gw = g glogits.T @ h, of a scalar g (0-d). Targets have none."""
    h, weight, glogits, gh, gw = saved
    grads = [buffer(place, x) if need else None for place, x, need in zip(into, (h, weight), needs)]
    if glogits is not None:
        if needs[0]:
            matmul(glogits, weight, out=rows(grads[0]))
        if needs[1]:
            matmul(glogits.T, rows(h), out=grads[1])
        gh, gw = grads
        if float(g) == 1.0:
            return (*grads, None)
    for need, made, out in zip(needs, (gh, gw), grads):
        if need:
            scale_into(made.reshape(-1), float(g), out.reshape(-1))
    return (*grads, None)


def _scaled_sum(losses, scale, out):
    out[...] = losses.sum(dtype=np.float64) * scale


def _add_product(chunk, rows, gw):
    """gw + chunk.T @ rows, in place; None stands for zeros."""
    if gw is None:
        return matmul(chunk.T, rows)
    addend = np.empty((min(VOCABULARY_BLOCK, len(gw)), gw.shape[1]), gw.dtype)
    for v in range(0, len(gw), VOCABULARY_BLOCK):
        part = gw[v : v + VOCABULARY_BLOCK]
        matmul(chunk[:, v : v + VOCABULARY_BLOCK].T, rows, out=addend[: len(part)])
        host(np.add, part, addend[: len(part)], part)
    return gw


@jit("i i w2 R1 i d i w1")
def _loss_rows(start, stop, logits, targets, ignore_index, scale, wants_gradient, losses):
    """losses[i] = lse - logits[i, target], 0 if ignored; logits become scale (softmax - onehot) if wanted."""
    vectorise()
    real = logits.dtype.type
    for i in range(start, stop):
        row, target = logits[i], targets[i]
        if target == ignore_index:
            losses[i] = 0
            if wants_gradient:
                row[:] = 0
            continue
        score = row[target]
        if wants_gradient:
            top, rest = softmax_row(row)
            row[target] -= real(1)
            for j in range(row.size):
                row[j] *= real(scale)
        else:
            top, rest = log_sum_exp(row)
        losses[i] = -log_probability(score, top, rest)
