"""The memory that is said before a run is what the process then holds."""

import re
import subprocess
import sys

import pytest

from transformer.config import GPTConfig
from transformer.memory import MIB, expected_bytes, peak_bytes, process_bytes
from transformer.presets import TrainConfig

WIDE = dict(layers=6, heads=6, channels=384, block_size=256)
RUNS = {
    "plain": dict(model=WIDE, batch_size=8),
    "dropout": dict(model=dict(WIDE, dropout=0.2), batch_size=4),
    "muon-rope": dict(model=dict(WIDE, positions="rope", norm="rmsnorm"), batch_size=8, optimizer="muon"),
    "swiglu": dict(model=dict(WIDE, mlp="swiglu"), batch_size=8),
    "recorded": dict(model=dict(layers=4, heads=4, channels=128, block_size=64), batch_size=48),
    "large-vocabulary": dict(vocab=20_000, model=dict(WIDE, layers=2), batch_size=4),
}
PROGRAM = """
import sys
import numpy as np
from transformer.memory import expected_bytes, peak_bytes, process_bytes
from transformer.presets import TrainConfig
from transformer.trainer import Trainer

run = eval(sys.argv[1])
vocab = run.pop("vocab", 65)

class Bytes:
    vocab_size = vocab
    def decode_bytes(self, ids):
        return bytes(len(ids))

def trainer(**settings):
    ids = np.random.default_rng(0).integers(0, vocab, 9000).astype(np.uint16)
    return Trainer(TrainConfig(steps=4, log_every=2, eval_every=100, final_windows=1, **settings), ids, ids[:600], Bytes())

small = {**run, "model": {**run["model"], "layers": 1, "channels": 48, "block_size": 32}, "batch_size": 2}
trainer(**small).run()  # compiles: the compiler's memory is not the run's
before = process_bytes()
measured = trainer(**run)
measured.run()
hidden = sum(p.size for p in measured.model.blocks.parameters() if p.ndim == 2)
expected = expected_bytes(measured.model.config, measured.config, measured.model.num_parameters(), hidden)
print(expected / (peak_bytes() - before))
"""


def test_the_peak_is_this_process_s_own_and_not_that_of_the_one_that_started_it():
    held = b"x" * (300 << 20)
    program = "from transformer.memory import peak_bytes, process_bytes; print(peak_bytes() - process_bytes())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < len(held) / 3


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_run_takes_the_memory_that_was_said(name):
    done = subprocess.run([sys.executable, "-c", PROGRAM, repr(RUNS[name])], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 0.87 < float(done.stdout) < 1.15  # the promise over what was taken


@pytest.mark.slow
def test_the_command_takes_the_memory_that_it_said_from_the_interpreter_to_the_kernels(tmp_path):
    (tmp_path / "text.txt").write_text("To be, or not to be, that is the question. " * 100)
    command = [sys.executable, "-m", "transformer.cli.main", "train", "--data", tmp_path / "text.txt", "--tokenizer", "char",
               "--steps", "3", "--out", tmp_path / "run"]  # fmt: skip
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    said, more = map(int, re.search(r"about (\d+) MiB of memory \((\d+) more", output).groups())
    taken = int(re.search(r"(\d+) MiB of memory at the peak", output)[1])
    assert 0.87 * said < taken < 1.15 * (said + more)


def test_more_layers_longer_contexts_and_timing_take_more():
    def of(train=None, **changes):
        sizes = GPTConfig(vocab_size=65, **{"layers": 2, "channels": 64, **changes})
        return expected_bytes(sizes, train or TrainConfig(steps=1), 100_000)

    assert of() < of(layers=4) and of() < of(block_size=128)
    assert of() < of(TrainConfig(steps=None, max_seconds=1.0))
    few, many = (
        expected_bytes(GPTConfig(65), TrainConfig(steps=1, optimizer="muon"), 10**6, h) for h in (9 * 10**5, 0)
    )
    assert few < many


def test_this_process_holds_some_memory_and_never_more_than_its_peak():
    assert 10 * MIB < process_bytes() <= peak_bytes() * 1.01


MANY_STEPS = """
import numpy as np
from tinygrad_lite import Generator, Tensor, optim
from transformer.config import GPTConfig
from transformer.memory import process_bytes
from transformer.model import GPT

model = GPT(GPTConfig(65, 32, layers=2, heads=2, channels=32), Generator(0))
adam, rng = optim.AdamW(model.parameters()), np.random.default_rng(0)
for step in range(1, 10_001):
    tokens = rng.integers(0, 65, (8, 33))
    adam.zero_grad()
    model(Tensor(tokens[:, :-1].copy()), Tensor(tokens[:, 1:].copy())).backward()
    optim.clip_grad_norm_(model.parameters(), 1.0)
    adam.step()
    if step == 100:
        early = process_bytes()
print(process_bytes() / early)
"""


@pytest.mark.slow
def test_ten_thousand_steps_hold_no_more_than_a_hundred():
    done = subprocess.run([sys.executable, "-c", MANY_STEPS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1.01
