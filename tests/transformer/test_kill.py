"""A run killed with SIGKILL at a random moment and resumed equals one that was never killed, bit for bit."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from transformer import checkpoint

TEXT = "It was the best of times, it was the worst of times, it was the age of wisdom. " * 200
ARGS = ["--tokenizer", "char", "--layers", "2", "--heads", "2", "--channels", "32", "--block-size", "32", "--batch-size", "8",
        "--dropout", "0.1", "--steps", "300", "--eval-every", "50", "--save-every", "3", "--log-every", "20"]  # fmt: skip
TRIALS = 20


def command(folder, out, *more):
    return [
        sys.executable,
        "-m",
        "transformer.cli.main",
        "train",
        "--data",
        str(folder / "text.txt"),
        *ARGS,
        "--out",
        str(out),
        *more,
    ]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX's")
def test_twenty_runs_killed_at_random_moments_end_in_the_same_bits(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    environment = {**os.environ, "TGL_NUM_THREADS": "1"}
    began = time.monotonic()
    subprocess.run(command(tmp_path, tmp_path / "whole"), check=True, env=environment, capture_output=True)
    whole_s = time.monotonic() - began
    expected, rng, killed = checkpoint.digest(tmp_path / "whole"), random.Random(0), 0
    for trial in range(TRIALS):
        out = tmp_path / f"cut{trial}"
        process = subprocess.Popen(
            command(tmp_path, out), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(rng.uniform(0.2, 1.0) * whole_s)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.wait()
        more = ["--resume"] if (out / "latest").exists() else []  # killed before the first save: nothing to resume
        done = subprocess.run(command(tmp_path, out, *more), env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert checkpoint.digest(out) == expected, f"trial {trial}"
    assert killed >= TRIALS // 2
