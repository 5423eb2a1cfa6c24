"""`tgl cuda trace` as a newcomer types it, mistakes included."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tinygrad_lite import device
from tinygrad_lite.kernels.cuda.emulator import unavailable
from tinygrad_lite.kernels.cuda.emulator.trace.examples import EXAMPLES
from transformer.cli import cuda
from transformer.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "emulator.md").read_text()
needs_emulator = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))
SOURCE = """
__global__ void doubled(float* out, const float* in, int n) {
  if (threadIdx.x < n) out[threadIdx.x] = 2 * in[threadIdx.x];
}
__global__ void far(float* out) { out[threadIdx.x + 1] = 1; }
__global__ void broken(float* out) { out[0] = 1; nothing(); }
"""


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    monkeypatch.setattr(device, "_DEVICES", dict(device._DEVICES))


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mine.cu").write_text(SOURCE.replace("nothing();", ""))
    (tmp_path / "broken.cu").write_text(SOURCE)
    return tmp_path / "mine.cu"


def invoke(*args):
    return CliRunner().invoke(app, ["cuda", "trace", *map(str, args)])


def run(*args):
    result = invoke(*args)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def complaint(*args):
    result = invoke(*args)
    assert result.exit_code == 2, (result.output, result.exception)
    assert result.output.startswith("tgl: cuda trace: ") and result.output.count("\n") == 1, result.output
    return result.output


def test_the_list_has_every_kernel():
    listed = [line.split()[0] for line in run("--list").splitlines()]
    assert listed == [e.name for e in EXAMPLES]
    assert "tgl cuda trace NAME" in run()


@needs_emulator
def test_a_kernel_of_the_library():
    output = run("gelu_forward")
    assert output.startswith("gelu_forward<float, GeluErf>\ngrid 1 = 1 block of 256 threads, 8 warps each")
    assert re.search(r"activations\.cu:\d+  .*\n     1  global load, 16 B +all lanes +16 sectors of 16", output)
    assert "global memory: 72 sectors of 72, none too many" in output
    assert "gelu_forward<bf16, GeluErf>" in run("gelu", "--dtype", "bfloat16")


@needs_emulator
def test_it_needs_no_environment_variable(tmp_path):
    """A process without TGL_CUDA, its output a pipe."""
    environment = {k: v for k, v in os.environ.items() if k != "TGL_CUDA"} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "transformer.cli.main", "cuda", "trace", "dropout", "--max", "1"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("dropout<float>\n") and "3 more steps:" in done.stdout


@needs_emulator
def test_the_guides_trace(tmp_path, monkeypatch):
    """docs/emulator.md prints what the command prints, for the guide's kernel with its indices doubled."""
    kernel = re.search(r"```cuda\n(.*?)```", GUIDE, re.S)[1]
    kernel = kernel.replace("  out[", "  __syncthreads();\n  out[").replace("s[64]", "s[128]")
    (tmp_path / "shifted.cu").write_text(
        kernel.replace("s[threadIdx.x]", "s[2 * threadIdx.x]").replace(
            "s[(threadIdx.x + 1) % 64]", "s[2 * ((threadIdx.x + 1) % 64)]"
        )
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "110")
    command, printed = re.search(r"\n    tgl cuda trace (shifted.cu .*)\n\n.*\n\n((?:    .*\n|\n)+)", GUIDE).groups()
    printed = re.sub(r"^    ", "", printed, flags=re.M).strip()
    assert printed in run(*command.split()), run(*command.split())


@needs_emulator
def test_a_kernel_of_ones_own(mine):
    arguments = ["--threads", 64, "--arg", "float:64", "--arg", "float:64=range", "--arg", "int=40"]
    output = run(mine, "doubled", *arguments, "--warp", 1)
    assert "mine.cu:3  if (threadIdx.x < n) out[threadIdx.x] = 2 * in[threadIdx.x];" in output
    assert "in[32..39] = 32 33 34 35 36 37 38 39\n" in output and "out[32..39] = 64 66 68 70 72 74 76 78\n" in output
    assert "n = 40" in output and "lanes 0-7" in output


@needs_emulator
def test_what_the_emulator_finds_comes_after_the_trace(mine):
    result = invoke(mine, "far", "--arg", "float:32")
    assert result.exit_code == 1 and "out[1..31] = 1 in all 31" in result.output
    assert "out of bounds" in str(result.exception) and "mine.cu:5" in str(result.exception)
    result = invoke(mine.with_name("broken.cu"), "broken", "--arg", "float:32")
    assert result.exit_code == 1 and "nothing" in str(result.exception)


@needs_emulator
@pytest.mark.parametrize(
    "args, says",
    [
        (["softmx_forward"], "did you mean softmax_forward"),
        (["gelu_forward", "--block", "9"], "block 9 is not there: the grid has 1"),
        (["gelu_forward", "--warp", "8"], "warp 8 is not there: a block has 8"),
        (["gelu_forward", "--dtype", "float64"], "--dtype must be float32 or bfloat16 or float16, got 'float64'"),
        (["gelu_forward", "--values", "bits"], "--values must be one of float, bf16"),
        (["gelu_forward", "--threads", "64"], "--threads is for a .cu file of yours"),
        (["gelu_forward", "twice"], "'twice' is one name too many"),
        (["absent.cu", "kernel"], "there is no file absent.cu"),
        (["MINE"], "name the kernel too"),
        (["MINE", "trebled"], "there is no kernel 'trebled': it has doubled, far"),
        (["MINE", "far", "--arg", "flot:3"], "--arg 'flot:3': expected a type"),
        (["MINE", "far", "--arg", "int=x"], "'x' is not a number of that type"),
        (["MINE", "far"], "takes 1 arguments, got 0"),
        (["MINE", "far", "--grid", "2,3"], "--grid must be one to three numbers joined by x"),
        (["MINE", "far", "--dtype", "float32"], "--dtype is for the library's kernels"),
    ],
)
def test_mistakes(mine, args, says):
    assert says in complaint(*(mine if a == "MINE" else a for a in args))


def test_where_the_emulator_cannot_run_it_says_why(monkeypatch):
    monkeypatch.setattr(
        cuda, "unavailable", lambda: "the CUDA emulator compiles kernels with g++, which is not installed"
    )
    result = invoke("gelu_forward")
    assert result.exit_code == 1 and "g++, which is not installed" in str(result.exception)  # no mistake of the user's
    assert "gelu_forward" in run("--list")
