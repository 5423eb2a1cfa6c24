"""What writes the logits: the logit lens along the depth, and each part's own share of one logit."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinygrad_lite import no_grad

from ..model import GPT
from .cache import Activations, as_batch, must_be_still, run_with_cache


class Reading(NamedTuple):
    """What the logit lens reads at one depth: of each position (T,), the k likeliest next tokens.

    name: the value read; tokens, probabilities (T, k), the likeliest first; entropy (T,) in nats; rank (T,): how many
    tokens the last depth's choice has above it here; 0 is the first.
    """

    name: str
    tokens: np.ndarray
    probabilities: np.ndarray
    entropy: np.ndarray
    rank: np.ndarray


def logit_lens(model: GPT, tokens, k: int = 5) -> list[Reading]:
    """The final norm and the head applied to the residual stream at each depth (nostalgebraist 2020).

    tokens (T,) of ids. Read where the stream enters the first block and after each attention and MLP; the last reading
    is the model's own prediction. In a model that was not trained for it, early readings may mean nothing.
    """
    sites = ["blocks.0.resid_pre"]
    sites += [f"blocks.{i}.{n}" for i in range(model.config.layers) for n in ("resid_mid", "resid_post")]
    logits, cache = run_with_cache(model, one_row("logit_lens", model, tokens), sites)
    final = logits.float().numpy()[0].argmax(1)
    readings, k = [], min(k, model.config.vocab_size)
    for name in sites:
        with no_grad():
            p = model.head(model.norm(cache[name])).float().softmax(-1).numpy()[0]  # (T, V)
        best = np.argsort(-p, axis=1, kind="stable")[:, :k]
        entropy = -(p * np.log(np.maximum(p, 1e-30))).sum(1)
        rank = (p > np.take_along_axis(p, final[:, None], 1)).sum(1)
        readings.append(Reading(name, best, np.take_along_axis(p, best, 1), entropy, rank))
    return readings


class Attribution(NamedTuple):
    """One logit, or a difference of two, as a sum over what wrote to the residual stream.

    parts: names, "embed", "blocks.1.attention.head.3", "blocks.1.mlp", "norm.bias", ...; shares: one number each;
    logit: what the model computed. sum(shares) is logit, but for rounding.
    """

    parts: list[str]
    shares: np.ndarray
    logit: float


def direct_logit_attribution(
    model: GPT, tokens, target: int, versus: int | None = None, position: int = -1
) -> Attribution:
    """Each part's direct share in the logit of `target` at a position; with `versus`, in its lead over that token.

    tokens (T,) of ids. The final norm is linear once its scale is taken as it was in this run: for LayerNorm a part
    gives (part - mean(part)) / std * weight, for RMSNorm part / rms * weight; the norm's bias is a part of its own
    (Elhage et al. 2021). What a part does through later layers is not counted: for that patch, or ablate.
    """
    tokens = one_row("direct_logit_attribution", model, tokens)
    for what, token in (("target", target), ("versus", versus)):
        if token is not None and not 0 <= token < model.config.vocab_size:
            raise ValueError(
                f"direct_logit_attribution: {what} must be a token id below {model.config.vocab_size}, got {token}"
            )
    if not -tokens.shape[1] <= position < tokens.shape[1]:
        raise ValueError(f"direct_logit_attribution: position {position} is outside the {tokens.shape[1]} tokens")
    logits, cache = run_with_cache(model, tokens, _wanted(model))
    parts, vectors = zip(*written(model, cache, position))
    direction = _row(model, target) - (0.0 if versus is None else _row(model, versus))  # (C,)
    stream = cache[f"blocks.{model.config.layers - 1}.resid_post"].numpy()[0, position].astype(np.float64)
    weight, norm = _array(model.norm.weight), model.config.norm
    folded = direction * weight / _scale(stream, norm, model.norm.eps)
    if norm == "layernorm":
        folded = folded - folded.mean()  # folded . (part - mean(part)) is this . part
    shares = [float(vector @ folded) for vector in vectors]
    bias = getattr(model.norm, "bias", None)
    if bias is not None:
        parts, shares = (*parts, "norm.bias"), [*shares, float(_array(bias) @ direction)]
    row = logits.numpy()[0, position].astype(np.float64)
    return Attribution(list(parts), np.array(shares), float(row[target] - (0.0 if versus is None else row[versus])))


def written(model: GPT, cache: Activations, position: int) -> list[tuple[str, np.ndarray]]:
    """(name, vector (C,) in float64) of all that was added to the residual stream at a position, in order.

    cache: of one row, with embed, pos_embed, attention.z and mlp.out. The vectors add up to the last resid_post.
    """

    def at(name):
        x = cache[name].numpy()
        return (x[0, position] if x.ndim > 2 else x[position]).astype(np.float64)

    found = [(name, at(name)) for name in ("embed", "pos_embed") if name in cache]
    for i, block in enumerate(model.blocks):
        z, project = at(f"blocks.{i}.attention.z"), block.attention.project  # (H, D)
        by_head = _array(project.weight).reshape(model.config.channels, *z.shape)  # (C, H, D)
        heads = np.einsum("hd,chd->hc", z, by_head)
        found += [(f"blocks.{i}.attention.head.{h}", vector) for h, vector in enumerate(heads)]
        if project.bias is not None:
            found.append((f"blocks.{i}.attention.bias", _array(project.bias)))
        found.append((f"blocks.{i}.mlp", at(f"blocks.{i}.mlp.out")))
    return found


def _wanted(model):
    last = f"blocks.{model.config.layers - 1}.resid_post"
    places = ["pos_embed"] if model.config.positions == "learned" else []
    return ["embed", *places, "blocks.*.attention.z", "blocks.*.mlp.out", last]


def _scale(stream, norm, eps):
    centred = stream - stream.mean() if norm == "layernorm" else stream
    return np.sqrt((centred * centred).mean() + eps)


def _row(model, token):
    return _array(model.head.weight)[token]


def _array(x) -> np.ndarray:
    return x.detach().numpy().astype(np.float64)


def one_row(what: str, model: GPT, tokens):
    """Token ids as a batch (1, T); ValueError for several rows or none, and where dropout acts."""
    must_be_still(what, model)
    tokens = as_batch(model, tokens)
    if tokens.shape[0] != 1 or not tokens.shape[1]:
        raise ValueError(f"{what}: tokens must be one row of ids (T,), got {tokens.shape}")
    return tokens
