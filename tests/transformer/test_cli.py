"""The commands as a newcomer types them."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from transformer import checkpoint
from transformer.cli.app import app
from transformer.cli.main import main
from transformer.cli.plot import loss_curve, text_curve
from transformer.cli.run_view import RunView, quoted
from transformer.cli.screen import Screen
from transformer.log import read_log

TEXT = "To be, or not to be, that is the question: whether 'tis nobler in the mind to suffer. " * 60
TINY = ["--layers", "1", "--heads", "2", "--channels", "16", "--block-size", "16", "--batch-size", "4", "--eval-every", "20",
        "--log-every", "5"]  # fmt: skip


def tgl(*args, code=0):
    result = CliRunner().invoke(app, [str(a) for a in args])
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


def refused(*args):
    """The message of a command that must not run."""
    result = CliRunner().invoke(app, [str(a) for a in args])
    assert result.exit_code != 0
    return str(result.exception)


def train_tiny(folder, *args, name="run"):
    (folder / "text.txt").write_text(TEXT)
    return tgl("train", "--data", folder / "text.txt", "--tokenizer", "char", *TINY, "--out", folder / name, *args)


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
    assert json.loads((folder / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()[0])["step"] == 1


def test_sampling_continues_the_prompt_and_repeats_with_its_seed(run):
    folder, _ = run
    args = ("sample", "--from", folder / "run", "--prompt", "To be", "--tokens", 20, "--seed", 5)
    first = tgl(*args)
    assert first.startswith("To be") and first == tgl(*args, "--no-stream")
    assert first != tgl("sample", "--from", folder / "run", "--prompt", "To be", "--tokens", 20, "--seed", 6)


def test_eval_gives_figures_with_disjoint_and_sliding_windows(run):
    folder, _ = run
    output = tgl("eval", "--from", folder / "run", "--data", folder / "text.txt")
    assert "disjoint" in output and "sliding" in output and max(map(len, output.splitlines()[1:])) <= 80
    assert "…" not in output and re.search(r"\d\.\d{4}", output)


def test_info_lists_parameters_and_losses(run):
    folder, _ = run
    output = tgl("info", folder / "run")
    assert "tokens seen" in output and "Held-out loss" in output and "blocks" in output


def test_the_losses_that_counting_reaches_are_said_before_and_a_run_that_misses_them_is_told(run):
    _, output = run
    said = re.search(
        r"uniform guess has (\d\.\d+).*counting tokens reaches (\d\.\d+), counting pairs (\d\.\d+)",
        " ".join(output.split()),
    )
    uniform, single, pair = map(float, said.groups())
    assert uniform > single > pair > 0
    assert "no better than counting pairs" in " ".join(output.split())  # twenty steps are too few


@pytest.mark.slow
def test_an_earlier_run_is_moved_aside_and_still_samples(tmp_path):
    train_tiny(tmp_path, "--steps", 3)
    first = checkpoint.digest(tmp_path / "run")
    output = train_tiny(tmp_path, "--steps", 4)
    (kept,) = (tmp_path / "run").glob("earlier-*")
    assert "is now in" in output and checkpoint.digest(kept) == first
    assert len(read_log(kept / "log.jsonl")) == len(read_log(tmp_path / "run" / "log.jsonl")) == 3
    train_tiny(tmp_path, "--steps", 4)
    assert len(list((tmp_path / "run").glob("earlier-*"))) == 2
    assert tgl("sample", "--from", kept, "--tokens", 3)


def test_resume_lengthens_a_run_and_shows_where_it_stands(tmp_path):
    train_tiny(tmp_path, "--steps", 3)
    output = tgl("train", "--resume", "--out", tmp_path / "run", "--steps", 6)
    assert "at step 3 of 6" in output and checkpoint.load(tmp_path / "run")[2]["progress"]["step"] == 6


def test_resume_refuses_what_would_make_it_another_run(tmp_path):
    train_tiny(tmp_path, "--steps", 3)
    before = checkpoint.digest(tmp_path / "run")
    resume = ("train", "--resume", "--out", tmp_path / "run")
    assert "lr was " in refused(*resume, "--lr", 0.1)
    assert "tokenizer was char" in refused(*resume, "--preset", "quick")
    assert "at step 3 already" in refused(*resume, "--steps", 2)
    (tmp_path / "text.txt").write_text(TEXT.replace("nobler", "milder"))
    assert "the text or its tokens" in refused(*resume)
    assert checkpoint.digest(tmp_path / "run") == before


@pytest.mark.parametrize("flags, named", [
    (("--batch-size", 0), "batch_size must be at least 1"), (("--lr", "nan"), "lr must be"), (("--log-every", 0), "log_every"),
    (("--optimizer", "sgd"), "adamw, muon"), (("--schedule", "linear"), "cosine, wsd, constant"), (("--steps", 0), "steps"),
    (("--heads", 3), "multiple of heads"), (("--norm", "batch"), "layernorm, rmsnorm"), (("--seed", -1), "seed"),
    (("--min-lr", 1), "min_lr must be at most lr"), (("--tokenizer", "word"), "bpe, char"), (("--preset", "big"), "quick"),
])  # fmt: skip
def test_a_setting_that_cannot_be_is_named_before_anything_is_written(tmp_path, flags, named):
    (tmp_path / "text.txt").write_text(TEXT)
    message = refused("train", "--data", tmp_path / "text.txt", *TINY, "--out", tmp_path / "run", *flags)
    assert named in message and not (tmp_path / "run").exists()


@pytest.mark.parametrize("flags, named", [(("--layers", 0), "layers must be"), (("--dropout", 1.5), "dropout must be")])
def test_a_model_that_cannot_be_is_named_before_the_text_is_read(tmp_path, flags, named):
    assert named in refused("train", "--data", tmp_path / "missing.txt", "--out", tmp_path / "run", *flags)


def test_a_file_in_place_of_the_runs_directory_is_named_and_kept(tmp_path):
    (tmp_path / "run").write_text("mine")
    (tmp_path / "text.txt").write_text(TEXT)
    message = refused("train", "--data", tmp_path / "text.txt", *TINY, "--steps", 1, "--out", tmp_path / "run")
    assert "run is a file: a run needs a directory" in message and (tmp_path / "run").read_text() == "mine"


def test_more_memory_than_there_is_ends_in_one_line_with_a_way_out(monkeypatch, capsys):
    def full():
        raise MemoryError("Unable to allocate 96.1 GiB")

    monkeypatch.setattr("transformer.cli.app.app", full)
    with pytest.raises(SystemExit, match="1"):
        main()
    assert (
        capsys.readouterr().err
        == "tgl: Unable to allocate 96.1 GiB: try a smaller --batch-size, --block-size or model\n"
    )


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("TGL_CUDA") != "emulate", reason="only the emulated card is made small")
def test_a_gpu_without_room_ends_in_one_line_with_what_helps(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    program = (
        "import sys\n"
        "from tinygrad_lite.kernels.cuda.emulator import memory\n"
        "from transformer.cli.main import main\n"
        "memory.card.total = 256 * 1024\n"
        "sys.exit(main())"
    )
    command = [sys.executable, "-c", program, "train", "--data", str(tmp_path / "text.txt"), "--tokenizer", "char", *TINY,
               "--device", "cuda", "--channels", "128", "--steps", "3", "--out", str(tmp_path / "run")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith('tgl: device "cuda": out of memory: ') and "of 0.2 MiB free on emulated GPU" in line
    assert "--batch-size" in line and "nvidia-smi" in line


@pytest.mark.slow
def test_accumulated_steps_train_the_same_model_as_large_ones(tmp_path):
    train_tiny(tmp_path, "--steps", 8, "--lr", 0.01, "--batch-size", 8, name="whole")
    train_tiny(tmp_path, "--steps", 8, "--lr", 0.01, "--batch-size", 2, "--accumulate", 4, name="parts")
    whole, parts = (checkpoint.load(tmp_path / name)[0] for name in ("whole", "parts"))
    for name, w in whole.items():
        # Adam divides by the root of a mean square: a rounding of 1e-7 in a gradient near zero moves a weight by up to lr.
        np.testing.assert_allclose(parts[name], w, atol=1e-4, err_msg=name)
        assert np.abs(w).max() > 0.02
    losses = [[e["loss"] for e in read_log(tmp_path / n / "log.jsonl") if "loss" in e] for n in ("whole", "parts")]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def test_resume_takes_the_same_command_again_and_the_same_text_elsewhere(tmp_path):
    train_tiny(tmp_path, "--steps", 3, "--lr", 0.01)
    (tmp_path / "text.txt").rename(tmp_path / "moved.txt")
    same = ("--tokenizer", "char", *TINY, "--steps", 5, "--lr", 0.01, "--preset", "quick")
    output = tgl("train", "--resume", "--data", tmp_path / "moved.txt", "--out", tmp_path / "run", *same)
    assert "step 3 of 5" in output and "stretched from 3 to 5" in output


@pytest.mark.slow
def test_a_directory_of_text_that_holds_the_run_itself_trains_on_the_text_alone(tmp_path):
    (tmp_path / ".hidden").write_text("never read")
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "more.txt").write_text(TEXT)
    said = []
    for _ in range(2):
        output = tgl("train", "--data", tmp_path, "--tokenizer", "char", *TINY, "--steps", 3, "--out", tmp_path / "run")
        said.append(re.search(r"Tokens: .*", output)[0])
    assert said[0] == said[1]
    assert "step 3 of 4" in tgl("train", "--resume", "--out", tmp_path / "run", "--steps", 4)


def test_settings_that_another_one_makes_meaningless_are_named(tmp_path):
    output = train_tiny(
        tmp_path, "--steps", 2, "--max-seconds", 9, "--vocab-size", 500, "--optimizer", "adamw", "--muon-lr", 1
    )
    said = output.split("Not used: ")[1].splitlines()[0]
    assert all(name in said for name in ("max_seconds", "vocab_size", "muon_lr"))


def test_a_path_is_printed_as_it_is(tmp_path):
    out = tmp_path / "r[lr] [" / "b]"  # rich's markup, were it read as such
    output = train_tiny(tmp_path, "--steps", 1, name=out.relative_to(tmp_path))
    assert f"tgl sample --from {quoted(out)}" in output and str(out) in output.split("Everything is in")[1]


def test_a_path_is_quoted_as_the_systems_shell_reads_it():
    assert quoted("runs/my run", "posix") == "'runs/my run'" and quoted("runs/a", "posix") == "runs/a"
    assert quoted("C:\\my run", "nt") == '"C:\\my run"' and quoted("C:\\a", "nt") == "C:\\a"  # cmd.exe and PowerShell


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="a console's Ctrl-C cannot be sent to one process on Windows")
def test_ctrl_c_saves_says_how_to_go_on_and_the_run_ends_as_if_never_stopped(tmp_path):
    train_tiny(tmp_path, "--steps", 400, name="whole")
    command = [sys.executable, "-m", "transformer.cli.main", "train", "--data", str(tmp_path / "text.txt"), "--tokenizer", "char",
               *TINY, "--steps", "400", "--out", str(tmp_path / "cut")]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    while not (tmp_path / "cut" / "log.jsonl").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 130 and "tgl train --resume --out" in output
    assert 0 < checkpoint.load(tmp_path / "cut")[2]["progress"]["step"] < 400
    tgl("train", "--resume", "--out", tmp_path / "cut")
    assert checkpoint.digest(tmp_path / "cut") == checkpoint.digest(tmp_path / "whole")


@pytest.fixture
def ctrl_c():
    """Ctrl-C as at a prompt: a shell that puts pytest into the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(os.name == "nt", reason="a console's Ctrl-C cannot be sent to one process on Windows")
@pytest.mark.parametrize("moment", ["load_corpus", "_train_tokenizer", "CharTokenizer.encode_to_array", "Trainer"])
def test_ctrl_c_before_training_says_that_nothing_is_saved(tmp_path, monkeypatch, ctrl_c, moment):
    (tmp_path / "text.txt").write_text(TEXT)
    place = "tokenizer." if "." in moment else "transformer.cli.train."
    monkeypatch.setattr(place + moment, lambda *a, **k: signal.raise_signal(signal.SIGINT))
    output = tgl(
        "train", "--data", tmp_path / "text.txt", "--tokenizer", "char", *TINY, "--out", tmp_path / "run", code=130
    )
    assert output.endswith("\nStopped at once; nothing of this run was saved.\n") and not (tmp_path / "run").exists()


@pytest.mark.skipif(os.name == "nt", reason="a console's Ctrl-C cannot be sent to one process on Windows")
def test_ctrl_c_while_a_resumed_run_reads_its_text_says_how_to_go_on(tmp_path, monkeypatch, ctrl_c):
    train_tiny(tmp_path, "--steps", 3)
    before = checkpoint.digest(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr("transformer.cli.train.load_corpus", lambda *a, **k: signal.raise_signal(signal.SIGINT))
        output = tgl("train", "--resume", "--out", tmp_path / "run", "--steps", 5, code=130)
    assert f"Stopped at once; step 3 is saved. Go on with:\n    tgl train --resume --out {tmp_path}" in output
    assert checkpoint.digest(tmp_path / "run") == before


@pytest.mark.skipif(os.name == "nt", reason="a console's Ctrl-C cannot be sent to one process on Windows")
def test_ctrl_c_while_the_end_is_evaluated_stops_soon_and_says_how_to_go_on(tmp_path, monkeypatch, ctrl_c):
    real, batches = RunView.__call__, []

    def interrupted(self, kind, values):
        real(self, kind, values)
        if kind == "evaluating" and self.trainer.progress.step == 3:
            batches.append(values)
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(RunView, "__call__", interrupted)
        (tmp_path / "text.txt").write_text(TEXT)
        output = tgl("train", "--data", tmp_path / "text.txt", "--tokenizer", "char", *TINY, "--steps", 3, "--out",
                     tmp_path / "run", code=130)  # fmt: skip
    assert len(batches) == 1 and batches[0]["done"] < batches[0]["of"]
    assert f"Stopped at step 3; all is saved. Go on with:\n    tgl train --resume --out {tmp_path}" in output
    assert "Done" not in output and "Done" in tgl("train", "--resume", "--out", tmp_path / "run")


@pytest.mark.parametrize("steps, width, last_ticks", [
    (1000, 100, ["750", "900"]), (400, 60, ["150", "300"]), (42, 100, ["36", "42"]), (2000, 50, ["1,000", "2,000"]), (1, 80, ["1", "2"]),
])  # fmt: skip
def test_the_curve_in_the_terminal_has_round_ticks_and_its_last_point(steps, width, last_ticks):
    drawn = text_curve([(1, 4.0), (steps, 2.0)], [(steps, 2.5)], width).splitlines()
    axis = next(i for i, line in enumerate(drawn) if "(step)" in line)
    assert drawn[axis + 1].split()[-2:] == last_ticks and max(map(len, drawn)) <= width
    assert sum(line.count("o") for line in drawn[1:axis]) == 1  # the held-out loss


def test_the_loss_curve_is_drawn_in_a_terminal(run, tmp_path):
    folder, _ = run
    screen = io.StringIO()
    loss_curve(folder / "run" / "log.jsonl", tmp_path / "loss.png", Console(file=screen, force_terminal=True, width=80))
    drawn = screen.getvalue()
    assert "held out" in drawn and "(step)" in drawn and max(map(len, drawn.splitlines())) <= 80
    assert (tmp_path / "loss.png").stat().st_size > 5000


def test_a_character_that_the_tokenizer_has_never_seen_is_named(tmp_path):
    train_tiny(tmp_path, "--steps", 1)
    assert "é" in refused("sample", "--from", tmp_path / "run", "--prompt", "é")


def test_help_names_every_command():
    output = tgl("--help")
    for command in ("train", "sample", "eval", "info", "gradcheck"):
        assert command in output


def test_sentences_break_between_words_on_a_terminal_and_paths_and_commands_never_do():
    path = "/a-folder/with/a/rather-long-name/and/runs"

    def said(terminal):
        screen = io.StringIO()
        Screen(file=screen, force_terminal=terminal, width=30).say(
            f"\nEverything of this run is in {path}. Go on with:", f"tgl train --out {path}"
        )
        return screen.getvalue()

    lines = said(True).splitlines()
    assert lines == ["", "Everything of this run is in", f"{path}.", "Go on with:", f"    tgl train --out {path}"]
    assert len(said(False).splitlines()) == 3


@pytest.mark.parametrize("name, value", [("TGL_NUM_THREADS", "abc"), ("TGL_FUSED", "yes")])
def test_a_bad_environment_variable_is_one_line_that_names_it(name, value):
    command = [sys.executable, "-m", "transformer.cli.main", "--version"]
    done = subprocess.run(command, env={**os.environ, name: value}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"tgl: {name}: expected ") and done.stderr.count("\n") == 1
    assert repr(value) in done.stderr and "unset" in done.stderr


@pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="there is a GPU here")
def test_a_device_that_is_not_there_is_said_before_the_text_is_read(tmp_path):
    command = [
        sys.executable,
        "-m",
        "transformer.cli.main",
        "train",
        "--device",
        "cuda",
        "--steps",
        "1",
        "--out",
        tmp_path / "run",
    ]
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "TGL_CUDA": "cupy", "PYTHONPATH": root}
    )
    assert done.returncode == 1 and 'device "cuda"' in done.stderr and "Text:" not in done.stdout + done.stderr
