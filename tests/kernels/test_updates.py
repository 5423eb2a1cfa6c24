"""AdamW, the embedding gradient, random bits and dropout."""

import numpy as np
import pytest
from kernels.checks import frozen, kernel_threads, rng

from tinygrad_lite import philox as twin
from tinygrad_lite.kernels import lookup
from tinygrad_lite.kernels.cpu.scatter_add_rows import scatter_add_rows

both = pytest.mark.parametrize("dtype", [np.float32, np.float64])
sizes = pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 70001])


@both
@sizes
def test_adamw_follows_pytorchs_formula(n, dtype):
    r = rng()
    p, g, m, v = (r.standard_normal(n).astype(dtype) for _ in range(4))
    v *= v
    frozen(g)
    hyper = dict(lr=0.01, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1)
    corrections = dict(bias_correction1=1 - 0.9**3, bias_correction2=1 - 0.95**3)
    grad = 0.5 * g.astype(float)
    m_new, v_new = 0.9 * m.astype(float) + 0.1 * grad, 0.95 * v.astype(float) + 0.05 * grad**2
    denominator = np.sqrt(v_new) / np.sqrt(corrections["bias_correction2"]) + 1e-8
    p_new = p * (1 - 0.01 * 0.1) - 0.01 / corrections["bias_correction1"] * m_new / denominator
    lookup("cpu", "adamw").step(p, g, m, v, **hyper, **corrections, grad_scale=0.5)
    for ours, expected in ((p, p_new), (m, m_new), (v, v_new)):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=8 * np.finfo(dtype).eps * 10)


@both
@sizes
def test_sum_of_squares(n, dtype):
    x = frozen((rng().standard_normal(n) * 10).astype(dtype))
    ours = []
    for count in (1, 2, 3):
        with kernel_threads(count):
            ours.append(lookup("cpu", "adamw").sum_of_squares(x))
    assert ours[0] == ours[1] == ours[2] and isinstance(ours[0], float)
    np.testing.assert_allclose(ours[0], np.sum(x.astype(float) ** 2), rtol=1e-13)


@both
@pytest.mark.parametrize("n, vocabulary, c", [(0, 3, 4), (1, 1, 1), (31, 5, 33), (33, 100, 32), (3000, 65, 31)])
def test_scatter_add_rows(n, vocabulary, c, dtype):
    r = rng()
    start, indices, g = r.standard_normal((vocabulary, c)), r.integers(0, vocabulary, n), r.standard_normal((n, c))
    expected = start.astype(dtype).astype(float)
    np.add.at(expected, indices, g.astype(dtype).astype(float))
    results = []
    for count in (1, 2, 3):
        out = start.astype(dtype)
        with kernel_threads(count):
            assert scatter_add_rows(out, frozen(indices), frozen(g.astype(dtype))) is out
        results.append(out)
    np.testing.assert_allclose(results[0], expected, rtol=0, atol=64 * np.finfo(dtype).eps * max(1, n) ** 0.5)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


ALL = 0xFFFFFFFF


@pytest.mark.parametrize("counter, key, expected", [  # Random123's kat_vectors, philox4x32 10
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ALL,) * 4, (ALL,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
     (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
])  # fmt: skip
def test_philox_known_answers(counter, key, expected):
    assert tuple(int(x) for x in twin.rounds(*counter, key[0] | key[1] << 32)) == expected


def test_philox_kernel_known_answer():
    words = lookup("cpu", "philox").random_bits(4, 0, 0)
    assert [int(x) for x in words] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


@pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 100001])
@pytest.mark.parametrize("key, offset", [(0, 0), (2**63 + 12345, 2**32 - 2), (7, 2**64 - 3)])
def test_philox_kernel_equals_its_twin(n, key, offset):
    kernel = lookup("cpu", "philox")
    np.testing.assert_array_equal(kernel.random_bits(n, key, offset), twin.random_bits(n, key, offset))
    np.testing.assert_array_equal(kernel.uniform(n, key, offset), twin.uniform(n, key, offset))


@both
@pytest.mark.parametrize("shape", [(), (1,), (31,), (4, 8), (33,), (300, 301)])
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_dropout(shape, p, dtype):
    kernel, x = lookup("cpu", "dropout"), frozen(np.asarray(rng().standard_normal(shape), dtype))
    params = dict(p=p, key=11, offset=5)
    keep = (twin.uniform(x.size, 11, 5) >= np.float32(p)).reshape(shape)
    expected = np.where(keep, x / (1 - p if p < 1 else 1), 0)
    out, saved = kernel.forward(x, **params)
    np.testing.assert_allclose(out, expected, rtol=4 * np.finfo(dtype).eps)
    into = np.full_like(x, np.nan)
    (gx,) = kernel.backward(x, saved, (True,), (into,), **params)
    assert saved == () and gx is into
    np.testing.assert_array_equal(gx, out)
    assert kernel.backward(x, saved, (False,), (None,), **params) == (None,)
    with kernel_threads(1):
        np.testing.assert_array_equal(kernel.forward(x, **params)[0], out)
