"""The gradient checker itself: each kind of disagreement planted, and told from the others."""

import numpy as np
import pytest

import tinygrad_lite as tgl
from tinygrad_lite.gradcheck import GradcheckError, GradcheckResult, gradcheck, gradgradcheck
from tinygrad_lite.gradcheck.problem import overlaps
from tinygrad_lite.gradcheck.tolerance import eps_of, rounded_up, scales
from tinygrad_lite.ops.registry import OPS
from tinygrad_lite.tensor import Tensor, functional, wrap

both_modes = pytest.mark.parametrize("mode", ["full", "fast"])


def leaf(values, dtype="float64"):
    return Tensor(np.array(values), dtype=dtype, requires_grad=True)


def check(fn, *inputs, **options):
    return gradcheck(fn, inputs, raise_exception=False, **options)


def kinds(result, explained=False):
    return {f.kind for f in result.findings if f.explained == explained}


@pytest.fixture
def faulty():
    """A function that makes an op y = x * x whose backward is the rule given; the op is removed afterwards."""

    def make(rule, forward=lambda xp, x: x * x):
        OPS.pop("planted", None)

        def planted(xp, x):
            return forward(xp, x)

        return tgl.primitive()(planted).vjp(x=rule)

    yield make
    OPS.pop("planted", None)
    tgl.ops.registry.Namespace.formulas.pop("planted", None)
    vars(functional).pop("planted", None)


# -- right gradients ----------------------------------------------------------------------------------------
@both_modes
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_right_gradients_pass(mode, dtype):
    x, y = leaf([[0.3, -1.2, 2.0], [0.7, 0.1, -0.4]], dtype), leaf([1.5, -0.6, 0.9], dtype)
    result = gradcheck(lambda x, y: (x * y).tanh() + y.exp(), (x, y), mode=mode, order=2)
    assert isinstance(result, GradcheckResult) and result and result.ok and result.verdict == "ok"
    assert {(r.input, r.order) for r in result.reports} >= {(0, 1), (1, 1), (0, 2), (1, 2), (2, 2)}
    assert result.max_error < 1e-8
    assert x.grad is None and y.grad is None


@both_modes
def test_several_outputs_and_constants(mode):
    x, y = leaf([0.5, 1.5]), Tensor(np.array([2.0, 3.0]), dtype="float32")
    result = gradcheck(lambda x, y, k: (x * y, (x.sin() * k).sum(), x > 1.0), (x, y, 3), mode=mode, order=2)
    assert result.verdict == "ok"


@both_modes
def test_large_and_tiny_scales_pass(mode):
    for scale in (1e-12, 1e-5, 1e6, 1e12):
        x = leaf(np.array([0.7, -1.3, 2.1, 0.4]) * scale)
        assert gradcheck(lambda x: (x * x * x).sum(), x, mode=mode, order=2).verdict == "ok"


def test_an_element_far_smaller_than_its_neighbours_is_judged_at_its_own_scale():
    x = leaf([1e-7, 1.0, 10.0])
    result = gradcheck(lambda x: x.log(), x)
    assert result.verdict == "ok" and kinds(result, explained=True) == {"truncation"}
    assert check(lambda x: x.log() + (x.log() - x.log().detach()) * 0.01, x).verdict == "wrong backward"


@both_modes
def test_an_output_that_stands_at_infinity_has_no_slope(mode):
    keep = Tensor(np.array([True, False, True]))
    x = leaf([0.3, 0.6, -0.2])
    assert gradcheck(lambda x: tgl.where(keep, x, -np.inf) * 1.0, x, mode=mode).verdict == "ok"


def test_an_input_of_no_elements_passes():
    assert gradcheck(lambda x: x * 2.0, leaf(np.zeros((0, 3)))).verdict == "ok"
    assert gradcheck(lambda x: (x * 2.0).sum(), leaf(np.zeros((0, 3))), mode="fast").verdict == "ok"


# -- wrong gradients ----------------------------------------------------------------------------------------
@both_modes
def test_wrong_factor_is_named(faulty, mode):
    op = faulty(lambda xp, g, x: g * x)
    with pytest.raises(GradcheckError, match="wrong backward") as caught:
        gradcheck(op, leaf([0.3, -1.2, 2.0]), mode=mode)
    result = caught.value.result
    assert not result.ok and kinds(result) == {"wrong backward"}
    finding = result.findings[0]
    assert finding.analytic == pytest.approx(finding.numeric / 2, rel=1e-6)
    assert finding.index is not None and finding.left is not None and finding.right is not None
    if mode == "full":
        assert "0.5 times numeric everywhere" in str(result)


@both_modes
def test_one_wrong_element_is_found(faulty, mode):
    def rule(xp, g, x):
        mask = np.ones((30, 40))
        mask[17, 23] = 1.001
        return g * x * 2.0 * (wrap(mask, None, x.device) if isinstance(x, Tensor) else mask)

    op = faulty(rule)
    x = leaf(np.random.default_rng(0).standard_normal((30, 40)) if mode == "fast" else np.ones((30, 40)))
    result = check((lambda x: op(x)) if mode == "fast" else (lambda x: op(x).sum(dim=1)[17:18]), x, mode=mode)
    assert result.verdict == "wrong backward"
    assert result.findings[0].index == (17, 23)


@pytest.mark.parametrize("rule, text", [
    (lambda xp, g, x: g * x * -2.0, "-1 times numeric everywhere: a wrong factor or sign"),
    (lambda xp, g, x: xp.flip(g * x * 2.0, axis=(0,)), "stand in another order"),
    (lambda xp, g, x: g * 0.0, "zero everywhere"),
    (lambda xp, g, x: g * x * float("nan"), "not finite"),
])  # fmt: skip
def test_simple_mistakes_are_put_in_words(faulty, rule, text):
    op = faulty(rule)
    assert text in str(check(lambda x: op(x), leaf([0.3, -1.2, 2.0])))


@both_modes
def test_missing_gradient(mode):
    result = check(lambda x, y: x.detach() * y, leaf([0.5, 2.0]), leaf([1.0, 3.0]), mode=mode)
    assert result.verdict == "missing gradient"
    assert {f.input for f in result.findings} == {0}
    assert check(lambda x: x.detach() * 2.0, leaf([0.5]), mode=mode).verdict == "missing gradient"


@both_modes
def test_an_input_without_influence_needs_no_gradient(mode):
    assert gradcheck(lambda x, y: x * 2.0, (leaf([0.5]), leaf([1.0])), mode=mode, order=2).verdict == "ok"


@both_modes
@pytest.mark.parametrize("rule", [
    lambda xp, g, x: xp.sum(g * x, axis=(0,), keepdims=True).reshape(1, 1, 1),
    lambda xp, g, x: xp.astype(g, dtype="float32") * 2.0,
])  # fmt: skip
def test_wrong_shape_or_type(faulty, mode, rule):
    op = faulty(rule)
    assert check(lambda x: op(x), leaf([0.3, -1.2]), mode=mode).verdict == "wrong dtype"


@both_modes
def test_second_order_only(faulty, mode):
    # The value is 2 * x * g, its derivative in x is 3 * g.
    op = faulty(lambda xp, g, x: g * (x * 3.0 - xp.stop_gradient(x)))
    x = leaf([0.3, -1.2])
    assert check(lambda x: op(x), x, mode=mode).verdict == "ok"
    assert gradgradcheck(lambda x: op(x), x, mode=mode, raise_exception=False).verdict == "wrong backward"
    assert check(lambda x: op(x), x, mode=mode, order=2).verdict == "wrong backward"


def test_gradients_with_and_without_create_graph_are_compared(faulty):
    op = faulty(lambda xp, g, x: g * x * (2.0 if isinstance(g, np.ndarray) else 3.0))
    result = gradgradcheck(lambda x: op(x), leaf([0.3, -1.2]), raise_exception=False)
    assert result.verdict == "wrong backward" and "under create_graph" in str(result)


# -- kinks --------------------------------------------------------------------------------------------------
@both_modes
def test_kink_at_the_point(mode):
    result = gradcheck(lambda x: x.relu(), leaf([-1.0, 0.0, 1.0]), mode=mode)
    assert result.ok and result.verdict == "kink"
    finding = next(f for f in result.findings if not f.explained)
    assert finding.index == (1,) and 0.0 in (finding.left, finding.right)
    assert abs(finding.right - finding.left) > 0.1


@both_modes
def test_kink_beside_the_point_is_seen_through(mode):
    result = gradcheck(lambda x: x.relu(), leaf([-1.0, 1e-7, 1.0]), mode=mode)
    assert result.verdict == "ok" and kinds(result, explained=True) == {"kink"}


@both_modes
def test_ties_in_max(mode):
    assert gradcheck(lambda x: x.max(), leaf([1.0, 1.0, 0.0]), mode=mode).verdict == "kink"


def test_a_wrong_gradient_beside_a_kink(faulty):
    op = faulty(lambda xp, g, x: g, forward=lambda xp, x: xp.maximum(x, 0.0))
    assert check(lambda x: op(x), leaf([-1e-7, 1.0, 2.0])).verdict == "wrong backward"


@both_modes
def test_a_gradient_outside_both_slopes_is_wrong_at_a_kink_too(faulty, mode):
    op = faulty(lambda xp, g, x: g * xp.where(xp.greater(x, 0.0), xp.full_like(x, 1.0), xp.full_like(x, 0.0)) * 1.0
                - g * xp.where(xp.equal(x, 0.0), xp.full_like(x, 1.0), xp.zeros_like(x)),
                forward=lambda xp, x: xp.maximum(x, 0.0))  # fmt: skip
    assert check(lambda x: op(x), leaf([-1.0, 0.0, 1.0]), mode=mode).verdict == "wrong backward"


def test_a_kink_does_not_hide_a_wrong_element(faulty):
    op = faulty(lambda xp, g, x: g * xp.where(xp.greater(x, 1.5), xp.full_like(x, 1.1), xp.sign(x) * 0.5 + 0.5),
                forward=lambda xp, x: xp.maximum(x, 0.0))  # fmt: skip
    for mode in ("full", "fast"):
        assert check(lambda x: op(x), leaf([0.0, 0.0, 1.0, 2.0]), mode=mode).verdict == "wrong backward"


# -- numerical faults ---------------------------------------------------------------------------------------
@both_modes
def test_round_off_of_a_function_that_narrows_inside(mode):
    result = gradcheck(lambda x: x.float().exp().double(), leaf([-1.0, 0.5, 1.0]), mode=mode)
    assert result.verdict == "ok" and "round-off" in kinds(result, explained=True)
    suggested = result.suggested_tolerance
    assert 0 < suggested["rtol"] < 1 and 0 < suggested["atol"] < 1
    assert f"rtol={suggested['rtol']:.0e}" in str(result)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_round_off_coarser_than_the_step_is_no_proof_of_a_fault(dtype):
    result = check(lambda x: x.to(dtype).double() * 3.0, leaf([0.3, 0.9]))
    assert result.verdict == "inconclusive" and not result.ok


@both_modes
def test_round_off_does_not_hide_a_wrong_factor(faulty, mode):
    op = faulty(lambda xp, g, x: g * x * 2.02)
    result = check(lambda x: op(x.float()).double(), leaf([-1.0, 0.5, 1.0]), mode=mode)
    assert result.verdict == "wrong backward"


@both_modes
def test_truncation_at_a_large_step(mode):
    result = gradcheck(lambda x: (x * 3.0).sin(), leaf([0.3, 0.9]), eps=0.1, mode=mode)
    assert result.verdict == "ok" and kinds(result, explained=True) == {"truncation"}


def test_float32_round_off_is_not_a_bug():
    # 1000 is added and taken away: the float32 gradient keeps four digits of its seven, and nothing is wrong.
    result = gradcheck(lambda x: ((x + 1000.0) - 1000.0) ** 2, leaf([0.001, 1.0, 10.0, 0.3], "float32"))
    assert result.verdict == "ok" and result.max_error < 1e-7


def test_a_fault_in_one_type_alone(faulty):
    def rule(xp, g, x):
        return g * x * (2.0 if g.dtype == np.float64 else 2.1)

    op = faulty(rule)
    for mode in ("full", "fast"):
        assert check(lambda x: op(x), leaf([0.5, 1.5]), mode=mode).verdict == "ok"
        result = check(lambda x: op(x), leaf([0.5, 1.5], "float32"), mode=mode)
        assert result.verdict == "wrong backward" and "this type alone" in str(result) or "float32 alone" in str(result)


def test_noise_that_drowns_the_slope_is_inconclusive():
    def noisy(x):
        # A deterministic function of x without a slope to be seen: its last digits, magnified.
        return x * 1e-9 + Tensor(np.sin(x.detach().numpy() * 1e15) * 1e-3)

    result = check(noisy, leaf([0.3, 0.9]))
    assert not result.ok and result.verdict == "inconclusive"
    assert check(lambda x: x.log(), leaf([-1.0, 2.0])).verdict == "inconclusive"


def test_own_tolerances_are_kept():
    x = leaf([0.3, 0.9])
    op = lambda x: x.sin() * 1.001 - x.sin().detach() * 0.001
    assert not check(op, x).ok
    assert check(op, x, rtol=0.01).ok
    assert check(op, x, atol=0.01).ok
    assert not check(op, x, atol=1e-6, rtol=1e-6).ok


# -- the function rather than its gradient --------------------------------------------------------------------
@both_modes
def test_non_determinism(mode):
    rng = np.random.default_rng(0)
    result = check(lambda x: x * Tensor(rng.standard_normal(3)), leaf([0.3, 0.6, 0.9]), mode=mode)
    assert result.verdict == "non-determinism" and "two forward runs differ" in str(result)


@both_modes
def test_non_determinism_of_backward(faulty, mode):
    rng = np.random.default_rng(0)
    op = faulty(lambda xp, g, x: g * x * float(rng.uniform(1.5, 2.5)))
    result = check(lambda x: op(x), leaf([0.3, 0.6, 0.9]), mode=mode)
    assert result.verdict == "non-determinism" and "two backward passes" in str(result)


def _stretched(values, shape):
    return wrap(np.broadcast_to(np.array(values), shape), None, Tensor(0.0).device).requires_grad_()


@both_modes
def test_overlapping_input_is_differentiated_element_by_element(mode):
    x = _stretched([0.3, 0.6, 0.9], (4, 3))
    assert gradcheck(lambda x: (x * x).sum(dim=0), x, mode=mode, order=2).verdict == "ok"


def test_overlapping_memory_is_named(faulty):
    def rule(xp, g, x):
        array = x.data if isinstance(x, Tensor) else x
        return g * x * (2.0 * (4 if array.strides[0] == 0 else 1))  # each address counted once for each element

    op = faulty(rule)
    result = check(lambda x: op(x), _stretched([0.3, 0.6, 0.9], (4, 3)))
    assert result.verdict == "overlapping memory" and "clone()" in str(result)


def test_a_fault_of_one_layout_is_named(faulty):
    op = faulty(lambda xp, g, x: g * x * (2.0 if x.flags.c_contiguous else 3.0))
    x = wrap(np.arange(1.0, 13.0).reshape(3, 4)[:, ::2], None, Tensor(0.0).device).requires_grad_()
    result = check(lambda x: op(x), x)
    assert result.verdict == "wrong backward" and "memory layout" in str(result)


def test_overlaps():
    x = np.arange(24.0).reshape(4, 6)
    assert not any(overlaps(v) for v in (x, x.T, x[::2, ::-3], x[1:2], np.zeros(()), np.zeros((0, 3))))
    assert overlaps(np.broadcast_to(x[0], (3, 6)))
    assert overlaps(np.lib.stride_tricks.sliding_window_view(x[0], 3))
    assert not overlaps(np.broadcast_to(x[0], (1, 6)))


# -- the interface ------------------------------------------------------------------------------------------
def test_misuse_is_refused():
    x = leaf([1.0])
    with pytest.raises(ValueError, match="no input requires a gradient"):
        gradcheck(lambda x: x, Tensor([1.0]))
    with pytest.raises(ValueError, match="mode must be"):
        gradcheck(lambda x: x * 1.0, x, mode="slow")
    with pytest.raises(ValueError, match="order must be"):
        gradcheck(lambda x: x * 1.0, x, order=3)
    with pytest.raises(ValueError, match="rtol must be"):
        gradcheck(lambda x: x * 1.0, x, rtol=-1.0)
    with pytest.raises(TypeError, match="must return a float Tensor"):
        gradcheck(lambda x: 3, x)


def test_errors_of_the_function_pass_through():
    with pytest.raises(ZeroDivisionError):
        gradcheck(lambda x: x * (1 / 0), leaf([1.0]))


def test_the_report_reads():
    text = str(gradcheck(lambda x: x.exp(), leaf([[0.5, 1.0]])))
    assert "gradcheck (full): ok" in text
    assert "input 0 float64 (1, 2), order 1: largest error" in text
    assert all(word in text for word in ("analytic", "numeric", "left", "right", "tolerance"))


def test_steps_and_tolerances():
    assert eps_of(np.dtype("float32")) == 2.0**-23 and eps_of(tgl.bfloat16) == 2.0**-7
    assert rounded_up(3.2e-9) == pytest.approx(7e-9) and rounded_up(0.0) == 0.0 and rounded_up(np.inf) == 0.0
    assert scales(np.array([0.0, 2.0, -8.0])).tolist() == [5.0, 5.0, 8.0]
    assert scales(np.zeros(2)).tolist() == [1.0, 1.0]


@both_modes
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_inputs_of_another_device(mode, dtype):
    x = Tensor(np.array([[0.3, -1.2], [2.0, 0.7]]), dtype=dtype, device="cuda", requires_grad=True)
    assert gradcheck(lambda x: x.tanh() @ x + 1000.0 - 1000.0, x, mode=mode, order=2).verdict == "ok"


def test_linear_without_a_bias():
    x, w = (
        leaf(np.random.default_rng(0).standard_normal((2, 3))),
        leaf(np.random.default_rng(1).standard_normal((4, 3))),
    )
    assert gradcheck(lambda x, w: functional.linear(x, w, None, None), (x, w), order=2).verdict == "ok"


def test_gelu_mlp_without_biases():
    r = np.random.default_rng(0)
    leaves = tuple(leaf(r.standard_normal(shape)) for shape in ((2, 3), (4, 3), (2, 4)))
    mlp = lambda x, up, down: functional.gelu_mlp(x, up, None, down, None, None)
    assert gradcheck(mlp, leaves, order=2).verdict == "ok"


def test_powers_at_zero():
    # 0 ** y is flat for positive y, to second order; x ** y has a mixed derivative at y = 0.
    assert gradcheck(lambda y: 0.0**y, leaf([0.5, 1.5]), order=2).verdict == "ok"
    assert gradcheck(lambda x, y: x**y, (leaf([0.5, 1.5]), leaf([0.0, 2.0])), order=2).verdict == "ok"
