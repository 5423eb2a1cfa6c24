"""The stepper moves both ways over the real walk, and shows the numbers that the engine has."""

import numpy as np
import pytest

from tinygrad_lite import Tensor, grad
from tinygrad_lite import functional as F
from tinygrad_lite.autograd.checkpoint import checkpoint
from tinygrad_lite.device import CPU
from tinygrad_lite.gradcheck.registry import differentiable, tensors_of
from tinygrad_lite.ops.registry import OPS
from tinygrad_lite.study import Stepper
from tinygrad_lite.study.breakpoints import Breakpoint
from tinygrad_lite.study.expression import Expression, value_of
from tinygrad_lite.study.formula import number, worked
from tinygrad_lite.study.steps import _largest_difference
from transformer import GPT, GPTConfig
from transformer.model import as_tokens

# The example of micrograd's README (github.com/karpathy/micrograd), and the gradients that it prints.
MICROGRAD = """a=-4.0; b=2.0; c=a+b; d=a*b+b**3; c+=c+1; c+=1+c+(-a); d+=d*2+(b+a).relu(); d+=3*d+(b-a).relu()
e=c-d; f=e**2; g=f/2.0; g+=10.0/f; g.backward()"""


def micrograd():
    return Stepper(Expression(MICROGRAD))


def grads(stepper):
    return {stepper.label(n): stepper.trace.leaf_of(n).grad.item() for n in stepper.order if n.op is None}


def test_micrograds_example_steps_to_its_gradients():
    stepper = micrograd()
    texts = [str(stepper) for _ in stepper]
    assert stepper.output.item() == pytest.approx(24.7041, abs=5e-5)
    assert grads(stepper) == pytest.approx({"a": 138.8338, "b": 645.5773}, abs=5e-5)
    everything = "\n".join(texts)
    for shown in ("-4 * 2 = -8", "2 ** 3 = 8", "* (2 ** (3 - 1) * 3) = ", "673.344 + -27.76676 = 645.5773", "24.70408"):
        assert shown in everything
    for text in texts[:25]:
        assert "With this step's numbers" in text and "^" in text


def test_the_sum_at_a_shared_node_is_shown_before_and_after():
    stepper = Stepper(lambda b: b * 3.0 + b * 4.0, 2.0)
    stepper.start_of_backward()
    stepper.stop_at("op:multiply")
    stepper.go_on()
    first = next(s for s in stepper.sheet().sections if s.kind == "sum")
    assert "sum before: nothing has arrived yet" in first.lines and "1 of 2 shares are there" in "\n".join(first.lines)
    stepper.go_on()
    second = next(s for s in stepper.sheet().sections if s.kind == "sum")
    assert "4 + 3 = 7" in second.lines
    assert any("2 of 2 shares" in line for line in second.lines)


def test_going_back_takes_no_step_of_the_walk_again():
    stepper = Stepper(lambda a: (a * a).log(), 3.0)
    stepper.end()
    steps, grad = len(stepper.steps), stepper.inputs[0].grad.item()
    while stepper.back():
        pass
    assert stepper.at == 0 and not stepper.now.is_backward
    stepper.end()
    assert (len(stepper.steps), stepper.inputs[0].grad.item()) == (steps, grad) == (3, pytest.approx(2 / 3))


def test_a_moment_at_a_prompt_is_one_short_line():
    for moment in Stepper(lambda a: (a * a).sum(), np.ones((50, 50))):
        assert "\n" not in repr(moment) and len(repr(moment)) < 300


def test_the_walk_is_advanced_only_when_a_new_step_is_asked_for():
    stepper = Stepper(lambda a: (a * a).log(), 3.0)
    assert stepper.inputs[0].grad is None
    stepper.start_of_backward()
    assert stepper.inputs[0].grad is None and len(stepper.steps) == 1
    stepper.next()
    stepper.next()
    assert stepper.inputs[0].grad is not None


def test_the_steppers_backward_is_the_engines_in_every_bit_on_a_gpt():
    model = GPT(GPTConfig(vocab_size=11, block_size=8, layers=2, heads=2, channels=8))
    ids = np.arange(16).reshape(2, 8) % 11
    x, y = as_tokens(ids), as_tokens((ids + 1) % 11)
    model(x, y).backward()
    expected = {name: p.grad.numpy().tobytes() for name, p in model.named_parameters()}
    model.zero_grad()
    stepper = Stepper(model, x, y)
    while stepper.next():
        assert str(stepper)
    assert {name: p.grad.numpy().tobytes() for name, p in model.named_parameters()} == expected


def test_a_function_that_calls_backward_is_stopped_there():
    def training_step(w):
        loss = (w * w).sum()
        loss.backward()
        raise AssertionError("the stepper must not come here")

    stepper = Stepper(training_step, np.array([1.0, 2.0]))
    stepper.end()
    assert stepper.inputs[0].grad.tolist() == [2.0, 4.0]
    x = Tensor(3.0, requires_grad=True)  # and backward() is whole again
    (x * x).backward()
    assert x.grad.item() == 6.0


def test_ops_before_an_error_can_be_looked_at():
    stepper = Stepper(lambda a: (a * 2.0) @ a, np.ones((2, 3)))
    assert len(stepper.trace) == 1 and "matmul" in str(stepper.error)
    assert "there is no backward pass" in stepper.why()
    assert stepper.next() is None


def test_a_fused_op_opens_into_its_twin_forward_and_backward():
    rng = np.random.default_rng(0)
    x, weight, bias = rng.normal(size=(3, 5)), rng.normal(size=5), rng.normal(size=5)
    stepper = Stepper(lambda x, w, b: (F.layer_norm(x * 2.0, w, b) ** 2).sum(), x, weight, bias)
    stepper.stop_at("layer_norm")
    stepper.go_on()
    forward = stepper.open()
    assert [e.op.name for e in forward.trace][-2:] == ["multiply", "add"] and not forward.now.is_backward
    assert forward.go_to(99).number == len(forward.trace) - 1  # no gradient has come yet
    stepper.go_on()
    assert stepper.now.is_backward
    twin = stepper.open()
    assert twin.now.is_backward and twin.now.step.g.shape == (3, 5)
    twin.end()
    differences = twin.differences()
    assert set(differences) == {"output", "gradient of x", "gradient of weight", "gradient of bias"}
    assert max(differences.values()) < 1e-12
    twin.start_of_backward()
    assert twin.sheet().where.endswith("in layer_norm") and "weight + bias" in twin.sheet().statement


def test_a_primitive_op_and_a_leaf_do_not_open():
    stepper = Stepper(lambda a: a * a, 3.0)
    with pytest.raises(ValueError, match="multiply has no twin"):
        stepper.open()
    stepper.end()
    with pytest.raises(ValueError, match="a leaf"):
        stepper.open()


def test_check_finds_a_wrong_rule_of_this_node_alone(monkeypatch):
    stepper = Stepper(lambda a: (a * 2.0).sin().square(), 0.7)
    stepper.stop_at("sin")
    stepper.go_on()
    assert stepper.check().ok
    rule = OPS["sin"].rules[0]
    monkeypatch.setitem(OPS["sin"].rules, 0, rule._replace(fn=lambda xp, g, x: g * xp.sin(x)))
    assert stepper.check().verdict == "wrong backward"
    stepper.next()
    assert stepper.check().ok


def test_why_counts_what_each_node_still_waits_for():
    stepper = Stepper(lambda b: (b * 3.0).exp() + b * 4.0, 2.0)
    stepper.start_of_backward()
    stepper.next()  # b * 4.0, the newest of the two that are ready
    text = stepper.why()
    assert "Now:      b * 4.0" in text and "Ready:    (b * 3.0).exp(): older" in text
    assert "b: nothing has come; it waits for 2" in text
    stepper.next()
    text = stepper.why()
    assert "b: 1 of 2 shares are there; it waits for 1, from b * 3.0. Taken now, it would pass on 4 only" in text


@pytest.mark.parametrize("text, stops", [
    ("multiply", ["a * b", "a * b"]),
    ("op:sum", ["c", "c"]),
    ("tensor:c", ["c", "c"]),
    ("a", ["a * b", "a * b", "a"]),
    ("g.norm() > 2 and phase == 'backward'", ["b", "a"]),
    ("out.norm() > 10", ["a * b", "c", "c", "a * b"]),
])  # fmt: skip
def test_breakpoints_stop_where_they_say(text, stops):
    stepper = Stepper(Expression("a=[1.0, 2.0]; b=[3.0, 5.0]; c=(a*b).sum(); c"))
    stepper.breakpoints.append(Breakpoint.parse(text))
    found = []
    first = stepper.breakpoints[0].fires(stepper, stepper.now)
    while first or stepper.go_on():
        moment, first = stepper.now, False
        found.append(stepper.label(moment.event.out if moment.event else moment.step.node))
    assert found == stops


def test_a_breakpoint_on_a_line_needs_that_line():
    stepper = Stepper(Expression("a=2.0\nb=a*a\nc=b.exp()\nc"))
    point = stepper.stop_at("3")
    assert stepper.go_on() is point and stepper.label(stepper.now.event.out) == "c"
    assert not Breakpoint.parse("other.py:3").is_somewhere(stepper)


@pytest.mark.parametrize("text, message", [
    ("op:multply", "no op 'multply'"),
    ("g >", "is no condition"),
    ("zz > 1", "it does not know zz"),
    ("", "got nothing"),
])  # fmt: skip
def test_a_breakpoint_that_can_never_be_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        Breakpoint.parse(text)


@pytest.mark.parametrize("text, message", [
    ("q + 1", "q has no value"),
    ("a=2.0; a**", "is no Python"),
    ("  ", "got nothing"),
])  # fmt: skip
def test_an_expression_with_a_mistake_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        Expression(text)


def test_values_are_numbers_lists_or_shapes():
    rng = np.random.default_rng(0)
    assert (
        value_of("-4", rng) == -4.0
        and value_of("[[1, 2]]", rng).shape == (1, 2)
        and value_of("2x3", rng).shape == (2, 3)
    )
    with pytest.raises(ValueError, match="a number, a list of numbers or a shape"):
        value_of("two", rng)


def test_a_broadcast_input_is_told_from_what_its_copies_sent():
    stepper = Stepper(Expression("w=[1.0, 2.0]; x=[[1.0, 2.0], [3.0, 4.0]]; (w * x).sum()"))
    stepper.start_of_backward()
    stepper.next()
    text = str(stepper)
    assert "w was broadcast from (2,) to (2, 2)" in text and "its share: float64 (2,)  [4, 6]" in text


def test_half_precision_is_worked_out_in_float32_as_the_engine_computes_it():
    x, y = (Tensor(np.array(v, dtype=np.float16), requires_grad=True) for v in (1.0, 300.0))
    stepper = Stepper(lambda x, y: x / y, x, y)
    assert "in float32, then rounded to float16" in str(stepper) and "1 / 300 = 0.003333333" in str(stepper)
    exact = Stepper(lambda y: y.floor(), y)
    assert "then rounded" not in str(exact)
    stepper.start_of_backward()
    text = str(stepper)
    sent = [line.split()[-1] for line in text.splitlines() if line.strip().startswith("sent: float32")]
    assert len(sent) == 2 and all(f" = {number}\n" in text for number in sent)


def test_what_was_written_in_place_later_is_not_taken_for_what_the_op_read():
    def fn(x):
        constant = Tensor(np.zeros(2))
        shifted = constant + 1.0
        constant += 5.0
        return (shifted * x).sum()

    text = str(Stepper(fn, np.ones(2)))
    assert "[5, 5] + 1" not in text and text.count("was written in place later") == 1


def test_an_op_that_has_one_tensor_twice_shows_both_shares_in_the_sum():
    stepper = Stepper(lambda a: a * a + a * 2.0, 3.0)
    stepper.end()
    texts = [str(stepper) for _ in iter(stepper.back, None)]
    assert sum(text.count("2 + 3 + 3 = 8") for text in texts) == 2  # for x and for y
    assert not any("nothing has arrived yet" in text for text in texts if "2 + 3 + 3" in text)


def test_a_gradient_that_a_hook_changed_says_so():
    def fn(x):
        y = x * 2.0
        y.register_hook(lambda g: g * 10.0)
        return y * 3.0

    stepper = Stepper(fn, 1.0)
    stepper.start_of_backward()
    assert "hook" not in str(stepper)
    stepper.next()
    assert "g: float64  30" in str(stepper) and "after 1 hook on this tensor" in str(stepper)


def test_a_comparison_is_worked_out_with_its_sign():
    assert "    2 > 0 = True\n" in str(Stepper(lambda a: (a > 0) * a, 2.0))


def test_a_result_with_the_name_of_an_input_is_told_from_it():
    def fn(x):
        x = x * x
        return x

    stepper = Stepper(fn, 3.0)
    assert "makes x [op 1]" in str(stepper)
    stepper.end()
    assert "d x [op 1] / d x is complete" in str(stepper)


def test_grad_within_the_function_does_not_stop_it_and_backwards_own_gradient_is_taken():
    def fn(x):
        (slope,) = grad((x**3).sum(), [x], create_graph=True)
        total = 0.0
        total += slope * x
        total.backward(Tensor(np.array([1.0, 10.0])))

    stepper = Stepper(fn, np.array([1.0, 2.0]))
    assert stepper.label(stepper.output) == "total"
    stepper.end()
    assert stepper.inputs[0].grad.tolist() == [9.0, 360.0]  # 9 x**2 times what backward() was given


def test_a_nan_of_one_side_is_no_difference_of_zero():
    a, b = np.array([1.0, np.nan, np.inf]), np.array([1.0, np.nan, np.inf])
    assert _largest_difference(a, b) == 0.0
    b[1] = 2.0
    assert np.isnan(_largest_difference(a, b))


def test_html_marks_the_expression_and_escapes_the_rest():
    page = Stepper(Expression("a=2.0; b=a*a if 1<2 else a; b"))._repr_html_()
    assert "<mark>a * a</mark>" in page and "1 &lt; 2" in page


def test_a_condition_knows_the_inputs_of_the_op():
    stepper = Stepper(lambda a: (a - 3.0).exp().log(), 2.0)
    stepper.stop_at("op == 'exp' and x.min() < 0")
    stepper.go_on()
    assert stepper.label(stepper.now.event.out) == "(a - 3.0).exp()"


def test_what_is_computed_again_in_backward_is_shown_as_one_step():
    stepper = Stepper(lambda x: checkpoint(lambda y: (y * 2.0).exp(), x).sum(), np.ones(2))
    texts = []
    while stepper.next():
        texts.append(str(stepper))
    assert any("runs forward again" in text for text in texts)
    stepper.start()  # y * 2.0, which the result rests on
    assert "within a checkpoint" in stepper.why()


@pytest.mark.slow  # 8 s: every op of the registry
@pytest.mark.parametrize("op", differentiable(), ids=lambda op: op.name)
def test_the_numbers_shown_are_the_engines_for_every_op(op):
    for case in op.cases:
        inputs = tensors_of(op, case, np.random.default_rng(0))
        stepper = Stepper(lambda *xs, case=case: (op(*xs, **case.params) * 1.25).sum(), *inputs)
        event = next((e for e in stepper.trace if e.op is op), None)
        assert str(stepper)
        while stepper.next():
            assert str(stepper)
        if event is None or op.variadic:  # a fused op without a kernel here: its twin ran
            continue
        values = dict(zip(op.inputs, [getattr(x, "data", x) for x in event.xs], strict=True)) | event.params
        lines = worked(op.forward, event.out.device.xp, values)
        if lines and not op.is_fused:
            assert lines[-1].endswith(number(event.out.data))


RUNS = []


def noted(x):
    RUNS.append(x)
    return x


def formula(xp, x, y):
    return noted(xp.multiply(x, y))


def test_no_large_formula_is_computed_again_to_be_shown():
    assert worked(formula, CPU.xp, {"x": np.ones(2), "y": np.array(2.0)}) == ["noted([1, 1] * 2) = [2, 2]"]
    RUNS.clear()
    assert worked(formula, CPU.xp, {"x": np.ones((2, 3000)), "y": np.array(2.0)}) == [] and not RUNS


def test_nothing_to_step_is_an_error():
    with pytest.raises(ValueError, match="ran no op"):
        Stepper(lambda: 3)
    with pytest.raises(TypeError, match="must return a Tensor"):
        Stepper(lambda a: [a * 2.0], 1.0)
