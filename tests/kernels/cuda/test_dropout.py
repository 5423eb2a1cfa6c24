"""dropout on the GPU: the CPU's mask, bit for bit."""

import numpy as np
import pytest
from kernels.cuda.checks import EPS, TYPES, device, host, needs_cuda, on_every_schedule, race_checks, rng, rounded

from tinygrad_lite import philox
from tinygrad_lite.dtypes import bfloat16, float32
from tinygrad_lite.kernels import lookup
from tinygrad_lite.kernels.cuda.launch import cupy

pytestmark = needs_cuda
BLOCK = 256 * 2 * 8  # elements of a block in bfloat16, twice those in float32


def kernel():
    return lookup("cuda", "dropout")


@TYPES
@pytest.mark.parametrize("shape", [(), (1,), (31,), (4, 8), (3, 11), (BLOCK - 1,), (BLOCK + 5,), (0, 3)])
@pytest.mark.parametrize("p", [0.0, 0.3, 1 - 1e-9, 1.0])  # the third is 1 as float32
def test_the_mask_is_the_generators(shape, p, dtype):
    x = rounded(rng().standard_normal(shape), dtype)
    params = dict(p=p, key=2**63 + 12345, offset=2**32 - 2)
    keep = (philox.uniform(x.size, params["key"], params["offset"]) >= np.float32(p)).reshape(shape)
    (out,) = on_every_schedule(lambda: kernel().forward(device(x.astype(dtype)), **params)[:1])
    assert out.shape == shape and out.dtype == dtype
    np.testing.assert_array_equal(host(out) != 0, keep & (x != 0))
    np.testing.assert_allclose(host(out), np.where(keep, x / (1 - p if p < 1 else 1), 0), rtol=EPS[dtype])


@pytest.mark.parametrize("key, offset", [(0, 0), (7, 2**64 - 3), (2**64 - 1, 5)])
def test_float32_gives_the_bits_of_the_cpu(key, offset):
    x = rng().standard_normal((33, 65)).astype(np.float32)
    x[0, :8] = np.nan
    x[1, :8] = np.inf
    params = dict(p=0.4, key=key, offset=offset)
    ours, theirs = kernel().forward(device(x), **params)[0], lookup("cpu", "dropout").forward(x, **params)[0]
    ours = cupy().asnumpy(ours)
    for x in (ours, theirs):  # a NaN times a number is a NaN, of other bits on a GPU
        x[np.isnan(x)] = np.nan
    np.testing.assert_array_equal(ours.view(np.uint32), theirs.view(np.uint32))


@pytest.mark.parametrize("element", range(4))  # one for each word of a block of the generator
def test_an_element_whose_uniform_is_p_is_kept(element):
    """Whatever the 8 bits below are that a uniform leaves out: here the least of them and the largest."""
    bits, ones = philox.random_bits(1 << 14, 7)[element::4], device(np.ones(4, np.float32))
    for low in (0, 255):
        offset = int(np.flatnonzero(bits & 255 == low)[0])
        p = float(philox.uniform(4, 7, offset)[element])
        assert host(kernel().forward(ones, p=p, key=7, offset=offset)[0])[element] > 0
        assert host(kernel().forward(ones, p=p + 2.0**-24, key=7, offset=offset)[0])[element] == 0


@pytest.mark.parametrize("dtype", [float32, bfloat16], ids=str)
@pytest.mark.parametrize("element", range(4))
@pytest.mark.parametrize("s", [7, 8])  # rows of whole blocks of the generator, and others
def test_attention_keeps_a_weight_whose_uniform_is_p(s, element, dtype):
    uniform = float(philox.uniform(4, 7, 0)[element])
    zeros, values = device(np.zeros((1, 1, s, 8), dtype)), device(np.eye(s, 8).astype(dtype)[None, None])
    params = dict(causal=False, window=None, scale=1.0, key=7, offset=0)
    for p, keeps in ((uniform, True), (uniform + 2.0**-24, False)):
        out, _ = lookup("cuda", "attention").forward(zeros, zeros, values, p=p, **params)
        assert (host(out)[0, 0, 0, element] != 0) == keeps


@TYPES
def test_backward_masks_alike_into_the_buffer_given(dtype):
    g = device(rng().standard_normal((5, 67)).astype(dtype))
    params = dict(p=0.3, key=11, offset=5)
    out, saved = kernel().forward(g, **params)
    into = device(np.full((5, 67), np.nan).astype(dtype))
    (gx,) = kernel().backward(g, saved, (True,), (into,), **params)
    assert saved == () and gx is into
    np.testing.assert_array_equal(host(gx), host(out))
    (again,) = kernel().backward(g, saved, (True,), (None,), **params)
    np.testing.assert_array_equal(host(again), host(out))
    assert kernel().backward(g, saved, (False,), (None,), **params) == (None,)


@pytest.mark.parametrize("dtype", [float32, bfloat16], ids=str)
def test_rows_that_begin_anywhere(dtype):
    x = rng().standard_normal(1001).astype(dtype)
    whole, params = device(x), dict(p=0.5, key=3, offset=0)
    part, _ = kernel().forward(whole[1:], **params)
    aligned, _ = kernel().forward(device(x[1:]), **params)
    np.testing.assert_array_equal(host(part), host(aligned))


@pytest.mark.slow
@TYPES
def test_no_races(dtype):
    g = device(rng().standard_normal((3, 67)).astype(dtype))
    with race_checks():
        kernel().forward(g, p=0.3, key=1, offset=0)
        kernel().backward(g, (), (True,), (None,), p=0.3, key=1, offset=0)
