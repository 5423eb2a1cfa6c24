"""A training step of one text, watched: what ran, what came back, what the optimiser changed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

import tokenizer as tokenizers
from tinygrad_lite import functional as F
from tinygrad_lite import no_grad, optim
from tinygrad_lite.study import Trace
from tinygrad_lite.study.trace import BackwardStep

from .. import checkpoint
from ..config import GPTConfig
from ..model import GPT, as_tokens
from ..optimizer_state import restore_optimizer
from ..presets import TrainConfig
from ..trainer import build_optimizer, build_schedule
from .twin import Twin, open_twin

MOST_TOKENS = 64  # a page: what fits a screen, and 5 MB


@dataclass
class Checkpoint:
    """A model with all that a step of its training needs."""

    model: GPT
    tokenizer: object
    step: int
    train: TrainConfig
    optimizer_state: tuple | None  # (moments, the rest), None where nothing was trained yet
    name: str

    def copy(self) -> GPT:
        """The model again, with parameters of its own."""
        model = GPT(self.model.config)
        checkpoint.put_weights(model, {n: p.numpy() for n, p in self.model.named_parameters()}, self.name)
        return model.eval()


def load(directory, moments: bool = True) -> Checkpoint:
    """The newest checkpoint of a run, or one that is named, in float32 on the CPU."""
    weights, arrays, state = checkpoint.load(directory) if moments else _without_moments(directory)
    model = GPT(GPTConfig.from_dict(state["model"]))
    checkpoint.put_weights(model, weights, directory)
    train = TrainConfig.from_dict(state["train"])
    # Of 16 bits the optimiser keeps what a step in float32 has no use for: such a step begins with fresh moments.
    kept = (arrays, state["optimizer"]) if arrays and train.dtype == "float32" else None
    train = replace(train, device="cpu", dtype="float32", stochastic_rounding=False)
    tok = tokenizers.Tokenizer.from_dict(state["tokenizer"])
    return Checkpoint(model.eval(), tok, state["progress"]["step"], train, kept, str(directory))


def _without_moments(directory):
    weights, state = checkpoint.load_weights(directory)
    return weights, None, state


@dataclass
class Change:
    """What the optimiser's step did to one parameter: arrays."""

    before: np.ndarray
    after: np.ndarray
    gradient: np.ndarray  # of an ordinary backward(), without a trace


@dataclass
class Update:
    """One optimiser step on a copy of the model, as training takes it."""

    changes: dict[str, Change]
    loss: float
    logits: np.ndarray  # (T, V) of an ordinary forward pass
    optimizer: str
    lr: float
    norm: float  # of all gradients
    clip: float  # what they were multiplied with
    note: str


@dataclass
class Collected:
    """The step: B is 1, T at most `MOST_TOKENS`."""

    source: Checkpoint
    ids: np.ndarray  # (T,)
    targets: np.ndarray  # (T,)
    trace: Trace
    loss: float
    losses: np.ndarray  # (T,) in nats
    logits: np.ndarray  # (T, V)
    walk: list[BackwardStep]
    update: Update
    by_event: dict[int, BackwardStep] = field(default_factory=dict)
    twins: dict[int, Twin] = field(default_factory=dict)


def collect(source: Checkpoint, ids: np.ndarray, twins=True, progress=lambda done, of: None) -> Collected:
    """Run the step of token ids (T + 1,): the first T are read, each foretells the next.

    twins: True opens every fused op; a collection of names opens those only, and forward only.
    """
    inputs, targets = as_tokens(ids[None, :-1]), as_tokens(ids[None, 1:])
    update = take_step(source, inputs, targets)
    model = source.model
    model.zero_grad()
    with Trace(model) as trace:
        trace.name(inputs, "tokens")
        trace.name(targets, "targets")
        loss = model(inputs, targets)
    walk = list(trace.backward(loss))
    by_event = {step.event.index: step for step in walk if step.event is not None}
    opened = {}
    for event in trace:
        progress(event.index, len(trace))
        if event.op.is_fused and (twins is True or event.op.name in twins):
            step = by_event.get(event.index)
            opened[event.index] = open_twin(event, step.g if step is not None and twins is True else None)
    with no_grad():
        logits = model(inputs)
        losses = [F.cross_entropy(logits[0, t : t + 1], targets[0, t : t + 1]).item() for t in range(len(ids) - 1)]
    return Collected(source, ids[:-1], ids[1:], trace, loss.item(), np.array(losses), logits.numpy()[0], walk, update,
                     by_event, opened)  # fmt: skip


def take_step(source: Checkpoint, inputs, targets) -> Update:
    """What training would do with this text as its whole batch: loss, backward, clip, update, on a copy."""
    model, c = source.copy(), source.train
    optimizer, note = build_optimizer(model, c), ""
    if source.optimizer_state is not None:
        restore_optimizer(optimizer, *source.optimizer_state)
    elif source.step:
        note = "moments begin at zero: the run's are not of this type. "
    total = c.steps or 1
    lr = build_schedule(replace(c, steps=total))(source.step) if source.step < total else 0.0
    if lr <= 0.0:
        lr = c.lr
        note += f"the rate is the run's highest, {lr:g}, as the schedule's is 0 here. "
    optimizer.set_lr(lr)
    optimizer.zero_grad()
    with no_grad():
        logits = model(inputs).numpy()[0].copy()
    loss = model(inputs, targets)
    loss.backward()
    parameters = dict(model.named_parameters())
    before = {name: p.numpy().copy() for name, p in parameters.items()}
    gradients = {name: p.grad.numpy().copy() for name, p in parameters.items() if p.grad is not None}
    norm = float(optim.grad_norm(list(parameters.values())))
    clip = float(optim.clip_coefficient(norm, c.clip)) if c.clip > 0 else 1.0
    optimizer.step(grad_scale=clip)
    changes = {
        name: Change(before[name], p.numpy().copy(), gradients.get(name, np.zeros_like(before[name])))
        for name, p in parameters.items()
    }
    return Update(changes, loss.item(), logits, c.optimizer, lr, norm, clip, note)
