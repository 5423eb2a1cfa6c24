"""Gradients that are hard to judge: right ones that look wrong, and wrong ones that hide."""

import numpy as np
import pytest

import tinygrad_lite as tgl
from tinygrad_lite.gradcheck import gradcheck
from tinygrad_lite.gradcheck.noise import STILL, noise_of
from tinygrad_lite.ops.registry import OPS
from tinygrad_lite.tensor import Tensor, functional, wrap

both_modes = pytest.mark.parametrize("mode", ["full", "fast"])
POINT = [0.3, -1.2, 2.0]


def leaf(values=POINT, dtype="float64"):
    return Tensor(np.array(values), dtype=dtype, requires_grad=True)


def verdict(fn, *inputs, **options):
    return gradcheck(fn, inputs, raise_exception=False, **options).verdict


@pytest.fixture
def planted():
    """make(rule, forward) -> an op of one input with that backward rule; x * x unless forward says otherwise."""

    def remove():
        OPS.pop("planted", None)
        tgl.ops.registry.Namespace.formulas.pop("planted", None)
        vars(functional).pop("planted", None)

    def make(rule, formula=lambda xp, x: x * x):
        remove()

        def planted(xp, x):
            return formula(xp, x)

        return tgl.primitive()(planted).vjp(x=rule)

    yield make
    remove()


def off_by(factor):
    return lambda xp, g, x: g * x * (2.0 * factor)


# -- right, though it does not look so ------------------------------------------------------------------------
@both_modes
@pytest.mark.parametrize("fn, values", [
    (lambda x: (x * 1e4).sin(), POINT),
    (lambda x: (x * 1e6).sin(), POINT),
    (lambda x: (x * 1e9).sin(), [0.3, 0.5]),
    (lambda x: (x * 1e6).sigmoid(), [1e-6, 0.5, -2e-6]),
    (lambda x: (-((x - 1.0) ** 2) * 1e8).exp(), [1.00005, 0.99999]),
    (lambda x: 1.0 / (x - 1.0), [1.0 + 1e-6, 3.0]),
    (lambda x: 1.0 / (x - 1.0), [1.0 + 1e-7]),
    (lambda x: x.log(), [1e-9]),
    (lambda x: x.sqrt(), [1e-9, 1e-4, 1.0]),
    (lambda x: (x * Tensor(np.array([1e-6, 1.0, 1e6]))).sin().sum(), [1e6, 2.0, 3e-6]),
    (lambda x: x.exp() * Tensor(np.array([1e8, 1.0, 1e-8])), POINT),
    (lambda x: (x + 1e6) - 1e6, [0.3, 0.5]),
    (lambda x: (x.sin() + 1e6).sum(), POINT),
    (lambda x: x.softmax(0).sum(), POINT),
    (lambda x: x.prod(), [0.0, 1.3, 0.0]),
])  # fmt: skip
def test_sharp_functions_and_cancelling_ones_are_right(mode, fn, values):
    assert verdict(fn, leaf(values), mode=mode) == "ok"


@both_modes
@pytest.mark.parametrize("types", [("float64", "float32"), ("float32", "float16"), ("float16", "float64")])
def test_inputs_of_different_types(mode, types):
    x, w = leaf(dtype=types[0]), leaf([0.3, 0.4, 0.5], types[1])
    assert verdict(lambda x, w: x * w, x, w, mode=mode, order=2) == "ok"


@both_modes
def test_a_narrow_result_to_second_order(mode):
    assert verdict(lambda x: x.float().sin(), leaf(), mode=mode, order=2) == "ok"


@both_modes
def test_an_unstable_formula_in_a_narrow_type_is_no_fault(mode):
    x = leaf([0.001, 1.0, 10.0, 0.3], "float32")
    assert verdict(lambda x: ((x + 1000.0) - 1000.0) ** 2, x, mode=mode) == "ok"


@both_modes
def test_a_function_that_differentiates_inside(mode):
    def penalty(x):
        return tgl.grad((x**3).sum(), x, create_graph=True)[0]

    assert verdict(penalty, leaf(), mode=mode, order=2) == "ok"


@both_modes
def test_a_value_that_jumps_is_a_kink_where_backward_fits_beside_it(mode, planted):
    assert verdict(lambda x: x.floor() + x, leaf([1.0, 2.5]), mode=mode) == "kink"
    straight_through = planted(lambda xp, g, x: g, lambda xp, x: xp.floor(x))
    assert verdict(lambda x: straight_through(x), leaf([1.0, 2.5]), mode=mode) != "kink"


@both_modes
def test_figures_lost_to_a_large_sum_are_not_blamed_on_backward(mode):
    for seed in range(20):
        result = gradcheck(lambda x: (x + 1e14) - 1e14, leaf([0.3, 0.5]), mode=mode, raise_exception=False, seed=seed)
        assert result.verdict == "inconclusive" and "added to a large one" in str(result)


@both_modes
@pytest.mark.parametrize("factor", [0.5, 0.8, 1.0])
def test_a_gradient_on_the_flat_side_of_a_corner_is_wrong(mode, factor, planted):
    # From 0.003 on the values move, on one side: no staircase.
    op = planted(lambda xp, g, x: g * factor, lambda xp, x: xp.maximum(x, 0.0))
    for seed in range(5):
        assert verdict(lambda x: op(x), leaf([-0.003, -0.5]), mode=mode, seed=seed) == "wrong backward"


@both_modes
def test_an_infinite_slope_proves_nothing(mode):
    result = gradcheck(lambda x: x.sqrt(), leaf([0.0, 1.0]), mode=mode, raise_exception=False)
    assert result.verdict == "inconclusive" and not result.ok and "grows without bound" in str(result)
    assert verdict(lambda x: x.exp(), leaf([709.5, 1.0]), mode=mode) == "inconclusive"


@both_modes
def test_a_nan_of_backward_where_the_function_is_smooth_is_wrong(mode):
    result = gradcheck(lambda x: x * x.abs().sqrt(), leaf([0.0, 1.0]), mode=mode, raise_exception=False)
    assert result.verdict == "wrong backward" and "nan" in str(result)


@both_modes
def test_an_output_that_is_nan_is_named(mode):
    result = gradcheck(lambda x: x.log(), leaf([1.0, -1.0]), mode=mode, raise_exception=False)
    assert result.verdict == "inconclusive" and "1 of 2 output elements are nan" in str(result)
    assert result.findings[0].output_index == (1,)


@both_modes
def test_outputs_that_overflow_are_named(mode):
    result = gradcheck(lambda x: (x * 1e3).exp(), leaf(), mode=mode, raise_exception=False)
    assert result.verdict == "inconclusive" and "1 of 3 output elements are infinite" in str(result)


@both_modes
def test_a_function_faster_than_any_step_is_not_blamed(mode):
    fast = lambda x: ((x * 1e4) ** 3).sin() * 1e-4 + 100.0
    assert verdict(fast, leaf([0.6, -1.3, 0.9]), mode=mode) in ("ok", "inconclusive")


@both_modes
def test_a_gradient_that_is_nothing_but_rounding(mode):
    x = leaf(np.random.default_rng(0).standard_normal((3, 4)))
    for fn in (
        lambda x: ((x - x.mean()) ** 2 + 0.1).sqrt().softmax(-1).mean(-1),
        lambda x: (x.abs() + 0.2).log().softmax(-1).sum(),
        lambda x: x.exp().sigmoid().abs().sigmoid(),
    ):
        assert verdict(fn, x, mode=mode, order=2) == "ok"


@both_modes
def test_many_kinks_at_once(mode):
    assert verdict(lambda x: x.relu(), leaf(np.zeros(40)), mode=mode) == "kink"


# -- wrong, though it hides -------------------------------------------------------------------------------------
@both_modes
@pytest.mark.parametrize("factor", [1.01, 1.001, 0.0, -1.0])
def test_a_wrong_factor_behind_a_narrow_type_or_a_large_sum(mode, factor, planted):
    op = planted(off_by(factor))
    assert verdict(lambda x: op(x.float()), leaf(), mode=mode) == "wrong backward"
    assert verdict(lambda x: op(x.float()).double(), leaf(), mode=mode) == "wrong backward"
    for large in (1e3, 1e6, 1e8):
        assert verdict(lambda x, large=large: op(x) + large, leaf(), mode=mode) == "wrong backward"
    assert verdict(lambda x: op(x.half()), leaf(), mode=mode) != "ok" or factor == 1.001  # below float16's eps


@both_modes
def test_a_wrong_output_beside_a_far_larger_one(mode, planted):
    op = planted(off_by(1.01))
    assert verdict(lambda x: tgl.concatenate((x * 1e8, op(x) * 1e-8)), leaf(), mode=mode) == "wrong backward"
    assert verdict(lambda x: (x * 1e8, op(x) * 1e-8), leaf(), mode=mode, order=2) == "wrong backward"
    assert verdict(lambda x, y: (x * 1e10).sum() + op(y).sum(), leaf(), leaf(), mode=mode) == "wrong backward"


@both_modes
def test_a_wrong_element_of_small_weight(mode, planted):
    factors = np.array([1.0, 1.01, 1.0])
    op = planted(lambda xp, g, x: g * x * 2.0 * (wrap(factors, None, x.device) if isinstance(x, Tensor) else factors))
    weights = Tensor(np.array([1.0, 1e-9, 1.0]))
    assert verdict(lambda x: (op(x) * weights).sum(), leaf([1.0, 1.0, 1.0]), mode=mode) == "wrong backward"


@both_modes
def test_what_differences_cannot_show_is_said(mode):
    # The squares sum to 1e12, known to 1e-4: the slope of the second, 0.002, drowns.
    result = gradcheck(lambda x: (x * x).sum(), leaf([1e6, 1e-3, 1.0]), mode=mode)
    assert result.verdict == "ok" and "too small to resolve" in str(result)


@both_modes
def test_results_in_nested_tuples_and_dicts_are_checked(mode, planted):
    op = planted(off_by(1.01))
    assert verdict(lambda x: (x, (op(x), 1)), leaf(), mode=mode) == "wrong backward"
    assert verdict(lambda x: {"loss": x.sum(), "more": [op(x)]}, leaf(), mode=mode) == "wrong backward"
    assert verdict(lambda x: {"loss": x.sum(), "more": [x.sin()]}, leaf(), mode=mode, order=2) == "ok"


@both_modes
def test_a_sharp_function_with_a_wrong_factor(mode, planted):
    op = planted(lambda xp, g, x: g * xp.cos(x * 1e6) * 1.01e6, lambda xp, x: xp.sin(x * 1e6))
    assert verdict(lambda x: op(x), leaf(), mode=mode) == "wrong backward"


@both_modes
def test_a_constant_with_a_gradient(mode, planted):
    op = planted(lambda xp, g, x: g * 3.0, lambda xp, x: x * 0.0 + 5.0)
    result = gradcheck(lambda x: op(x), leaf(), mode=mode, raise_exception=False)
    assert result.verdict == "wrong backward" and "does not move" in str(result)


# -- chance and memory ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode, least", [("full", 60), ("fast", 54)])  # five falls alike: one in 32
def test_a_coin_that_falls_alike_for_a_while(mode, least, planted):
    coins, forward, backward = {}, [], []
    coin = lambda: 2.0 if coins["rng"].random() < 0.5 else 3.0
    op = planted(lambda xp, g, x: g * x * coin())
    for seed in range(60):
        coins["rng"] = np.random.default_rng(seed)
        forward.append(verdict(lambda x: x * coin(), leaf(), mode=mode))
        backward.append(verdict(lambda x: op(x), leaf(), mode=mode))
    assert min(forward.count("non-determinism"), backward.count("non-determinism")) >= least
    assert {*forward, *backward} <= {"non-determinism", "ok"}


@both_modes
def test_a_function_with_a_memory(mode):
    calls = []

    def counted(x):
        calls.append(1)
        return x * (1.0 if len(calls) < 4 else 2.0)

    assert verdict(counted, leaf(), mode=mode) == "non-determinism"


@both_modes
@pytest.mark.parametrize("stretch", [
    lambda: np.broadcast_to(np.array(POINT), (4, 3)),
    lambda: np.lib.stride_tricks.sliding_window_view(np.arange(1.0, 9.0), 3),
])  # fmt: skip
def test_memory_that_overlaps(mode, stretch, planted):
    def rule(xp, g, x):
        array = x.data if isinstance(x, Tensor) else x
        return g * x * (2.0 if array.flags.c_contiguous else 3.0)

    op = planted(rule)
    x = wrap(stretch(), None, Tensor(0.0).device).requires_grad_()
    assert verdict(lambda x: op(x), x, mode=mode) == "overlapping memory"


def test_an_input_that_the_function_writes_to_is_kept_and_named():
    def careless(x):
        x.data[...] = x.data * 1.5
        return x * 2.0

    x = leaf()
    with pytest.raises(ValueError, match="writes to its input 0.*clone"):
        gradcheck(careless, x)
    assert x.tolist() == POINT


def test_inputs_that_are_no_numbers_are_refused():
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match=r"input 1 at \(0,\) is not finite"):
            gradcheck(lambda x, y: x * y, [leaf(), leaf([bad, 1.0, 1.0])])


@pytest.mark.parametrize("result, text", [
    (None, "is a return missing"), (3.0, "got float"), (Tensor(np.array([1])), "integers and booleans"),
])  # fmt: skip
def test_what_is_no_result_is_named(result, text):
    with pytest.raises(TypeError, match=text):
        gradcheck(lambda x: result, leaf())


# -- the words -------------------------------------------------------------------------------------------------
def test_figures_of_fast_mode_are_slopes_of_the_element():
    # A loss of one element: what is shown is d loss / d x, as in full mode.
    wrong = lambda x: (x * x.detach()).sum()
    for mode in ("full", "fast"):
        found = gradcheck(wrong, leaf(), mode=mode, raise_exception=False).findings[0]
        (x,) = [v for i, v in enumerate(POINT) if (i,) == found.index]
        assert found.analytic == pytest.approx(x) and found.numeric == pytest.approx(2.0 * x, rel=1e-6)
        assert found.left < found.numeric < found.right


def test_no_tolerance_is_suggested_for_a_wrong_gradient():
    assert "atol" not in str(gradcheck(lambda x: x * x.detach(), leaf(), raise_exception=False))


def test_noise_is_measured_and_a_smooth_function_has_none():
    t = np.arange(8) * 1e-3
    assert noise_of(np.exp(t)) < 1e-15
    scatter = np.random.default_rng(0).standard_normal((200, 8)) * 1e-6
    found = np.array([noise_of(np.exp(t) + row) for row in scatter])
    assert 0.5e-6 < np.median(found[found > 0]) < 2e-6
    assert noise_of(np.float64(np.float32(1.0 + t * 1e-6))) == STILL
