"""What every CUDA kernel must do, held to a formula in float64: on a GPU where there is one, else in the emulator."""

import contextlib
import os
from functools import partial

import numpy as np
import pytest

from tinygrad_lite import Tensor, grad
from tinygrad_lite.device import get_device
from tinygrad_lite.dtypes import HALF, bfloat16, float16, float32
from tinygrad_lite.kernels import lookup
from tinygrad_lite.kernels.cuda.emulator import options, unavailable
from tinygrad_lite.kernels.cuda.launch import cupy
from tinygrad_lite.ops import OPS

EMULATED = os.environ.get("TGL_CUDA") == "emulate"
needs_cuda = pytest.mark.skipif(EMULATED and unavailable() is not None, reason=str(unavailable()))

# Every order of threads that the emulator knows, with copies done at once and at the last moment.
SCHEDULES = [
    dict(order=order, lazy_copies=lazy) for order in ("ascending", "descending", "random") for lazy in (False, True)
]
EPS = {float32: 2.0**-23, bfloat16: 2.0**-7, float16: 2.0**-10}
# float16 takes the kernels' bfloat16 texts, and another 30 s to compile them.
TYPES = pytest.mark.parametrize("dtype", [float32, bfloat16, pytest.param(float16, marks=pytest.mark.slow)], ids=str)


def rng():
    return np.random.default_rng(7)


def device(x):
    """A host array on the device."""
    return cupy().asarray(x)


def host(x):
    """A device array in float64, or as it is where it holds no floats."""
    x = cupy().asnumpy(x)
    return x.astype(np.float64) if x.dtype.kind == "f" or x.dtype in HALF else x


def tolerance(dtype, terms=1, scale=1.0):
    """One rounding to dtype of the result, and of float32 sums of `terms` products a few that grow as a random walk."""
    return max(1.0, float(scale)) * (EPS[dtype] + 16 * EPS[float32] * np.sqrt(max(1, terms)))


def rounded(x, dtype):
    """float64 values as dtype holds them, in float64; other arrays as they are."""
    return x.astype(dtype).astype(np.float64) if x is not None and x.dtype.kind == "f" else x


def on_every_schedule(run):
    """run() gives device arrays (or None): the same bits in every order of threads. Returns those of the first."""
    first = None
    for schedule in SCHEDULES if EMULATED else SCHEDULES[:2]:
        with options.set(**schedule):
            arrays = run()
        got = [None if a is None else cupy().asnumpy(a).tobytes() for a in arrays]
        if first is None:
            first, result = got, arrays
        assert got == first, f"the result depends on the order of threads: {schedule}"
    return result


def check_kernel(name, formula, arrays, dtype, terms=1, backward_terms=None, scale=None, **params):
    """Hold kernels/cuda/NAME.py to formula(*float64 arrays, **params), and its gradients to the CPU's in float64.

    arrays: float64 (cast to dtype first), integer, or None. terms, backward_terms: how many products one result adds up.
    Also: every schedule gives the same bits, `into` is written and returned, only what `needs` asks for is given, what
    is in `onto` is added and left as it was.
    """
    kernel = lookup("cuda", name)
    arrays = [None if x is None else rounded(np.asarray(x), dtype) for x in arrays]
    real = tuple(x is not None and x.dtype.kind == "f" for x in arrays)
    given = [None if x is None else device(x.astype(dtype) if r else x) for x, r in zip(arrays, real)]
    expected = np.asarray(formula(*arrays, **params))
    g = rounded(rng().standard_normal(expected.shape), dtype)

    no_buffers = (None,) * len(arrays)

    def run(needs=real, into=no_buffers, **onto):
        out, saved = kernel.forward(*given, **params)
        return out, *kernel.backward(device(g.astype(out.dtype)), saved, needs, into, **onto, **params)

    out, *grads = on_every_schedule(run)
    assert out.shape == expected.shape
    size = np.abs(expected[np.isfinite(expected)]).max(initial=0) if scale is None else scale
    np.testing.assert_allclose(host(out), expected, rtol=0, atol=tolerance(dtype, terms, size))

    exact = gradients_on_the_cpu(name, arrays, real, g, params)
    for x, gradient, reference, r in zip(arrays, grads, exact, real):
        assert (gradient is not None) == r
        if r:
            assert gradient.dtype == dtype and gradient.shape == x.shape
            size = np.abs(reference).max(initial=0)
            atol = tolerance(dtype, backward_terms or terms, size)
            np.testing.assert_allclose(host(gradient), reference, rtol=0, atol=atol)

    into = tuple(device(np.full(x.shape, np.nan).astype(dtype)) if r else None for x, r in zip(arrays, real))
    for buffer, returned, plain in zip(into, run(into=into)[1:], grads):
        assert returned is buffer
        if buffer is not None:
            np.testing.assert_array_equal(host(returned), host(plain))
    for i in kernel.ADDS:
        before = rounded(rng().standard_normal(arrays[i].shape), dtype)
        onto = tuple(device(before.astype(dtype)) if j == i else None for j in range(len(arrays)))
        sums = on_every_schedule(partial(run, onto=onto))[1:]
        size = np.abs(before).max(initial=0) + np.abs(exact[i]).max(initial=0)
        atol = tolerance(dtype, backward_terms or terms, size)
        np.testing.assert_allclose(host(sums[i]), before + exact[i], rtol=0, atol=atol)
        np.testing.assert_array_equal(host(onto[i]), before)
        for j in np.flatnonzero(real):
            if j != i:
                np.testing.assert_array_equal(host(sums[j]), host(grads[j]))
    for i in np.flatnonzero(real):
        only = run(needs=tuple(j == i for j in range(len(arrays))))[1:]
        assert [x is None for x in only] == [j != i for j in range(len(arrays))]
        size = np.abs(host(grads[i])).max(initial=0)
        np.testing.assert_allclose(host(only[i]), host(grads[i]), rtol=0, atol=tolerance(dtype, 1, size))


def gradients_on_the_cpu(name, arrays, real, g, params):
    """An op's gradient for each of the arrays that is `real`, else None, in their type."""
    inputs = [None if x is None else Tensor(x).requires_grad_(r) for x, r in zip(arrays, real)]
    wanted = [x for x, r in zip(inputs, real) if r]
    found = iter(grad(OPS[name](*inputs, **params), wanted, Tensor(g)))
    return [next(found).numpy() if r else None for r in real]


def capture(run, monkeypatch):
    """(graph, what run() returned) of a capture, in which no value can come to the host: nothing waits for the device."""

    def refuse(*args):
        raise AssertionError("a value came to the host")

    lib = cupy()
    lib.cuda.get_current_stream().synchronize()  # it wrote what run() reads
    with lib.cuda.Stream(non_blocking=True) as stream, monkeypatch.context() as patch:
        run()  # compiled and loaded before
        stream.synchronize()  # or it still writes to the memory that the capture is given
        if EMULATED:  # CuPy refuses these by itself
            for way in ("__float__", "__int__", "__bool__", "item", "tolist", "get"):
                patch.setattr(lib.ndarray, way, refuse)
        stream.begin_capture()
        try:
            results = run()
        finally:
            graph = stream.end_capture()
    return graph, results


@contextlib.contextmanager
def race_checks():
    """Inside, kernels are compiled with the emulator's checks for races, bounds and unwritten shared memory."""
    assert EMULATED
    with options.set(mode="race"):
        yield


def cuda_is_real():
    return get_device("cuda").xp.lib.__name__ == "cupy"
