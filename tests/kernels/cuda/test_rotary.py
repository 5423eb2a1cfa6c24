"""rotary on the GPU."""

import numpy as np
import pytest
from kernels.cuda.checks import EPS, TYPES, capture, check_kernel, device, host, needs_cuda, race_checks, rng

from tinygrad_lite.dtypes import float32
from tinygrad_lite.kernels import lookup
from tinygrad_lite.kernels.cuda.launch import cupy

pytestmark = needs_cuda


def rotary(x, heads, size, start, base, turn):
    """Each pair as a complex number times exp(i angle)."""
    out, half = x.copy(), size // 2
    angle = np.outer(np.arange(start, start + x.shape[1]), base ** (-np.arange(half) / half))
    for at in range(0, heads * size, size):
        a, b = x[..., at : at + half], x[..., at + half : at + size]
        turned = (a + 1j * b) * np.exp(1j * turn * angle)
        out[..., at : at + half], out[..., at + half : at + size] = turned.real, turned.imag
    return out


@TYPES
@pytest.mark.parametrize("b, t, p, heads, size, start, turn", [
    (1, 1, 2, 1, 2, 0, 1),       # one pair
    (2, 31, 40, 2, 8, 5, -1),    # float32 by vectors, 16-bit types by single columns
    (1, 33, 96, 3, 32, 100, 1),  # vectors, nothing to copy
    (3, 35, 70, 2, 34, 0, 1),    # halves of 17 columns
    (2, 3, 8, 0, 2, 0, 1),       # only copied
    (2, 9, 1024, 8, 64, 7, -1),  # several blocks, half of the columns copied
    (0, 4, 8, 1, 8, 0, 1),
])  # fmt: skip
def test_rotary(b, t, p, heads, size, start, turn, dtype):
    x = [rng().standard_normal((b, t, p))]
    check_kernel("rotary", rotary, x, dtype, terms=2, heads=heads, size=size, start=start, base=100.0, turn=turn)


@pytest.mark.parametrize("start", [0, 99_998, 3_000_000])  # the last is beyond the table that begins at position 0
def test_far_positions_keep_their_angles(start):
    x, params = rng().standard_normal((1, 3, 64)), dict(heads=1, size=64, start=start, base=1e4, turn=1)
    x = x.astype(np.float32).astype(np.float64)
    out, _ = lookup("cuda", "rotary").forward(device(x.astype(np.float32)), **params)
    np.testing.assert_allclose(host(out), rotary(x, **params), rtol=0, atol=16 * EPS[float32])


def test_a_position_turns_alike_wherever_the_call_starts():
    x, params = device(rng().standard_normal((1, 9, 16)).astype(np.float32)), dict(heads=2, size=8, base=1e4, turn=1)
    kernel = lookup("cuda", "rotary")
    whole, last = kernel.forward(x, start=0, **params)[0], kernel.forward(x[:, 8:], start=8, **params)[0]
    np.testing.assert_array_equal(host(whole)[:, 8:], host(last))


def test_one_capture_turns_by_the_position_that_the_device_holds(monkeypatch):
    x, params = rng().standard_normal((1, 1, 48)).astype(np.float32), dict(heads=2, size=16, base=100.0)
    kernel, given, position = lookup("cuda", "rotary"), device(x), device(np.array([0]))
    graph, out = capture(lambda: kernel.forward_at(given, position, 40, **params), monkeypatch)
    for start in (0, 7, 39):
        position.set(np.array([start]))
        graph.launch(cupy().cuda.get_current_stream())
        np.testing.assert_array_equal(host(out), host(kernel.forward(given, start=start, turn=1, **params)[0]))


@pytest.mark.slow
@TYPES
def test_no_races(dtype):
    x, params = (
        device(rng().standard_normal((2, 5, 40)).astype(dtype)),
        dict(heads=2, size=16, start=0, base=1e4, turn=1),
    )
    with race_checks():
        out, saved = lookup("cuda", "rotary").forward(x, **params)
        lookup("cuda", "rotary").backward(out, saved, (True,), (None,), **params)
