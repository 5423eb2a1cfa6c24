"""A training step on the GPU as one graph: what the capture goes by may change, and is seen."""

import os

import numpy as np
import pytest

from tinygrad_lite import Generator, default_generator, no_grad, optim
from tinygrad_lite.config import settings
from tinygrad_lite.kernels.cuda.emulator import unavailable
from transformer.config import GPTConfig
from transformer.device_step import DeviceStep
from transformer.model import GPT

pytestmark = pytest.mark.skipif(
    os.environ.get("TGL_CUDA") == "emulate" and unavailable() is not None, reason=str(unavailable())
)


def made(dropout=0.1):
    model = GPT(GPTConfig(20, 16, layers=1, heads=2, channels=32, dropout=dropout), Generator(0)).to("cuda")
    adam = optim.AdamW(optim.decay_groups(list(model.named_parameters()), 0.1), lr=1e-2)
    default_generator.manual_seed(5)
    return model, adam, DeviceStep(model, adam, 1.0, default_generator)


def train(change, enabled, monkeypatch, k=1):
    """Losses, norms and weights of six steps, before the fourth of which change(model, optimiser, step) is called."""
    monkeypatch.setattr(settings, "use_graph", enabled)
    model, adam, step = made()
    found, rng = [], np.random.default_rng(1)
    for i in range(7):
        if i == 4:
            change(model, adam, step)
        adam.set_lr(1e-2 / (i + 1))
        tokens = rng.integers(0, 20, (k, 2, 17))
        found.append(step(tokens[..., :-1], tokens[..., 1:]))
    assert (step.graph.graph is not None) == enabled
    return found, [p.numpy().tobytes() for p in model.parameters()]


def set_groups(**values):
    return lambda model, adam, step: [group.update(values) for group in adam.param_groups]


def evaluate(model, adam, step):
    model.eval()
    with no_grad():
        model.hidden(np.arange(16)[None])
    model.train()


def assign(model, adam, step):
    model.head.weight.data = model.head.weight.data * 0.5


def set_dropout(model, adam, step):
    model.dropout.p = 0.5


def freeze(model, adam, step):
    model.tokens.weight.requires_grad = False


CHANGES = {
    "nothing": lambda *made: None, "evaluation": evaluate, "assigned": assign, "frozen": freeze, "dropout": set_dropout,
    "eval mode": lambda model, adam, step: model.eval(), "a norm's eps": lambda model, *_: setattr(model.norm, "eps", 0.1),
    "betas": set_groups(betas=(0.5, 0.5)), "eps": set_groups(eps=0.1), "decay": set_groups(weight_decay=0.0),
    "loaded": lambda model, adam, step: adam.load_state_dict(adam.state_dict()),
}  # fmt: skip


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_between_two_steps_is_seen_by_a_captured_step(change, k, monkeypatch):
    captured, run = (train(CHANGES[change], enabled, monkeypatch, k) for enabled in (True, False))
    assert captured == run


def test_a_step_is_captured_anew_only_where_something_has_changed(monkeypatch):
    graphs = []

    def look(model, adam, step):
        graphs.append(step.graph)
        monkeypatch.setattr(step.graph, "forget", lambda: graphs.append("forgotten"))

    train(look, True, monkeypatch)
    assert len(graphs) == 1


@pytest.mark.parametrize("register", [
    lambda model, hook: model.blocks[0].register_forward_hook(hook),
    lambda model, hook: model.norm.weight.register_hook(hook),
], ids=["module", "parameter"])  # fmt: skip
def test_hooks_are_called_in_every_step(register, monkeypatch):
    calls = []

    def hook(model, adam, step):
        register(model, lambda *args: calls.append(args))

    monkeypatch.setattr(settings, "use_graph", True)
    captured = train(hook, True, monkeypatch)
    assert len(calls) == 3 and captured == train(CHANGES["nothing"], False, monkeypatch)


@pytest.mark.parametrize("enabled", [True, False])
def test_batches_of_other_shapes(enabled, monkeypatch):
    found = []
    for captured in (enabled, None):
        monkeypatch.setattr(settings, "use_graph", bool(captured))
        (model, adam, step), rng = made(), np.random.default_rng(1)
        found.append([])
        for k, b, t in [(1, 2, 16)] * 3 + [(1, 1, 16), (1, 2, 8), (1, 2, 8), (1, 2, 8), (2, 2, 16), (1, 2, 16)]:
            tokens = rng.integers(0, 20, (k, b, t + 1))
            if captured is None:
                step = DeviceStep(model, adam, 1.0, default_generator)
            found[-1].append(step(tokens[..., :-1], tokens[..., 1:]))
    assert found[0] == found[1]


def test_two_models_take_turns(monkeypatch):
    monkeypatch.setattr(settings, "use_graph", True)
    pair, rng = [made(0.0), made(0.0)], np.random.default_rng(1)
    for _ in range(4):
        tokens = rng.integers(0, 20, (1, 2, 17))
        first, second = (step(tokens[..., :-1], tokens[..., 1:]) for *_, step in pair)
        assert first == second
