"""linear_cross_entropy: the output layer and its loss in one op, whose logits become their own gradient in place.

A GPT-2 batch of 32,768 tokens has 3.3 GB of bfloat16 logits: a gradient of its own would be another 3.3 GB, and a pass
of 2 ms over both. Rows go through in chunks, where one does not hold them all. Of one chunk the products wait for
backward, which writes them where they belong; of many they are computed in forward, as for a loss whose own gradient
is 1, and backward scales them. llm.c's fused classifier; Wijmans et al. 2024 ("Cut your losses"), arXiv:2411.09009.
"""

import numpy as np

from ...dtypes import bfloat16, float16, float32
from .arrays import VECTOR_BYTES, buffer, empty, rows
from .cross_entropy import count_valid, kernels, mean, row_losses, scalar
from .launch import cupy
from .product import matmul
from .scale import scale_into

DTYPES = (float32, bfloat16, float16)
FORWARD_TAKES_NEEDS = True  # tells the engine to pass `needs` to forward

# Bytes of logits in a chunk: GPT-2's usual batch of 32 x 1024 tokens is one chunk, and no chunk has more than 2^31
# elements. Each further chunk reads the weight again and adds to a float32 gw: 0.2 ms for 50,304 x 768, of some 15.
LOGITS_BYTES = 4 << 30
ROW_TILE = 128  # rows that a matrix product's tile takes: a chunk has a multiple of it

IN_PLACE_THREADS = 512
# Of each row so much is kept in shared memory: 100 KB hold GPT-2's logits in 16 bits. Two blocks then fit on an H100's SM
# (227 KB), one on an A100's (163 KB).
KEPT_BYTES = 100 << 10
OWN_BYTES = 2 << 10  # that a block needs beside: less is left of the 99 KB of a GeForce (8.6, 8.9, 12.0)

# 1 / N of a small probability is below float16's range: the logits' gradient is stored so many times too large. The
# largest element of gw is then at most so many times the largest of h.
SCALE = {float32: 1.0, bfloat16: 1.0, float16: 1024.0}


def chunk_rows(rows: int, vocabulary: int, itemsize: int) -> int:
    """How many rows' logits exist at once."""
    return min(rows, max(1, LOGITS_BYTES // (itemsize * max(1, vocabulary) * ROW_TILE)) * ROW_TILE) or 1


def forward(h, weight, targets, *, ignore_index=-100, needs=(True, True)):
    """Mean over rows whose target is not ignore_index of -log softmax(h @ weight.T)[target].

    h (..., C), weight (V, C), targets (...) int64; needs: whether h and weight want gradients. Returns a 0-d float32
    array whatever the type of h, NaN if every target is ignored or one is no class. Saves h, weight, and the logits'
    gradient or, of many chunks, gh (N, C) and, in float32, gw (V, C). Nothing here waits for the device.
    """
    h2, flat_targets = h.reshape(targets.size, h.shape[-1]), targets.reshape(-1)
    n, vocabulary = h2.shape[0], weight.shape[0]
    wanted = needs[0] or needs[1]
    valid, losses = count_valid(h.dtype, flat_targets, ignore_index), empty(n, float32)
    size = chunk_rows(n, vocabulary, h.dtype.itemsize)
    waits = size >= n
    gh = empty(h2.shape, h.dtype) if needs[0] and not waits else None
    gw = empty(weight.shape, float32) if needs[1] and not waits else None
    logits = empty((min(size, n), vocabulary), h.dtype)
    for start in range(0, n, size):
        part, part_targets = h2[start : start + size], flat_targets[start : start + size]
        chunk, part_losses = logits[: len(part)], losses[start : start + size]
        matmul(part, weight.T, chunk)
        if wanted:
            _in_place(chunk, part_targets, part_losses, valid, ignore_index)
        else:
            row_losses(chunk, part_targets, part_losses, None, ignore_index, 0.0)
        # logits = h @ weight.T, so gh = glogits @ weight and gw = glogits.T @ h
        if needs[0] and not waits:
            matmul(chunk, weight, gh[start : start + size])
        if needs[1] and not waits:
            matmul(chunk.T, part, gw, accumulate=start > 0)
    return mean(h.dtype, losses, valid), (h, weight, logits if waits and wanted else None, gh, gw)


def backward(g, saved, needs, into, *, ignore_index=-100):
    """gh = g glogits @ weight and gw = g glogits.T @ h, of a scalar g on the device (0-d). Targets have none."""
    h, weight, glogits, gh, gw = saved
    grads = [buffer(place, x) if need else None for place, x, need in zip(into, (h, weight), needs)]
    if glogits is not None:
        if needs[0]:
            matmul(glogits, weight, rows(grads[0]))
        if needs[1]:
            matmul(glogits.T, rows(h), grads[1])
        gh, gw = grads
    for need, made, out in zip(needs, (gh, gw), grads):
        if need:  # in place a g of 1 costs one launch
            scale_into(made.reshape(-1), scalar(g), out.reshape(-1), constant=1.0 / SCALE[h.dtype])
    return (*grads, None)


def _kept_bytes() -> int:
    """KEPT_BYTES, or what the card lets a block have. The sums are added up in the same order either way."""
    lib = cupy()
    runtime = lib.cuda.runtime
    most = runtime.deviceGetAttribute(runtime.cudaDevAttrMaxSharedMemoryPerBlockOptin, lib.cuda.Device().id)
    return min(KEPT_BYTES, most - OWN_BYTES)


def _in_place(logits, targets, losses, valid, ignore_index):
    """losses[i] = lse - logits[i, target], 0 if ignored; logits become SCALE / valid (softmax - onehot)."""
    if logits.size:
        vectors = min(_kept_bytes(), logits.shape[1] * logits.dtype.itemsize) // VECTOR_BYTES
        kernels[logits.dtype]["cross_entropy_in_place<T>"](
            (logits.shape[0],), (IN_PLACE_THREADS,), logits, losses, targets, valid, logits.shape[1],
            np.int64(ignore_index), SCALE[logits.dtype], vectors, shared=vectors * VECTOR_BYTES,
        )  # fmt: skip
