"""`tgl step` as a newcomer types it, mistakes included."""

import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from tinygrad_lite import Generator
from tokenizer import CharTokenizer
from transformer import GPT, GPTConfig, checkpoint
from transformer.cli.app import app

PROGRAM = """
import numpy as np
from tinygrad_lite import Tensor, nn, optim

class Line(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = Tensor([[2.0], [1.0]], requires_grad=True)

    def forward(self, x):
        return x @ self.weight

if __name__ == "__main__":
    net = Line()
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    x = Tensor(np.ones((3, 2), dtype="float32"))
    for step in range(3):
        loss = (net(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        print("a whole step", step)

def mse(x, w, scale=2.0):
    return ((x @ w.T) * scale).square().mean()

def breaks(x):
    return x @ x

def nothing():
    return 3
"""


def step(*args, lines="", code=0):
    result = CliRunner().invoke(app, ["step", *args], input=lines)
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program_of_mine.py"
    path.write_text(PROGRAM)
    return path


def test_every_step_of_an_expression_is_printed_with_all():
    output = step("a=-4.0; b=2.0; d=a*b+b**3; d+=a; d", "--all")
    assert output.count("Forward, op") == 4 and output.count("Backward, step") == 6
    for shown in ("-4 * 2 = -8", "2 ** 3 = 8", "The running sum at b", "1 * (2 ** (3 - 1) * 3) = 12", "b.grad = 8"):
        assert shown in output


def test_commands_come_from_a_pipe_and_a_wrong_one_is_told_by_the_exit_code():
    output = step("a*a + a", "--let", "a=3", lines="n\nwhy\nq\n")
    assert "3 * 3 = 9" in output and "is the result, where it begins" in output
    assert "there is no command 'jump'" in step("a*a", "--let", "a=3", lines="jump\n", code=2)


def test_a_function_of_a_file_gets_values_by_name(program):
    output = step(f"{program}:mse", "--let", "x=2x3", "--let", "w=[[1,0,0]]", "--break", "tensor:scale", lines="c\n")
    assert "program_of_mine.py:24 in mse" in output and "w = " not in output.split("\n")[0]
    assert "Stopped" not in output  # scale is a plain number here: it has no tensor's name
    assert "Stopped at breakpoint: tensor scale" in step(
        f"{program}:mse", "--let", "w=1x3", "--let", "scale=3", "--break", "tensor:scale", lines="c\n"
    )


def test_a_program_is_stopped_where_it_calls_backward(program):
    output = step(str(program), lines="go end\n")
    assert "a whole step" not in output
    assert "net.weight.grad" in step(str(program), lines="c\n")


@pytest.mark.slow  # 2 s: Numba is loaded for it alone
def test_a_runs_model_steps_on_a_text(tmp_path):
    model = GPT(GPTConfig(vocab_size=5, block_size=8, layers=1, heads=1, channels=4), Generator(0))
    tokenizer = CharTokenizer.train("abcde")
    weights = {name: np.asarray(p.numpy()) for name, p in model.named_parameters()}
    checkpoint.save(tmp_path / "run", 0, weights, {}, {"model": vars(model.config), "tokenizer": tokenizer.to_dict()})
    output = step("--from", str(tmp_path / "run"), "--text", "abcab", lines="go backward\n")
    assert "linear_cross_entropy" in output and "module tokens" in output
    assert "2 to 9 tokens" in step("--from", str(tmp_path / "run"), "--text", "a", code=2)


@pytest.mark.parametrize("args, message", [
    ([], "name what to step through"),
    (["q + 1"], "q has no value"),
    (["a**"], "is no Python"),
    (["a=1.0; a.foo()"], "has no attribute 'foo'"),
    (["a*a", "--let", "a"], "--let is name=value"),
    (["a*a", "--let", "a=x"], "a number, a list of numbers or a shape"),
    (["a*a", "--let", "a=1", "--break", "zz > 1"], "does not know zz"),
    (["a=1.0; a", "--let", "a=1"], "has a value in the expression already"),
    (["--from", "somewhere"], "go together"),
    (["nowhere.py:f"], "there is no file nowhere.py"),
    (["nowhere.py"], "there is no file nowhere.py"),
])  # fmt: skip
def test_a_mistake_is_one_line(args, message):
    output = step(*args, code=2)
    assert message in output and len(output.strip().splitlines()) == 1


def test_a_breakpoint_that_nothing_can_reach_says_so():
    output = step("a=2.0; a*a", "--break", "expp", lines="c\n")
    assert "--break expp: nothing that ran forward is so named" in output and "The end" in output


def test_mistakes_about_a_function_are_one_line(program):
    assert "has parameters x, w, scale" in step(f"{program}:mse", "--let", "q=1", code=2)
    assert "matmul" in step(f"{program}:breaks", code=2)
    assert "ran no op" in step(f"{program}:nothing", code=2)
    (program.parent / "empty.py").write_text("print(1)\n")
    assert "never called backward()" in step(str(program.parent / "empty.py"), code=2)


def test_training_loads_no_study_code():
    code = "import sys, transformer.cli.app; print([m for m in sys.modules if '.study' in m or m == 'textual'])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
