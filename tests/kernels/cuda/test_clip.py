"""The clipping factor computed on the device is the host's, and tells the update where nothing may change."""

import numpy as np
import pytest
from kernels.cuda.checks import device, host, needs_cuda, on_every_schedule, race_checks, rng

from tinygrad_lite.kernels.cuda.clip import norm_and_coefficient
from tinygrad_lite.optim import clip_coefficient

pytestmark = needs_cuda


def spans(*lengths, scale=1.0):
    return [rng().standard_normal(n).astype(np.float32) * np.float32(scale) for n in lengths]


@pytest.mark.parametrize("lengths", [(1,), (33, 2000), (5, 1, 700)])
@pytest.mark.parametrize("loss_scale, max_norm", [(1.0, 1.0), (64.0, 0.5), (8.0, 1e6), (4.0, 0.0)])
def test_norm_and_coefficient(lengths, loss_scale, max_norm):
    arrays = spans(*lengths)
    there = [device(x) for x in arrays]
    norm, coefficient = on_every_schedule(lambda: norm_and_coefficient(there, device(np.float32(loss_scale)), max_norm))
    expected = np.sqrt(sum(float((x.astype(np.float64) ** 2).sum()) for x in arrays)) / loss_scale
    factor = clip_coefficient(expected, max_norm) if max_norm else 1.0
    np.testing.assert_allclose(host(norm), expected, rtol=2.0**-23)
    np.testing.assert_allclose(host(coefficient), factor / loss_scale, rtol=2.0**-22)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("max_norm", [1.0, 0.0])
def test_a_gradient_that_is_not_finite_makes_the_factor_nan(bad, max_norm):
    x, y = spans(40, 9)
    y[3] = bad
    norm, coefficient = norm_and_coefficient([device(x), device(y)], device(np.float32(2.0)), max_norm)
    assert not np.isfinite(host(norm)) and np.isnan(host(coefficient))


def test_large_gradients_do_not_overflow():
    norm, coefficient = norm_and_coefficient([device(x) for x in spans(100, scale=1e30)], device(np.float32(1.0)), 1.0)
    assert np.isfinite(host(norm)) and 0 < host(coefficient) < 1e-29


@pytest.mark.slow
def test_no_races():
    with race_checks():
        norm_and_coefficient([device(x) for x in spans(40, 900)], device(np.float32(2.0)), 1.0)
