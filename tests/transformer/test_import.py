"""Imported models as runs: every command on them, training on from them, where their texts begin and end."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.hf_models import (
    arrays,
    bpe,
    changed,
    llama_folder,
    succeeded,
    template,
    tgl,
)

from tinygrad_lite import Generator
from transformer import checkpoint
from transformer.cli.inspect import load_model
from transformer.cli.run_view import sample_text
from transformer.config import GPTConfig
from transformer.data import load_corpus
from transformer.evaluation import evaluate
from transformer.hf.folder import load
from transformer.model import GPT
from transformer.presets import TrainConfig
from transformer.sampling import generate


@pytest.fixture
def folder(tmp_path):
    return llama_folder(tmp_path)


def test_an_imported_model_is_a_run_for_every_command(folder, tmp_path):
    run = tmp_path / "run"
    said = succeeded(tgl("import", folder, "--to", run))
    assert "Left out: 3 rows" in said and f"tgl train --from {run}" in said
    model, tok, _ = load_model(run)
    original = load(folder)
    assert tok.to_dict() == bpe().to_dict() and model.config.vocab_size == tok.vocab_size
    for name, weight in arrays(model).items():
        np.testing.assert_array_equal(weight, original.weights[name])
    assert "Imported from" in succeeded(tgl("info", run))
    assert "the" in succeeded(tgl("sample", "--from", run, "--prompt", "the", "--tokens", 3))
    (tmp_path / "text.txt").write_text("the theme of the thesis " * 20)
    assert "disjoint" in succeeded(tgl("eval", "--from", run, "--data", tmp_path / "text.txt"))
    assert "Loss" in succeeded(tgl("view", "--from", run, "--text", "the theme of", "--out", tmp_path / "step.html"))
    succeeded(tgl("export", "--from", run, "--to", tmp_path / "again"))
    before, after = (load_file(f / "model.safetensors") for f in (folder, tmp_path / "again"))
    for name, weight in after.items():
        np.testing.assert_array_equal(weight, before[name][: len(weight)])
    again = tgl("import", folder, "--to", run)
    assert again.exit_code != 0 and "holds a run already: name another directory with --to" in str(again.exception)
    resumed = tgl("train", "--resume", "--out", run)
    assert resumed.exit_code != 0 and f"tgl train --from {run} --out ANOTHER" in str(resumed.exception)


def test_training_begins_with_the_weights_it_is_given(folder, tmp_path):
    run, tuned, text = tmp_path / "run", tmp_path / "tuned", tmp_path / "text.txt"
    text.write_text("the theme of the thesis " * 99)
    succeeded(tgl("import", folder, "--to", run))
    train = ["train", "--from", run, "--data", text, "--out", tuned, "--steps", 3, "--log-every", 1, "--block-size", 12]
    said = succeeded(tgl(*train, "--dropout", 0.1))
    assert "Begins with the weights in" in said and "which is where training starts" not in said
    _, state = checkpoint.load_weights(tuned)
    assert state["model"] | {"block_size": 24, "dropout": 0.0} == load(folder).config.to_dict()
    first = state["progress"]["evaluations"][0]
    untrained = evaluated(run, text, tuned)
    assert first["step"] == 0 and abs(first["val_loss"] - untrained) < 1e-6 * untrained
    assert state["progress"]["evaluations"][-1]["val_loss"] < first["val_loss"]

    more = ["--resume", "--out", tuned, "--steps", 5]
    for other, was in (
        (["--from", tuned], f"(from was {run.resolve()})"),
        (["--block-size", 24], "(block_size was 12)"),
        (["--tokenizer", "bpe"], f"(tokenizer was {run.resolve()})"),
    ):
        assert was in str(tgl("train", *more, *other).exception)
    shutil.rmtree(run)  # what is tuned stands alone, and what is stored may be given again
    again = ["--from", run, "--preset", "tune", "--block-size", 12, "--dropout", 0.1]
    assert "step 3 of 5" in succeeded(tgl("train", *more, *again))


def test_a_run_that_is_cut_before_its_first_step_or_later_goes_on_to_the_same_bits(folder, tmp_path, monkeypatch):
    run, text = tmp_path / "run", tmp_path / "text.txt"
    text.write_text("the theme of the thesis " * 99)
    succeeded(tgl("import", folder, "--to", run))
    train = ["train", "--from", run, "--data", text, "--steps", 4, "--eval-every", 2, "--dropout", 0.1]
    succeeded(tgl(*train, "--out", tmp_path / "whole"))

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    for out, evaluations in (("at once", 0), ("later", 1)):
        calls = [evaluate] * evaluations + [interrupted]
        monkeypatch.setattr("transformer.trainer.evaluate", lambda *a, calls=calls, **k: calls.pop(0)(*a, **k))
        cut = tgl(*train, "--out", tmp_path / out)
        assert cut.exit_code == 130 and f"step {2 * evaluations} is saved. Go on with" in cut.output
        monkeypatch.setattr("transformer.trainer.evaluate", evaluate)
        succeeded(tgl("train", "--resume", "--out", tmp_path / out))
        assert checkpoint.digest(tmp_path / out) == checkpoint.digest(tmp_path / "whole")


def evaluated(run, text, like):
    """The loss of a run's model on the text that another's training held out, in windows of that one's context."""
    model, tok, _ = load_model(run)
    _, state = checkpoint.load_weights(like)
    model = GPT(GPTConfig(**model.config.to_dict() | {"block_size": 12})).eval()
    checkpoint.put_weights(model, checkpoint.load_weights(run)[0], run)
    limit = TrainConfig.from_dict(state["train"]).eval_windows
    return evaluate(model, tok.encode_to_array(load_corpus([text]).val), tok, limit=limit).loss


def test_a_run_of_ones_own_is_trained_on_too_with_a_context_of_learned_positions_cut(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("to be, or not to be, that is the question. " * 60)
    first, second = tmp_path / "first", tmp_path / "second"
    settings = ["--preset", "shakespeare-char-cpu", "--layers", 1, "--channels", 16, "--heads", 2, "--steps", 4]
    succeeded(tgl("train", "--data", text, *settings, "--out", first))
    begin = ["train", "--from", first, "--data", text, "--out", second]
    succeeded(tgl(*begin, "--steps", 1, "--block-size", 8, "--lr", 1e-9, "--min-lr", 0, "--weight-decay", 0))
    (before, _), (after, _) = checkpoint.load_weights(first), checkpoint.load_weights(second)
    for name, weight in after.items():
        np.testing.assert_allclose(weight, before[name][: len(weight)], rtol=0, atol=1e-6)
    assert after["positions.weight"].shape == (8, 16)
    (tmp_path / "other.txt").write_text("the question è")
    result = tgl("train", "--from", first, "--data", tmp_path / "other.txt", "--out", tmp_path / "third")
    assert "other.txt: character 'è' (U+00E8)" in str(result.exception) and "--tokenizer bpe" in str(result.exception)
    for more, said in (
        (["--layers", 2, "--tokenizer", "bpe"], "layers is 1; tokenizer is the run's"),
        (["--block-size", 65], "block_size is at most 64"),
    ):
        result = tgl(*begin, *more)
        assert result.exit_code != 0 and said in str(result.exception) and "leave them out" in str(result.exception)


def test_what_the_tokenizer_puts_before_texts_is_put_before_a_prompt(folder, tmp_path):
    end = bpe().special_tokens["<|end|>"]
    changed(folder / "tokenizer.json", post_processor=template())
    found = load(folder)
    assert found.begin == found.start == [end]
    changed(folder / "tokenizer.json", post_processor={"type": "Sequence", "processors": [template()]})
    succeeded(tgl("import", folder, "--to", tmp_path / "run"))
    model, tok, _ = load_model(tmp_path / "run")
    for prompt, ids in ((None, [end]), ("the", [end, *tok.encode("the")])):
        asked = [] if prompt is None else ["--prompt", prompt]
        said = tgl("sample", "--from", tmp_path / "run", *asked, "--tokens", 4, "--temperature", 0).output
        written = tok.decode(list(generate(model, ids, 4, temperature=0)))
        assert said.rstrip("\n") == ((prompt or "") + written).rstrip("\n")


def test_a_sample_that_training_shows_starts_and_ends_where_the_models_texts_do(folder):
    found = load(folder)
    model = GPT(found.config).eval()
    checkpoint.put_weights(model, found.weights, folder)
    ids = list(generate(model, [7], 40, temperature=0.8, top_k=200, generator=Generator(1)))
    marks = {"begin": [], "start": [7], "end": [ids[20]]}
    shown = sample_text(SimpleNamespace(model=model, tokenizer=found.tokenizer, marks=marks), 40)
    assert shown == found.tokenizer.decode(ids[: ids.index(ids[20])]).strip("\n") != ""


@pytest.mark.parametrize("eos", [3, [3, 5]])
def test_where_texts_begin_and_end_stays_with_what_is_trained_on_and_exported(eos, folder, tmp_path):
    run, tuned, text = tmp_path / "run", tmp_path / "tuned", tmp_path / "text.txt"
    text.write_text("the theme of the thesis " * 99)
    changed(folder / "config.json", eos_token_id=eos)
    changed(folder / "tokenizer.json", post_processor=template())
    found = load(folder)
    succeeded(tgl("import", folder, "--to", run))
    succeeded(tgl("train", "--from", run, "--data", text, "--out", tuned, "--steps", 1))
    succeeded(tgl("train", "--resume", "--out", tuned, "--steps", 2))
    succeeded(tgl("train", "--from", tuned, "--data", text, "--out", tmp_path / "again", "--steps", 1))
    succeeded(tgl("export", "--from", tmp_path / "again", "--to", tmp_path / "hf2"))
    again = load(tmp_path / "hf2")
    assert (again.begin, again.start, again.end) == (found.begin, found.start, found.end)
    assert json.loads((tmp_path / "hf2" / "config.json").read_text())["eos_token_id"] == eos
    asked = ["--prompt", "the", "--tokens", 200, "--temperature", 1.5]
    model, tok, state = load_model(tuned)
    for seed in (1, 2):
        ids = list(generate(model, found.begin + tok.encode("the"), 200, temperature=1.5, generator=Generator(seed)))
        ends = [i for i, token in enumerate(ids) if token in found.end]
        said = tgl("sample", "--from", tuned, *asked, "--seed", seed).output
        assert said == "the" + tok.decode(ids[: ends[0] if ends else None]) + "\n"
    peer = pytest.importorskip("tokenizers", reason="the peer whose ids are compared is not installed")
    theirs = peer.Tokenizer.from_file(str(tmp_path / "hf2" / "tokenizer.json"))
    assert theirs.encode("the theme").ids == found.begin + tok.encode("the theme")
    assert theirs.encode("the", "of").ids == [i for x in ("the", "of") for i in found.begin + tok.encode(x)]


@pytest.mark.parametrize("eos", [270, [269, 270]])
def test_a_sample_ends_where_the_model_says(eos, folder, tmp_path):
    """All tokens are equally likely, so that the end comes soon."""
    tok, weights = bpe(), load_file(folder / "model.safetensors")
    last = tok.vocab_size - 1
    eos = last if eos == 270 else [last - 1, last]
    changed(folder / "config.json", eos_token_id=eos)
    weights["lm_head.weight"][:] = 0
    weights["model.norm.weight"][:] = 0
    save_file(weights, folder / "model.safetensors")
    assert load(folder).end == (eos if isinstance(eos, list) else [eos])
    succeeded(tgl("import", folder, "--to", tmp_path / "run"))
    said = tgl("sample", "--from", tmp_path / "run", "--prompt", "the", "--tokens", 2000, "--seed", 1).output
    model, tok, _ = load_model(tmp_path / "run")
    ids = list(generate(model, tok.encode("the"), 2000, temperature=0.8, generator=Generator(1)))
    ends = [i for i, token in enumerate(ids) if token in load(folder).end]
    assert ends and said == "the" + tok.decode(ids[: ends[0]]) + "\n"


def test_where_no_run_can_be_made_is_said_before_the_weights_are_read(folder, tmp_path):
    succeeded(tgl("import", folder, "--to", tmp_path / "run"))
    (tmp_path / "file").write_text("x")
    (folder / "model.safetensors").write_bytes(b"damaged")
    for to, said in (("run", "run holds a run already"), ("file", "file is a file: a run needs a directory")):
        result = tgl("import", folder, "--to", tmp_path / to)
        assert result.exit_code != 0 and said in str(result.exception)


def test_an_import_that_fails_leaves_no_run(folder, tmp_path):
    changed(folder / "config.json", model_type="bert")
    assert tgl("import", folder, "--to", tmp_path / "run").exit_code != 0
    assert not (tmp_path / "run").exists()
