"""A model that learns to repeat what it has seen: induction heads, trained on the spot.

The text is nothing but random letters, each stretch of 6 to 24 of them written four times over. No letter can be
predicted from the ones before it but by finding the stretch again, so what lowers the loss is a pair of heads: one that
looks at the previous token, and in the layer above one that looks for where the current token came before and copies
what followed (Elhage et al. 2021; Olsson et al. 2022, arXiv:2209.11895). It is learned by the trainer that trains any
GPT, and the run's directory is one like all others.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tokenizer import CharTokenizer

from ..files import replace
from ..presets import TrainConfig
from ..trainer import Trainer

LETTERS = "abcdefghijklmnopqrstuvwxyz"
PERIODS, COPIES = (
    (6, 24),
    4,
)  # four copies, so that three letters in four can be predicted: with two it took twice as long


def repeated_text(letters: int, seed: int = 0) -> str:
    """At least so many random letters, in stretches that are written `COPIES` times."""
    rng, pieces, length = np.random.default_rng(seed), [], 0
    alphabet = np.array(list(LETTERS))
    while length < letters:
        stretch = "".join(rng.choice(alphabet, rng.integers(PERIODS[0], PERIODS[1] + 1)))
        pieces.append(stretch * COPIES)
        length += len(pieces[-1])
    return "".join(pieces)


def induction_config(steps: int = 1500, seed: int = 1) -> TrainConfig:
    """Two layers of four heads and 64 channels; rotary positions, with which a previous-token head is easily learned."""
    model = dict(layers=2, heads=4, channels=64, block_size=64, positions="rope", norm="rmsnorm", bias=False)
    return TrainConfig(
        tokenizer="char", model=model, batch_size=32, steps=steps, optimizer="muon", eval_every=max(1, steps // 10),
        eval_windows=40, final_windows=40, seed=seed,
    )  # fmt: skip


def induction_trainer(out, config: TrainConfig, report=None, letters: int = 1_500_000) -> Trainer:
    """The trainer of such a model, ready to run. In `out`, the run's directory or None, letters.txt keeps the text, by
    which `tgl train --resume` can go on."""
    text, tokenizer, source = repeated_text(letters), CharTokenizer(LETTERS), []
    if out is not None:
        path = Path(out) / "letters.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        writing = path.with_name(".writing-letters.txt")
        writing.write_text(text, encoding="utf-8")
        replace(writing, path)
        source = [str(path.resolve())]
    cut = int(len(text) * 0.9)  # the last tenth is held out, as of any one file
    train, val = (tokenizer.encode_to_array(part) for part in (text[:cut], text[cut:]))
    return Trainer(config, train, val, tokenizer, out, source, report)
