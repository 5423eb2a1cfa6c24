"""`tgl draw` and `tgl replay` as typed."""

import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tinygrad_lite import Tensor
from tinygrad_lite.study import AnomalyError, detect_anomaly
from transformer.cli.app import app

DOCS = Path(__file__).resolve().parents[2] / "docs"


def tgl(*words):
    return CliRunner().invoke(app, [str(w) for w in words])


def test_an_expression_is_drawn(tmp_path):
    done = tgl("draw", "a=-4.0; b=2.0; c=a*b; c+b**3", "--to", tmp_path / "g.svg")
    assert done.exit_code == 0 and "5 boxes" in done.stdout
    text = (tmp_path / "g.svg").read_text(encoding="utf-8")
    assert ">c<" in text and ">−8<" in text and ">−4<" in text  # c, its value, the gradient of b's first use


def test_an_infinity_is_drawn_without_warnings(tmp_path, recwarn):
    done = tgl("draw", "a=1.0; b=0.0; a/b", "--to", tmp_path / "g.svg")
    assert done.exit_code == 0 and ">inf<" in (tmp_path / "g.svg").read_text(encoding="utf-8")
    assert [w for w in recwarn if w.category is RuntimeWarning] == []


def test_misuse_of_draw_is_one_line(tmp_path):
    for words, said in (
        ((), "name what to step through"),
        (("a=1.0; a*2", "--to", tmp_path), "is a directory"),
        (("a=1.0; a*2", "--to", tmp_path / "no" / "g.svg"), "there is no directory"),
        (("x*2", "--to", tmp_path / "g.svg"), "x has no value"),
        (("a=1.0", "--to", tmp_path / "g.svg"), "tgl: draw: the function ran no op"),
    ):
        done = tgl("draw", *words)
        assert done.exit_code == 2 and said in done.stderr and done.stderr.count("\n") == 1


def test_a_replay_says_what_it_was_and_that_it_is_so_again(tmp_path):
    with pytest.raises(AnomalyError), detect_anomaly(tmp_path / "a.npz"):
        x = Tensor(np.array([1.0, 0.0], np.float32), requires_grad=True)
        x.log()
    done = tgl("replay", tmp_path / "a.npz")
    assert done.exit_code == 0
    assert "The first infinity is the result of log" in done.stdout and "Run again alone, log gives" in done.stdout


def test_a_replay_of_no_file_or_a_damaged_one_is_one_line(tmp_path):
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 and no more")
    for file, said in (("none.npz", "there is no file"), ("cut.npz", "damaged")):
        done = tgl("replay", tmp_path / file)
        assert done.exit_code == 2 and said in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("page", ["anomaly.md", "graphs.md"])
def test_the_examples_of_the_docs_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.S)
    Path("example.py").write_text(code, encoding="utf-8")
    try:
        exec(compile(code, "example.py", "exec"), {})
    except AnomalyError as error:
        shown = (DOCS / page).read_text(encoding="utf-8")
        said = [line.strip() for line in str(error).splitlines()]
        assert page == "anomaly.md"
        assert [line for line in said if " ".join(line.split()) not in " ".join(shown.split())] == []
