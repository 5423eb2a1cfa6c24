"""What every kernel must do, given a readable formula in NumPy: `check_kernel` tests all of it at once."""

import os
import subprocess
import sys
import textwrap

import numpy as np

from tinygrad_lite import threads

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def python(text, **environment):
    """Standard output of a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)], capture_output=True, text=True, timeout=100,
        env={**os.environ, "PYTHONPATH": ROOT, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def rng():
    return np.random.default_rng(7)


def frozen(x):
    """x, read-only."""
    if isinstance(x, np.ndarray):
        x.setflags(write=False)
    return x


def tolerance(dtype, n, scale=1.0):
    """A few roundings an element, growing as a random walk over n terms."""
    return 16 * np.finfo(dtype).eps * max(1.0, np.sqrt(n)) * max(1.0, float(scale))


def check_kernel(kernel, formula, arrays, dtype, terms, numeric=True, **params):
    """Hold kernel.forward and backward to formula(*float64 arrays, **params).

    arrays: float64 (cast to dtype), integer, or None. terms: how many products one result adds up. The gradients of the
    float64 kernel are held to central differences of the formula along random directions, those of the float32 kernel
    to the float64 ones. Also: read-only inputs, `into`, `needs`, `onto`, the same bits on 1, 2 and 3 threads.
    """
    arrays = [None if x is None else np.asarray(x) for x in arrays]
    differentiable = tuple(x is not None and x.dtype.kind == "f" for x in arrays)

    def run(dtype, needs, into, **onto):
        cast = [frozen(x.astype(dtype)) if d else x for x, d in zip(arrays, differentiable)]
        out, saved = kernel.forward(*cast, **params)
        g = frozen(rng().standard_normal(out.shape).astype(np.float32).astype(dtype))
        saved = tuple(frozen(x) for x in saved)
        return out, g, kernel.backward(g, saved, needs, into, **onto, **params)

    none = (None,) * len(arrays)
    out, g, grads = run(dtype, differentiable, none)
    expected = np.asarray(formula(*arrays, **params))
    assert out.dtype == dtype and isinstance(out, np.ndarray) and out.shape == expected.shape
    np.testing.assert_allclose(out, expected, rtol=0, atol=tolerance(dtype, terms, np.abs(expected).max(initial=0)))

    exact = run(np.float64, differentiable, none)[2]
    if numeric:
        check_directions(formula, arrays, params, differentiable, g.astype(np.float64), exact)
    for x, gradient, reference in zip(arrays, grads, exact):
        if gradient is not None:
            assert gradient.dtype == dtype and gradient.shape == x.shape
            size = np.abs(reference).max(initial=0)
            np.testing.assert_allclose(gradient, reference, rtol=0, atol=tolerance(dtype, terms, size))

    into = tuple(np.full(x.shape, np.nan, dtype) if d else None for x, d in zip(arrays, differentiable))
    for buffer, given, plain in zip(into, run(dtype, differentiable, into)[2], grads):
        assert given is buffer
        if buffer is not None:
            np.testing.assert_array_equal(given, plain)
    for i in getattr(kernel, "ADDS", ()):
        before = frozen(rng().standard_normal(arrays[i].shape).astype(dtype))
        onto = tuple(before if j == i else None for j in range(len(arrays)))
        for j, total in enumerate(run(dtype, differentiable, none, onto=onto)[2]):
            if j == i:
                size = np.abs(before).max(initial=0) + np.abs(grads[i]).max(initial=0)
                np.testing.assert_allclose(total, before + grads[i], rtol=0, atol=tolerance(dtype, 1, size))
            elif total is not None:
                np.testing.assert_array_equal(total, grads[j])
    for i in np.flatnonzero(differentiable):
        only = run(dtype, tuple(j == i for j in range(len(arrays))), none)[2]
        assert [x is None for x in only] == [j != i for j in range(len(arrays))]
        size = np.abs(grads[i]).max(initial=0)  # not the same bits: LLVM contracts differently when a sum is not wanted
        np.testing.assert_allclose(only[i], grads[i], rtol=0, atol=tolerance(dtype, 1, size))

    for count in (1, 2, 3):
        with kernel_threads(count):
            again, _, grads_again = run(dtype, differentiable, none)
        np.testing.assert_array_equal(again, out)
        for x, y in zip(grads, grads_again):
            assert (x is None and y is None) or np.array_equal(x, y)


def check_directions(formula, arrays, params, differentiable, g, gradients):
    """<gradient, d> against (L(x + h d) - L(x - h d)) / 2h with L = sum(g formula), for each input alone."""
    for i in np.flatnonzero(differentiable):
        for seed in range(2):
            d = np.random.default_rng(seed).standard_normal(arrays[i].shape)
            h = 1e-5 / max(1.0, np.abs(d).max(initial=0))

            def loss(step, i=i, d=d):
                moved = [x + step * d if j == i else x for j, x in enumerate(arrays)]
                return np.sum(g * formula(*moved, **params))

            numeric = (loss(h) - loss(-h)) / (2 * h)
            bound = 1e-7 + 1e-6 * np.linalg.norm(gradients[i]) * np.linalg.norm(d) ** 0.5
            assert abs(numeric - np.sum(gradients[i] * d)) <= bound


class kernel_threads:
    """Run kernels on `count` threads, BLAS untouched, and put back what was."""

    def __init__(self, count):
        self.count = count

    def __enter__(self):
        self.before = threads.get_num_threads()
        threads._start(self.count)

    def __exit__(self, *error):
        threads._start(self.before)
