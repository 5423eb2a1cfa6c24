"""How much memory a run will take, from its sizes, and how much this process holds.

The formula was held to the resident memory of processes that trained 27 to 82 MiB of weights (6 and 12 layers of 384
channels, with and without dropout, rotary positions, SwiGLU, Muon and a vocabulary of 20,000): within 15 % each, which
tests/transformer/test_memory.py repeats.
"""

from __future__ import annotations

import os
import sys

from .config import GPTConfig
from .gradient_step import LARGEST_TAPE
from .presets import TrainConfig

MIB = 2**20


def expected_bytes(model: GPTConfig, train: TrainConfig, parameters: int, hidden: int = 0) -> int:
    """The most that training holds at once, in bytes, the interpreter and the text aside; float32.

    parameters: of the model; hidden: those of them that Muon updates, with one moment instead of two. Held are weights,
    gradients and moments. A step adds what backward keeps of each row of each layer, and a copy of the weights at logged
    steps; timing steps for --max-seconds keeps a copy of all; a checkpoint copies the moments.
    """
    from tinygrad_lite.kernels.cpu.linear_cross_entropy import chunk_rows  # here, since kernels import Numba

    c, t = model.channels, model.block_size
    rows = train.batch_size * t
    # Kept a row and layer: both norms' outputs (2C), q, k, v (3C), attention's output (C), both residual sums (2C),
    # the MLP's hidden layer before and after its activation (SwiGLU's is two wide before).
    layer = 8 * c + (3 if model.mlp == "swiglu" else 2) * model.hidden
    if model.positions == "rope":
        layer += (model.heads + 2 * model.kv_heads) * model.head_size  # attention keeps the turned projection too
    # Outside the layers: embeddings and the last norm; at its peak backward also holds one layer's gradients.
    kept = rows * (model.layers * layer + 9 * c)
    chunk = chunk_rows(rows, c, model.vocab_size, 4)
    logits = (chunk if chunk == rows else chunk + c) * model.vocab_size  # of many chunks the head's gradient too
    moments = 2 * parameters - (hidden if train.optimizer == "muon" else 0)
    copies = parameters + (moments if train.steps is None else 0)
    tape = 2 * kept  # what backward computes is kept too
    if train.device == "cpu" and not model.dropout and 4 * (2 * parameters + tape + logits) <= LARGEST_TAPE:
        kept += tape  # a small step is recorded, and compared with a run while the tape is there
    return int(4 * (2 * parameters + moments + max(kept + logits + copies, moments)))


# What was measured of Numba, its compiler and the kernels of a step: read from the cache, and compiled beforehand.
KERNELS_BYTES, COMPILING_BYTES = 105 * MIB, 65 * MIB


def kernels_bytes() -> int:
    """What Numba and the compiled kernels will add to this process, if they are not there yet."""
    return 0 if "numba" in sys.modules else KERNELS_BYTES


def process_bytes() -> int:
    """Resident memory of this process now."""
    import psutil

    return psutil.Process().memory_info().rss


def peak_bytes() -> int:
    """The most resident memory that this process has held."""
    if os.name == "nt":
        import psutil

        return psutil.Process().memory_info().peak_wset
    if sys.platform == "linux":  # where ru_maxrss begins with what the process held that started this one
        with open("/proc/self/status", encoding="ascii") as status:
            (line,) = [line for line in status if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, others KiB
