"""Memory is moved in whole sectors and without bank conflicts, and no more of it than the kernels say.

A warp's access to global memory takes sectors of 32 bytes, to shared memory passes through its 32 banks. The emulator
counts both, for every line of a kernel, beside the least that would do.
"""

import numpy as np
import pytest
from kernels.cuda.checks import EMULATED, device, rng
from kernels.cuda.emulated import needs_emulator
from kernels.cuda.test_updates import adamw, on_device, state, step

from tinygrad_lite.dtypes import bfloat16, float32
from tinygrad_lite.kernels import lookup
from tinygrad_lite.kernels.cuda.column_sums import column_sums
from tinygrad_lite.kernels.cuda.emulator import count_accesses
from tinygrad_lite.kernels.cuda.launch import FOLDER, cupy
from tinygrad_lite.kernels.cuda.product import matmul

pytestmark = [
    needs_emulator,
    pytest.mark.skipif(not EMULATED, reason="the emulator counts"),
    pytest.mark.slow,  # compiles in mode "race"
]
DTYPES = pytest.mark.parametrize("dtype", [float32, bfloat16], ids=str)
SECTOR = 32

# Lines that take twice the least. A lane's eight float32 numbers beside eight 16-bit ones are two pieces of 16 bytes, 32
# apart: each of the two accesses takes half of every sector (the other half waits in L1), or meets every other bank.
HALVES = ("read_floats(", "write_floats(", "load_floats(", "store_floats(", "write_block_sums(")
# Where a lane's place is its data's: entries go to their digits' places, one after another where digits are the same.
# And the indices of neighbours in the order, 8 bytes apart, or a chunk.
SCATTER = (
    "entries[first + k + 1].x",
    "entries[c * CHUNK].x",
    "placed[to]",
    "next_counts[",
    "start[digit]",
    "before[warp][digit]",
    "atomicAdd(&count[",
)


def text_of(record):
    return (FOLDER / record.file).read_text().split("\n")[record.line - 1]


def check(records, dtype):
    """All accesses take the least, but those that are named; returns the global ones."""
    assert any(r.bytes == 16 for r in records), "no vectors"
    for r in records:
        line = text_of(r)
        most = 2 if dtype == bfloat16 and r.bytes == 16 and any(name in line for name in HALVES) else 1
        if not any(name in line for name in SCATTER):
            assert r.sectors <= most * r.least_sectors and r.wavefronts <= most * r.least_wavefronts, (r, line)
    return [r for r in records if r.memory == "global"]


def normal(dtype, *shape):
    return device(rng().standard_normal(shape).astype(dtype))


# name: arrays beside x, parameters, and how many times x's elements forward and backward move
KERNELS = {
    "layer_norm": (2, dict(eps=1e-5), 2 + 3),
    "rms_norm": (1, dict(eps=1e-5), 2 + 3),
    "softmax": (0, {}, 2 + 3),
    "log_softmax": (0, {}, 2 + 3),
    "gelu": (0, dict(approximate="tanh"), 2 + 3),
    "bias_gelu": (1, dict(approximate="tanh"), 2 + 3),
    "swiglu": (0, {}, 1.5 + 2.5),
    "dropout": (0, dict(p=0.3, key=1, offset=0), 2 + 2),
}


@DTYPES
@pytest.mark.parametrize("shape", [(16, 256), (3, 4096)], ids=str)
@pytest.mark.parametrize("name", KERNELS)
def test_rows_and_elements(name, shape, dtype):
    """Whole rows of a warp and of a block: x once forward, x or out and g once backward, each result once."""
    others, params, passes = KERNELS[name]
    kernel, x = lookup("cuda", name), normal(dtype, *shape)
    given = [x, *(normal(dtype, shape[-1]) for _ in range(others))]
    with count_accesses() as records:
        out, saved = kernel.forward(*given, **params)
        kernel.backward(out, saved, (True,) * len(given), (None,) * len(given), **params)
    moved = sum(
        r.sectors
        for r in check(records, dtype)
        if r.bytes == 16 and not any(word in text_of(r) for word in ("weight", "bias", *HALVES))
    )
    assert moved == passes * x.size * x.dtype.itemsize / SECTOR


@DTYPES
def test_rotary(dtype):
    x, params = normal(dtype, 1, 16, 1024), dict(heads=8, size=64, start=0, base=1e4, turn=1)
    with count_accesses() as records:
        lookup("cuda", "rotary").forward(x, **params)
    moved = sum(r.sectors for r in check(records, dtype) if "read_floats(" not in text_of(r))
    assert moved == 2 * x.size * x.dtype.itemsize / SECTOR


@DTYPES
def test_attention_decode(dtype):
    """Keys and values of what the query sees are read once for each of its heads, and none beyond."""
    d, room, position = 64, 256, 128
    row, keys, values = normal(dtype, 1, 1, 4 * d), normal(dtype, 1, 1, room, d), normal(dtype, 1, 1, room, d)
    with count_accesses() as records:
        lookup("cuda", "attention_decode").attend(
            row, keys, values, device(np.array([position])), heads=2, window=None, scale=0.125
        )
    moved = sum(r.sectors for r in check(records, dtype) if r.bytes == 16 and r.access == "read")
    rows = 2 * 2 * (position + 1) + 2 * 2 * 4  # keys and values of two heads; a query by 4 warps of two blocks
    assert moved == rows * d * row.dtype.itemsize / SECTOR


@DTYPES
def test_column_sums(dtype):
    x = normal(dtype, 200, 256)
    with count_accesses() as records:
        column_sums(x, cupy().empty((256,), dtype=dtype))
    moved = sum(r.sectors for r in check(records, dtype) if r.bytes == 16 and r.access == "read")
    assert moved == x.size * x.dtype.itemsize / SECTOR


@DTYPES
def test_row_product(dtype):
    """The weights are read once, the row by every warp."""
    x, w = normal(dtype, 1, 1024), normal(dtype, 16, 1024)
    with count_accesses() as records:
        matmul(x, w.T)
    reads = [r for r in check(records, dtype) if r.access == "read"]
    of = lambda name: sum(r.sectors for r in reads if name in text_of(r))
    assert of("load_vector_once(row") == w.size * w.dtype.itemsize / SECTOR
    assert of("load_vector(x") == w.shape[0] * x.size * x.dtype.itemsize / SECTOR


@DTYPES
def test_losses(dtype):
    """Forward reads the logits once, backward reads and writes them once; in place both, with most rows kept."""
    n, v, ignored = 4, 4096, 1
    x, targets, g = normal(dtype, n, v), device(np.array([1, -100, 4095, 7])), device(np.ones((), np.float32))
    params = dict(ignore_index=-100, label_smoothing=0.1)
    row = v * x.dtype.itemsize / SECTOR
    with count_accesses() as records:
        _, saved = lookup("cuda", "cross_entropy").forward(x, targets, **params)
        lookup("cuda", "cross_entropy").backward(g, saved, (True, False), (None, None), **params)
    assert sum(r.sectors for r in check(records, dtype) if r.bytes == 16) == (3 * (n - ignored) + ignored) * row
    with count_accesses() as records:
        lookup("cuda", "linear_cross_entropy").forward(normal(dtype, n, 8), normal(dtype, v, 8), targets)
    in_place = [r for r in check(records, dtype) if "in_place" in r.kernel and r.bytes == 16]
    assert sum(r.sectors for r in in_place) == (2 * (n - ignored) + ignored) * row


@DTYPES
def test_scatter_add_rows(dtype):
    g, out = normal(dtype, 100, 1024), normal(dtype, 3, 1024)
    indices = device(rng().integers(0, 3, 100))
    with count_accesses() as records:
        lookup("cuda", "scatter_add_rows").scatter_add_rows(out, indices, g)
    reads = [r for r in check(records, dtype) if "add_runs" in r.kernel and r.access == "read" and r.bytes == 16]
    assert sum(r.sectors for r in reads if "values" in text_of(r)) == g.size * g.dtype.itemsize / SECTOR


@DTYPES
def test_updates(dtype):
    n = 4096
    given = on_device(state(n, dtype), dtype)
    with count_accesses() as records:
        step(given)
        if dtype == bfloat16:
            step([*given[:4], None], draws=(5, 1, 0))
        adamw().sum_of_squares(given[1])
        adamw().scale_into(given[1], 0.5, given[1])
        adamw().scale_into(given[2], 0.5, cupy().empty(n, dtype))
    check(records, dtype)
