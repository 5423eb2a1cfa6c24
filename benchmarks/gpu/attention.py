"""Causal attention in bfloat16, ours against each of PyTorch's ways to compute it, each side in a process of its own.

Forward, and forward with backward, of q, k, v (B, H, T, D). Ours is called as a kernel; PyTorch's by its autograd,
whose work on the host is done while the device still reads the buffer that clears the caches (clock.py). "packed": ours
as the model calls it, on the output of one linear layer. The sides take turns; their results are compared.
"""

from __future__ import annotations

import numpy as np

from ..report import ratios
from .clock import Clock, TorchClock
from .results import Part, WorkerError, first_line, say
from .worker import Worker, peer_missing

TITLE = "Causal attention in bfloat16, milliseconds; the ratio is the best of PyTorch's times over ours."
COLUMNS = {"ours, ms": "ours_ms", "packed, ms": "packed_ms", "ours, TFLOP/s": "tflops", "flash": "flash_ms",
           "cudnn": "cudnn_ms", "efficient": "efficient_ms", "best / ours": "ratio", "apart": "apart"}  # fmt: skip
SHAPES = [(32, 12, 1024, 64), (4, 12, 4096, 64), (32, 6, 1024, 128)]
TOY_SHAPES = [(1, 2, 70, 64), (1, 1, 64, 128)]
BACKENDS = {"flash": "FLASH_ATTENTION", "cudnn": "CUDNN_ATTENTION", "efficient": "EFFICIENT_ATTENTION"}
ROUNDS, CALLS = 4, 5  # turns, and calls of each
WITHIN = 0.03  # of the largest value: a few bfloat16 roundings on either side


def run(part: Part):
    """Measure every shape."""
    toy, missing = part.options.toy, peer_missing()
    if missing:
        say(f"attention: without peers: {missing}")
    backends = [] if missing else list(BACKENDS)
    with Worker("ours", make_ours, toy) as ours, Worker("torch", make_torch, toy) as peer:
        for shape in TOY_SHAPES if toy else SHAPES:
            for backward in (False, True):
                name = "B={} H={} T={} D={} ".format(*shape) + ("forward and backward" if backward else "forward")
                part.measure(name, lambda s=shape, w=backward: compare(ours, peer, s, w, backends, missing, toy))


def compare(ours: Worker, peer: Worker, shape, backward: bool, backends, missing, toy: bool) -> dict:
    """One row: both sides in turns. A way of PyTorch's that does not run says why in the row."""
    found, ways = {}, ["packed", *backends]
    times = {way: [] for way in ("ours", *ways)}
    for _ in range(1 if toy else ROUNDS):
        times["ours"] += ours.ask(("ours", shape, backward))
        for way in list(ways):
            try:
                times[way] += (ours if way == "packed" else peer).ask((way, shape, backward))
            except WorkerError as error:
                found[f"{way}_error"] = first_line(error)
                ways.remove(way)
    medians = {way: float(np.median(ms)) for way, ms in times.items() if way == "ours" or way in ways}
    known = [way for way in backends if way in medians]
    best = min(known, key=medians.get) if known else None
    found |= {f"{way}_ms": ms for way, ms in medians.items() if way != "ours"}
    found |= ratios(medians["ours"], medians[best] if best else None)
    b, h, t, d = shape
    flops = (2 + 5 * backward) * b * h * t * t * d  # the causal half of two products, and of five more
    found["tflops"] = flops / medians["ours"] / 1e9
    if best:
        found |= {
            "peer": best,
            **_agreement(ours.ask(("results", shape, backward)), peer.ask((best, shape, "results"))),
        }
    else:
        found["peer_skipped"] = missing or "no way of PyTorch's runs here"
    return found


def _agreement(ours, theirs) -> dict:
    apart = max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(ours, theirs))
    return {"apart": apart, "agree": bool(apart <= WITHIN)}


def inputs(shape) -> list[np.ndarray]:
    """q, k, v and the output's gradient in float32, the same on both sides."""
    some = np.random.default_rng(8).standard_normal((1 << 20) + 7).astype(np.float32)
    return [np.resize(np.roll(some, 1001 * i), shape) for i in range(4)]


def make_ours(toy: bool):
    """Answers ("ours" or "packed", shape, with backward) with milliseconds, "results" with one head's arrays."""
    from tinygrad_lite.dtypes import bfloat16
    from tinygrad_lite.kernels import lookup
    from tinygrad_lite.kernels.cuda.launch import cupy

    clock, held = Clock(toy), {}

    def prepare(shape):
        if held.get("shape") != shape:
            held.clear()
            b, h, t, d = shape
            held["shape"], held["arrays"] = shape, [cupy().asarray(x.astype(bfloat16)) for x in inputs(shape)]
            packed = np.resize(inputs((b, t, h * d))[0], (b, t, 3 * h * d)).astype(bfloat16)
            held["packed"] = cupy().asarray(packed), held["arrays"][3].reshape(b, t, h * d)
        return held

    def call(kernel, given, g, backward, **params):
        out, saved = kernel.forward(*given, causal=True, window=None, **params)
        none = (None,) * len(given)
        return out, *(kernel.backward(g, saved, (True,) * len(given), none, causal=True, window=None, **params)
                      if backward else ())  # fmt: skip

    def answer(request):
        way, shape, backward = request
        h, scale = shape[1], 1.0 / shape[3] ** 0.5
        held = prepare(shape)
        if way == "packed":
            x, g = held["packed"]
            kernel = lookup("cuda", "attention_qkv")
            return clock.ms(lambda: call(kernel, [x], g, backward, heads=h, kv_heads=h, scale=scale), CALLS)
        *given, g = held["arrays"]
        kernel = lookup("cuda", "attention")
        if way == "results":
            return [cupy().asnumpy(x[0, 0]).astype(np.float32) for x in call(kernel, given, g, True, scale=scale)]
        return clock.ms(lambda: call(kernel, given, g, backward, scale=scale), CALLS)

    return answer


def make_torch(toy: bool, device: str = "cuda"):
    """Answers (backend, shape, with backward) with milliseconds, (backend, shape, "results") with one head's arrays."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    clock, held = TorchClock(toy, device), {}

    def prepare(shape):
        if held.get("shape") != shape:
            held.clear()
            arrays = [torch.from_numpy(x).to(device, torch.bfloat16) for x in inputs(shape)]
            held["shape"], held["arrays"] = shape, [x.requires_grad_(i < 3) for i, x in enumerate(arrays)]
        return held["arrays"]

    def answer(request):
        backend, shape, backward = request
        q, k, v, g = prepare(shape)

        def both():
            q.grad = k.grad = v.grad = None
            out = scaled_dot_product_attention(q, k, v, is_causal=True)
            out.backward(g)
            return out

        def forward():
            with torch.no_grad():
                return scaled_dot_product_attention(q, k, v, is_causal=True)

        with sdpa_kernel([getattr(SDPBackend, BACKENDS.get(backend, backend))]):
            if backward == "results":
                out = both()
                return [x[0, 0].detach().float().cpu().numpy() for x in (out, q.grad, k.grad, v.grad)]
            return clock.ms(both if backward else forward, CALLS)

    return answer
