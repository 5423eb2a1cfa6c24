"""`tgl sample` and `info` as they are asked for things at the edge."""

import io

import pytest
from typer.testing import CliRunner

from transformer.cli import inspect
from transformer.cli.app import app
from transformer.cli.screen import Screen


def tgl(*args):
    return CliRunner().invoke(app, [str(a) for a in args])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inspect")
    (folder / "text.txt").write_text("To be, or not to be, that is the question. " * 40)
    out = folder / "run"
    result = tgl("train", "--data", folder / "text.txt", "--tokenizer", "char", "--layers", 2, "--heads", 2, "--channels", 16,
                 "--block-size", 16, "--batch-size", 4, "--steps", 2, "--untied", "--out", out)  # fmt: skip
    assert result.exit_code == 0, (result.output, result.exception)
    return out


@pytest.mark.parametrize("flags, named", [
    (("--temperature", -1), "temperature must be 0"), (("--temperature", "nan"), "temperature must be 0"),
    (("--top-p", 0), "top_p must be in"), (("--top-p", 1.5), "top_p must be in"), (("--top-k", 0), "top_k must be at least 1"),
    (("--top-k", 0, "--tokens", 0), "top_k must be at least 1"), (("--prompt", ""), "--prompt is empty"),
    (("--prompt", "To é"), r"--prompt: character 'é' .* --tokenizer bpe"),
])  # fmt: skip
def test_a_sample_that_cannot_be_is_refused_before_anything_is_printed(run, flags, named):
    result = tgl("sample", "--from", run, "--prompt", "To be", *flags)
    assert isinstance(result.exception, ValueError) and result.stdout == ""
    with pytest.raises(ValueError, match=named):
        raise result.exception


def test_no_tokens_print_the_prompt_alone(run):
    assert tgl("sample", "--from", run, "--prompt", "To be", "--tokens", 0).stdout == "To be\n"


def test_a_prompt_longer_than_the_context_is_printed_whole_and_what_the_model_sees_is_said(run):
    prompt = "To be, or not to be, that is the question"
    result = tgl("sample", "--from", run, "--prompt", prompt, "--tokens", 5, "--temperature", 0)
    assert result.stdout.startswith(prompt) and len(result.stdout) == len(prompt) + 6
    assert "41 tokens; the model sees the last 16" in result.stderr
    seen = tgl("sample", "--from", run, "--prompt", prompt[-16:], "--tokens", 5, "--temperature", 0)
    assert seen.stderr == "" and result.stdout.endswith(seen.stdout)


def test_several_samples_are_those_of_the_seeds_that_follow(run):
    ask = ("sample", "--from", run, "--prompt", "To be", "--tokens", 9)
    alone = [tgl(*ask, "--seed", seed).stdout for seed in (5, 6)]
    together = tgl(*ask, "--seed", 5, "--samples", 2).stdout
    headings = [line for line in together.splitlines() if "--seed" in line]
    assert ["--seed 5" in headings[0], "--seed 6" in headings[1]] == [True, True]
    for heading in headings:
        together = together.replace(heading + "\n", "")
    assert together == "".join(alone)


@pytest.mark.parametrize("command", ["sample", "info", "eval"])
def test_a_file_in_place_of_the_runs_directory_is_named(run, command):
    named = (run / "latest",) if command == "info" else ("--from", run / "latest")
    more = ("--data", run.parent / "text.txt") if command == "eval" else ()
    message = str(tgl(command, *named, *more).exception)
    assert "latest is a file: name the run's directory" in message and str(run) in message


@pytest.mark.parametrize("width", [40, 46, 50, 120])
def test_info_is_whole_and_in_columns_on_any_terminal(run, width, monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(inspect, "console", Screen(file=screen, force_terminal=True, width=width))
    inspect.info(run)
    lines = screen.getvalue().splitlines()
    table = lines[: lines.index("")]
    assert max(map(len, lines)) <= width and "…" not in screen.getvalue()
    assert len({len(line) for line in table}) == 1 and ("MiB" in table[0]) == (width > 45)
    counts = {line[:20].rstrip(): int(line[20:].split()[0].replace(",", "")) for line in table[1:]}
    inner = sum(n for name, n in counts.items() if name.startswith("  "))
    assert inner == counts["blocks (2)"] and "  attention.project" in counts
    assert counts["all"] == sum(n for name, n in counts.items() if not name.startswith("  ")) - counts["all"]
    assert counts["head"] == counts["tokens"]  # untied
