"""What a GPT computes between tokens and logits, by name, in the order in which it is computed.

Shapes: B batch, T time, C channels, H query heads, Hkv key-value heads, D head size, F hidden width of the MLP (2 F for
swiglu before its gate), V vocabulary. The last column is TransformerLens's name of the same value.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import NamedTuple


class Site(NamedTuple):
    """One kind of value: its name (within a block where `in_block`), its shape, what it is, TransformerLens's name."""

    name: str
    shape: str
    meaning: str
    elsewhere: str
    in_block: bool = True


SITES = (
    Site("embed", "(B, T, C)", "the tokens' embeddings", "hook_embed", False),
    Site("pos_embed", "(T, C)", "the learned positions' embeddings", "hook_pos_embed", False),
    Site("resid_pre", "(B, T, C)", "the residual stream as it enters the block", "hook_resid_pre"),
    Site("norm1", "(B, T, C)", "normalised, what attention reads", "ln1.hook_normalized"),
    Site("attention.q", "(B, T, H, D)", "queries, before any rotation", "attn.hook_q"),
    Site("attention.k", "(B, T, Hkv, D)", "keys, before any rotation", "attn.hook_k"),
    Site("attention.v", "(B, T, Hkv, D)", "values", "attn.hook_v"),
    Site("attention.scores", "(B, H, T, T)", "scaled and masked scores, -inf where masked", "attn.hook_attn_scores"),
    Site("attention.pattern", "(B, H, T, T)", "weights before any dropout: query by key position", "attn.hook_pattern"),
    Site("attention.z", "(B, T, H, D)", "each head's weighted values", "attn.hook_z"),
    Site("attention.out", "(B, T, C)", "what attention adds to the stream, bias included", "hook_attn_out"),
    Site("resid_mid", "(B, T, C)", "the stream between attention and MLP", "hook_resid_mid"),
    Site("norm2", "(B, T, C)", "normalised, what the MLP reads", "ln2.hook_normalized"),
    Site("mlp.pre", "(B, T, F)", "hidden layer before the activation", "mlp.hook_pre"),
    Site("mlp.post", "(B, T, F)", "hidden layer after it: the keys of the MLP's memory", "mlp.hook_post"),
    Site("mlp.out", "(B, T, C)", "what the MLP adds to the stream, bias included", "hook_mlp_out"),
    Site("resid_post", "(B, T, C)", "the stream as it leaves the block", "hook_resid_post"),
    Site("norm", "(B, T, C)", "the final normalisation, what the head reads", "ln_final.hook_normalized", False),
    Site("logits", "(B, T, V)", "the head's result", "the model's output", False),
)


def names_of(model) -> list[str]:
    """All names of a GPT, in order of computation: "embed", "blocks.0.resid_pre", ..., "logits"."""
    before = [s.name for s in SITES[:2] if s.name != "pos_embed" or model.config.positions == "learned"]
    inside = [s.name for s in SITES if s.in_block]
    blocks = [f"blocks.{i}.{name}" for i in range(model.config.layers) for name in inside]
    return before + blocks + [s.name for s in SITES[2:] if not s.in_block]


def matching(model, patterns: str | Iterable[str]) -> list[str]:
    """The names that any of the patterns matches ("*" and "?" as in file names), in order of computation.

    Raises ValueError for a pattern that matches nothing: a cache that is silently empty helps nobody.
    """
    known, found = names_of(model), set()
    for pattern in (patterns,) if isinstance(patterns, str) else tuple(patterns):
        hits = {name for name in known if fnmatchcase(name, pattern)}
        if not hits:
            near = difflib.get_close_matches(pattern, known, n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise ValueError(f"lens: no value is named {pattern!r}{hint} There are {listed(model)}")
        found |= hits
    return [name for name in known if name in found]


def listed(model) -> str:
    """The names in a line, those of the blocks once."""
    first = [name for name in names_of(model) if not name.startswith("blocks.") or name.startswith("blocks.0.")]
    last = model.config.layers - 1
    return ", ".join(name.replace("blocks.0.", "blocks.N.") for name in first) + f"; N from 0 to {last}"
