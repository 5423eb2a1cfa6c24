"""Arrays of more than 2^32 elements: places are computed in 64 bits, in the kernels and in what is given to them.

The emulator's memory is the host's, which is there only where it is written: a few pages of an array of 17 GB.
"""

import mmap
import re

import numpy as np
import pytest
from kernels.cuda.checks import EMULATED, device, host, needs_cuda, rng

from tinygrad_lite import philox
from tinygrad_lite.dtypes import bfloat16, float32
from tinygrad_lite.kernels import lookup
from tinygrad_lite.kernels.cuda import attention_core as core
from tinygrad_lite.kernels.cuda.emulator import options
from tinygrad_lite.kernels.cuda.launch import FOLDER, cupy

pytestmark = needs_cuda
emulated = pytest.mark.skipif(not EMULATED, reason="a GPU has no memory that is not there")
TYPES = pytest.mark.parametrize("dtype", [float32, bfloat16], ids=str)
NO_RESERVE = 0x4000  # of mmap: no memory before it is written


def sparse(shape, dtype):
    """Zeros on the emulated device that take memory only where they are written."""
    count = int(np.prod(shape))
    pages = mmap.mmap(-1, count * np.dtype(dtype).itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE)
    return cupy().ndarray(np.frombuffer(pages, np.uint8).view(dtype).reshape(shape))


@emulated
@TYPES
@pytest.mark.parametrize("d, capability", [(8, "90"), (64, "90"), (64, "80")])
def test_attention_of_rows_that_lie_far_apart(d, capability, dtype):
    t, apart = 70, 2**26 + 8  # row 64, a tile's first, lies behind 2^32
    r, dense, far = rng(), [], []
    for x in (*r.standard_normal((4, t, d)), *np.zeros((4, t, d))):  # q, k, v, g; out and the gradients
        dense.append(device(x.astype(dtype)))
        far.append(sparse((t, apart), dtype))
        far[-1][:, :d] = dense[-1]
    results = []
    for (q, k, v, g, out, *grads), row in ((dense, d), (far, apart)):
        layout, dropout = core.Layout(1, 1, 1, t, t, d, (0, 0, row) * 3), (0.0, 0, 0)
        with options.set(compute_capability=capability):
            stats = core.forward(layout, q, k, v, out, True, None, d**-0.5, dropout)
            core.backward(layout, g, q, k, v, out, stats, *grads, True, None, d**-0.5, dropout)
        results.append([host(x[:, :d]) for x in (out, *grads)])
    for x, y in zip(*results, strict=True):
        assert np.abs(x).max() > 0
        np.testing.assert_array_equal(x, y)


@emulated
@TYPES
def test_weights_beyond_2_to_the_32_are_dropped_as_the_generator_says(dtype):
    """Of three heads of 2 x 2^30 weights, of which each query sees five. All keys are the same row, and all values 1."""
    heads, t, s, d, seen, key = 3, 2, 2**30 + 3, 8, 5, 11
    q, row, out = (device(np.full((n, d), 1).astype(dtype)) for n in (heads * t, 1, heads * t))
    layout = core.Layout(1, heads, 1, t, s, d, (0, t * d, d, 0, 0, 0, 0, t * d, d))
    core.forward(layout, q, row, row, out, True, seen, 1.0, (0.5, key, 0))
    for i, got in enumerate(host(out)):
        first = i * s + (s - t + i % t) - seen + 1
        drawn = philox.uniform(seen + first % 4, key, first // 4)[first % 4 :]
        np.testing.assert_allclose(got, (drawn >= 0.5).sum() * 2 / seen, rtol=2.0**-7)


@emulated
@TYPES
@pytest.mark.parametrize("n", [3, 70])
def test_rows_of_a_large_embedding(n, dtype):
    vocabulary, c = 70_000, 1 << 16
    out, g = sparse((vocabulary, c), dtype), rng().standard_normal((n, c)).astype(dtype)
    indices, start = np.full(n, vocabulary - 1), np.full(c, 3).astype(dtype)
    indices[1], out[vocabulary - 1] = 5, device(start)
    lookup("cuda", "scatter_add_rows").scatter_add_rows(out, device(indices), device(g))
    np.testing.assert_array_equal(host(out[5]), g[1].astype(np.float64))
    expected = g.astype(np.float64).sum(0) - g[1] + 3
    np.testing.assert_allclose(host(out[vocabulary - 1]), expected, rtol=2.0**-7, atol=1e-4)


@emulated
@TYPES
def test_the_last_row_of_many_logits(dtype):
    n, v = 2200, 2_000_000
    x, targets, row = sparse((n, v), dtype), np.full(n, -100), np.zeros(v)
    row[7], targets[-1] = 12, 7
    x[n - 1] = device(row.astype(dtype))
    loss, _ = lookup("cuda", "cross_entropy").forward(x, device(targets), ignore_index=-100, label_smoothing=0.0)
    np.testing.assert_allclose(host(loss), np.log(v - 1 + np.exp(12)) - 12, rtol=1e-5)


# Products with a row's length that are places in shared memory, or in a row.
SMALL = {"(int)threadIdx.x / 32 * columns", "k * columns", "heads * size", "item / items_per_half * size"}


def product_before(text, at):
    """The product that ends at a place in C++, back to what binds less or opens."""
    depth, i = 0, at
    while i and (depth or not (text[i - 1] in ";,{}=?:<>([" or text[i - 2 : i] in ("+ ", "- "))):
        depth += (text[i - 1] in ")]") - (text[i - 1] in "([")
        i -= 1
    return text[i:at].strip()


def is_wide(product, before):
    """Whether a factor is cast to 64 bits, or was last declared so in the text before."""
    declared = (re.findall(rf"\b(int|u32|i64|u64|size_t) {name}\b", before) for name in re.findall(r"\w+", product))
    wide = any(types and types[-1] in ("i64", "u64", "size_t") for types in declared)
    return wide or re.search(r"\((size_t|i64|u64)\)", product) is not None


def test_products_with_a_rows_length_are_of_64_bits():
    """No test has time for all rows of such arrays, so the text is read."""
    narrow, found = [], 0
    for path in sorted(FOLDER.glob("*.cu*")):
        text = re.sub(r"//.*", "", path.read_text())
        for match in re.finditer(r" \* (columns|width|size)\b", text):
            product = product_before(text, match.start())
            found += 1
            if f"{product}{match[0]}" not in SMALL and not is_wide(product, text[: match.start()]):
                narrow.append(f"{path.name}: {product}{match[0]}")
    assert found > 40 and not narrow, "\n".join(narrow)


@pytest.mark.parametrize("text, wide", [
    ("i64 r = 0; x + r * columns", True), ("i64 r = 0; int r = 0; x + r * columns", False),
    ("x + (size_t)r * columns", True), ("x + ((size_t)b * gridDim.y + y) * columns", True), ("x + r * columns", False),
    ("x[(size_t)a * n + r * columns", False), ("f((size_t)a, blockIdx.x * columns", False),
])  # fmt: skip
def test_what_counts_as_wide(text, wide):
    at = text.index(" * columns")
    assert is_wide(product_before(text, at), text[:at]) == wide
