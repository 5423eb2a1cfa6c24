"""`tgl train --detect-anomaly`: the op where a NaN began, in the model that trains."""

import subprocess
import sys

import numpy as np
import pytest

from tinygrad_lite.study import AnomalyError, detect_anomaly, replay
from tokenizer import CharTokenizer
from transformer import checkpoint
from transformer.presets import TrainConfig
from transformer.trainer import NonFiniteLoss, Trainer

TEXT = "the cat sat on the mat and the dog sat on the log. " * 20
TOK = CharTokenizer.train(TEXT)
IDS = TOK.encode_to_array(TEXT)


def make(out=None, **changes):
    settings = dict(tokenizer="char", model=dict(layers=1, heads=2, channels=16, block_size=16), batch_size=2,
                    eval_every=100, warmup=2)  # fmt: skip
    return Trainer(TrainConfig(**{**settings, **changes}), IDS[:800], IDS[800:], TOK, out)


def assert_same_weights(a, b):
    for (name, p), (_, q) in zip(a.model.named_parameters(), b.model.named_parameters(), strict=True):
        assert p.numpy().tobytes() == q.numpy().tobytes(), name


def test_training_is_the_same_in_every_bit_while_it_is_looked_at():
    plain, watched = make(steps=6), make(steps=6)
    plain.run()
    with detect_anomaly(None):
        watched.run()
    assert_same_weights(plain, watched)


def test_the_line_of_the_model_is_named(tmp_path):
    trainer = make(tmp_path / "run", steps=3)
    trainer.run()
    trainer.model.blocks[0].mlp.up.weight.data[0, 0] = np.nan
    with pytest.raises(AnomalyError) as caught, detect_anomaly(tmp_path / "anomaly.npz"):
        trainer.train_step(3)
    origin = caught.value.origin
    assert origin.place.file.endswith("model.py") and "up.weight" in origin.place.statement
    assert origin.path == "GPT.blocks.0.mlp" and "in the module GPT.blocks.0.mlp, MLP" in str(caught.value)
    assert origin.values[origin.which].label == "GPT.blocks.0.mlp.up.weight"
    assert [type(m).__name__ for m in origin.call.modules] == ["GPT", "Block", "MLP"]
    assert replay(tmp_path / "anomaly.npz").is_same
    assert np.isfinite(checkpoint.load(tmp_path / "run")[0]["blocks.0.mlp.up.weight"]).all()


def test_an_overflow_of_the_scaled_loss_in_float16_is_no_end():
    plain, watched = make(steps=4, dtype="float16"), make(steps=4, dtype="float16")
    for trainer in (plain, watched):
        trainer.scaler.scale = 2.0**40
    for step in range(3):
        values = plain.train_step(step)
        with detect_anomaly(None):
            assert repr(watched.train_step(step)) == repr(values)  # the norm may be NaN
        assert values["skipped"]
    assert_same_weights(plain, watched)


CALLS_OF_A_STEP = """
import sys
from collections import Counter
import numpy as np
from transformer import GPT, GPTConfig
from transformer.model import as_tokens
import transformer.cli.app, transformer.trainer

model = GPT(GPTConfig(vocab_size=7, block_size=4, layers=1, heads=2, channels=8))
ids = as_tokens([[1, 2, 3, 4]])


def calls():
    found = Counter()
    sys.setprofile(lambda frame, event, arg: found.update([(frame.f_code.co_qualname, event)]))
    try:
        model.zero_grad()
        model(ids, ids).backward()
    finally:
        sys.setprofile(None)
    return found


calls()
before = calls()
print(sorted(name for name in sys.modules if ".study" in name), len(before) > 50)
import tinygrad_lite.study
with tinygrad_lite.study.detect_anomaly(None):
    watched = calls()
print(calls() == before, watched != before)
"""


@pytest.mark.slow
def test_study_code_is_not_loaded_by_itself_and_loaded_and_off_a_step_makes_the_same_calls():
    done = subprocess.run([sys.executable, "-c", CALLS_OF_A_STEP], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[] True", "True True"]


@pytest.mark.slow
def test_on_the_gpu_the_captured_step_is_not_used_while_it_is_looked_at():
    trainer = make(device="cuda", steps=3)
    with detect_anomaly(None):
        assert np.isfinite(trainer.train_step(0)["loss"])
        trainer.model.blocks[0].norm1.weight.data[0] = np.nan
        with pytest.raises(AnomalyError, match="GPT.blocks.0.norm1.weight"):
            trainer.train_step(1)
    with pytest.raises(NonFiniteLoss):
        trainer.train_step(1)
