"""Activation patching: which values, carried from one prompt's run into another's, bring the answer along.

The clean prompt makes the model give an answer, the corrupted one, alike but for a token or so, another. Running the
corrupted prompt with one value taken from the clean run tells how much of the answer passes there. Meng et al. 2022,
arXiv:2202.05262; how to read it: Heimersheim & Nanda 2024, arXiv:2404.15255.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tinygrad_lite import no_grad

from ..model import GPT
from .attribution import one_row
from .cache import run_with_cache
from .hooks import patch
from .taps import hooked

POSITION_SITES = ("resid_pre", "attention.out", "mlp.out")
LARGEST_BATCH = 32  # rows at once: a row a position, so that memory stays that of a small batch


class PatchResult(NamedTuple):
    """How much of the clean answer comes back: 0 as corrupted, 1 as clean, beyond both is possible.

    recovered: (layers, T) by position or (layers, H) by head; clean, corrupted: the metric of the two runs.
    """

    recovered: np.ndarray
    clean: float
    corrupted: float


def answer_lead(answer: int, wrong: int) -> Callable[[np.ndarray], np.ndarray]:
    """The usual metric: at the last position, how far the answer's logit leads over the wrong one's."""
    return lambda logits: logits[:, -1, answer] - logits[:, -1, wrong]


def patch_positions(model: GPT, clean, corrupted, metric, site: str = "resid_pre", progress=None) -> PatchResult:
    """Patch one position of one layer at a time: recovered (layers, T).

    clean, corrupted: ids (T,) each. metric: logits, an array (B, T, V), to numbers (B,). site: resid_pre, attention.out,
    mlp.out, or another name in a block of shape (B, T, ...). progress(done, of) is called after each layer.
    """
    width = one_row("patch_positions", model, clean).shape[1]
    return _patched(model, clean, corrupted, metric, site, width, lambda cache, i: patch(cache, rows=i[0], positions=i[1]),
                    progress)  # fmt: skip


def patch_heads(model: GPT, clean, corrupted, metric, progress=None) -> PatchResult:
    """Patch the result of one head, attention.z at all positions, at a time: recovered (layers, H)."""
    return _patched(model, clean, corrupted, metric, "attention.z", model.config.heads,
                    lambda cache, i: patch(cache, rows=i[0], heads=i[1]), progress)  # fmt: skip


def _patched(model, clean, corrupted, metric, site, width, hook, progress):
    clean, corrupted = (one_row("patching", model, ids) for ids in (clean, corrupted))
    if clean.shape != corrupted.shape:
        raise ValueError(
            f"patching: the prompts must have as many tokens, position for position, got {clean.shape[1]} and "
            f"{corrupted.shape[1]}"
        )
    layers = model.config.layers
    logits, cache = run_with_cache(model, clean, [f"blocks.{i}.{site}" for i in range(layers)])
    best = _measured(metric, logits)[0]
    with no_grad():
        worst = _measured(metric, model(corrupted))[0]
    if best == worst:
        raise ValueError(f"patching: the metric is {best:.4g} for both prompts: there is nothing to bring back")
    recovered = np.zeros((layers, width))
    for layer in range(layers):
        name = f"blocks.{layer}.{site}"
        for start in range(0, width, LARGEST_BATCH):
            places = range(start, min(start + LARGEST_BATCH, width))
            rows = corrupted.expand(len(places), clean.shape[1])
            with no_grad(), hooked(model, {name: [hook(cache, (r, p)) for r, p in enumerate(places)]}):
                got = _measured(metric, model(rows))
            recovered[layer, places.start : places.stop] = (got - worst) / (best - worst)
        if progress is not None:
            progress(layer + 1, layers)
    return PatchResult(recovered, float(best), float(worst))


def _measured(metric, logits):
    return np.asarray(metric(logits.float().numpy()), np.float64)
