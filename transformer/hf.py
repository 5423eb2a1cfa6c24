"""GPT-2 weights under Hugging Face's names, both ways. A table of names; no Hugging Face code is needed.

Hugging Face keeps GPT-2's linear weights as (in, out), as the original release did; ours are (out, in).
"""

from __future__ import annotations

import numpy as np

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


def _pairs(config: GPTConfig):
    if (config.positions, config.norm, config.mlp, config.tied, config.bias) != (
        "learned",
        "layernorm",
        "gelu",
        True,
        True,
    ):
        raise ValueError(
            "GPT-2's format needs positions=learned, norm=layernorm, mlp=gelu, a tied head and biases; this model is another"
        )
    if config.kv_heads != config.heads:
        raise ValueError(
            f"GPT-2's format needs as many key-value heads as heads, got {config.kv_heads} and {config.heads}"
        )
    yield from ((ours, f"transformer.{theirs}", t) for ours, theirs, t in _OUTER)
    for i in range(config.layers):
        for ours, theirs, transposed in _BLOCK:
            yield f"blocks.{i}.{ours}", f"transformer.h.{i}.{theirs}", transposed


def to_huggingface(weights: dict, config: GPTConfig) -> dict:
    """Our named arrays as a GPT2LMHeadModel's state_dict of arrays."""
    out = {theirs: np.ascontiguousarray(weights[ours].T if t else weights[ours]) for ours, theirs, t in _pairs(config)}
    out["lm_head.weight"] = out["transformer.wte.weight"]
    return out


def from_huggingface(weights: dict, config: GPTConfig) -> dict:
    """A GPT2LMHeadModel's (or GPT2Model's) state_dict of arrays under our names."""
    prefix = "" if "transformer.wte.weight" in weights else "transformer."
    missing = [theirs for _, theirs, _ in _pairs(config) if theirs.removeprefix(prefix) not in weights]
    if missing:
        raise ValueError(
            f"from_huggingface: {len(missing)} weights are missing, {missing[0]} the first: is the config right?"
        )
    out = {}
    for ours, theirs, t in _pairs(config):
        array = np.asarray(weights[theirs.removeprefix(prefix)])
        out[ours] = np.ascontiguousarray(array.T if t else array)
    return out
