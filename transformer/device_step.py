"""A whole optimiser step on the GPU, as one CUDA graph: forward, backward, clipping, AdamW."""

from __future__ import annotations

import operator
from functools import partial

import numpy as np

from tinygrad_lite import Generator, as_tensor
from tinygrad_lite.config import settings
from tinygrad_lite.kernels.cuda.clip import norm_and_coefficient
from tinygrad_lite.kernels.cuda.graph import Graph
from tinygrad_lite.optim.flat import gradient_spans
from tinygrad_lite.optim.replay import ReplayedSteps


class DeviceStep:
    """Steps of a model on "cuda"; nothing but tokens, a few numbers, the loss and the norm crosses to the GPU and back.

    A step whose gradients are not finite changes no weight. A capture holds the model's settings and the optimiser's, but
    for the learning rate and the weight decay: where one has changed, a parameter was frozen, or a batch has another
    shape, the step is captured anew. A model with hooks, or a parameter with one, is run, so that they are called. Raises
    ValueError where the optimiser cannot be replayed.
    """

    def __init__(self, model, optimizer, max_norm: float, generator: Generator):
        self.vocab_size, self.replayed = model.config.vocab_size, ReplayedSteps(optimizer)
        self.parameters = list(model.parameters())
        # A function that does not hold this object, whose graph and memory then go with it.
        step = partial(_step, model, optimizer, self.parameters, self.replayed, max_norm)
        self.graph, self.use_graph = Graph(step, generator, enabled=settings.use_graph), settings.use_graph
        modules = [vars(module) for module in model.modules()]
        self.hooks = [m[name] for m in modules for name in ("_hooks", "_pre_hooks", "_backward_hooks")]
        # As two lists for map: 10 us for nanoGPT's small GPT, of whose step of 5 ms a list of all would take 100.
        places = [(m, name) for m in modules for name, x in m.items() if not isinstance(x, tuple | list | dict)]
        self.attributes = [m for m, _ in places], [name for _, name in places]
        self.fixed = None

    def __call__(self, inputs: np.ndarray, targets: np.ndarray, loss_scale: float = 1.0) -> tuple[float, float]:
        """(mean loss, gradient's norm) of micro-batches (K, B, T) of token ids, after which the weights are updated.

        Raises IndexError for an id outside of the vocabulary, which the GPU would read past.
        """
        for name, ids in (("inputs", inputs), ("targets", targets)):
            if ids.min() < 0 or ids.max() >= self.vocab_size:
                raise IndexError(f"{name}: ids must be in [0, {self.vocab_size}), got from {ids.min()} to {ids.max()}")
        rows = self.replayed.advance()
        self._look_for_changes(inputs.shape)
        try:
            loss, norm = self.graph(inputs, targets, rows, np.float32(loss_scale))
        except Exception:
            self.replayed.withdraw()
            raise
        if not np.isfinite(norm):
            self.replayed.withdraw()
        return float(loss), float(norm)

    def _look_for_changes(self, shape):
        planned, found = (shape, self.replayed.fixed()), list(map(dict.get, *self.attributes))
        if self.fixed is not None:
            before, known = self.fixed
            if planned != before or not all(map(operator.is_, found, known)):
                self.graph.forget()
        self.fixed = planned, found
        has_hooks = any(self.hooks) or any(p.node is not None and p.node.extra is not None for p in self.parameters)
        self.graph.enabled = self.use_graph and not has_hooks


def _step(model, optimizer, parameters, replayed, max_norm, inputs, targets, rows, loss_scale):
    """Update the weights; returns the mean loss and the gradient's norm. All arrays are on the device."""
    device, count = model.device, inputs.shape[0]
    optimizer.zero_grad()
    total = None
    for k in range(count):
        loss = model(as_tensor(inputs[k], device), as_tensor(targets[k], device))
        loss.backward(as_tensor(loss_scale * (1.0 / count), device))  # each micro-batch weighs 1/K
        total = loss.data if total is None else total + loss.data
    spans = [span for span, _ in gradient_spans(parameters)]
    norm, coefficient = norm_and_coefficient(spans, loss_scale, max_norm)
    replayed.apply(rows, coefficient)
    return total * (1.0 / count), norm
