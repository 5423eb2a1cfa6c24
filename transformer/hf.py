"""GPT-2 weights under Hugging Face's names, both ways. A table of names; no Hugging Face code is needed.

Hugging Face keeps GPT-2's linear weights as (in, out), as the original release did; ours are (out, in). GPT-2 has
biases throughout: those of a model without are zeros there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from .config import GPTConfig
from .files import replace

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
_CHOICES = dict(positions="learned", norm="layernorm", mlp="gelu", tied=True)

# The causal mask, which older releases of Hugging Face's GPT-2 keep among the weights.
_MASK = re.compile(r"(transformer\.)?h\.\d+\.attn\.(masked_)?bias")


def _pairs(config: GPTConfig):
    other = [f"{name}={getattr(config, name)}" for name, value in _CHOICES.items() if getattr(config, name) != value]
    other += [f"kv_heads={config.kv_heads}"] if config.kv_heads != config.heads else []
    other += [f"window={config.window}"] if config.window is not None else []
    if other:
        raise ValueError(
            f"GPT-2's format cannot hold a model with {', '.join(other)}: it has "
            f"{', '.join(f'{k}={v}' for k, v in _CHOICES.items())}, kv_heads={config.heads} and no window"
        )
    yield from ((ours, f"transformer.{theirs}", t) for ours, theirs, t in _OUTER)
    for i in range(config.layers):
        for ours, theirs, transposed in _BLOCK:
            yield f"blocks.{i}.{ours}", f"transformer.h.{i}.{theirs}", transposed


def _shapes(config: GPTConfig) -> dict:
    """Our names and their shapes, for a GPT-2 with biases."""
    c, wide = config.channels, config.hidden
    block = {
        "attention.qkv.weight": (3 * c, c),
        "attention.qkv.bias": (3 * c,),
        "attention.project.weight": (c, c),
        "mlp.up.weight": (wide, c),
        "mlp.up.bias": (wide,),
        "mlp.down.weight": (c, wide),
    }
    shapes = {ours: (c,) for ours, _, _ in _pairs(config)}  # norms, and the biases of what adds to the residual
    shapes["tokens.weight"], shapes["positions.weight"] = (config.vocab_size, c), (config.block_size, c)
    shapes |= {f"blocks.{i}.{ours}": shape for i in range(config.layers) for ours, shape in block.items()}
    return shapes


def _is_made_up(ours: str, config: GPTConfig) -> bool:
    """Whether GPT-2 has this bias and our model has not."""
    return not config.bias and ours.endswith(".bias")


def to_huggingface(weights: dict, config: GPTConfig) -> dict:
    """Our named arrays as a GPT2LMHeadModel's state_dict of arrays."""
    out, shapes = {}, _shapes(config)
    for ours, theirs, t in _pairs(config):
        array = np.zeros(shapes[ours], np.float32) if _is_made_up(ours, config) else weights[ours]
        out[theirs] = np.ascontiguousarray(array.T if t else array)
    out["lm_head.weight"] = out["transformer.wte.weight"]
    return out


def from_huggingface(weights: dict, config: GPTConfig) -> dict:
    """A GPT2LMHeadModel's (or GPT2Model's) state_dict of arrays under our names.

    Raises ValueError that lists every weight that is missing, of another shape, or has no place in the model.
    """
    prefix = "" if "transformer.wte.weight" in weights else "transformer."
    arrays = {name: np.asarray(array) for name, array in weights.items() if not _MASK.fullmatch(name)}
    out, wrong, shapes = {}, [], _shapes(config)
    for ours, theirs, t in _pairs(config):
        name, expected = theirs.removeprefix(prefix), shapes[ours][::-1] if t else shapes[ours]
        array = arrays.pop(name, None)
        if array is None:
            wrong.append(f"{name} is missing")
        elif array.shape != expected:
            wrong.append(f"{name} must be {expected}, is {array.shape}")
        elif _is_made_up(ours, config):
            if array.any():
                wrong.append(f"{name} is not zero: the config must say bias=True")
        else:
            out[ours] = np.ascontiguousarray(array.T if t else array)
    head = arrays.pop("lm_head.weight", None)
    if head is not None and "tokens.weight" in out and not np.array_equal(head, out["tokens.weight"]):
        wrong.append("lm_head.weight is not equal to wte.weight: GPT-2's head is tied to the embedding")
    wrong += [f"{name} has no place in the model" for name in arrays]
    if wrong:
        raise ValueError(f"from_huggingface: {len(wrong)} weights do not fit {config}:\n  " + "\n  ".join(wrong))
    return out


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
    directory.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_overs(directory)
    writing = directory.with_name(f".writing-{directory.name}-{os.getpid()}")
    writing.mkdir()
    try:
        renamed = to_huggingface(weights, config)
        del renamed["lm_head.weight"]  # tied: it is wte.weight
        save_file(renamed, writing / "model.safetensors", metadata={"format": "pt"})
        (writing / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        replace(writing, directory)
    finally:
        shutil.rmtree(writing, ignore_errors=True)


def _remove_left_overs(directory: Path):
    """Remove what exports to the same place left that were killed; one that still runs keeps its own."""
    left_over = re.compile(rf"\.writing-{re.escape(directory.name)}(?:-(\d+))?")
    for path in directory.parent.iterdir():
        match = left_over.fullmatch(path.name)
        if match and not (match[1] and _runs(int(match[1]))):
            shutil.rmtree(path, ignore_errors=True)


def _runs(pid: int) -> bool:
    """Whether another process of this number runs."""
    import psutil  # os.kill(pid, 0) would end it on Windows

    try:
        return pid != os.getpid() and psutil.pid_exists(pid)
    except OverflowError:  # no system has such numbers
        return False
