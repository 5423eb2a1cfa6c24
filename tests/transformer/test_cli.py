"""The commands as a newcomer types them."""

import json
import re

import pytest
from typer.testing import CliRunner

from transformer.cli.main import app

TEXT = "To be, or not to be, that is the question: whether 'tis nobler in the mind to suffer. " * 60
TINY = [
    "--layers",
    "1",
    "--heads",
    "2",
    "--channels",
    "16",
    "--block-size",
    "16",
    "--batch-size",
    "4",
    "--eval-every",
    "20",
    "--log-every",
    "5",
]


def tgl(*args, code=0):
    result = CliRunner().invoke(app, [str(a) for a in args])
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


@pytest.fixture(scope="module", params=["char", "bpe"])
def run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "text.txt").write_text(TEXT)
    output = tgl("train", "--data", folder / "text.txt", "--tokenizer", request.param, "--vocab-size", 300, *TINY,
                 "--steps", 20, "--out", folder / "run")  # fmt: skip
    return folder, output


def test_training_says_what_to_expect_trains_and_prints_samples(run):
    folder, output = run
    assert "Expect 20 steps" in output and "MiB" in output
    assert "sample 1" in output and re.search(r"Done: held-out loss \d\.\d+", output)
    assert (folder / "run" / "loss.png").stat().st_size > 5000
    assert json.loads((folder / "run" / "log.jsonl").read_text().splitlines()[0])["step"] == 1


def test_sampling_continues_the_prompt_and_repeats_with_its_seed(run):
    folder, _ = run
    args = ("sample", "--from", folder / "run", "--prompt", "To be", "--tokens", 20, "--seed", 5)
    first = tgl(*args)
    assert first.startswith("To be") and first == tgl(*args, "--no-stream")
    assert first != tgl("sample", "--from", folder / "run", "--prompt", "To be", "--tokens", 20, "--seed", 6)


def test_eval_gives_figures_with_disjoint_and_sliding_windows(run):
    folder, _ = run
    output = tgl("eval", "--from", folder / "run", "--data", folder / "text.txt")
    assert "disjoint" in output and "sliding" in output


def test_info_lists_parameters_and_losses(run):
    folder, _ = run
    output = tgl("info", folder / "run")
    assert "tokens seen" in output and "held-out loss" in output and "blocks" in output


def test_resume_goes_on_to_more_steps_only_as_stored(run):
    folder, _ = run
    assert "Continuing" in tgl("train", "--resume", "--out", folder / "run")


def test_a_character_that_the_tokenizer_has_never_seen_is_named(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    tgl("train", "--data", tmp_path / "text.txt", "--tokenizer", "char", *TINY, "--steps", 1, "--out", tmp_path / "run")
    result = CliRunner().invoke(app, ["sample", "--from", str(tmp_path / "run"), "--prompt", "é"])
    assert "é" in str(result.exception)


def test_help_names_every_command():
    output = tgl("--help")
    for command in ("train", "sample", "eval", "info", "gradcheck"):
        assert command in output
