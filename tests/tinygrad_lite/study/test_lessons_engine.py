"""Each lesson of the engine: its wrong engine gives the very wrong thing that the lesson names."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tinygrad_lite import Tensor, no_grad
from tinygrad_lite import functional as F
from tinygrad_lite.autograd.walk import Walk
from tinygrad_lite.study.lessons import LESSONS, Engine, Row, run_on
from tinygrad_lite.study.lessons.arrays import Unsummed, Unwatched
from tinygrad_lite.study.lessons.lesson import WIDTH, no_progress, shown, table
from tinygrad_lite.study.lessons.sums import FirstMetFirst, Overwriting, SumsStay

BY_NAME = {lesson.name: lesson for lesson in LESSONS}


def outcome_of(name):
    return BY_NAME[name].run(no_progress)


def number(x):
    return float(x.item()) if isinstance(x, Tensor) else float(x)


def test_overwriting_keeps_one_of_two_gradients():
    outcome = outcome_of("overwrite")
    a = outcome["a.grad"]
    assert (number(a.right), number(a.wrong)) == (-3.0, 3.0)  # -6 through e, 3 through d
    assert outcome["a.grad by finite differences"].right == pytest.approx(-3.0)
    assert "through e comes -6, through d comes 3" in outcome.happened.lower()
    assert outcome.answer == 1


def test_without_topological_order_the_late_gradient_is_left_behind():
    outcome = outcome_of("order")
    assert outcome["order of the walk"][1:] == ("d c b a", "d b c a")
    assert outcome["a.grad"][1:] == (26.0, 2.0)
    assert outcome["left behind at b"].wrong == 12.0
    assert outcome.answer == 0


def test_without_zero_grad_the_weight_swings_and_does_not_settle():
    outcome = outcome_of("zero-grad")
    right, wrong = outcome.curves[0].right, outcome.curves[0].wrong
    assert abs(right[-1] - 2.0) < 0.01
    assert max(abs(w - 2.0) for w in wrong[15:]) > 1.9
    assert outcome.answer == 2


def test_sums_that_stay_in_the_graph_grow_with_its_depth():
    outcome = outcome_of("backward-twice")
    assert outcome["a.grad, backward() twice"][1:] == (16.0, 32.0)
    assert outcome["twice without retain_graph"].right == "RuntimeError"
    assert outcome.answer == 2


def test_an_unsummed_broadcast_has_the_shape_of_the_output():
    outcome = outcome_of("broadcast")
    grad = outcome["bias.grad"]
    assert grad.right.shape == (2,) and grad.wrong.shape == (3, 2)
    assert np.array_equal(grad.wrong.sum(0), grad.right)
    assert outcome["bias - 0.1 * grad, its shape"].wrong == "(3, 2)"
    assert outcome.answer == 1


def test_unwatched_the_gradient_is_of_what_was_written_later():
    outcome = outcome_of("in-place")
    grad = outcome["x.grad"]
    assert "changed in place" in grad.right
    assert np.array_equal(grad.wrong, [13.0, 14.0])
    assert np.allclose(outcome["x.grad by finite differences"].right, [3.0, 4.0], atol=1e-3)
    assert outcome.answer == 1


def test_softmax_without_the_maximum_is_nan_from_90_on():
    outcome = outcome_of("softmax-max")
    for row in outcome.rows:
        assert np.isfinite(row.right).all()
    assert np.isfinite(outcome["p of logits 0, 1, 2 +80"].wrong).all()
    assert np.isnan(outcome["p of logits 0, 1, 2 +90"].wrong).all()
    assert np.isnan(outcome["p of logits 0, 1, 2 -200"].wrong).all()
    assert outcome.answer == 2


@pytest.mark.parametrize("kind", [Overwriting, FirstMetFirst, SumsStay, Unsummed, Unwatched])
def test_a_wrong_engine_is_right_where_its_change_does_not_matter(kind):
    def chain():
        x = Tensor([0.3, 0.7], requires_grad=True)
        y = (x * 2.0).exp().sum()
        y.backward()
        return x.grad.numpy()

    if kind is Unsummed:  # the sum's own rule needs broadcasting

        def chain():
            x = Tensor(0.3, requires_grad=True)
            (x * 2.0).exp().backward()
            return x.grad.numpy()

    right, wrong = run_on(Walk, chain)[0], run_on(kind, chain)[0]
    assert np.array_equal(right, wrong)


def test_the_wrong_engine_ends_with_its_block():
    x = Tensor(3.0, requires_grad=True)

    def twice():
        (x + x).backward()

    run_on(Overwriting, twice)
    assert x.grad.item() == 1.0
    x.grad = None
    twice()
    assert x.grad.item() == 2.0


def test_a_wrong_engine_keeps_to_its_thread_and_ends_with_an_error():
    def doubled():
        x = Tensor(3.0, requires_grad=True)
        (x + x).backward()
        return x.grad.item()

    with pytest.raises(KeyboardInterrupt):
        with Engine(Overwriting), Engine(FirstMetFirst):
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(doubled).result() == 2.0
            raise KeyboardInterrupt
    assert doubled() == 2.0


def residual(x):
    h = x * 2.0
    return (h + F.rms_norm(h, Tensor(np.ones(2, "float32")))).sum()


def gradient(fn, values):
    x = Tensor(values, requires_grad=True)
    fn(x).backward()
    return x.grad.numpy()


def test_a_kernel_that_adds_its_gradient_to_a_sum_does_not_undo_or_double_the_change():
    values = [[1.0, 5.0]]
    right = run_on(Walk, gradient, residual, values)[0]
    assert np.allclose(run_on(SumsStay, gradient, residual, values)[0], right)  # one walk: nothing has stayed yet
    for kind in (Overwriting, FirstMetFirst):
        assert not np.allclose(run_on(kind, gradient, residual, values)[0], right)


def test_unsummed_gradients_still_add_up_and_an_index_is_no_broadcast():
    three_rows = Tensor(np.ones((3, 2), "float32"))
    wrong = run_on(Unsummed, gradient, lambda b: (three_rows * b + three_rows * b * 3.0)[:, :].sum(), [1.0, 2.0])[0]
    assert np.array_equal(wrong, np.full((3, 2), 4.0))


def test_an_unwatched_walk_leaves_the_watch_to_the_next_one():
    x, w = (Tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    y = (x * w).sum()
    with no_grad():
        w += 10.0
    with Engine(Unwatched):
        y.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


@pytest.mark.parametrize("name", BY_NAME)
def test_a_report_asks_before_it_tells(name):
    lesson = BY_NAME[name]
    report = lesson.report()
    parts = [report.index(text) for text in ("What runs:", "The one thing changed", "Predict first.", "right engine")]
    parts += [report.index(text) for text in ("What happened.", "Why.", "Try next:")]
    assert parts == sorted(parts)
    longest = max(len(line) for line in report.split("\n") if not line.startswith("    "))
    assert longest <= WIDTH


def test_a_prediction_is_judged():
    lesson = BY_NAME["order"]
    outcome = lesson.run(no_progress)
    assert "Right: 1)" in lesson.answer(outcome, predicted=0)
    assert "You said 3. It is 1)" in lesson.answer(outcome, predicted=2)
    with pytest.raises(KeyError, match="is not among the rows: order of the walk"):
        outcome["b.grad"]


def test_a_table_keeps_arrays_row_by_row_and_breaks_what_is_long():
    rows = [Row("array", np.eye(2), "x " * 60), Row("nan", math.nan, None)]
    lines = table(rows, 60).split("\n")
    assert lines[0].split() == ["right", "engine", "wrong", "engine"]
    assert "[[1, 0]," in lines[2] and "[0, 1]]" in lines[3]
    assert max(map(len, lines)) <= 60
    long = [Row("D = 256: largest weight of a row, mean", 1.0, 2.0)]
    assert [max(map(len, table(long, width).split("\n"))) for width in (60, 40)] == [60, 40]
    assert shown(math.nan) == "nan" and shown(None) == "none"
