"""The same training on "cuda" and in half precision: the CPU's curve, within what the types round."""

import gc
import os
import weakref

import numpy as np
import pytest

from tinygrad_lite import Generator, optim
from tinygrad_lite.kernels.cuda.emulator import unavailable
from tokenizer import CharTokenizer
from transformer.config import GPTConfig
from transformer.model import GPT
from transformer.presets import TrainConfig
from transformer.sampling import generate
from transformer.trainer import NonFiniteLoss, Trainer

needs_cuda = pytest.mark.skipif(
    os.environ.get("TGL_CUDA") == "emulate" and unavailable() is not None, reason=str(unavailable())
)
TEXT = "".join(f"{a} and {b} make {a + b}.\n" for a in range(40) for b in range(40))
STEPS = 12
MODELS = {
    "gpt2": dict(),
    "llama": dict(positions="rope", norm="rmsnorm", mlp="swiglu", kv_heads=1, bias=False, window=9),
    "dropout": dict(dropout=0.2),
}


def trainer(out=None, model="gpt2", size=None, **settings):
    tokenizer = CharTokenizer.train(TEXT)
    ids = tokenizer.encode_to_array(TEXT)
    defaults = dict(batch_size=4, steps=STEPS, lr=3e-3, warmup=3, eval_every=STEPS, final_windows=4)
    shape = dict(layers=2, heads=2, channels=32, block_size=16) | (size or {}) | MODELS[model]
    config = TrainConfig(tokenizer="char", model=shape, **(defaults | settings))
    return Trainer(config, ids[:-800], ids[-800:], tokenizer, out)


def losses(steps=STEPS, scale=None, **settings):
    made = trainer(steps=steps, **settings)
    if scale is not None and made.scaler.enabled:
        made.scaler.scale = scale
    return np.array([made.train_step(step)["loss"] for step in range(steps)]), made


@needs_cuda
@pytest.mark.parametrize("model", [m if m == "llama" else pytest.param(m, marks=pytest.mark.slow) for m in MODELS])
def test_training_on_cuda_is_training_on_the_cpu(model):
    (cpu, here), (cuda, there) = (losses(model=model, device=device) for device in ("cpu", "cuda"))
    assert there.model.device.name == "cuda" and cpu[-1] < cpu[0] - 0.3
    np.testing.assert_allclose(cuda, cpu, rtol=0, atol=2e-5)  # twelve steps of AdamW on gradients of 1e-6 apart
    for (name, x), (_, y) in zip(here.model.named_parameters(), there.model.named_parameters()):
        np.testing.assert_allclose(y.numpy(), x.numpy(), rtol=0, atol=2e-4, err_msg=name)


@pytest.mark.parametrize("device, dtype, band, more", [
    ("cpu", "bfloat16", 0.02, {}),
    ("cpu", "bfloat16", 0.02, dict(stochastic_rounding=True)),
    ("cpu", "float16", 0.004, {}),
    pytest.param("cuda", "bfloat16", 0.02, {}, marks=needs_cuda),
    pytest.param("cuda", "bfloat16", 0.02, dict(stochastic_rounding=True), marks=[needs_cuda, pytest.mark.slow]),
    pytest.param("cuda", "float16", 0.004, {}, marks=[needs_cuda, pytest.mark.slow]),  # compiles all kernels once more
])  # fmt: skip
def test_half_precision_follows_float32(dtype, band, device, more):
    """The band: a bfloat16 has 8 bits, so that each of the few roundings on the way moves the loss by up to 0.4 %."""
    exact, _ = losses(device="cpu")
    half, made = losses(device=device, dtype=dtype, scale=2.0**8, **more)  # so that no step is skipped
    assert np.abs(half - exact).max() <= band
    assert half[-1] < half[0] - 0.3
    assert all(str(p.dtype) == dtype for p in made.model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 7])
def test_a_character_gpt_learns_in_bfloat16_what_it_learns_in_float32(seed):
    """The band: over seeds 1 to 11 and 1337 the means were 0.012 apart at most, 0.013 with stochastic rounding.

    With weights that are rounded to nearest, without masters, 0.095 to 0.124.
    """
    settings = dict(steps=300, seed=seed, lr=3e-4, schedule="constant", warmup=20, batch_size=8)
    size = dict(channels=64, block_size=32)

    def means(**more):  # of 20 steps
        made, _ = losses(**settings, **more, size=size)
        return np.convolve(made, np.full(20, 1 / 20), "valid")

    exact = means()
    assert exact[-1] < exact[0] - 1.5
    for more in ({}, dict(stochastic_rounding=True)):
        assert np.abs(means(dtype="bfloat16", **more) - exact).max() < 0.03


def test_accumulated_micro_batches_in_bfloat16_are_one_large_batch():
    def config(**settings):
        made = trainer(dtype="bfloat16", **settings)
        return made

    whole, parts = config(), config()
    parts.config.accumulate, parts.loader.batch_size, parts.config.batch_size = 2, 2, 2
    a, b = whole.train_step(0), parts.train_step(0)
    assert abs(a["loss"] - b["loss"]) < 0.01 and abs(a["grad_norm"] - b["grad_norm"]) < 0.02 * a["grad_norm"]


def test_a_step_whose_gradients_overflow_is_left_out_and_the_scale_halved():
    made = trainer(dtype="float16")
    made.scaler.scale = 2.0**24
    before = {name: p.numpy().copy() for name, p in made.model.named_parameters()}
    skipped = made.train_step(0)
    assert skipped["skipped"] and made.scaler.scale == 2.0**23 and np.isfinite(skipped["loss"])
    for name, p in made.model.named_parameters():
        np.testing.assert_array_equal(p.numpy(), before[name])
    step = 0
    while made.train_step(step).get("skipped"):
        step += 1
    assert step < 16 and made.scaler.scale < 2.0**23


def test_a_loss_that_is_not_finite_stops_float16_too():
    made = trainer(dtype="float16")
    made.model.tokens.weight.data[...] = np.nan
    with pytest.raises(NonFiniteLoss, match="the loss is nan"):
        made.train_step(0)


@pytest.mark.parametrize("device, dtype, more", [
    ("cpu", "float16", {}), ("cpu", "bfloat16", dict(stochastic_rounding=True)),
    pytest.param("cuda", "float32", {}, marks=[needs_cuda, pytest.mark.slow]),
    pytest.param("cuda", "bfloat16", {}, marks=[needs_cuda, pytest.mark.slow]),
    pytest.param("cuda", "bfloat16", dict(stochastic_rounding=True), marks=needs_cuda),
])  # fmt: skip
def test_a_run_that_is_resumed_writes_the_same_bits(device, dtype, more, tmp_path):
    whole, first = (trainer(tmp_path / name, device=device, dtype=dtype, **more) for name in ("whole", "parts"))
    for step in range(6):
        whole.train_step(step)
    for step in range(3):
        first.train_step(step)
    first.progress.step = 3
    first.save()
    second = trainer(tmp_path / "parts", device=device, dtype=dtype, **more)
    second.resume(tmp_path / "parts")
    assert second.scaler.state_dict() == first.scaler.state_dict()
    for step in range(3, 6):
        second.train_step(step)
    for (name, x), (_, y) in zip(whole.model.named_parameters(), second.model.named_parameters()):
        np.testing.assert_array_equal(x.float().numpy(), y.float().numpy(), err_msg=name)


@needs_cuda
@pytest.mark.parametrize("model", ["gpt2", "llama"])
def test_generation_on_cuda_writes_what_the_cpu_writes(model):
    config = GPTConfig(30, 12, layers=2, heads=2, channels=32, **MODELS[model])
    written = {}
    for device in ("cpu", "cuda"):
        gpt = GPT(config, Generator(3)).to(device)
        written[device] = list(generate(gpt, [1, 2, 3], 16, temperature=0.0))
    assert written["cpu"] == written["cuda"]


def test_the_scale_grows_after_good_steps_and_has_ends():
    scaler = optim.LossScaler(scale=2.0**23, growth_interval=2)
    assert [scaler.update(1.0) for _ in range(4)] == [True] * 4 and scaler.scale == 2.0**24
    assert not scaler.update(np.inf) and scaler.scale == 2.0**23 and not scaler.update(np.nan)
    for _ in range(60):
        scaler.update(np.nan)
    assert scaler.scale == 2.0**-24
    other = optim.LossScaler()
    other.load_state_dict(scaler.state_dict())
    assert other.state_dict() == scaler.state_dict()
    still = optim.LossScaler(enabled=False)
    assert not still.update(np.nan) and still.update(1.0) and still.scale == 1.0
    with pytest.raises(ValueError, match="scale must be above 0"):
        optim.LossScaler(scale=0.0)


LAYER_FORWARD = [
    "norm_forward", "matmul + bias", "attention_forward", "matmul + bias + C",
    "norm_forward", "matmul + bias, gelu", "matmul + bias + C",
]  # fmt: skip
LINEAR_BACKWARD = ["matmul", "matmul", "sum_chunks", "sum_partials"]  # of the input, the weight, the bias
LAYER_BACKWARD = [
    *LINEAR_BACKWARD[1:], "matmul, gelu's slope", *LINEAR_BACKWARD, "norm_backward", "sum_partials",
    *LINEAR_BACKWARD, "attention_backward_queries", "attention_backward_keys", *LINEAR_BACKWARD, "norm_backward",
    "sum_partials",
]  # fmt: skip
EMBEDDING_BACKWARD = ["count_digits", "place_entries", "add_runs"]
LOSS = ["norm_forward", "count_targets", "matmul", "cross_entropy_in_place", "mean_loss"]
LOSS_BACKWARD = ["matmul", "matmul", "scale_into", "scale_into", "norm_backward", "sum_partials"]
UPDATE = [*["square_partials", "add_partials"] * 2, "clip_coefficient", *["adamw_step"] * 2]  # with decay, and without


@needs_cuda
@pytest.mark.skipif(os.environ.get("TGL_CUDA") != "emulate", reason="only the emulator keeps a list of launches")
@pytest.mark.parametrize("model", ["gpt2", "dropout"])
def test_a_step_launches_these_kernels_and_no_others(model):
    from tinygrad_lite.kernels.cuda.launch import cupy

    made, launches = trainer(device="cuda", dtype="bfloat16", model=model), cupy().launches
    expected = [
        *LAYER_FORWARD * 2, *LOSS, *LOSS_BACKWARD, *LAYER_BACKWARD * 2, *EMBEDDING_BACKWARD, *UPDATE,
    ]  # fmt: skip
    for step in range(3):  # run, captured, replayed
        launches.clear()
        made.train_step(step)
        names = [name.partition("<")[0] for name in launches]
        if model == "dropout":  # in launches of its own: of the embeddings, of what is added to the residual
            assert names.count("dropout") == 2 * (1 + 2 * 2)
            names = [name for name in names if name != "dropout"]
            expected = [name.removesuffix(" + C") for name in expected]
        assert names == expected


@needs_cuda
def test_a_steps_graph_and_its_memory_go_with_the_last_reference():
    step = losses(3, model="llama", device="cuda")[1].device_step
    kept = [weakref.ref(x) for x in (step, step.graph, step.graph.pool)]
    gc.disable()  # which would find them in a cycle, some time
    try:
        del step
        assert [x() for x in kept] == [None] * 3
    finally:
        gc.enable()


@needs_cuda
def test_a_step_that_fails_is_not_counted(monkeypatch):
    def fail(*inputs):
        raise MemoryError

    made = losses(1, device="cuda")[1]
    flats = [flat for group in made.optimizer._flats for flat in group]
    before = [list(flat.steps) for flat in flats]
    with monkeypatch.context() as patch:
        patch.setattr(made.device_step, "graph", fail)
        with pytest.raises(MemoryError):
            made.train_step(1)
    assert [list(flat.steps) for flat in flats] == before and {n for steps in before for n in steps} == {1}
