"""`tgl gradcheck` as a newcomer types it, mistakes included."""

import sys

import pytest
from typer.testing import CliRunner

from transformer.cli import target
from transformer.cli.app import app

SOURCE = """
import neighbour_of_mine
from tinygrad_lite import nn

def right(x, w):
    return (x @ w.T).tanh()

def wrong(x):
    return x * x.detach()

def logarithm(x):
    return x.log()

def raises(x):
    raise ValueError("no\\nluck")

def kinked(x):
    return x.relu()

two = 2

class Layer:
    def __call__(self, x):
        return x.sin()

layer = Layer()
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    (tmp_path / "functions_of_mine.py").write_text(SOURCE)
    (tmp_path / "neighbour_of_mine.py").write_text("")
    (tmp_path / "broken_of_mine.py").write_text("import a_package_that_is_not_there")
    (tmp_path / "unclosed_of_mine.py").write_text("def f(x:")
    (tmp_path / "leaves_of_mine.py").write_text("raise SystemExit(7)")
    return tmp_path / "functions_of_mine.py"


def run(*args, code=0):
    result = CliRunner().invoke(app, ["gradcheck", *map(str, args)])
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


def complaint(*args):
    output = run(*args, code=2)
    assert output.startswith("tgl: gradcheck: ") and output.count("\n") == 1, output
    return output


def test_an_op_by_name_is_a_table_within_80_columns():
    output = run("pad", "--seeds", 2)
    assert "2nd order" in output and "pad" in output and "checks of 1 op, first and second order: all right." in output
    assert max(map(len, output.splitlines())) <= 80


def test_a_file_of_functions_and_their_neighbours(mine):
    output = run(f"{mine}:right")
    assert "right: all right, first and second order." in output and "v0" in output
    assert max(map(len, output.splitlines())) <= 80
    assert "(4, 5)" in run(f"{mine}:right", "--shape", "3x5", "--shape", "4,5", "--dtype", "float32")
    assert "all right" in run(f"{mine}:layer", "--mode", "fast", "--shape", "30x40", "--seeds", 2)
    assert "all right" in run(f"{mine}:logarithm", "--low", 0.5, "--shape", "scalar")


def test_a_module_on_the_path(mine, monkeypatch):
    monkeypatch.chdir(mine.parent)
    assert "all right" in run("functions_of_mine:right")


def test_a_wrong_gradient_is_explained_with_exit_code_1(mine):
    output = run(f"{mine}:wrong", code=1)
    assert "0.5 times numeric everywhere" in output and output.rstrip().endswith("wrong: wrong backward")


def test_a_kink_is_no_failure(mine):
    assert "ok, except for a kink" in run(f"{mine}:kinked", "--low", 0, "--high", 0)


def test_inputs_outside_the_domain_prove_nothing(mine):
    assert "move the inputs into the function's domain" in run(f"{mine}:logarithm", code=1)


@pytest.mark.parametrize("args, text", [
    (["sotfmax"], "there is no op 'sotfmax': did you mean"),
    (["isnan"], "isnan has no gradient"),
    (["relu", "--shape", "2"], "--shape is for a function of yours"),
    (["relu", "--mode", "slow"], "--mode must be full or fast"),
    (["relu", "--dtype", "int64"], "--dtype must be"),
    (["no_such_module:f"], "there is no module 'no_such_module'"),
    (["no/such/file.py:f"], "there is no file no/such/file.py"),
    ([r"C:\x\file.py:function"], r"there is no file C:\x\file.py"),
    ([r"C:\x\file.py"], r"name the function too: C:\x\file.py:function"),
    (["file.py:"], "name the function too: file.py:function"),
])  # fmt: skip
def test_a_mistake_is_one_line(args, text):
    assert text in complaint(*args)


@pytest.mark.parametrize("name, args, text", [
    ("functions:rihgt", [], "has no function 'rihgt': did you mean right?"),
    ("functions:two", [], "is not a function, but of type int"),
    ("functions:raises", [], "raises on float64 (2, 3) raised ValueError: no luck ("),
    ("functions:right", ["--shape", "2"], "takes 2 inputs (x, w), got 1 shapes"),
    ("functions:wrong", ["--shape", "2xx3"], "--shape must be numbers joined by x"),
    ("broken:f", [], "raised ModuleNotFoundError: No module named 'a_package_that_is_not_there'"),
    ("unclosed:f", [], "raised SyntaxError"),
    ("leaves:f", [], "raised SystemExit: 7"),
])  # fmt: skip
def test_a_mistake_in_a_file_is_one_line(mine, name, args, text):
    file, _, function = name.partition(":")
    assert text in complaint(f"{mine.parent / (file + '_of_mine.py')}:{function}", *args)


def test_a_drive_letter_is_no_module(mine, monkeypatch):
    seen = []
    monkeypatch.setattr(target.Path, "is_file", lambda path: seen.append(str(path)) or False)
    assert "there is no file" in complaint(r"D:\work\file.py:function") and seen == [r"D:\work\file.py"]


def test_a_wrong_op_is_listed_and_explained(monkeypatch):
    from tinygrad_lite.ops.registry import OPS

    rule = OPS["square"].rules[0]
    monkeypatch.setitem(OPS["square"].rules, 0, rule._replace(fn=lambda xp, g, x: g * x * 2.02))
    output = run("square", code=1)
    assert "wrong backward" in output and "1.01 times numeric" in output and "not right." in output
