"""The stepper by typed words, and on the full screen."""

import asyncio

import numpy as np
import pytest

from tinygrad_lite import functional as F
from tinygrad_lite.study import Stepper
from tinygrad_lite.study.expression import Expression
from tinygrad_lite.study.shell import COMMANDS, Shell, interact


def stepper():
    return Stepper(Expression("a=2.0; b=3.0; c=a*b; d=c+a; d"))


def softmax_stepper():
    return Stepper(lambda x: (F.softmax(x * 2.0) ** 2).sum(), np.array([1.0, 2.0, 3.0]))


def typed(steps, *lines):
    """What each line answers; the last item: whether all were understood."""
    queue, answers = iter(lines), []

    def read():
        try:
            return next(queue)
        except StopIteration:
            raise EOFError from None

    understood = interact(steps, read, answers.append)
    return [*answers, understood]


def test_lines_move_both_ways_and_an_empty_one_repeats():
    first, second, end, back, again, understood = typed(stepper(), "n", "n 99", "b", "")
    assert first.startswith("Forward, op 1 of 2") and second.startswith("Forward, op 2 of 2")
    assert end.startswith("The end") and "a.grad = 4" in end and "b.grad = 2" in end
    assert back.startswith("Backward, step 3 of 4") and again.startswith("Backward, step 2 of 4") and understood


def test_breakpoints_are_listed_hit_and_taken_away():
    answers = typed(stepper(), "break add", "break", "c", "r", "delete 1", "break", "delete 1")
    assert answers[1].startswith("Breakpoint 1: op add") and answers[2].startswith("1  op add")
    assert "Stopped at breakpoint: op add" in answers[3] and "This is the first op." in answers[4]
    assert answers[6].startswith("There are no breakpoints") and "no number 1" in answers[7] and answers[-1] is False


def test_a_breakpoint_on_nothing_that_ran_says_so():
    assert "nothing that ran forward" in typed(stepper(), "break op:exp")[1]


@pytest.mark.slow  # 2 s: Numba is loaded for it alone
def test_a_twin_opens_steps_and_closes():
    answers = typed(
        softmax_stepper(), "break op:softmax", "c", "open", "list", "c", "close", "c", "open", "c", "x", "x"
    )
    opened, listed, end, closed, _, opened_back, compared, closed_again, refused = answers[3:12]
    assert "Inside softmax(float64 (3,))" in opened and "output 0" in opened and "normalise.py" in opened
    assert "exp" in listed and "divide" in listed
    assert "has not come to this op yet" in end
    assert closed.startswith("Forward") and closed_again.startswith("Backward")
    assert "Backward, step 1 of" in opened_back
    assert "gradient of x" in compared and refused.startswith("step: close: no twin is open")


def test_every_command_is_in_the_help_and_has_a_method():
    shell = Shell(stepper())
    text = shell.do("help")
    for words, _, _ in COMMANDS:
        assert words[0] in text and callable(getattr(shell, f"_{words[0]}"))


@pytest.mark.parametrize("line, message", [
    ("foo", "there is no command 'foo'"),
    ("n x", "expected a number from 1, got 'x'"),
    ("go", "expected a number from 1, got 'nothing'"),
    ("break zz > 1", "does not know zz"),
    ("open", "multiply has no twin"),
])  # fmt: skip
def test_a_line_that_is_refused_says_why_and_goes_on(line, message):
    answers = typed(stepper(), line, "n")
    assert message in answers[1] and answers[2].startswith("Forward, op 2") and answers[-1] is False


def test_a_result_of_many_elements_has_no_backward_and_says_what_helps():
    answers = typed(Stepper(Expression("a=[1.0, 2.0]; a*2")), "n")
    assert "reduce it to one element" in answers[1]


def test_an_error_of_the_users_own_hook_is_told_and_does_not_end_the_session():
    def fn(a):
        b = a * 2.0
        b.register_hook(lambda g: {}["nothing"])
        return b.exp()

    answers = typed(Stepper(fn, 1.0), "go end", "go end", "b")
    assert answers[1].startswith("step: KeyError: 'nothing'") and "was interrupted" in answers[2]
    assert "This is the first op" in answers[3] and answers[-1] is False


def test_an_interrupted_step_is_not_taken_for_the_end(monkeypatch):
    from tinygrad_lite.ops.registry import OPS

    def interrupts(xp, g, x):
        raise KeyboardInterrupt

    steps = Stepper(Expression("a=2.0; a.exp().sin()"))
    rule = OPS["sin"].rules[0]
    monkeypatch.setitem(OPS["sin"].rules, 0, rule._replace(fn=interrupts))
    with pytest.raises(KeyboardInterrupt):
        steps.end()
    with pytest.raises(RuntimeError, match="interrupted"):
        steps.end()
    assert not steps.has_ended


@pytest.mark.slow  # 5 s: textual draws every key
def test_the_full_screen_steps_stops_opens_and_answers():
    pytest.importorskip("textual", reason="textual is not installed: pip install 'tinygrad-lite[study]'")
    from textual.widgets import Input, OptionList, Static

    from tinygrad_lite.study.fullscreen import StepperApp

    async def session():
        app = StepperApp(softmax_stepper())
        async with app.run_test(size=(120, 40)) as pilot:

            def text(name):
                return str(app.query_one(name, Static).render())

            async def press(*keys):
                for key in keys:  # a key is ignored while a thread computes
                    await pilot.press(key)
                    await app.workers.wait_for_complete()
                    await pilot.pause()

            assert "x * 2.0" in text("#source-text") and "Formula of multiply" in text("#sheet-text")
            await press("s", *"op:softmax", "enter")
            assert "Breakpoint 1: op softmax" in text("#answer-text")
            assert not app.query_one("#command", Input).display
            await press("c", "c")
            assert app.shell.steps.now.is_backward
            await press("o")
            assert len(app.shell.stack) == 2 and "softmax" in app.query_one("#steps", OptionList).border_title
            await press("e", "n")
            assert "Largest difference from the kernel" in text("#answer-text")
            await press("x", "w")
            assert "Now:" in text("#answer-text")
            await press("k")
            assert "gradcheck" in text("#answer-text")
            await press("escape")
            assert not app.query_one("#answer").display
            at = app.shell.steps.at
            await press("b", "space")
            assert app.shell.steps.at == at == app.query_one("#steps", OptionList).highlighted
            await press("q")
        return app

    assert asyncio.run(session()).return_code == 0
