"""Shared matrix products: np.matmul's values for every shape and layout, the same bits whatever the number of threads."""

import threading
import tracemalloc

import numpy as np
import pytest
from kernels.checks import python

from tinygrad_lite import Tensor, functional, threads
from tinygrad_lite.tape import recording
from tinygrad_lite.xp.product import matmul


def rng(seed=0):
    return np.random.default_rng(seed)


def close(found, x, y):
    exact = x.astype(np.float64) @ y.astype(np.float64)
    inner = np.abs(x.astype(np.float64)) @ np.abs(y.astype(np.float64))  # what rounding errors are relative to
    return (np.abs(found - exact) <= 8 * np.finfo(x.dtype).eps * inner + 1e-30).all()


SHAPES = [
    (1, 1, 1),
    (31, 7, 5),
    (65, 64, 63),
    (200, 130, 97),
    (97, 130, 200),
    (1, 700, 900),
    (900, 700, 1),
    (2, 129, 2051),  # few rows: pairs of them, fours of columns, and what is left of both
    (7, 300, 702),
    (16, 70, 901),
    (17, 70, 901),
    (0, 3, 4),
    (300, 0, 300),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("m, k, n", SHAPES)
def test_two_matrices_in_every_layout(m, k, n, dtype):
    for left in (False, True):
        for right in (False, True):
            x = rng().standard_normal((k, m) if left else (m, k)).astype(dtype)
            y = rng(1).standard_normal((n, k) if right else (k, n)).astype(dtype)
            x, y = x.T if left else x, y.T if right else y
            out = np.full((m, n), np.nan, dtype)
            assert matmul(x, y, out=out) is out and close(out, x, y) and np.array_equal(matmul(x, y), out)


@pytest.mark.parametrize("shapes", [((5, 64, 80), (5, 80, 70)), ((2, 3, 64, 80), (2, 3, 80, 70)), ((5, 64, 80), (1, 80, 70)),
                                    ((5, 64, 80), (80, 70)), ((80,), (80, 70)), ((64, 80), (80,)), ((80,), (80,))])  # fmt: skip
def test_stacks_and_vectors_are_as_numpys(shapes):
    x, y = (rng(i).standard_normal(shape).astype(np.float32) for i, shape in enumerate(shapes))
    assert matmul(x, y).shape == np.matmul(x, y).shape and close(matmul(x, y), x, y)


@pytest.mark.parametrize(
    "shapes", [((64, 48, 64), (64, 64)), ((48, 64), (64, 64, 64)), ((8, 8, 48, 64), (8, 1, 64, 64))]
)
def test_operands_that_are_stretched_along_a_stack_are_not_copied(shapes):
    x, y = (rng(i).standard_normal(shape).astype(np.float32) for i, shape in enumerate(shapes))
    for left, right in ((x, y), (x, y.swapaxes(-1, -2))):
        matmul(left, right)
        tracemalloc.start()
        try:
            held = tracemalloc.get_traced_memory()[0]
            out = matmul(left, right)
            taken = tracemalloc.get_traced_memory()[1] - held - out.nbytes
        finally:
            tracemalloc.stop()
        assert taken < 1 << 16 and close(out, left, right)


@pytest.mark.parametrize(
    "m, k, n", [(3, 4, 5), (300, 70, 200), (200, 70, 300), (1, 700, 900), (9, 300, 401), (900, 700, 1)]
)
def test_a_bias_and_a_residual_are_added_on_the_way(m, k, n):
    x, y = rng().standard_normal((m, k)), rng(1).standard_normal((k, n))
    bias, residual = rng(2).standard_normal(n), rng(3).standard_normal((m, n))
    for right in (y, np.asfortranarray(y)):
        for b in (None, bias):
            for r in (None, residual):
                exact = x @ y + (0 if b is None else b) + (0 if r is None else r)
                np.testing.assert_allclose(matmul(x, right, None, b, r), exact, rtol=0, atol=1e-12 * k)


@pytest.mark.parametrize("m", [1, 9, 40])
def test_a_replay_adds_what_a_residual_of_any_strides_holds_now(m):
    x, y = rng().standard_normal((m, 300)), np.asfortranarray(rng(1).standard_normal((300, 1001)))
    bias, residual = np.zeros(1001), np.zeros((1001, m)).T
    with recording(1 << 30) as tape:
        out = matmul(x, y, None, bias, residual)
    residual[...] = 1.0
    tape.replay()
    assert close(out - 1.0, x, y)


@pytest.mark.parametrize("cores", [1, 3, 128])
@pytest.mark.parametrize("m, k, n", [(40, 300, 30), (33, 100, 200), (3000, 64, 31), (17, 20000, 700), (90, 5000, 5000)])
def test_a_product_is_whole_whatever_the_number_of_cores(m, k, n, cores, monkeypatch):
    x, y = rng().standard_normal((m, k)), rng(1).standard_normal((k, n))
    monkeypatch.setattr(threads, "CORES", cores)
    assert close(matmul(x, y), x, y)


def layouts(*shape):
    """Arrays of this shape however they may lie in memory: also with any stride along an axis of length 1."""
    values = rng(len(shape)).standard_normal(shape).astype(np.float32)
    yield values
    yield np.ascontiguousarray(values.swapaxes(-1, -2)).swapaxes(-1, -2)
    wide = np.zeros((*shape[:-1], shape[-1] + 3), np.float32)
    wide[..., : shape[-1]] = values
    yield wide[..., : shape[-1]]
    yield np.repeat(values, 2, axis=-1)[..., ::2]
    yield values[..., ::-1]
    if shape[-2] == 1:
        yield values.reshape(*shape[:-2], shape[-1])[..., None, :]
    if shape[-1] == 1:
        yield values.reshape(*shape[:-2], shape[-2])[..., :, None]


@pytest.mark.parametrize("m, k, n", [(600, 1, 700), (1, 600, 700), (700, 600, 1), (300, 200, 100), (1, 300000, 1)])
@pytest.mark.parametrize("stack", [(), pytest.param((3,), marks=pytest.mark.slow)])
def test_every_layout_also_along_axes_of_length_one(m, k, n, stack):
    for x in layouts(*stack, m, k):
        for y in layouts(*stack, k, n):
            out = np.full((*stack, m, n), np.nan, np.float32)
            assert close(matmul(x, y, out), x, y) and close(matmul(x, y), x, y)
            if m == 1:
                flat = np.full((*stack, n), np.nan, np.float32)
                assert close(matmul(x, y, flat[..., None, :]), x, y)


def test_a_linear_layer_of_one_input():
    x, w = rng().standard_normal((1024, 1)).astype(np.float32), rng(1).standard_normal((512, 1)).astype(np.float32)
    assert close(functional.linear(Tensor(x), Tensor(w)).numpy(), x, w.T)


def test_memory_that_is_read_and_written_goes_to_numpy():
    x, y = (rng(i).standard_normal((300, 300)).astype(np.float32) for i in range(2))
    exact = x.astype(np.float64) @ y
    for out in (x.copy(), y.copy()):
        a, b = (out, y) if out[0, 0] == x[0, 0] else (x, out)
        np.testing.assert_allclose(matmul(a, b, out), exact, atol=1e-3)
    out = x.copy()
    np.testing.assert_allclose(matmul(x, y, out, None, out.T), exact + x.T, atol=1e-3)
    out = x.copy()
    np.testing.assert_allclose(matmul(x, y, out, out[7]), exact + x[7], atol=1e-3)
    np.testing.assert_allclose(matmul(x, y, None, np.ones(1, np.float32), x[:1]), exact + 1 + x[:1], atol=1e-3)
    stack = np.stack([x, y, x])
    np.testing.assert_allclose(matmul(stack, stack, None, x[0])[1], y.astype(np.float64) @ y + x[0], atol=1e-3)
    assert matmul(x, y, np.empty((300, 300))).dtype == np.float64
    x.setflags(write=False)
    with pytest.raises(ValueError, match="read-only"):
        matmul(y, y, x)


def test_what_is_not_two_floats_of_a_kind_goes_to_numpy():
    x = rng().integers(0, 9, (80, 90))
    np.testing.assert_array_equal(matmul(x, x.T), x @ x.T)
    assert matmul(x.astype(np.float32), x.T.astype(np.float64)).dtype == np.float64
    with pytest.raises(ValueError):
        matmul(np.ones((200, 200), np.float32), np.ones((199, 200), np.float32))


@pytest.mark.parametrize("shape", [(768, 128, 384), (400, 65, 700), (333, 401, 129), (1, 2048, 1003), (5, 300, 1001)])
def test_the_bits_are_the_same_whatever_the_number_of_threads_and_beside_other_products(shape):
    m, k, n = shape
    x, y = rng().standard_normal((m, k)).astype(np.float32), rng(1).standard_normal((k, n)).astype(np.float32)
    y = np.asfortranarray(y) if m < 10 else y
    before, found = threads.get_num_threads(), []
    try:
        for count in (1, 2, 3, 5):
            threads.set_num_threads(count)
            found.append(matmul(x, y))
        workers = [threading.Thread(target=lambda: found.extend(matmul(x, y) for _ in range(5))) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        threads.set_num_threads(before)
    assert len(found) == 19 and all(np.array_equal(found[0], other) for other in found)


def test_blas_runs_on_one_thread_from_the_first_product_on_and_may_be_given_more():
    text = """
        import numpy as np
        from tinygrad_lite import threads
        from tinygrad_lite.xp.product import matmul
        before = threads.get_blas_threads()
        threads.set_blas_threads(3)
        matmul(np.ones((3, 3)), np.ones((3, 3)))  # too small for threads of anybody's
        small = threads.get_blas_threads()
        matmul(np.ones((300, 300)), np.ones((300, 300)))
        large = threads.get_blas_threads()
        threads.set_blas_threads(2)
        print(before is None or (small, large, threads.get_blas_threads()) == (3, 1, 2))
    """
    assert python(text) == "True"


def test_out_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="out must be"):
        matmul(np.ones((300, 300)), np.ones((300, 300)), out=np.ones((2, 2)))


def test_a_residual_of_one_row_may_have_any_strides():
    x, y, bias = rng().standard_normal((1, 600)), rng(1).standard_normal((700, 600)).T, rng(2).standard_normal(700)
    wide = rng(3).standard_normal((2, 1400))
    for residual in (wide[:1, ::2], wide[:1, 699::-1], np.broadcast_to(2.0, (1, 700))):
        np.testing.assert_allclose(matmul(x, y, None, bias, residual), x @ y + bias + residual, rtol=1e-10, atol=1e-10)
