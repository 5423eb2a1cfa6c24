"""Named settings for training. A preset is a dict of `TrainConfig` fields, with the loss it is known to reach."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from .config import GPTConfig

TOKENIZERS = ("bpe", "char")
OPTIMIZERS = ("adamw", "muon")
DEVICES = ("cpu", "cuda")
DTYPES = ("float32", "bfloat16", "float16")
SCHEDULES = ("cosine", "wsd", "constant")

# The text that the Shakespeare presets' losses were measured on: Karpathy's tinyshakespeare, 1,115,394 bytes.
TINYSHAKESPEARE = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"

# What a resumed run may change: how long it goes on (which stretches the learning rate's schedule) and what it reports.
FREE_ON_RESUME = frozenset({"steps", "eval_every", "sample_every", "save_every", "log_every", "keep"})


@dataclass
class TrainConfig:
    """Everything that decides a run, beside the data: the same config and data give the same weights.

    steps: optimiser steps; None means as many as fit in max_seconds, settled at the start and, but for a cosine schedule, half way; stored.
    lr, min_lr: peak and final learning rate; warmup: steps. accumulate K: micro-batches a step.
    """

    tokenizer: str = "bpe"  # bpe | char | the file of one
    vocab_size: int = 2048  # of the bpe tokenizer
    model: dict = field(default_factory=dict)  # GPTConfig fields but vocab_size
    init_from: str | None = None  # the run whose newest weights this one begins with
    batch_size: int = 12
    accumulate: int = 1
    steps: int | None = None
    max_seconds: float | None = None
    optimizer: str = "adamw"  # adamw | muon
    lr: float = 1e-3
    min_lr: float = 1e-4
    muon_lr: float = 0.02
    schedule: str = "cosine"  # cosine | wsd | constant
    warmup: int = 100
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.99
    clip: float = 1.0
    device: str = "cpu"  # cpu | cuda
    dtype: str = "float32"  # of weights and activations; what the optimiser keeps is float32
    stochastic_rounding: bool = False  # of bfloat16 weights, of which adamw then keeps no float32 copy
    seed: int = 1337
    eval_every: int = 250
    eval_windows: int | None = 200  # evenly spaced over the held-out text
    final_windows: int | None = None  # of the last evaluation; None: all of the held-out text
    log_every: int = 10
    sample_every: int = 0
    save_every: int = 0  # besides at evaluations
    keep: bool = False  # earlier checkpoints too
    expected: tuple | None = None  # (low, high) of the final held-out loss, and its unit
    expected_unit: str = "nats a token"
    expected_text: str | None = None  # SHA-256 of the text that this holds for; None: the standard library's source

    def check(self):
        """Raise ValueError naming every setting that cannot be."""
        wrong = [f"{n} must be one of {', '.join(known)}, got {getattr(self, n)!r}"
                 for n, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES),
                                  ("device", DEVICES), ("dtype", DTYPES))
                 if getattr(self, n) not in known]  # fmt: skip
        path = Path(self.tokenizer)
        if self.tokenizer not in TOKENIZERS and not path.suffix and len(path.parts) < 2:
            names = ", ".join(TOKENIZERS)
            wrong.append(f"tokenizer must be one of {names}, or a tokenizer's file, got {self.tokenizer!r}")
        for names, least in (
            (("batch_size", "accumulate", "steps", "eval_every", "log_every", "eval_windows", "final_windows"), 1),
            (("warmup", "sample_every", "save_every", "seed"), 0),
            (("lr", "muon_lr", "min_lr", "weight_decay", "clip", "max_seconds"), 0.0),
        ):
            for name in names:
                value = getattr(self, name)
                if value is not None and not least <= value < float("inf"):
                    wrong.append(f"{name} must be at least {least}, got {value}")
        wrong += [
            f"{n} must be in [0, 1), got {getattr(self, n)}"
            for n in ("beta1", "beta2")
            if not 0 <= getattr(self, n) < 1
        ]
        if not self.lr:
            wrong.append("lr must be above 0, got 0")
        if self.min_lr > self.lr:
            wrong.append(f"min_lr must be at most lr, {self.lr}, got {self.min_lr}")
        if self.stochastic_rounding and (self.dtype, self.optimizer) != ("bfloat16", "adamw"):
            wrong.append(
                f"stochastic_rounding needs dtype bfloat16 and optimizer adamw, got {self.dtype} and {self.optimizer}"
            )
        if self.steps is None and not self.max_seconds:
            wrong.append("neither steps nor max_seconds is given: pass --steps N or --max-seconds S")
        if wrong:
            raise ValueError("training: " + "; ".join(wrong))

    def unused(self, given) -> list[str]:
        """Of the settings that were given, those that another one makes meaningless, with the reason."""
        reasons = {
            "muon_lr": None if self.optimizer == "muon" else "the optimizer is not muon",
            "vocab_size": None if self.tokenizer == "bpe" else "the tokenizer is not bpe",
            "warmup": "the schedule is constant" if self.schedule == "constant" else None,
            "min_lr": "the schedule is constant" if self.schedule == "constant" else None,
            "max_seconds": "steps is given" if "steps" in given else None,
        }
        return [f"{name} ({reasons[name]})" for name in given if reasons.get(name)]

    def to_dict(self) -> dict:
        """Plain values, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> TrainConfig:
        """The config that `to_dict` gave."""
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"TrainConfig: unknown settings {unknown}: the checkpoint is of another version")
        return cls(**{k: tuple(v) if k == "expected" and v else v for k, v in values.items()})

    def gpt_config(self, vocab_size: int) -> GPTConfig:
        """The model's config, once the tokenizer is known."""
        return GPTConfig(vocab_size=vocab_size, **self.model)


_SHAKESPEARE = dict(tokenizer="char", lr=1e-3, min_lr=1e-4, warmup=100, beta2=0.99, expected_unit="nats a token",
                    expected_text=TINYSHAKESPEARE)  # fmt: skip

PRESETS: dict[str, dict] = {
    # Three minutes on two cores, from text that is on every machine. In so short a time a small model that sees much
    # text beats a large one that sees little: bits a byte for about 250 s of processor time, 4 layers of 64, 96, 128, 192
    # channels with learning rates of 4, 3, 3, 2e-3, which saw 4.6, 2.8, 1.9, 0.7 million tokens: 1.46, 1.48, 1.61, 1.93.
    "quick": dict(
        tokenizer="bpe",
        vocab_size=2048,
        model=dict(layers=4, heads=2, channels=64, block_size=128, positions="rope", norm="rmsnorm", bias=False),
        batch_size=16,
        max_seconds=125.0,
        optimizer="muon",
        lr=4e-3,
        min_lr=0.0,
        warmup=20,
        weight_decay=0.05,
        beta2=0.95,
        schedule="wsd",
        eval_every=250,
        eval_windows=64,
        final_windows=1000,
        log_every=10,
        expected=(1.35, 2.0),
        expected_unit="bits a byte",
    ),
    # nanoGPT's published settings for a CPU: it reports a validation loss of 1.88 (a 20-batch estimate).
    "shakespeare-char-cpu": dict(
        **_SHAKESPEARE,
        model=dict(layers=4, heads=4, channels=128, block_size=64, bias=False),
        batch_size=12,
        steps=2000,
        expected=(1.84, 1.96),
    ),
    # As many tokens in no more time: rotary positions, RMSNorm, Muon, contexts twice as long, a layer less to pay for it.
    "shakespeare-char-muon": dict(
        **_SHAKESPEARE | dict(lr=3e-3, min_lr=0.0),
        model=dict(layers=3, heads=4, channels=128, block_size=128, positions="rope", norm="rmsnorm", bias=False),
        batch_size=8,
        steps=1500,
        optimizer="muon",
        expected=(1.54, 1.66),
    ),
    # nanoGPT's published settings for a GPU: it reports 1.4697.
    "shakespeare-char": dict(
        **_SHAKESPEARE,
        model=dict(layers=6, heads=6, channels=384, block_size=256, dropout=0.2, bias=False),
        batch_size=64,
        steps=5000,
        expected=(1.44, 1.55),
    ),
    # To train on from weights that know much: small steps, so that they forget little. Five minutes.
    "tune": dict(
        batch_size=4,
        max_seconds=300.0,
        lr=5e-5,
        min_lr=5e-6,
        warmup=20,
        beta2=0.95,
        eval_every=100,
        eval_windows=50,
        final_windows=200,
    ),
}


def preset(name: str) -> TrainConfig:
    """The named settings; ValueError names the known ones."""
    if name not in PRESETS:
        raise ValueError(f"preset: {name!r} is not known: choose one of {', '.join(PRESETS)}")
    return TrainConfig(**{k: dict(v) if isinstance(v, dict) else v for k, v in PRESETS[name].items()})
