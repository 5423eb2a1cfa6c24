"""Runs: learning, logs, checkpoints, resuming bit for bit, refusing what cannot be."""

import dataclasses
import json
import math
import os
import shutil

import numpy as np
import pytest

from tinygrad_lite import default_generator, threads
from tokenizer import CharTokenizer
from transformer import checkpoint
from transformer.evaluation import evaluate
from transformer.log import read_log
from transformer.presets import PRESETS, TrainConfig, preset
from transformer.trainer import NonFiniteLoss, Trainer

TEXT = "the cat sat on the mat and the dog sat on the log. " * 60
TOK = CharTokenizer.train(TEXT)
IDS = TOK.encode_to_array(TEXT)


def make(out=None, **changes):
    settings = dict(tokenizer="char", model=dict(layers=2, heads=2, channels=16, block_size=16), batch_size=4, steps=12,
                    lr=5e-3, warmup=2, eval_every=6, eval_windows=None, log_every=3)  # fmt: skip
    return Trainer(TrainConfig(**{**settings, **changes}), IDS[:2500], IDS[2500:], TOK, out)


def weights(trainer):
    return {n: p.numpy().copy() for n, p in trainer.model.named_parameters()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_training_lowers_the_held_out_loss(tmp_path):
    trainer = make(tmp_path, steps=80)
    before = evaluate(trainer.model, trainer.val, TOK).loss
    trainer.run()
    assert trainer.progress.evaluations[-1]["val_loss"] < before - 0.8


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    a, b, c = make(), make(), make(seed=2)
    for trainer in (a, b, c):
        trainer.run()
    assert_same(weights(a), weights(b))
    assert not np.array_equal(weights(a)["tokens.weight"], weights(c)["tokens.weight"])


def test_the_weights_are_the_same_bits_whatever_the_number_of_threads():
    found, before = [], threads.get_num_threads()
    try:
        for count in (1, 2, 3):
            threads.set_num_threads(count)
            trainer = make(steps=4, optimizer="muon", batch_size=12,
                           model=dict(layers=1, heads=4, channels=128, block_size=64))  # fmt: skip
            trainer.run()
            found.append(weights(trainer))
    finally:
        threads.set_num_threads(before)
    for other in found[1:]:
        assert_same(found[0], other)


@pytest.mark.parametrize("changes", [{}, {"optimizer": "muon"}, {"accumulate": 2, "schedule": "wsd"},
                                     {"model": dict(layers=1, heads=2, channels=16, block_size=16, dropout=0.2)}], ids=str)  # fmt: skip
def test_an_interrupted_run_continues_bit_for_bit(tmp_path, changes):
    whole = make(tmp_path / "whole", **changes)
    whole.run()
    first = make(tmp_path / "cut", **changes)
    stop_after(first, 7)
    first.run()
    assert first.progress.step == 7
    default_generator.manual_seed(99)  # the resumed run must not lean on what this process left behind
    again = make(tmp_path / "cut", **changes)
    again.resume(tmp_path / "cut")
    again.run()
    assert_same(weights(whole), weights(again))
    assert checkpoint.digest(tmp_path / "whole") == checkpoint.digest(tmp_path / "cut")


def stop_after(trainer, step):
    def report(kind, values):
        if kind == "step" and values["step"] == step:
            trainer.stop_requested = True

    trainer.report = report


def test_the_log_has_every_figure_and_no_step_twice_after_a_resume(tmp_path):
    first = make(tmp_path)
    stop_after(first, 8)
    first.run()
    again = make(tmp_path)
    again.resume(tmp_path)
    again.run()
    entries = read_log(tmp_path / "log.jsonl")
    steps = [e["step"] for e in entries if "loss" in e]
    assert steps == sorted(set(steps)) and steps[-1] == 12
    step = next(e for e in entries if "loss" in e)
    assert {
        "loss",
        "lr",
        "grad_norm",
        "clipped_share",
        "tokens_per_s",
        "layer_grad_norm",
        "layer_update_ratio",
    } <= step.keys()
    assert set(step["layer_grad_norm"]) >= {"tokens", "blocks.0", "blocks.1", "norm"}
    assert all(0 < r < 1 for r in step["layer_update_ratio"].values())
    evaluations = [e for e in entries if "val_loss" in e]
    assert [e["step"] for e in evaluations] == [6, 12]
    assert all(math.isfinite(e["bits_per_byte"]) for e in evaluations)


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
def test_a_limit_in_seconds_becomes_a_stored_number_of_steps_that_repeats_the_run(tmp_path, schedule):
    timed = make(tmp_path, steps=None, max_seconds=0.4, schedule=schedule)
    timed.run()
    steps = checkpoint.load(tmp_path)[2]["train"]["steps"]
    assert steps >= 1 and timed.progress.step == steps
    counted = make(steps=steps, schedule=schedule)
    counted.run()
    assert_same(weights(timed), weights(counted))


def test_a_checkpoint_is_saved_before_the_evaluation(tmp_path, monkeypatch):
    trainer = make(tmp_path)

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "evaluate", killed)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert checkpoint.load(tmp_path)[2]["progress"]["step"] == 6


def test_a_run_killed_before_its_evaluation_makes_up_for_it_and_ends_the_same(tmp_path, monkeypatch):
    make(tmp_path / "whole").run()
    trainer = make(tmp_path / "cut")
    monkeypatch.setattr(trainer, "evaluate", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trainer.run()
    again = make(tmp_path / "cut")
    again.resume(tmp_path / "cut")
    again.run()
    assert checkpoint.digest(tmp_path / "whole") == checkpoint.digest(tmp_path / "cut")
    assert [e["step"] for e in read_log(tmp_path / "cut" / "log.jsonl") if "val_loss" in e] == [6, 12]


@pytest.mark.parametrize("at", [6, 12])
def test_a_stop_cuts_an_evaluation_short_and_the_resumed_run_makes_up_for_it(tmp_path, at):
    make(tmp_path / "whole").run()
    trainer, batches = make(tmp_path / "cut"), []

    def report(kind, values):
        if kind == "evaluating" and trainer.progress.step == at:
            batches.append(values)
            trainer.stop_requested = True

    trainer.report = report
    assert trainer.run().step == at
    assert len(batches) == 1 and batches[0]["done"] < batches[0]["of"] and not trainer.finished
    assert checkpoint.load(tmp_path / "cut")[2]["progress"]["step"] == at
    again = make(tmp_path / "cut")
    again.resume(tmp_path / "cut")
    again.run()
    assert again.finished and checkpoint.digest(tmp_path / "whole") == checkpoint.digest(tmp_path / "cut")
    assert [e["step"] for e in read_log(tmp_path / "cut" / "log.jsonl") if "val_loss" in e] == [6, 12]


def test_a_stop_while_the_last_step_runs_leaves_the_evaluation_to_the_resumed_run(tmp_path):
    trainer = make(tmp_path)
    stop_after(trainer, 12)
    trainer.run()
    assert not trainer.finished and [e["step"] for e in trainer.progress.evaluations] == [6]
    again = make(tmp_path)
    again.resume(tmp_path)
    assert [e["step"] for e in again.run().evaluations] == [6, 12] and again.finished


def test_a_half_written_checkpoint_is_never_loaded(tmp_path):
    trainer = make(tmp_path)
    trainer.run()
    (tmp_path / ".writing-1").mkdir()
    (tmp_path / ".writing-1" / "state.json").write_text("{")
    assert checkpoint.find(tmp_path).name == "step-00000012.1"  # the second of that step: with its evaluation
    (tmp_path / "latest").unlink()
    assert checkpoint.find(tmp_path).name == "step-00000012.1"  # the second of that step: with its evaluation


@pytest.mark.parametrize("moment", ["replace", "shutil.rmtree"])
def test_a_save_that_is_cut_short_anywhere_leaves_a_whole_checkpoint(tmp_path, monkeypatch, moment):
    trainer = make(tmp_path)
    trainer.run()
    expected, real, calls = weights(trainer), {"replace": os.replace, "shutil.rmtree": shutil.rmtree}[moment], []

    class Killed(BaseException):
        pass

    def cut(*args, **kwargs):
        calls.append(args)
        if len(calls) == fatal:
            raise Killed
        return real(*args, **kwargs)

    for fatal in (1, 2):  # noqa: B007
        calls.clear()
        monkeypatch.setattr(f"transformer.checkpoint.{moment}", cut)
        try:
            trainer.save()
        except Killed:
            pass
        monkeypatch.undo()
        found, moments, state = checkpoint.load(tmp_path)
        assert_same(found, expected)
        assert moments and state["progress"]["step"] == 12


def test_what_is_not_the_runs_own_is_never_removed(tmp_path):
    (tmp_path / "step-by-step").mkdir()
    (tmp_path / "step-by-step" / "notes.txt").write_text("mine")
    make(tmp_path).run()
    assert (tmp_path / "step-by-step" / "notes.txt").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("removed", [1, 2, 3])
def test_a_removal_that_was_cut_short_is_finished_by_the_next_save(tmp_path, monkeypatch, removed):
    trainer = make(tmp_path)
    stop_after(trainer, 3)
    trainer.run()

    class Killed(BaseException):
        pass

    def cut(path, **_):
        for file in sorted(path.iterdir())[:removed]:
            file.unlink()
        raise Killed

    trainer.progress.step = 4
    with monkeypatch.context() as patch:
        patch.setattr("transformer.checkpoint.shutil.rmtree", cut)
        with pytest.raises(Killed):
            trainer.save()
    assert list(tmp_path.glob(".removing-*")) and checkpoint.find(tmp_path).name == "step-00000004"
    trainer.progress.step = 5
    trainer.save()
    assert sorted(p.name for p in tmp_path.glob("*step-*")) == ["step-00000005"]


def test_a_save_sweeps_nothing_that_is_not_left_of_a_removed_checkpoint(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    kept = {
        "step-00000001": "notes.txt",
        "step-00000002": "state.json.bak",
        "step-00000004": "state.json",  # a checkpoint without its optimiser: weights can be read from it
        "step-1": "state.json",
        "step-00000003x": "a",
    }
    for name, inside in kept.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_text("mine")
        (tmp_path / name / inside).write_text("mine")
    (elsewhere / "model.safetensors").write_text("mine")
    if os.name != "nt":  # where a link takes a privilege
        (tmp_path / "step-00000007").symlink_to(elsewhere, target_is_directory=True)
    (tmp_path / "step-00000008").write_text("mine")
    make(tmp_path).run()
    for name, inside in kept.items():
        assert (tmp_path / name / inside).exists() and (tmp_path / name / "model.safetensors").exists()
    assert os.name == "nt" or (tmp_path / "step-00000007" / "model.safetensors").read_text() == "mine"
    assert (tmp_path / "step-00000008").read_text() == "mine"


def test_two_runs_in_one_directory_are_refused(tmp_path):
    with (
        checkpoint.lock(tmp_path),
        pytest.raises(checkpoint.CheckpointError, match="another process is training there"),
    ):
        checkpoint.lock(tmp_path)
    with checkpoint.lock(tmp_path):
        pass


def test_a_checkpoints_own_directory_is_no_runs_directory(tmp_path):
    make(tmp_path).run()
    trainer = make(tmp_path)
    for refused in (trainer.resume, checkpoint.move_aside):
        with pytest.raises(checkpoint.CheckpointError, match="name the run's directory"):
            refused(checkpoint.find(tmp_path))


def test_a_checkpoint_without_one_of_its_files_is_not_taken_for_whole(tmp_path):
    make(tmp_path, steps=1).run()
    (checkpoint.find(tmp_path) / "optimizer.safetensors").rename(tmp_path / "kept")
    with pytest.raises(checkpoint.CheckpointError, match="no checkpoint here"):
        checkpoint.load(tmp_path)


def test_a_held_out_part_without_a_target_is_refused():
    trainer = make()
    with pytest.raises(ValueError, match="held-out text has 1 tokens"):
        Trainer(trainer.config, IDS, IDS[:1], TOK)


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_named(tmp_path, file):
    make(tmp_path, steps=1).run()
    (checkpoint.find(tmp_path) / file).write_bytes(b"\x00\x01")
    with pytest.raises(checkpoint.CheckpointError, match="step-00000001"):
        checkpoint.load(tmp_path)


def test_no_checkpoint_says_how_to_make_one(tmp_path):
    with pytest.raises(checkpoint.CheckpointError, match="tgl train --out"):
        checkpoint.load(tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tmp_path):
    trainer = make(tmp_path, steps=20)
    stop_after(trainer, 6)
    trainer.run()
    trainer.stop_requested = False
    trainer.model.tokens.weight.data[...] = np.nan
    with pytest.raises(NonFiniteLoss, match="step 6: the held-out loss is nan"):
        trainer.run()
    with pytest.raises(NonFiniteLoss, match="step 7: the loss is nan.*--detect-anomaly, from step 6, which is kept"):
        trainer.train_step(6)
    assert np.isfinite(checkpoint.load(tmp_path)[0]["tokens.weight"]).all()


def test_a_gradient_that_is_not_finite_stops_the_run_before_the_weights_are_touched(monkeypatch):
    trainer = make()
    before = weights(trainer)
    monkeypatch.setattr("tinygrad_lite.optim.grad_norm", lambda parameters: math.inf)
    with pytest.raises(NonFiniteLoss, match="step 1: the gradient's norm is inf"):
        trainer.run()
    assert_same(before, weights(trainer))


def test_a_run_that_diverges_is_told_once():
    trainer, warnings = make(steps=30, lr=5.0, min_lr=0.0), []
    trainer.report = lambda kind, values: warnings.append(values["text"]) if kind == "warning" else None
    trainer.run()
    assert len(warnings) == 1 and "diverges" in warnings[0]


def test_resuming_with_other_settings_or_text_is_refused(tmp_path):
    make(tmp_path).run()
    with pytest.raises(ValueError, match="lr was 0.005, is 0.01"):
        make(tmp_path, lr=1e-2).resume(tmp_path)
    other = make(tmp_path)
    other.val = other.val[:-1]
    with pytest.raises(ValueError, match="the text or its tokens"):
        other.resume(tmp_path)


def test_weights_that_do_not_fit_are_listed_and_none_is_written():
    trainer = make()
    before = weights(trainer)
    wrong = {**before, "norm.weight": np.ones(3, np.float32), "extra": np.ones(1)}
    del wrong["tokens.weight"]
    with pytest.raises(checkpoint.CheckpointError) as caught:
        checkpoint.put_weights(trainer.model, wrong, "here")
    for part in ("extra is not of this model", "norm.weight must be (16,), is (3,)", "tokens.weight is missing"):
        assert part in str(caught.value)
    assert_same(before, weights(trainer))


def test_evaluation_scores_every_token_once_whatever_the_windows():
    trainer = make()
    side, sliding = evaluate(trainer.model, IDS[:100], TOK), evaluate(trainer.model, IDS[:100], TOK, stride=5)
    assert side.tokens == sliding.tokens == 99
    assert side.text_bytes == sliding.text_bytes == 99
    assert side.bits_per_byte == pytest.approx(side.loss / math.log(2))
    assert side.word_perplexity > side.token_perplexity


def test_sliding_windows_equal_one_token_at_a_time_with_full_context():
    from tinygrad_lite import no_grad
    from transformer.model import as_tokens

    trainer, ids = make(), IDS[:60].astype(np.int64)
    trainer.model.eval()
    nats, size = 0.0, 16
    with no_grad():
        for i in range(1, len(ids)):
            context = ids[max(0, i - size) : i]
            logits = trainer.model(as_tokens(context[None])).numpy()[0, -1].astype(np.float64)
            nats += np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[ids[i]]
    assert evaluate(trainer.model, IDS[:60], TOK, stride=1).nats == pytest.approx(nats, rel=1e-5)


def test_presets_are_whole_and_survive_json():
    for name in PRESETS:
        config = preset(name)
        assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
        assert config.gpt_config(100).channels % config.gpt_config(100).heads == 0
    assert dataclasses.asdict(preset("quick")) == dataclasses.asdict(preset("quick"))
    with pytest.raises(ValueError, match="shakespeare-char-cpu"):
        preset("nothing")
