"""GPT-2's weights under Hugging Face's names: the same logits from their model and from ours."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from tinygrad_lite import Generator, no_grad
from transformer.cli.app import app
from transformer.config import GPTConfig
from transformer.hf import export, from_huggingface, to_huggingface
from transformer.model import GPT, as_tokens

SIZES = dict(vocab_size=61, block_size=24, layers=3, heads=4, channels=32)


def random_model(seed=0, **changes):
    """Every weight random, biases and norms too: a name that was mixed up shows."""
    model = GPT(GPTConfig(**{**SIZES, **changes})).eval()
    rng = np.random.default_rng(seed)
    for p in model.parameters():
        p.data[...] = rng.normal(0, 0.3, p.shape)
    return model


def arrays(model):
    return {n: p.numpy() for n, p in model.named_parameters()}


def logits_of(model, ids):
    with no_grad():
        return model(as_tokens(ids)).numpy()


def peer(config):
    transformers = pytest.importorskip("transformers", reason="the peer whose logits are compared is not installed")
    pytest.importorskip("torch", reason="transformers needs PyTorch to run GPT-2")
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=config.vocab_size, n_positions=config.block_size, n_embd=config.channels, n_layer=config.layers,
        n_head=config.heads, attn_implementation="eager",
    ))  # fmt: skip
    return theirs.eval()


def their_logits(theirs, ids):
    import torch

    with torch.no_grad():
        return theirs(torch.from_numpy(ids)).logits.numpy()


IDS = np.random.default_rng(1).integers(0, 61, (2, 24))


@pytest.mark.parametrize("bias", [True, False])
def test_our_weights_give_the_same_logits_in_hugging_faces_model(bias):
    import_torch = pytest.importorskip("torch", reason="transformers needs PyTorch to run GPT-2")
    model = random_model(bias=bias)
    theirs = peer(model.config)
    state = {n: import_torch.from_numpy(w.copy()) for n, w in to_huggingface(arrays(model), model.config).items()}
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert not unexpected and all("attn.bias" in n or "masked_bias" in n for n in missing)
    ours = logits_of(model, IDS)
    np.testing.assert_allclose(their_logits(theirs, IDS), ours, atol=2e-5 * np.abs(ours).max())


def test_hugging_faces_weights_give_the_same_logits_in_our_model():
    config = GPTConfig(**SIZES)
    theirs = peer(config)
    for prefix in ("", "transformer."):
        state = {n.removeprefix(prefix): p.numpy() for n, p in theirs.state_dict().items()}
        model = GPT(config, Generator(5)).eval()
        for name, w in from_huggingface(state, config).items():
            dict(model.named_parameters())[name].data[...] = w
        expected = their_logits(theirs, IDS)
        np.testing.assert_allclose(logits_of(model, IDS), expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("bias", [True, False])
def test_names_round_trip(bias):
    model = random_model(bias=bias)
    weights = arrays(model)
    back = from_huggingface(to_huggingface(weights, model.config), model.config)
    assert back.keys() == weights.keys()
    for name in weights:
        np.testing.assert_array_equal(back[name], weights[name])


def test_a_model_that_is_no_gpt2_says_which_choice_is_another():
    config = GPTConfig(**SIZES, positions="rope")
    with pytest.raises(ValueError, match="positions=rope"):
        to_huggingface({}, config)


def test_every_weight_that_does_not_fit_is_named():
    model = random_model()
    state = to_huggingface(arrays(model), model.config)
    del state["transformer.ln_f.bias"]
    state["transformer.wpe.weight"] = state["transformer.wpe.weight"][:7]
    state["transformer.h.1.attn.c_attn.weight"] = state["transformer.h.1.attn.c_attn.weight"].T
    state["lm_head.weight"] = state["lm_head.weight"] + 1
    state["transformer.h.3.ln_1.bias"] = np.zeros(32, np.float32)  # of a fourth layer
    with pytest.raises(ValueError) as caught:
        from_huggingface(state, model.config)
    lines = str(caught.value).splitlines()
    assert "5 weights do not fit" in lines[0] and {line.strip() for line in lines[1:]} == {
        "transformer.ln_f.bias is missing",
        "transformer.wpe.weight must be (24, 32), is (7, 32)",
        "transformer.h.1.attn.c_attn.weight must be (32, 96), is (96, 32)",
        "lm_head.weight is not equal to wte.weight, to which the config ties it",
        "transformer.h.3.ln_1.bias has no place in the model",
    }


def test_a_config_without_biases_takes_no_others_than_zeros():
    model = random_model()
    state = to_huggingface(arrays(model), model.config)
    with pytest.raises(ValueError, match=r"h.2.ln_1.bias is not zero: the config must say bias=True"):
        from_huggingface(state, GPTConfig(**SIZES, bias=False))


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_the_causal_mask_among_the_weights_is_left_out(prefix):
    model = random_model()
    state = to_huggingface(arrays(model), model.config)
    for name in ("transformer.h.0.attn.bias", "transformer.h.2.attn.masked_bias"):
        state[name] = np.ones((1, 1, 24, 24), bool)
    state = {name.removeprefix(prefix): array for name, array in state.items()}
    assert from_huggingface(state, model.config).keys() == arrays(model).keys()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    (folder / "text.txt").write_text("To be, or not to be, that is the question. " * 60)
    for args in (
        ["train", "--data", folder / "text.txt", "--preset", "shakespeare-char-cpu", "--layers", 2, "--channels", 32,
         "--steps", 5, "--out", folder / "run"],
        ["export", "--from", folder / "run", "--to", folder / "hf"],
    ):  # fmt: skip
        result = CliRunner().invoke(app, [str(a) for a in args])
        assert result.exit_code == 0, (result.output, result.exception)
    return folder


def test_an_exported_run_is_a_directory_that_transformers_reads(exported):
    from transformer.cli.inspect import load_model

    config = json.loads((exported / "hf" / "config.json").read_text(encoding="utf-8"))
    assert config["model_type"] == "gpt2" and config["n_embd"] == 32
    transformers = pytest.importorskip("transformers", reason="the peer whose logits are compared is not installed")
    pytest.importorskip("torch", reason="transformers needs PyTorch to run GPT-2")
    theirs = transformers.GPT2LMHeadModel.from_pretrained(exported / "hf", local_files_only=True).eval()
    model, _, _ = load_model(exported / "run")
    ids = np.arange(10)[None] % model.config.vocab_size
    ours = logits_of(model, ids)
    np.testing.assert_allclose(their_logits(theirs, ids), ours, atol=2e-5 * np.abs(ours).max())


def test_an_export_never_writes_over_what_is_there(exported):
    result = CliRunner().invoke(app, ["export", "--from", str(exported / "run"), "--to", str(exported / "hf")])
    assert result.exit_code != 0 and "already" in str(result.exception)


def test_an_export_after_one_that_was_killed_succeeds_and_clears_up(tmp_path):
    model = random_model()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    others = [f".writing-my[1]-{os.getppid()}", ".writing-my[1]x", ".writing-my1"]  # of one that runs; of other names
    for name in [".writing-my[1]", f".writing-my[1]-{ended.pid}", f".writing-my[1]-{os.getpid()}", *others]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_text("half")
    export(tmp_path / "my[1]", arrays(model), model.config)
    assert {p.name for p in (tmp_path / "my[1]").iterdir()} == {"model.safetensors", "config.json"}
    assert {p.name for p in tmp_path.iterdir()} == {"my[1]", *others}


def test_an_export_that_fails_leaves_nothing(tmp_path):
    model = random_model()
    with pytest.raises(KeyError):
        export(tmp_path / "out", {}, model.config)
    assert not list(tmp_path.iterdir())
