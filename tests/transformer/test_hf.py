"""GPT-2's weights under Hugging Face's names: the same logits from their model and from ours."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from tinygrad_lite import Generator, no_grad
from transformer.cli.main import app
from transformer.config import GPTConfig
from transformer.hf import from_huggingface, to_huggingface
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


def test_names_round_trip():
    model = random_model()
    weights = arrays(model)
    back = from_huggingface(to_huggingface(weights, model.config), model.config)
    assert back.keys() == weights.keys()
    for name in weights:
        np.testing.assert_array_equal(back[name], weights[name])


def test_a_model_that_is_no_gpt2_says_which_choice_is_another():
    config = GPTConfig(**SIZES, positions="rope")
    with pytest.raises(ValueError, match="positions=rope"):
        to_huggingface({}, config)


def test_weights_that_do_not_fit_are_all_named():
    config, model = GPTConfig(**SIZES), random_model()
    good = to_huggingface(arrays(model), config)
    bad = {**good, "transformer.wpe.weight": np.ones((99, 32)), "transformer.h.3.ln_1.weight": np.ones(32)}
    bad["lm_head.weight"] = bad["lm_head.weight"] + 1
    del bad["transformer.h.0.ln_1.bias"]
    with pytest.raises(ValueError) as caught:
        from_huggingface(bad, config)
    for part in ("h.0.ln_1.bias is missing", "wpe.weight must be (24, 32), is (99, 32)", "h.3.ln_1.weight is not of this model",
                 "lm_head.weight is not wte.weight"):  # fmt: skip
        assert part in str(caught.value)
    with pytest.raises(ValueError, match="is not zero, and the config has no biases"):
        from_huggingface(good, GPTConfig(**{**SIZES, "bias": False}))


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

    config = json.loads((exported / "hf" / "config.json").read_text())
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
