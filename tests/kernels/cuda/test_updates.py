"""adamw on "cuda": the step, its rounding to half precision, the sum of squares and scaling."""

import numpy as np
import pytest
from kernels.cuda.checks import (
    EPS,
    TYPES,
    capture,
    device,
    host,
    needs_cuda,
    on_every_schedule,
    race_checks,
    rng,
    rounded,
)

from tinygrad_lite.dtypes import bfloat16, float16, float32, float64
from tinygrad_lite.kernels import lookup
from tinygrad_lite.kernels.cuda.launch import cupy
from tinygrad_lite.optim.rounding import round_stochastically

pytestmark = needs_cuda
HYPER = dict(lr=0.01, beta1=0.9, beta2=0.95, eps=1e-2, weight_decay=0.1)  # an eps that shows
CORRECTIONS = dict(bias_correction1=1 - 0.9**3, bias_correction2=1 - 0.95**3)
SIZES = pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 2049, 5000])
STARTS = pytest.mark.parametrize("start", [1, 4, 7, 8])


def adamw():
    return lookup("cuda", "adamw")


def at(x, start=0, dtype=None):
    """x on the device as a slice that begins at element `start` of a longer array, whose other elements are 7."""
    x = np.asarray(x, dtype)
    whole = np.full(x.size + start + 9, 7).astype(x.dtype)
    whole[start : start + x.size] = x
    return device(whole)[start : start + x.size]


def state(n, dtype):
    """(param, grad, m, v, master) in float64, each as its type holds it; the master is None in float32."""
    r = rng()
    exact, grad, m, v = (r.standard_normal(n) for _ in range(4))
    exact, m, v = (rounded(x, float32) for x in (exact, m, v * v))
    return rounded(exact, dtype), rounded(grad, dtype), m, v, None if dtype == float32 else exact


def on_device(arrays, dtype, start=0):
    types = (dtype, dtype, float32, float32, float32)
    return [None if x is None else at(x, start, t) for x, t in zip(arrays, types)]


def formula(arrays, grad_scale=1.0):
    """(exact parameter, m, v) after one step, in float64."""
    param, grad, m, v, master = arrays
    p, g = param if master is None else master, grad_scale * grad
    m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g**2
    denominator = np.sqrt(v) / np.sqrt(CORRECTIONS["bias_correction2"]) + HYPER["eps"]
    return p * (1 - 0.01 * 0.1) - 0.01 / CORRECTIONS["bias_correction1"] * m / denominator, m, v


def step(given, **more):
    param, grad, m, v, master = given
    adamw().step(param, grad, m, v, **HYPER, **CORRECTIONS, master=master, **more)
    return param, m, v, master


def check_step(given, expected, dtype):
    param, _, m, v, master = given
    # Standard normal numbers: products of them to a few roundings, the largest near 4, its square near 16.
    for ours, exact in ((param if master is None else master, expected[0]), (m, expected[1]), (v, expected[2])):
        np.testing.assert_allclose(host(ours), exact, rtol=0, atol=40 * EPS[float32])
    if master is not None:
        np.testing.assert_array_equal(host(param), rounded(host(master), dtype))


@TYPES
@SIZES
def test_a_step_follows_pytorchs_formula(n, dtype):
    arrays = state(n, dtype)

    def run():
        given = on_device(arrays, dtype)
        step(given, grad_scale=0.5)
        check_step(given, formula(arrays, 0.5), dtype)
        np.testing.assert_array_equal(host(given[1]), arrays[1])
        return given

    on_every_schedule(run)


@TYPES
@STARTS
def test_slices_that_begin_anywhere_give_the_same_bits_and_touch_nothing_else(start, dtype):
    arrays, n = state(100, dtype), 100
    plain, moved = on_device(arrays, dtype), [on_device(arrays, dtype, start)]
    for i, x in enumerate(plain):
        if x is not None:  # one array out of step with the others
            moved.append(on_device(arrays, dtype))
            moved[-1][i] = at(arrays[i], start, x.dtype)
    step(plain)
    for given in moved:
        step(given)
        for x, y in zip(plain, given):
            if x is not None:
                assert host(x).shape == (n,)
                np.testing.assert_array_equal(host(x), host(y))


@TYPES
def test_what_lies_around_a_slice_stays(dtype):
    arrays, n, start = state(50, dtype), 50, 3
    types = (dtype, dtype, float32, float32, float32)
    wholes = [None if x is None else device(np.full(n + 12, 7).astype(t)) for x, t in zip(arrays, types)]
    given = [None if w is None else w[start : start + n] for w in wholes]
    for view, x, t in zip(given, arrays, types):
        if x is not None:
            view[...] = device(x.astype(t))
    step(given)
    check_step(given, formula(arrays), dtype)
    for whole in wholes:
        if whole is not None:
            assert (host(whole[:start]) == 7).all() and (host(whole[start + n :]) == 7).all()


@TYPES
def test_the_gradients_factor_may_lie_on_the_device(dtype):
    arrays = state(77, dtype)
    by_number, by_pointer, wide = (on_device(arrays, dtype) for _ in range(3))
    step(by_number, grad_scale=0.25)
    step(by_pointer, grad_scale=device(np.array(0.25, np.float32)))
    step(wide, grad_scale=device(np.array(0.25)))
    for x, y, z in zip(by_number, by_pointer, wide):
        if x is not None:
            np.testing.assert_array_equal(host(x), host(y))
            np.testing.assert_array_equal(host(x), host(z))


@TYPES
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_no_number_spoils_its_own_parameter_only(bad, dtype):
    arrays = state(40, dtype)
    arrays[1][[5, 39]] = bad
    for draws in (None, (3, 1, 0)) if dtype == bfloat16 else (None,):
        if draws:
            arrays = (*arrays[:4], None)
        given = on_device(arrays, dtype)
        step(given, draws=draws)
        clean = np.ones(40, bool)
        clean[[5, 39]] = False
        with np.errstate(invalid="ignore"):
            expected = [np.where(clean, x, 0) for x in formula(arrays)]
        spoilt = [np.isnan(host(x)[~clean]) | np.isinf(host(x)[~clean]) for x in given[2:4]]
        assert np.all(spoilt) and np.isnan(host(given[0])[~clean]).all()
        exact_place, atol = (given[4], 0) if given[4] is not None else (given[0], 4 * EPS[bfloat16] if draws else 0)
        for array, exact, more in zip((exact_place, *given[2:4]), expected, (atol, 0, 0)):
            np.testing.assert_allclose(host(array)[clean], exact[clean], rtol=0, atol=40 * EPS[float32] + more)


@TYPES
@pytest.mark.parametrize("scale", [np.inf, np.nan])
def test_a_factor_that_is_not_finite_changes_nothing(scale, dtype):
    arrays = state(40, dtype)
    for factor in (scale, device(np.array(scale, np.float32))):
        given = on_device(arrays, dtype)
        step(given, grad_scale=factor)
        for array, before in zip(given, arrays):
            assert before is None or (host(array) == before).all()


@TYPES
def test_the_steps_scalars_may_lie_on_the_device(dtype):
    scalars = (
        1 - 0.01 * 0.1,
        0.01 / CORRECTIONS["bias_correction1"],
        CORRECTIONS["bias_correction2"] ** -0.5,
        2.0**24 - 1,
    )
    others = {**HYPER, "lr": 7.0, "bias_correction1": 0.5, "bias_correction2": 0.5}
    for is_random in (False, True) if dtype == bfloat16 else (False,):
        arrays = state(77, dtype)[: 4 if is_random else 5]
        by_number, by_pointer = ((on_device(arrays, dtype) + [None])[:5] for _ in range(2))
        step(by_number, draws=(5, 2**24 - 1, 3) if is_random else None)
        param, grad, m, v, master = by_pointer
        more = dict(master=master, draws=(5, 1, 3) if is_random else None)
        adamw().step(param, grad, m, v, **others, **more, scalars=device(np.array(scalars, np.float32)))
        for x, y in zip(by_number, by_pointer):
            np.testing.assert_array_equal(*(None if a is None else host(a) for a in (x, y)))


@pytest.mark.parametrize("dtype", [bfloat16, float16])
def test_a_parameter_that_somebody_wrote_is_its_new_master(dtype):
    arrays = list(state(40, dtype))
    given = on_device(arrays, dtype)
    written = np.arange(40) % 3 == 0
    arrays[0] = np.where(written, arrays[0] + 1, arrays[0])
    arrays[0] = rounded(arrays[0], dtype)
    given[0] = device(arrays[0].astype(dtype))
    arrays[4] = np.where(written, arrays[0], arrays[4])
    step(given)
    check_step(given, formula(arrays), dtype)


@TYPES
def test_zeros_stay_zeros(dtype):
    """As in the gaps between the parameters of a flat buffer, and for a parameter that has had no gradient yet."""
    given = on_device([None if x is None else 0 * x for x in state(40, dtype)], dtype)
    step(given)
    assert all((host(x) == 0).all() for x in given if x is not None)


def test_what_does_not_fit_together_is_refused():
    draws = dict(draws=(1, 1, 0))
    for dtype, has_master, more in (
        (bfloat16, False, {}), (float32, False, draws), (float16, False, draws), (bfloat16, True, draws), (float32, True, {}),
    ):  # fmt: skip
        given = on_device(state(8, dtype), dtype)
        given[4] = device(np.zeros(8, np.float32)) if has_master else None
        with pytest.raises(
            ValueError, match="adamw: (expected (no master|a float32 master, or draws,) of|only bfloat16)"
        ):
            step(given, **more)


# -- stochastic rounding, without a master -------------------------------------------------------------------
def without_master(n, start=0):
    """(param, grad, m, v, None) on the device, and what the parameter is before it is rounded: a float32 master's value."""
    arrays = list(state(n, bfloat16))
    arrays[4] = arrays[0]
    exact = on_device(arrays, bfloat16)
    step(exact)
    return [*on_device(arrays, bfloat16, start)[:4], None], host(exact[4]).astype(np.float32)


@pytest.mark.parametrize("n, start", [(1, 0), (33, 0), (2500, 0), (33, 3), (33, 4), (33, 8)])
@pytest.mark.parametrize("key, number, first", [(0, 1, 0), (2**63 + 12345, 2**24 - 1, 2**39)])
def test_stochastic_rounding_is_its_readable_twins_bit_for_bit(n, start, key, number, first):
    def run():
        given, exact = without_master(n, start)
        step(given, draws=(key, number, first))
        expected = round_stochastically(exact, key, number, 8 * first)
        np.testing.assert_array_equal(host(given[0]), expected.astype(float))
        return [given[0], *given[2:4]]

    on_every_schedule(run)


def test_stochastic_rounding_keeps_what_is_no_number():
    """A GPU's own NaN has all bits set: one more in its last digit would be -0."""
    given, _ = without_master(40)
    values = np.array([0x7FFF, 0xFFFF, 0x7F80, 0xFF80] * 10, np.uint16).view(bfloat16)
    given[0] = device(values)
    step(given, draws=(1, 1, 0))
    np.testing.assert_array_equal(host(given[0]), values.astype(float))


def test_steps_too_small_for_bfloat16_still_move_it_on_average():
    n = 4000
    param, zeros = device(np.ones(n).astype(bfloat16)), np.zeros(n, np.float32)
    still = device(np.ones(n).astype(bfloat16))
    for draws, p in (((0, 1, 0), param), (None, still)):
        grad, m, v, master = device(np.ones(n).astype(bfloat16)), device(zeros), device(zeros), device(zeros + 1)
        hyper = {**HYPER, "lr": 1e-3, "weight_decay": 0.0, "bias_correction1": 0.1, "bias_correction2": 0.05}
        adamw().step(p, grad, m, v, **hyper, master=None if draws else master, draws=draws)
    share = 1e-3 / 2.0**-8  # below 1 the neighbour is 2^-8 away
    moved = np.mean(host(param) < 1)
    assert (host(still) == 1).all() and abs(moved - share) <= 4 * np.sqrt(share * (1 - share) / n)


# -- sums of squares, scaling --------------------------------------------------------------------------------
@TYPES
@pytest.mark.parametrize("n", [0, 1, 31, 33, 4097, 20001])
def test_sum_of_squares(n, dtype):
    x = rounded(rng().standard_normal(n) * 10, dtype)
    given = device(x.astype(dtype))
    ours = adamw().sum_of_squares(given)
    assert isinstance(ours, float)
    np.testing.assert_allclose(ours, np.sum(x**2), rtol=1e-13)

    def run():
        wide, narrow = cupy().zeros((), float64), cupy().zeros((), float32)
        adamw().sum_of_squares_into(given, wide)
        adamw().sum_of_squares_into(given, narrow)
        return wide, narrow

    wide, narrow = on_every_schedule(run)
    assert float(host(wide)) == ours and host(narrow) == np.float32(ours)
    adamw().sum_of_squares_into(given, wide, adds=True)
    adamw().sum_of_squares_into(given, narrow, adds=True)
    np.testing.assert_allclose(host(wide), 2 * ours, rtol=1e-14)
    np.testing.assert_allclose(host(narrow), 2 * ours, rtol=EPS[float32])


@TYPES
@STARTS
def test_sum_of_squares_of_a_slice(start, dtype):
    x = rounded(rng().standard_normal(301), dtype)
    np.testing.assert_allclose(adamw().sum_of_squares(at(x.astype(dtype), start)), np.sum(x**2), rtol=1e-13)


def test_sum_of_squares_is_long_after_float32_gave_up():
    x = np.full(9, 1e30, np.float32)
    np.testing.assert_allclose(adamw().sum_of_squares(device(x)), 9 * float(x[0]) ** 2, rtol=1e-14)
    x[4] = np.inf
    assert adamw().sum_of_squares(device(x)) == np.inf
    x[4] = np.nan
    assert np.isnan(adamw().sum_of_squares(device(x)))


@TYPES
@pytest.mark.parametrize("n", [0, 1, 31, 33, 4099])
def test_scale_into(n, dtype):
    x = rounded(rng().standard_normal(n), dtype)
    scale_into = adamw().scale_into
    for factor in (0.3, 1.0, device(np.array(0.3, np.float32)), device(np.array(1.0, np.float32))):
        by = float(np.float32(host(factor) if isinstance(factor, cupy().ndarray) else factor))
        exact, smallest = x * by, 2.0**-25 if dtype == float16 else 0
        given, out = device(x.astype(dtype)), cupy().empty(n, dtype)
        scale_into(given, factor, out)
        np.testing.assert_allclose(host(out), exact, rtol=EPS[dtype] / 2 * 1.01, atol=smallest)
        np.testing.assert_array_equal(host(given), x)
        scale_into(given, factor, given)
        np.testing.assert_array_equal(host(given), host(out))
    wide = x + rounded(rng().standard_normal(n) * 1e-4, float32)
    out, moved = cupy().empty(n, dtype), cupy().empty(n + 3, dtype)
    scale_into(at(wide, 0, np.float32), 0.5, out)
    scale_into(at(wide, 1, np.float32), 0.5, moved[3:])
    exact = rounded(0.5 * wide.astype(np.float32).astype(float), dtype)
    np.testing.assert_array_equal(host(out), exact)
    np.testing.assert_array_equal(host(moved[3:]), exact)


@TYPES
def test_clipping_and_the_step_wait_for_nothing(dtype, monkeypatch):
    given = on_device(state(100, dtype), dtype)
    total, coefficient = cupy().zeros((), float32), device(np.array(0.5, np.float32))

    def run():
        adamw().sum_of_squares_into(given[1], total)
        adamw().scale_into(given[1], coefficient, given[1])
        step(given, grad_scale=coefficient)

    graph, _ = capture(run, monkeypatch)
    before, gradient = host(given[0]), host(given[1])
    graph.launch()
    assert (host(given[0]) != before).any() and host(total) > 0
    np.testing.assert_array_equal(host(given[1]), rounded(0.5 * gradient, dtype))


@pytest.mark.slow
@TYPES
def test_no_races(dtype):
    with race_checks():
        for n, start in ((2100, 0), (40, 3)):
            arrays = state(n, dtype)
            given = on_device(arrays, dtype, start)
            step(given)
            check_step(given, formula(arrays), dtype)
            if dtype == bfloat16:
                step([*given[:4], None], draws=(5, 1, 0))
            adamw().sum_of_squares(given[1])
            adamw().scale_into(given[1], 0.5, given[1])
            adamw().scale_into(given[2], 0.5, cupy().empty(n, dtype))
