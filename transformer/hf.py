"""GPT-2 weights under Hugging Face's names, both ways. A table of names; no Hugging Face code is needed.

Hugging Face keeps GPT-2's linear weights as (in, out), as the original release did; ours are (out, in).
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from .config import GPTConfig

# ours in a block, theirs in a block, transposed?
_BLOCK = [
    ("norm1.weight", "ln_1.weight", False),
    ("norm1.bias", "ln_1.bias", False),
    ("attention.qkv.weight", "attn.c_attn.weight", True),
    ("attention.qkv.bias", "attn.c_attn.bias", False),
    ("attention.project.weight", "attn.c_proj.weight", True),
    ("attention.project.bias", "attn.c_proj.bias", False),
    ("norm2.weight", "ln_2.weight", False),
    ("norm2.bias", "ln_2.bias", False),
    ("mlp.up.weight", "mlp.c_fc.weight", True),
    ("mlp.up.bias", "mlp.c_fc.bias", False),
    ("mlp.down.weight", "mlp.c_proj.weight", True),
    ("mlp.down.bias", "mlp.c_proj.bias", False),
]
_OUTER = [
    ("tokens.weight", "wte.weight", False),
    ("positions.weight", "wpe.weight", False),
    ("norm.weight", "ln_f.weight", False),
    ("norm.bias", "ln_f.bias", False),
]


# The choices of the configuration that GPT-2 made.
_CHOICES = dict(positions="learned", norm="layernorm", mlp="gelu", tied=True)  # a model without biases has zeros there


def _pairs(config: GPTConfig):
    other = [f"{name}={getattr(config, name)}" for name, value in _CHOICES.items() if getattr(config, name) != value]
    other += [f"kv_heads={config.kv_heads}"] if config.kv_heads != config.heads else []
    if other:
        raise ValueError(
            f"GPT-2's format cannot hold a model with {', '.join(other)}: it has "
            f"{', '.join(f'{k}={v}' for k, v in _CHOICES.items())} and kv_heads={config.heads}"
        )
    yield from ((ours, f"transformer.{theirs}", t) for ours, theirs, t in _OUTER)
    for i in range(config.layers):
        for ours, theirs, transposed in _BLOCK:
            yield f"blocks.{i}.{ours}", f"transformer.h.{i}.{theirs}", transposed


def to_huggingface(weights: dict, config: GPTConfig) -> dict:
    """Our named arrays as a GPT2LMHeadModel's state_dict of arrays."""
    out = {}
    for ours, theirs, t in _pairs(config):
        if ours.endswith(".bias") and not config.bias:
            sides = weights[ours.replace(".bias", ".weight")].shape[:1]
            out[theirs] = np.zeros(sides, weights["tokens.weight"].dtype)
        else:
            out[theirs] = np.ascontiguousarray(weights[ours].T if t else weights[ours])
    out["lm_head.weight"] = out["transformer.wte.weight"]
    return out


def from_huggingface(weights: dict, config: GPTConfig) -> dict:
    """A GPT2LMHeadModel's (or GPT2Model's) state_dict of arrays under our names."""
    given = {n.removeprefix("transformer."): np.asarray(w) for n, w in weights.items()}
    head = given.pop("lm_head.weight", None)
    pairs = [(ours, theirs.removeprefix("transformer."), t) for ours, theirs, t in _pairs(config)]
    shapes, wrong = _shapes(config), []
    for ours, theirs, t in pairs:
        shape = shapes[ours][::-1] if t else shapes[ours]
        if theirs not in given:
            wrong.append(f"{theirs} is missing")
        elif given[theirs].shape != shape:
            wrong.append(f"{theirs} must be {shape}, is {given[theirs].shape}")
        elif ours.endswith(".bias") and not config.bias and given[theirs].any():
            wrong.append(f"{theirs} is not zero, and the config has no biases")
    known = {theirs for _, theirs, _ in pairs}
    wrong += [
        f"{n} is not of this model" for n in given.keys() - known if not n.endswith(("attn.bias", "attn.masked_bias"))
    ]
    if head is not None and "wte.weight" in given and not np.array_equal(head, given["wte.weight"]):
        wrong.append("lm_head.weight is not wte.weight, and the config ties them")
    if wrong:
        raise ValueError(f"from_huggingface: is the config right? {'; '.join(sorted(wrong))}")
    return {
        ours: np.ascontiguousarray(given[theirs].T if t else given[theirs])
        for ours, theirs, t in pairs
        if config.bias or not ours.endswith(".bias")
    }


def _shapes(config: GPTConfig) -> dict:
    """The shape of each of our weights."""
    c, h = config.channels, config.hidden
    outer = {"tokens.weight": (config.vocab_size, c), "positions.weight": (config.block_size, c)}
    block = {"attention.qkv.weight": (3 * c, c), "attention.qkv.bias": (3 * c,), "attention.project.weight": (c, c),
             "mlp.up.weight": (h, c), "mlp.up.bias": (h,), "mlp.down.weight": (c, h)}  # fmt: skip
    block |= dict.fromkeys(
        ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "attention.project.bias", "mlp.down.bias"), (c,)
    )
    outer |= {"norm.weight": (c,), "norm.bias": (c,)}
    return outer | {f"blocks.{i}.{n}": shape for i in range(config.layers) for n, shape in block.items()}


def huggingface_config(config: GPTConfig) -> dict:
    """What a config.json for GPT2LMHeadModel says of this model."""
    list(_pairs(config))  # raises where GPT-2's format cannot hold it
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": config.vocab_size,
        "n_positions": config.block_size,
        "n_embd": config.channels,
        "n_layer": config.layers,
        "n_head": config.heads,
        "n_inner": config.hidden,
        "activation_function": "gelu_new",  # the tanh form
        "layer_norm_epsilon": 1e-5,
        "attn_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": None,
    }


def export(directory, weights: dict, config: GPTConfig):
    """Write a directory that `GPT2LMHeadModel.from_pretrained` reads: whole, or not at all.

    Raises FileExistsError if it is there already, ValueError if GPT-2's format cannot hold the model.
    """
    directory, settings = Path(directory), huggingface_config(config)
    if directory.exists():
        raise FileExistsError(f"export: {directory} is there already: name a directory that is not")
    writing = directory.with_name(f".writing-{directory.name}-{os.getpid()}")
    writing.mkdir(parents=True)
    try:
        renamed = to_huggingface(weights, config)
        del renamed["lm_head.weight"]  # tied: it is wte.weight
        save_file(renamed, writing / "model.safetensors", metadata={"format": "pt"})
        (writing / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        os.replace(writing, directory)
    finally:
        shutil.rmtree(writing, ignore_errors=True)
