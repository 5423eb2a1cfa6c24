"""Lessons of attention and training keep their claims, and `tgl lesson` teaches them all."""

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tinygrad_lite import default_generator
from tinygrad_lite.study.lessons.lesson import no_progress
from transformer import GPT, GPTConfig
from transformer.cli import lesson as command
from transformer.cli.app import app
from transformer.lessons import LESSONS, find
from transformer.lessons.attention import leak, without_mask
from transformer.lessons.small import small_trainer, train, train_both
from transformer.lessons.training import too_wide

NAMES = [lesson.name for lesson in LESSONS]


def tgl(*args, code=0):
    result = CliRunner().invoke(app, ["lesson", *args])
    assert result.exit_code == code, result.output
    return result.output


def test_every_way_to_break_it_has_its_lesson():
    assert NAMES == [
        "overwrite", "order", "zero-grad", "backward-twice", "broadcast", "in-place", "softmax-max", "attention-scale",
        "causal-mask", "warm-up", "initialisation",
    ]  # fmt: skip
    for lesson in LESSONS:
        assert len(lesson.choices) >= 3 and lesson.then and lesson.question.endswith("?")


def test_a_lesson_is_found_by_name_and_number_and_a_slip_is_answered():
    assert find("order") is find("2")
    with pytest.raises(ValueError, match="did you mean warm-up?"):
        find("warmup")
    with pytest.raises(ValueError, match="there are overwrite, order, .* initialisation, or a number from 1 to 11"):
        find("12")


def test_the_list_names_all_and_where_to_begin():
    output = tgl("list")
    assert output == tgl()
    assert all(name in output for name in NAMES) and "tgl lesson 1" in output


def test_small_and_capital_letters_are_the_same():
    assert tgl("LIST") == tgl("list") and tgl("ORDER") == tgl("order")


def test_the_end_of_input_leaves_the_line_of_the_question(monkeypatch, capsys):
    def at_end(prompt):
        raise EOFError

    monkeypatch.setattr(command.console, "input", at_end)
    assert command._ask(3) is None
    assert capsys.readouterr().out == "\n"


def test_a_lesson_that_is_not_there_is_one_line_and_code_2():
    assert tgl("softmx", code=2).strip().endswith("did you mean softmax-max?")


def test_the_guide_names_every_lesson_and_its_examples_run(capsys):
    guide = (Path(__file__).parents[3] / "docs" / "lessons.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([a-z-]+)` \|", guide, re.MULTILINE) == NAMES
    for block in re.findall(r"```python\n(.*?)```", guide, re.DOTALL):
        exec(compile(block, "docs/lessons.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "Row(what='a.grad', right=26.0, wrong=2.0)" in printed and printed.endswith("80.0\n12.0 4.0\n")


@pytest.mark.parametrize("name", ["in-place", "zero-grad", "attention-scale"])  # the slow test runs all
def test_piped_a_cheap_lesson_runs_through_without_waiting(name):
    output = tgl(name)
    assert "Predict first." in output and "Your prediction" not in output
    assert "What happened." in output and "The next lesson: tgl lesson" in output


def test_without_the_scale_the_scores_spread_as_the_root_of_the_head_size():
    outcome = find("attention-scale").run(no_progress)
    for size in (4, 64, 256):
        row = outcome[f"D = {size}: deviation of the scores"]
        assert row.right == pytest.approx(1.0, abs=0.05)
        assert row.wrong == pytest.approx(math.sqrt(size), rel=0.05)
    assert outcome["D = 64: largest weight of a row, mean"].wrong > 0.7
    gradient = outcome["D = 256: gradient at a score, median"]
    assert gradient.wrong < 1e-9 < 1e-2 < gradient.right
    assert outcome.answer == 2


def test_without_the_mask_an_earlier_logit_moves_with_a_later_token():
    model = GPT(GPTConfig(vocab_size=11, block_size=8, layers=1, heads=2, channels=8))
    assert leak(model, np.arange(8)) == 0.0
    without_mask(model)
    assert leak(model, np.arange(8)) > 0.0


def test_weights_too_wide_start_far_above_log_v():
    trainer = small_trainer(steps=1)
    guess = math.log(trainer.tokenizer.vocab_size)
    assert train(trainer)[0] == pytest.approx(guess, abs=0.3)
    trainer = small_trainer(steps=1)
    too_wide(trainer.model)
    assert train(trainer)[0] > 2 * guess


def test_a_lesson_leaves_the_generator_of_its_reader_alone():
    before = default_generator.manual_seed(5).get_state()
    train(small_trainer(steps=1))
    assert default_generator.get_state() == before


def test_training_both_tells_how_far_it_is():
    told = []
    right, wrong = small_trainer(steps=2), small_trainer(steps=3)
    curves = train_both(right, wrong, lambda done, of: told.append((done, of)))
    assert told == [(i, 5) for i in range(1, 6)]
    assert [len(curve) for curve in curves] == [2, 3] and curves[0][0] == curves[1][0]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals")
def test_on_a_terminal_it_asks_waits_and_judges():
    import pty

    parent, child = pty.openpty()
    command = [sys.executable, "-m", "transformer.cli.main", "lesson", "order"]
    process = subprocess.Popen(command, stdin=child, stdout=child, stderr=child, env={**os.environ, "TERM": "xterm"})
    os.close(child)
    os.write(parent, b"7\n3\n")
    output = b""
    while True:
        try:
            read = os.read(parent, 65536)
        except OSError:  # Linux says so at the end
            break
        if not read:
            break
        output += read
    os.close(parent)
    assert process.wait() == 0
    assert b"A number from 1 to 3, please" in output and b"You said 3. It is 1) it is too small" in output


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_lesson_runs_through_from_the_command_line(name):
    command = [sys.executable, "-m", "transformer.cli.main", "lesson", name]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert "What happened." in done.stdout and "Try next:" in done.stdout and "nan%" not in done.stdout


@pytest.mark.slow
def test_without_the_mask_training_cheats_and_writing_fails():
    outcome = find("causal-mask").run(no_progress)
    trained, honest = outcome["training loss at the end"], outcome["held out, seeing only the past"]
    assert trained.wrong < 0.5 < 1.5 < trained.right
    assert honest.wrong > honest.right + 1.0
    assert outcome["logits moved by a later token"].right == 0.0
    assert outcome.answer == 2


@pytest.mark.slow
def test_without_warm_up_it_is_ahead_at_first_and_behind_at_the_end():
    outcome = find("warm-up").run(no_progress)
    update, early, late = (
        outcome[w] for w in ("first update / weights", "loss, steps 11 to 20", "loss, last 10 steps")
    )
    assert update.wrong > 0.4 > 0.05 > update.right
    assert early.wrong < early.right - 0.3 and late.wrong > late.right + 0.1
    assert outcome.answer == 2


@pytest.mark.slow
def test_weights_too_wide_end_behind():
    outcome = find("initialisation").run(no_progress)
    first, guess, late = (outcome[w] for w in ("loss of the first step", "uniform guess, log V", "loss, last 10 steps"))
    assert first.wrong > 2 * guess.right and abs(first.right - guess.right) < 0.3
    assert late.wrong > late.right + 0.2
    assert outcome.answer == 2
