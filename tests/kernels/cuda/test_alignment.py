"""Each array may begin anywhere, whatever the others do: a kernel that reads 16 bytes at once looks at all of them."""

import numpy as np
import pytest
from kernels.cuda.checks import EPS, TYPES, device, host, needs_cuda, rng

from tinygrad_lite.kernels import lookup
from tinygrad_lite.kernels.cuda.column_sums import column_sums
from tinygrad_lite.kernels.cuda.launch import cupy

pytestmark = needs_cuda
ROWS, WIDTH = 5, 64
MATRIX, VECTOR = (ROWS, WIDTH), (WIDTH,)
HEADS = (1, 1, 20, WIDTH)
MASKED = dict(causal=True, window=None, scale=0.125)

# name: the shapes of its arrays, parameters
OPS = {
    "layer_norm": ([MATRIX, VECTOR, VECTOR], dict(eps=1e-5)),
    "rms_norm": ([MATRIX, VECTOR], dict(eps=1e-5)),
    "softmax": ([MATRIX], {}),
    "log_softmax": ([MATRIX], {}),
    "gelu": ([MATRIX], dict(approximate="tanh")),
    "bias_gelu": ([MATRIX, VECTOR], dict(approximate="tanh")),
    "swiglu": ([MATRIX], {}),
    "dropout": ([(64, WIDTH)], dict(p=0.3, key=1, offset=0)),
    "rotary": ([(1, *MATRIX)], dict(heads=2, size=16, start=3, base=1e4, turn=1)),
    "attention": ([HEADS] * 3, MASKED),
    "attention_qkv": ([(1, 20, 3 * WIDTH)], dict(heads=1, kv_heads=1, **MASKED)),
}
CASES = [
    (name, moved)
    for name, (shapes, _) in OPS.items()
    for moved in (
        *(f"input {i}" for i in range(len(shapes))), "g", *(f"into {i}" for i in range(len(shapes))),
        *(f"onto {i}" for i in lookup("cuda", name).ADDS),
    )
]  # fmt: skip


def beginning_inside(x):
    """A device array of x's numbers that begins one element behind a multiple of 16 bytes."""
    whole = cupy().empty((x.size + 1,), dtype=x.dtype)
    whole[1:] = device(x.reshape(-1))
    return whole[1:].reshape(x.shape)


@TYPES
@pytest.mark.parametrize("name, moved", CASES)
def test_one_array_that_begins_inside_of_16_bytes(name, moved, dtype):
    kernel, (shapes, params) = lookup("cuda", name), OPS[name]

    def run(moved):
        numbers = rng()

        def array(label, shape):
            x = numbers.standard_normal(shape).astype(dtype)
            return beginning_inside(x) if label == moved else device(x)

        given = [array(f"input {i}", shape) for i, shape in enumerate(shapes)]
        out, saved = kernel.forward(*given, **params)
        g, into = array("g", out.shape), tuple(array(f"into {i}", shape) for i, shape in enumerate(shapes))
        more = {}
        if kernel.ADDS:
            added = [array(f"onto {i}", shape) if i in kernel.ADDS else None for i, shape in enumerate(shapes)]
            more = {"onto": tuple(added)}
        return out, *kernel.backward(g, saved, (True,) * len(given), into, **more, **params)

    for got, expected in zip(run(moved), run(None), strict=True):
        size = max(1.0, np.abs(host(expected)).max())
        np.testing.assert_allclose(host(got), host(expected), rtol=0, atol=2 * size * EPS[dtype])


@TYPES
@pytest.mark.parametrize("moved", ["out", "g"])
def test_rows_that_are_added_by_index(moved, dtype):
    out, g = rng().standard_normal((2, ROWS, WIDTH)).astype(dtype)
    results = []
    for places in ({}, {moved: beginning_inside}):
        to, rows = places.get("out", device)(out), places.get("g", device)(g)
        results.append(lookup("cuda", "scatter_add_rows").scatter_add_rows(to, device(np.array([1, 1, 0, 4, 1])), rows))
    np.testing.assert_array_equal(*map(host, results))


@TYPES
def test_columns_that_are_summed(dtype):
    x = rng().standard_normal((70, WIDTH)).astype(dtype)
    results = [column_sums(place(x), cupy().empty(VECTOR, dtype=dtype)) for place in (device, beginning_inside)]
    np.testing.assert_allclose(*map(host, results), rtol=0, atol=30 * EPS[dtype])
