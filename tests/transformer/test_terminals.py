"""`tgl` where the terminal's encoding or the system's locale has few characters, and where files are held open."""

import os
import subprocess
import sys

import pytest
from rich.console import Console

from transformer.cli.plot import loss_curve
from transformer.files import replace
from transformer.log import JsonLines

TEXT = "To be — that is the “question”: żółć 漢字 🙂, whether 'tis nobler. " * 60
TINY = ["--tokenizer", "char", "--layers", "1", "--heads", "2", "--channels", "16", "--block-size", "16", "--batch-size", "4",
        "--eval-every", "20", "--steps", "2"]  # fmt: skip


def tgl(*arguments, encoding):
    """Output of the command in a process whose terminal has this encoding and whose locale is C, in bytes."""
    environment = {
        **os.environ,
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "LC_ALL": "C",
        "PYTHONIOENCODING": encoding,
    }
    command = [sys.executable, "-m", "transformer.cli.main", *map(os.fsencode, arguments)]
    done = subprocess.run(command, capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ü")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    output = tgl("train", "--data", folder / "text.txt", *TINY, "--out", folder / "run", encoding="cp1252")
    return folder / "run", output


def test_training_prints_lines_and_not_question_marks_where_a_terminal_has_no_box_characters(run):
    output = run[1].decode("cp1252")
    assert "\n" + "-" * 80 + "\n" in output.replace("\r\n", "\n")
    assert "sample 1 ---" in output and "????????????????" not in output and "Done: held-out loss" in output


@pytest.mark.parametrize(
    "encoding", [pytest.param("cp1252", marks=pytest.mark.slow), pytest.param("cp437", marks=pytest.mark.slow), "ascii"]
)
def test_tables_print_in_any_encoding(run, encoding):
    output = tgl("info", run[0], encoding=encoding).decode(encoding)
    assert "attention.qkv" in output and "?" not in output
    assert "Usage" in tgl("train", "--help", encoding=encoding).decode(encoding)


@pytest.mark.skipif(os.name == "nt", reason="arguments are text on Windows")
def test_a_prompt_in_utf_8_is_read_where_the_locale_is_c(run):
    output = tgl("sample", "--from", run[0], "--prompt", "żółć 漢字", "--tokens", "4", encoding="utf-8")
    assert output.decode("utf-8").startswith("żółć 漢字")


@pytest.mark.parametrize("encoding, drawn", [("utf-8", True), ("cp1252", False)])
def test_the_curve_of_braille_is_drawn_only_where_the_terminal_has_it(tmp_path, encoding, drawn):
    log = JsonLines(tmp_path / "log.jsonl")
    for step in range(1, 9):
        log.write({"step": step, "loss": 4.0 / step})
    with open(tmp_path / "screen", "w", encoding=encoding, errors="replace") as screen:
        loss_curve(tmp_path / "log.jsonl", tmp_path / "loss.png", Console(file=screen, force_terminal=True, width=80))
    assert ("training" in (tmp_path / "screen").read_text(encoding=encoding)) == drawn
    assert (tmp_path / "loss.png").exists()


def test_a_file_that_is_open_elsewhere_for_a_moment_is_replaced_all_the_same(tmp_path, monkeypatch):
    (tmp_path / "new").write_text("new")
    real, refusals = os.replace, [PermissionError("open elsewhere"), PermissionError("open elsewhere")]

    def windows(source, target):
        if refusals:
            raise refusals.pop()
        real(source, target)

    monkeypatch.setattr(os, "replace", windows)
    replace(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old").read_text(encoding="utf-8") == "new" and not refusals


def test_a_file_that_stays_refused_is_an_error(tmp_path, monkeypatch):
    def refuse(source, target):
        raise PermissionError("open elsewhere")

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr("transformer.files.WAITS_S", (0.0, 0.0))
    with pytest.raises(PermissionError):
        replace(tmp_path / "new", tmp_path / "old")
