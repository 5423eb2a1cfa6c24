"""Small models in Hugging Face's names and folders, for tests of what is read, and of runs that begin with it."""

import json

import numpy as np
from typer.testing import CliRunner

from tinygrad_lite import no_grad
from tokenizer import BPETokenizer
from transformer.cli.app import app
from transformer.config import GPTConfig
from transformer.hf import export
from transformer.model import GPT, as_tokens

SIZES = dict(vocab_size=61, block_size=24, layers=2, heads=4, channels=32)


LLAMA = dict(SIZES, kv_heads=2, positions="rope", norm="rmsnorm", mlp="swiglu", mlp_size=40, rope_base=500.0, bias=False,
             tied=False, norm_eps=1e-4)  # fmt: skip


MODELS = {
    "gpt2": SIZES,
    "llama": LLAMA,
    "llama, tied, with biases": dict(LLAMA, tied=True, bias=True),
    "mistral": dict(LLAMA, window=5),
}


IDS = np.random.default_rng(1).integers(0, 61, (2, 24))


def random_model(**settings):
    """Every weight random, biases and norms too: a name that was mixed up shows."""
    model = GPT(GPTConfig(**settings)).eval()
    rng = np.random.default_rng(0)
    for p in model.parameters():
        p.data[...] = rng.normal(0, 0.3, p.shape)
    return model


def arrays(model):
    return {n: p.numpy() for n, p in model.named_parameters()}


def logits_of(model, ids=IDS):
    with no_grad():
        return model(as_tokens(ids)).numpy()


def tgl(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def succeeded(result):
    assert result.exit_code == 0, (result.output, result.exception)
    return " ".join(result.output.split())


def bpe():
    return BPETokenizer.train("the theme of the thesis " * 9, 270, special_tokens=["<|end|>"])


def changed(path, **settings):
    data = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in (data | settings).items() if v is not ...}))


def llama_folder(tmp_path):
    """A small Llama whose embedding has three rows more than the tokenizer has tokens."""
    tok = bpe()
    model = random_model(**dict(LLAMA, vocab_size=tok.vocab_size + 3))
    export(tmp_path / "hf", arrays(model), model.config, tok)
    return tmp_path / "hf"


def template():
    """A post_processor that puts <|end|> before every text, and after it."""
    end = {"SpecialToken": {"id": "<|end|>", "type_id": 0}}
    return {"type": "TemplateProcessing", "single": [end, {"Sequence": {"id": "A", "type_id": 0}}, end], "pair": [],
            "special_tokens": {"<|end|>": {"id": "<|end|>", "ids": [bpe().special_tokens["<|end|>"]],
                                           "tokens": ["<|end|>"]}}}  # fmt: skip
