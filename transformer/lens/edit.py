"""Changing one thing that a model knows: a rank-one edit of one MLP (Meng et al. 2022, arXiv:2202.05262).

An MLP's second layer W is read as a memory: of the hidden activation k, a key, it gives the value W k. The edit finds the
value that makes the prompt end in the target, by descending the real model's loss, and then the smallest change of W, in
the measure of the keys it usually sees, that gives this value for this key:

    W' = W + delta (C^-1 k)^T / (k^T C^-1 k)        C = mean of k k^T over other text

so that W' k = W k + delta, and keys unlike k find what they found before. Simpler than in the paper: key and value come
from the one prompt, not from a mean over prefixes, and a price on delta's norm stands for the divergence that is kept
small there after "SUBJECT is a".
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinygrad_lite import Tensor, enable_grad, grad, no_grad, optim
from tinygrad_lite import functional as F

from ..model import GPT, as_tokens
from .attribution import one_row
from .cache import as_batch, must_be_still, run_with_cache
from .taps import hooked

RIDGE = 1e-2  # added to C, as a share of its mean diagonal: rare keys have almost no text to be measured by
LARGEST_NORM = (
    4.0  # of the value's change, in norms of what the MLP wrote there, as published code of the method has it
)
CONFIDENT = 0.95  # the descent stops here: a probability nearer to 1 costs other texts more


class Edit:
    """A change of rank one to `blocks.LAYER.mlp.down.weight`. `with edit:` the model has it; afterwards its old bits.

    layer, position; key (F,), delta (C,), update (C, F): what was found, arrays; probabilities: of the target at each
    step of the descent.
    """

    def __init__(self, model: GPT, layer: int, position: int, key, delta, update, probabilities):
        self.model, self.layer, self.position = model, layer, position
        self.key, self.delta, self.update, self.probabilities = key, delta, update, probabilities
        self._before = None

    @property
    def weight(self) -> Tensor:
        """The parameter that it changes."""
        return self.model.blocks[self.layer].mlp.down.weight

    def apply(self):
        """Put the change into the weight. Raises RuntimeError if it is there already."""
        if self._before is not None:
            raise RuntimeError("Edit.apply: the model has this edit already: undo() it first")
        w = self.weight
        self._before = w.device.xp.array_copy(w.data)
        w.data[...] = w.device.xp.asarray(w.numpy().astype(np.float64) + self.update, dtype=w.dtype)

    def undo(self):
        """Put the old weight back, bit by bit."""
        if self._before is not None:
            self.weight.data[...] = self._before
            self._before = None

    def __enter__(self):
        self.apply()
        return self

    def __exit__(self, *exc):
        self.undo()
        return False


class Prediction(NamedTuple):
    """What follows a prompt: probabilities (V,) of the next token."""

    probabilities: np.ndarray

    def rank(self, token: int) -> int:
        """How many tokens are likelier."""
        return int((self.probabilities > self.probabilities[token]).sum())

    def top(self, k: int = 5) -> list[tuple[int, float]]:
        """The likeliest tokens with their probabilities."""
        best = np.argsort(-self.probabilities, kind="stable")[:k]
        return [(int(i), float(self.probabilities[i])) for i in best]


def predict(model: GPT, tokens) -> Prediction:
    """The distribution of the token after (T,) ids."""
    with no_grad():
        logits = model(one_row("predict", model, tokens))
    return Prediction(logits.float().softmax(-1).numpy()[0, -1].astype(np.float64))


def drift(model: GPT, edit: Edit, background) -> tuple[float, float]:
    """What the edit does to other text: (mean KL divergence in nats a token, of its prediction from the old one;
    share of positions whose likeliest token stays). background: ids (B, T)."""
    must_be_still("drift", model)
    tokens = as_batch(model, background)
    with no_grad():
        before = model(tokens).float().log_softmax(-1).numpy()
        with edit:
            after = model(tokens).float().log_softmax(-1).numpy()
    divergence = (np.exp(before) * (before - after)).sum(-1).mean()
    return float(divergence), float((before.argmax(-1) == after.argmax(-1)).mean())


def rank_one_edit(
    model: GPT, tokens, target: int, layer: int, position: int = -1, background=None, steps: int = 60, lr: float = 0.3,
    decay: float = 0.02, largest: float = LARGEST_NORM, progress=None,
) -> Edit:  # fmt: skip
    """Find the edit of one layer's MLP that makes `target` follow the prompt. The model itself is left as it is.

    tokens (T,) of ids; position: whose key is edited: the last token of what the fact is about. background: ids (B, T)
    of other text, which C is measured on; with more tokens than the MLP is wide, C needs its ridge only for rare keys.
    steps, lr: of Adam on the value's change, whose norm may grow to `largest` times that of what the MLP wrote, and which
    costs decay * (its norm / that norm)^2. progress(step, steps, probability).
    """
    tokens = one_row("rank_one_edit", model, tokens)
    c, t = model.config, tokens.shape[1]
    if not 0 <= target < c.vocab_size:
        raise ValueError(f"rank_one_edit: target must be a token id below {c.vocab_size}, got {target}")
    if not 0 <= layer < c.layers:
        raise ValueError(f"rank_one_edit: layer must be from 0 to {c.layers - 1}, got {layer}")
    if not -t <= position < t:
        raise ValueError(f"rank_one_edit: position {position} is outside the prompt's {t} tokens")
    position %= t
    names = [f"blocks.{layer}.mlp.post", f"blocks.{layer}.mlp.out"]
    _, cache = run_with_cache(model, tokens, names)
    key, value = (cache[n].numpy()[0, position].astype(np.float64) for n in names)
    if not (key.any() and value.any()):
        raise ValueError(f"rank_one_edit: the MLP of layer {layer} writes nothing at position {position}: edit another")
    delta, probabilities = _find_delta(
        model, tokens, target, names[1], position, value, steps, lr, decay, largest, progress
    )
    background = tokens if background is None else as_batch(model, background)
    direction = np.linalg.solve(_second_moment(model, background, names[0]), key)  # C^-1 k
    update = np.outer(delta, direction / (key @ direction))
    return Edit(model, layer, position, key, delta, update, probabilities)


def _second_moment(model, background, name):
    """C (F, F): the mean of k k^T over the keys of a text, with its ridge."""
    _, cache = run_with_cache(model, background, name)
    keys = cache[name].numpy().astype(np.float64)
    keys = keys.reshape(-1, keys.shape[-1])
    moment = keys.T @ keys / len(keys)
    return moment + RIDGE * np.trace(moment) / len(moment) * np.eye(len(moment))


def _find_delta(model, tokens, target, name, position, value, steps, lr, decay, largest, progress):
    """What to add to the MLP's result at the position: Adam on -log p(target) + decay * |delta|^2 / |value|^2."""
    size = float(np.linalg.norm(value))
    dtype, chosen = model.tokens.weight.dtype, np.zeros((1, tokens.shape[1], 1))
    chosen[0, position] = 1.0
    place = Tensor(chosen, dtype=dtype, device=model.device)
    delta = Tensor(np.zeros(len(value)), dtype=dtype, device=model.device, requires_grad=True)
    adam = optim.Adam([delta], lr=lr * size / np.sqrt(len(value)))  # a step moves each channel by so much
    wanted, found = as_tokens([target], model.device), []
    for step in range(steps):
        with enable_grad(), hooked(model, {name: lambda x, _: x + place * delta}):
            loss = F.cross_entropy(model(tokens)[:, -1].float(), wanted)
            total = loss + (delta * delta).sum() * (decay / size**2)
        found.append(float(np.exp(-loss.item())))
        if progress is not None:
            progress(step + 1, steps, found[-1])
        if found[-1] > CONFIDENT:
            break
        (delta.grad,) = grad(total, delta)  # and no parameter's
        if step == 0 and not delta.grad.numpy().any():
            raise ValueError(
                f"rank_one_edit: nothing that {name} writes at position {position} reaches the last token's logits: edit "
                "an earlier layer, or the last position"
            )
        adam.step()
        norm = float(np.linalg.norm(delta.detach().float().numpy()))
        if norm > largest * size:
            delta.data[...] = delta.data * (largest * size / norm)
    return delta.detach().float().numpy().astype(np.float64), found
