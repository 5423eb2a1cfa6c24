"""A training step in bfloat16: GPT-2 124M at 16, 32, 64 sequences of 1,024, and nanoGPT's small GPT for characters.

Ours is the trainer's own step, one CUDA graph, with float32 masters; PyTorch's is torch_gpt.py's, each of its ways. Both
start from the same weights (rounded to bfloat16) and see the same batches, each in a process of its own; rounds of steps
alternate. Ours waits for the loss of every step, PyTorch's for those of a round, as its users would have it. B=64 does not fit twice: there one side ends before the other begins. The first losses must agree within what
bfloat16 rounds (with dropout the masks differ, and so may the losses more).

Memory is what a process takes from the card between its start and its steady state, as the driver says, for both; and
what its library says that it held. The bound is the products alone at the best rate that part `probe` saw here.
"""

from __future__ import annotations

import time

import numpy as np

from transformer.config import GPTConfig

from ..bound import step_products
from ..report import Times, ratios
from ..training import CLIP, DECAY, Batches, Setup
from .results import Part, WorkerError, first_line, say
from .worker import Worker, peer_missing

TITLE = "Training steps in bfloat16: the ratio is PyTorch's time over ours."
COLUMNS = {"ours, ms": "ours_ms", "peer, ms": "peer_ms", "peer / ours": "ratio", "ours, tokens/s": "ours_tokens_per_s",
           "peer, tokens/s": "peer_tokens_per_s", "ours / bound": "over_bound", "ours, MiB": "ours_mib",
           "peer, MiB": "peer_mib", "losses apart": "loss_difference", "agree": "losses_agree"}  # fmt: skip
FIRST_STEPS = 8
WITHIN = {False: 0.05, True: 0.3}  # nats, by whether there is dropout
WAYS = [("compile", "autocast"), ("eager", "autocast"), ("compile", "bfloat16")]
ALONE = ("GPT-2 B=64",)


def _gpt2(batch: int) -> Setup:
    return Setup(GPTConfig(50304, 1024, layers=12, heads=12, channels=768), batch, 5, 6e-4, 2000, (0.9, 0.95))


def _baby(dropout: float) -> Setup:
    config = GPTConfig(65, 256, layers=6, heads=6, channels=384, bias=False, dropout=dropout)
    return Setup(config, 64, 20, 1e-3, 100, (0.9, 0.99))


# The rows that matter most come first: what no time is left for is said to be left out.
SETUPS = {"GPT-2 B=32": _gpt2(32), "baby dropout 0.2": _baby(0.2), "baby dropout 0.0": _baby(0.0), "GPT-2 B=16": _gpt2(16),
          "GPT-2 B=64": _gpt2(64)}  # fmt: skip
TOY_SETUPS = {
    "GPT-2 B=64": Setup(GPTConfig(48, 16, layers=1, heads=2, channels=32), 2, 2, 6e-4, 2000, (0.9, 0.95)),
    "baby dropout 0.2": Setup(
        GPTConfig(20, 16, layers=1, heads=2, channels=32, bias=False, dropout=0.2), 2, 2, 1e-3, 100, (0.9, 0.99)
    ),
}
ROUNDS = {False: 6, True: 1}  # by toy


def run(part: Part):
    """Measure every setup against every way of PyTorch's."""
    toy, missing = part.options.toy, peer_missing()
    if missing:
        say(f"step: without peers: {missing}")
    peak = products_per_ms(part.results.read().get("probe", {}))
    for name, setup in (TOY_SETUPS if toy else SETUPS).items():
        ways = [None] if missing else WAYS[:1] if name in ALONE else WAYS
        with Worker(f"ours, {name}", make_ours, setup) as ours:
            for way in ways:
                row = name if way is None else f"{name}, {way[0]}, {way[1]}"
                alone = name in ALONE
                part.measure(
                    row, lambda s=setup, w=way, o=ours, a=alone: compare(o, s, w, a, ROUNDS[toy], missing, peak)
                )


def compare(ours: Worker, setup: Setup, way, alone: bool, rounds: int, missing, peak) -> dict:
    """One row."""
    sides = {"ours": ours} | ({} if way is None else {"peer": Worker("torch", make_torch, setup, *way)})
    ms, losses, memory, failed = {}, {}, {}, None

    def ask(side, request, seconds=120.0):
        """None where the peer fails: then ours is measured without it."""
        nonlocal failed
        if side == "peer" and failed:
            return None
        try:
            return sides[side].ask(request, seconds)
        except WorkerError as error:
            if side == "ours":
                raise
            failed = first_line(error)

    def time_steps(side):
        if (found := ask(side, ("steps", setup.steps))) is not None:
            ms.setdefault(side, []).append(found["ms"])

    try:
        for side in sides:
            losses[side] = (ask(side, ("first", FIRST_STEPS), 400.0) or {}).get("losses")
            memory[side] = ask(side, ("memory", 0))
            if alone:
                for _ in range(rounds):
                    time_steps(side)
                sides[side].end()
        for _ in range(0 if alone else rounds):
            for side in sides:
                time_steps(side)
    finally:
        if "peer" in sides:
            sides["peer"].end()
    if way is not None and not failed:
        return row_of(setup, way, ms, losses, memory, None, peak)
    ms.pop("peer", None)
    return row_of(setup, None, ms, losses, memory, failed or missing, peak)


def row_of(setup: Setup, way, ms, losses, memory, missing, peak) -> dict:
    """What was measured, in the words of all benchmarks."""
    times, tokens = {side: Times.of(x) for side, x in ms.items()}, setup.batch * setup.model.block_size
    medians = {side: t.median for side, t in times.items()}
    bound = None if peak is None else step_flops(setup) / peak
    found = ratios(medians["ours"], medians.get("peer"), bound)
    for side, median in medians.items():
        found |= {
            f"{side}_tokens_per_s": tokens / median * 1e3,
            f"{side}_spread_ms": [times[side].low, times[side].high],
        }
        found |= {f"{side}_{key}": value for key, value in memory[side].items()}
    found |= {"tflops": step_flops(setup) / medians["ours"] / 1e9, "first_loss": losses["ours"][0]}
    if way is None:
        return found | {"peer_skipped": missing}
    apart = float(np.abs(np.subtract(losses["ours"], losses["peer"])).max())
    name = f"torch {way[0]}, flash attention, fused AdamW, " + (
        "autocast to bfloat16" if way[1] == "autocast" else "bfloat16 weights"
    )
    return found | {"peer": name, "loss_difference": apart, "losses_agree": apart <= WITHIN[setup.model.dropout > 0]}


def step_flops(setup: Setup) -> float:
    """Operations of a step's products: linear layers and head, and attention's causal half."""
    linear, attention = (sum(n * p.flops for p, n in x.items()) for x in step_products(setup.model, setup.batch))
    return linear + attention / 2


def products_per_ms(probe: dict) -> float | None:
    """Operations a millisecond of the best bfloat16 product that the probe saw, if it was run."""
    rates = [row["tflops"] * 1e9 for name, row in probe.items() if name.startswith("bfloat16") and "tflops" in row]
    return max(rates) if rates else None


def make_ours(setup: Setup):
    """The trainer's step: answers ("first" or "steps", how many) with the milliseconds of one and the losses."""
    from tinygrad_lite import Generator, default_generator, optim
    from tinygrad_lite.kernels.cuda.launch import cupy
    from transformer.device_step import DeviceStep
    from transformer.model import GPT

    free = lambda: cupy().cuda.Device().mem_info[0]
    before, default = free(), getattr(cupy(), "get_default_memory_pool", None)
    model = GPT(setup.model, Generator(0)).to("cuda").to("bfloat16")
    adam = optim.AdamW(optim.decay_groups(list(model.named_parameters()), DECAY), lr=setup.lr, betas=setup.betas)
    default_generator.manual_seed(1)
    step, done = DeviceStep(model, adam, CLIP, default_generator), 0

    def train(tokens):
        nonlocal done
        adam.set_lr(setup.lr_at(done))
        done += 1
        return step(tokens[None, :, :-1], tokens[None, :, 1:])[0]

    def memory():
        held = None if default is None else (default().total_bytes() + step.graph.pool.total_bytes()) / 2**20
        return {"mib": (before - free()) / 2**20, "pool_mib": held}

    return _answers(setup, train, lambda losses: losses, memory)


def make_torch(setup: Setup, mode: str, weights: str, device: str = "cuda"):
    """PyTorch's step, which answers the same."""
    import torch

    from .torch_gpt import make_step

    free = lambda: torch.cuda.mem_get_info()[0] if device == "cuda" else 0
    before, train = free(), make_step(setup, mode, weights, device)

    def memory():
        held = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else None
        return {"mib": (before - free()) / 2**20, "pool_mib": held}

    return _answers(setup, train, lambda losses: [x.item() for x in losses], memory)


def _answers(setup: Setup, train, to_host, memory):
    """train(tokens) gives a loss; to_host(losses) waits for all of them."""
    batches = Batches(setup)

    def answer(request):
        kind, count = request
        if kind == "memory":
            return memory()
        taken = batches.take(count)
        began = time.perf_counter()
        losses = to_host([train(tokens) for tokens in taken])
        return {"ms": (time.perf_counter() - began) * 1e3 / count, "losses": losses}

    return answer
