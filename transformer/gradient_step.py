"""Mean loss and gradients of a training step. On the CPU a small step is recorded, and replayed from then on.

A replay (tinygrad_lite/tape.py) makes the same launches on the same arrays without the engine between them. A tape cannot
know what it has missed, so one step is run and replayed, and only where loss and gradients agree in every bit are later
ones replays.
"""

from __future__ import annotations

import operator
from contextlib import nullcontext

import numpy as np

from tinygrad_lite import as_tensor, default_generator
from tinygrad_lite.autograd.mode import GRAD, mode
from tinygrad_lite.config import settings
from tinygrad_lite.device import CPU
from tinygrad_lite.dtypes import float16
from tinygrad_lite.optim.flat import gradient_spans
from tinygrad_lite.tape import UnderWay, attributes, recording

# A tape keeps the memory of its step, nearly twice what a run holds at once: 57 MB for nanoGPT's preset of 0.8 million
# parameters for a CPU, 677 for 11 million and 8 x 256 tokens, whose kernels are long beside the engine's share.
LARGEST_TAPE = 256 << 20  # bytes


class GradientStep:
    """step(inputs, targets) gives the mean loss, and leaves the gradients in the parameters' .grad.

    The first call runs, the second is recorded, the next one with other ids is run and replayed and compared. Later ones
    are replays, each as exact as a run. What is not like the recorded step runs: other shapes, ids that a run refuses or
    ignores, hooks, another mode or other arrays of parameters, a loss scale. All steps run where they draw random numbers
    (dropout), take much memory, or the comparison failed; and with enabled=False.
    """

    def __init__(self, model, optimizer, enabled: bool = True):
        self.model, self.optimizer = model, optimizer
        self._parameters = list(model.parameters())
        self._modules = [module for _, module in model.named_modules()]
        self._enabled = enabled and model.device is CPU
        self._forget()

    @property
    def is_replayed(self) -> bool:
        """Whether a usual step is a replay by now."""
        return self._is_proven

    def __call__(self, inputs: np.ndarray, targets: np.ndarray, scale: float = 1.0) -> float:
        """The mean loss of micro-batches (K, B, T) of token ids, each of which weighs 1/K; gradients are `scale` times."""
        if not self._enabled or scale != 1.0 or not self._is_usual(inputs, targets):
            return self._run(inputs, targets, scale)
        settled, objects = self._state(inputs)
        if settled != self._seen or not _are(objects, self._objects):
            self._forget()
            self._seen, self._objects = settled, objects
            return self._run(inputs, targets)
        if self._tape is None:
            return self._record(inputs, targets)
        if not self._is_proven:
            seen = any(map(np.array_equal, (inputs, targets), self._given))  # what was recorded would agree with itself
            return self._run(inputs, targets) if seen else self._prove(inputs, targets)
        return self._replay(inputs, targets)

    # -- when ---------------------------------------------------------------------------------------------
    def _is_usual(self, inputs, targets) -> bool:
        size = self.model.config.vocab_size
        if any(not x.size or x.min() < 0 or x.max() >= size for x in (inputs, targets)) or mode.state != GRAD:
            return False
        return not any(module.has_hooks for module in self._modules) and all(
            p.node is None or p.node.extra is None for p in self._parameters
        )

    def _state(self, inputs) -> tuple[tuple, list]:
        """What a recorded step depends on, beside the values in its arrays: settings, and objects as they are."""
        arrays = [x for p in self._parameters for x in (p.data, None if p.node is None else p.node.buffer)]
        return (inputs.shape, settings.use_fused), arrays + attributes(self._modules)

    def _forget(self):
        self._seen = self._objects = self._tape = self._given = self._losses = self._gradients = None
        self._is_proven = False

    # -- how ----------------------------------------------------------------------------------------------
    def _run(self, inputs, targets, scale: float = 1.0) -> float:
        return _mean(self._run_losses(inputs, targets, scale))

    def _run_losses(self, inputs, targets, scale: float = 1.0) -> list:
        device, losses, factor = self.model.device, [], scale / len(inputs)
        is_half = self._parameters[0].dtype == float16
        self.optimizer.zero_grad()
        for x, y in zip(inputs, targets, strict=True):
            loss = self.model(*(as_tensor(np.asarray(ids, dtype=np.int64), device) for ids in (x, y)))
            with np.errstate(over="ignore", invalid="ignore") if is_half else nullcontext():
                (loss if factor == 1.0 else loss * factor).backward()  # an overflow shows in the norm
            losses.append(loss.data)
        return losses if device is CPU else [device.to_host(x) for x in losses]

    def _record(self, inputs, targets) -> float:
        self._given = [np.array(x, dtype=np.int64) for x in (inputs, targets)]
        drawn = default_generator.get_state()
        try:
            with recording(LARGEST_TAPE) as tape:
                self._losses = self._run_losses(*self._given)
        except UnderWay:  # another thread records a token, say
            return self._run(inputs, targets)
        loss = _mean(self._losses)
        if tape.is_full or default_generator.get_state() != drawn:
            self._give_up()
        else:
            self._tape = tape
            self._gradients = [None if p.node is None else p.node.grad for p in self._parameters]
        return loss

    def _prove(self, inputs, targets) -> float:
        loss = self._run(inputs, targets)
        exact = [np.array(span) for span, _ in gradient_spans(self._parameters)]
        for place in (*(span for span, _ in gradient_spans(self._parameters)), *self._losses):
            place[...] = np.nan  # what a replay leaves as it is must not pass for computed
        same = self._replay(inputs, targets) == loss
        for (span, _), values in zip(gradient_spans(self._parameters), exact, strict=True):
            same = same and span.tobytes() == values.tobytes()
            span[...] = values
        if same:
            self._is_proven = True
        else:
            self._give_up()
        return loss

    def _replay(self, inputs, targets) -> float:
        for place, x in zip(self._given, (inputs, targets), strict=True):
            place[...] = x
        self._tape.replay()
        for p, gradient in zip(self._parameters, self._gradients, strict=True):
            if p.node is not None:
                p.node.grad = gradient
        return _mean(self._losses)

    def _give_up(self):
        self._forget()
        self._enabled = False


def _are(objects, others) -> bool:
    return len(objects) == len(others) and all(map(operator.is_, objects, others))


def _mean(losses) -> float:
    return sum(float(x) / len(losses) for x in losses)
