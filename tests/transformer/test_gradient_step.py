"""A recorded step gives the bits of a run, and is left where it would not."""

import numpy as np
import pytest

from tinygrad_lite import Generator, default_generator, optim, threads
from tinygrad_lite.kernels.cpu import arrays
from tinygrad_lite.tape import recording
from transformer import gradient_step
from transformer.config import GPTConfig
from transformer.gradient_step import GradientStep
from transformer.model import GPT

VARIANTS = {
    "gpt2": {},
    "llama": dict(positions="rope", norm="rmsnorm", mlp="swiglu", kv_heads=1, tied=False, bias=False),
    "window": dict(positions="rope", window=3, bias=False),
}


def make(enabled=True, **config):
    model = GPT(GPTConfig(31, 16, layers=2, heads=2, channels=32, **config), Generator(3))
    adam = optim.AdamW(model.parameters(), lr=1e-2)
    return model, adam, GradientStep(model, adam, enabled)


def batches(count, k=1, b=2, t=16, seed=0):
    tokens = np.random.default_rng(seed).integers(0, 31, (count, k, b, t + 1))
    return [(x[..., :-1], x[..., 1:]) for x in tokens]


def train(made, given):
    """Losses, norms, and all weights in the end."""
    model, adam, step = made
    found = []
    for inputs, targets in given:
        loss = step(inputs, targets)
        found.append((loss, optim.grad_norm(model.parameters())))
        adam.step()
    return found, [p.numpy().tobytes() for p in model.parameters()]


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("variant", VARIANTS)
def test_replayed_steps_give_the_bits_of_runs(variant, k):
    replayed, run = make(**VARIANTS[variant]), make(enabled=False, **VARIANTS[variant])
    given = batches(7, k)
    assert train(replayed, given) == train(run, given)
    assert replayed[2].is_replayed and not run[2].is_replayed


def test_another_number_of_threads_takes_nothing_from_a_replay():
    before, (replayed, run) = threads.get_num_threads(), (make(), make(enabled=False))
    given = batches(9)
    try:
        assert train(replayed, given[:5]) == train(run, given[:5])
        threads.set_num_threads(1 if before > 1 else 2)
        assert train(replayed, given[5:]) == train(run, given[5:])
    finally:
        threads.set_num_threads(before)


def test_other_shapes_and_modes_are_recorded_anew():
    replayed, run = make(), make(enabled=False)
    given = batches(5) + batches(5, t=8, seed=1) + batches(1, seed=2)
    assert train(replayed, given) == train(run, given)
    assert not replayed[2].is_replayed  # the last one had the first ones' shape again
    assert train(replayed, batches(4, seed=3)) == train(run, batches(4, seed=3))
    assert replayed[2].is_replayed
    for model, *_ in (replayed, run):
        model.eval()
    assert train(replayed, batches(1, seed=4)) == train(run, batches(1, seed=4))
    assert not replayed[2].is_replayed


def test_weights_that_are_assigned_are_seen():
    replayed, run = make(), make(enabled=False)
    train(replayed, batches(5)), train(run, batches(5))
    for model, *_ in (replayed, run):
        model.head.weight.data = np.full_like(model.head.weight.data, 0.01)
    assert train(replayed, batches(2, seed=1)) == train(run, batches(2, seed=1))


@pytest.mark.parametrize("change", [
    lambda model: setattr(model.blocks[0].attention, "scale", 0.9), lambda model: setattr(model.norm, "eps", 0.1),
], ids=["scale", "eps"])  # fmt: skip
def test_a_module_that_is_set_otherwise_is_seen(change):
    replayed, run = make(), make(enabled=False)
    train(replayed, batches(5)), train(run, batches(5))
    assert replayed[2].is_replayed
    for model, *_ in (replayed, run):
        change(model)
    assert train(replayed, batches(2, seed=1)) == train(run, batches(2, seed=1))


def test_steps_that_draw_are_run():
    replayed, run = make(dropout=0.3), make(enabled=False, dropout=0.3)
    given = batches(6)
    default_generator.manual_seed(5)
    found = train(replayed, given)
    default_generator.manual_seed(5)
    assert found == train(run, given) and not replayed[2].is_replayed


def test_ignored_targets_and_hooks_are_not_left_out():
    model, _, step = made = make()
    other = make(enabled=False)
    train(made, batches(5)), train(other, batches(5))
    inputs, targets = batches(1, seed=1)[0]
    targets = targets.copy()
    targets[..., ::2] = -100
    assert train(made, [(inputs, targets)]) == train(other, [(inputs, targets)])
    seen = []
    hook = model.blocks[0].register_forward_hook(lambda *args: seen.append(args))
    step(inputs, np.abs(targets) % 31)
    assert len(seen) == 1
    hook.remove()
    with pytest.raises(IndexError, match="31"):
        step(inputs + 31, targets)


def test_a_step_that_a_tape_does_not_hold_whole_is_found_out(monkeypatch):
    """What depends on the inputs and is not recorded shows in the comparison: then every step is run."""
    monkeypatch.setattr(arrays, "host", lambda function, *args: function(*args))
    replayed, run = make(), make(enabled=False)
    given = batches(6)
    assert train(replayed, given) == train(run, given)
    assert not replayed[2].is_replayed


def test_a_step_that_takes_much_memory_is_run(monkeypatch):
    monkeypatch.setattr(gradient_step, "LARGEST_TAPE", 10_000)
    replayed, run = make(), make(enabled=False)
    assert train(replayed, batches(5)) == train(run, batches(5))
    assert not replayed[2].is_replayed


def test_the_recorded_batch_again_is_no_proof():
    _, _, step = made = make()
    given = batches(1) * 5
    assert train(made, given) == train(make(enabled=False), given) and not step.is_replayed
    train(made, batches(1, seed=1))
    assert step.is_replayed


def test_a_step_while_another_recording_is_under_way_is_run():
    recorded, run = make(), make(enabled=False)
    given = batches(6)
    with recording(1 << 20):
        found = train(recorded, given[:3])
    assert found == train(run, given[:3])
    assert train(recorded, given[3:]) == train(run, given[3:]) and recorded[2].is_replayed


def test_no_replay_before_the_comparison():
    _, _, step = made = make()
    for (inputs, targets), is_replayed in zip(batches(4), (False, False, True, True)):
        train(made, [(inputs, targets)])
        assert step.is_replayed == is_replayed
