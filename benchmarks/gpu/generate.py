"""GPT-2 124M writing token by token in bfloat16, batch 1, ours against Hugging Face's generate on the same GPU.

Weights are random and the same on both sides; each token is the most likely one, and both use a cache of keys and
values. "static": Hugging Face's static cache, for which it compiles the model. The bound is the weights' bytes over half
of a copy's bytes a second, for every weight is read once a token (a copy reads and writes).
"""

from __future__ import annotations

import numpy as np

from transformer.config import GPTConfig

from ..generate import first_difference, weight_bytes
from ..report import Times, ratios
from .clock import Clock
from .results import Part, say
from .worker import Worker, peer_missing

TITLE = "Generation in bfloat16, milliseconds a token, the prompt's own time included."
COLUMNS = {"ours, ms": "ours_ms", "peer, ms": "peer_ms", "peer / ours": "ratio", "ours, tokens/s": "ours_tokens_per_s",
           "peer, tokens/s": "peer_tokens_per_s", "ours / bound": "over_bound", "parted at": "parted_at"}  # fmt: skip
GPT2 = GPTConfig(50257, 1024, layers=12, heads=12, channels=768)
TOY = GPTConfig(48, 32, layers=1, heads=2, channels=32)
CACHES = "dynamic", "static"
PROMPT, TOKENS, ROUNDS = 16, 128, 5


def run(part: Part):
    """Measure against both of Hugging Face's caches."""
    toy, missing = part.options.toy, peer_missing()
    if missing is None:
        try:
            import transformers  # noqa: F401
        except ImportError:
            missing = "transformers is not installed"
    if missing:
        say(f"generate: without a peer: {missing}")
    config, tokens = (TOY, 4) if toy else (GPT2, TOKENS)
    with Worker("ours", make_ours, config, toy) as ours:
        for cache in [None] if missing else CACHES:
            name = "ours" if missing else f"Hugging Face, {cache} cache"
            part.measure(name, lambda c=cache: compare(ours, config, tokens, c, 1 if toy else ROUNDS, missing))


def compare(ours: Worker, config: GPTConfig, tokens: int, cache: str | None, rounds: int, missing) -> dict:
    """One row: both sides in turns."""
    prompt = np.random.default_rng(0).integers(0, config.vocab_size, PROMPT if rounds > 1 else 4).tolist()
    sides = {"ours": ours} | (
        {} if cache is None else {"peer": Worker("Hugging Face", make_huggingface, config, cache)}
    )
    written, ms = {}, {side: [] for side in sides}
    try:
        for side, worker in sides.items():
            written[side] = worker.ask((prompt, tokens), 300.0)[1]  # as many as are timed: shapes are compiled for
        for _ in range(rounds):
            for side, worker in sides.items():
                ms[side].append(worker.ask((prompt, tokens))[0] / tokens)
    finally:
        if "peer" in sides:
            sides["peer"].end()
    times = {side: Times.of(x) for side, x in ms.items()}
    bound = weight_bytes(config) / 2 / (ours.ask("copy") / 2)  # weight_bytes counts four a weight
    found = ratios(times["ours"].median, times["peer"].median if "peer" in times else None, bound)
    for side, t in times.items():
        found |= {f"{side}_tokens_per_s": 1e3 / t.median, f"{side}_spread_ms": [t.low, t.high]}
    if "peer" not in written:
        return found | {"peer_skipped": missing}
    parted = first_difference(written["ours"], written["peer"])
    return found | {"peer": f"Hugging Face generate, {cache} cache", "tokens_equal": parted is None,
                    "parted_at": None if parted is None else parted + 1}  # fmt: skip


def _timed(write):
    """write(prompt, count) gives host tokens, and so its end is the device's."""
    import time

    def answer(request):
        began = time.perf_counter()
        tokens = write(*request)
        return (time.perf_counter() - began) * 1e3, tokens

    return answer


def make_ours(config: GPTConfig, toy: bool):
    """Answers (prompt, number of tokens) with (milliseconds, tokens), "copy" with a copy's bytes a millisecond."""
    from tinygrad_lite import Generator
    from transformer.model import GPT
    from transformer.sampling import generate

    model = GPT(config, Generator(0)).to("cuda").to("bfloat16").eval()
    timed = _timed(lambda prompt, count: list(generate(model, prompt, count, temperature=0.0)))
    return lambda request: Clock(toy).copy_bytes_per_ms() if request == "copy" else timed(request)


def make_huggingface(config: GPTConfig, cache: str, device: str = "cuda"):
    """Hugging Face's, from our weights."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from tinygrad_lite import Generator
    from transformer.hf import huggingface_config, to_huggingface
    from transformer.model import GPT

    ours = {name: p.numpy() for name, p in GPT(config, Generator(0)).named_parameters()}
    model = GPT2LMHeadModel(GPT2Config(**huggingface_config(config)))
    model.load_state_dict({name: torch.tensor(x) for name, x in to_huggingface(ours, config).items()})
    model = model.to(device, torch.bfloat16).eval()
    more = {"cache_implementation": "static"} if cache == "static" else {}

    def write(prompt, count):
        ids = torch.tensor([prompt], device=device)
        with torch.no_grad():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, use_cache=True, pad_token_id=0,
                                 max_new_tokens=count, min_new_tokens=count, **more)  # fmt: skip
        return out[0, len(prompt) :].tolist()

    return _timed(write)
