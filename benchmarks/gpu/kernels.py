"""How near the kernels come to the memory's speed, and our product to cuBLAS's: GPT-2 124M's sizes, B=32, T=1024, bf16.

The bytes are those that must move: each input read once, each output written once. The same work by other means may
move fewer (a fused one), never the kernel itself. They are set against a copy's bytes a second in the same process: a
copy of 2 GiB, and one that moves as many bytes as the kernel. For a launch takes time to begin and to end: on an H200 a
copy that moves 100 MB has 0.83 to 0.92 of the large one's speed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tinygrad_lite.dtypes import bfloat16, float32, float64
from tinygrad_lite.kernels import lookup
from tinygrad_lite.kernels.cuda.launch import cupy

from ..report import ratios
from .clock import Clock, random_array
from .probe import SHAPES, TOY_SHAPES, product_rate
from .results import Part
from .worker import Worker

TITLE = "Kernels in bfloat16: bytes that must move, over time, as a share of a copy's; our product against cuBLAS's."
COLUMNS = {"MB": "mb", "ms": "ours_ms", "TB/s": "tb_per_s", "share of a large copy": "share",
           "of a copy of as many bytes": "share_of_equal", "TFLOP/s": "tflops",
           "cuBLAS, ms": "peer_ms", "cuBLAS / ours": "ratio"}  # fmt: skip
ITEM = 2  # bytes of bfloat16


@dataclass(frozen=True)
class Sizes:
    """N tokens of sequences of T, C channels, F hidden, G hidden of swiglu, V classes, P parameters, heads of D."""

    n: int = 32 * 1024
    t: int = 1024
    c: int = 768
    f: int = 3072
    g: int = 2048
    v: int = 50304
    p: int = 124_475_904
    d: int = 64


TOY = Sizes(n=64, t=32, c=32, f=64, g=40, v=128, p=5000, d=16)


@dataclass(frozen=True)
class Job:
    """What moves, in bytes, and what makes it move: make() prepares arrays and gives the function that is timed."""

    bytes: int
    make: Callable[[], Callable[[], object]]


def run(part: Part):
    """Measure every kernel, then products."""
    toy = part.options.toy
    with Worker("kernels", make_timer, toy) as worker:
        for name in jobs(TOY if toy else Sizes()):
            part.measure(name, lambda n=name: worker.ask(n))
        for name in TOY_SHAPES if toy else SHAPES:
            for way in ("forward", "dx", "dw"):
                part.measure(f"gemm {name} {way}", lambda r=(name, way): worker.ask(r))


def make_timer(toy: bool):
    """Answers a job's name, or (shape's name, way) of a product."""
    clock, known, shapes = Clock(toy), jobs(TOY if toy else Sizes()), TOY_SHAPES if toy else SHAPES
    copy, copies = clock.copy_bytes_per_ms(), {}

    def equal_copy(bytes: int) -> float:
        n = min(bytes // 2, clock.large)
        if n not in copies:
            copies[n] = clock.copy_bytes_per_ms(n)
        return copies[n]

    def answer(request):
        if isinstance(request, tuple):
            name, way = request
            ours, peer = (product_rate(clock, *shapes[name], way, bfloat16, use_own=own) for own in (True, False))
            return {**ratios(ours["ms"], peer["ms"]), "tflops": ours["tflops"], "peer_tflops": peer["tflops"]}
        job = known[request]
        times = clock.ms(job.make())
        ms = float(np.median(times))
        rate = job.bytes / ms
        return {**ratios(ms), "mb": job.bytes / 1e6, "tb_per_s": rate / 1e9, "share": rate / copy,
                "share_of_equal": rate / equal_copy(job.bytes), "spread_ms": [min(times), max(times)]}  # fmt: skip

    return answer


def jobs(s: Sizes) -> dict[str, Job]:
    """Every kernel's job by its name."""
    found = {}
    c, f, g, t = (s.n, s.c), (s.n, s.f), (s.n, s.g), (s.n, s.t)
    # Beside matrices: vectors of weights and their gradients, and float32 numbers of each row.
    for name, kept, vectors in (("layer_norm", 2, 2), ("rms_norm", 1, 1)):
        rows, vector = kept * 4 * s.n, s.c * ITEM
        extra = rows + vectors * vector, rows + (1 + vectors) * vector
        found |= _op(name, [c, *[(s.c,)] * vectors], c, (2, 3), s.n * s.c, extra, eps=1e-5)
    bytes = found["layer_norm backward"].bytes + s.n * s.c * ITEM
    found["layer_norm backward and residual"] = Job(bytes, lambda: _norm_and_residual(s))
    extra = s.f * ITEM, 2 * s.f * ITEM
    found |= _op("bias_gelu", [f, (s.f,)], f, (2, 3), s.n * s.f, extra, approximate="tanh")
    found |= _op("gelu", [f], f, (2, 3), s.n * s.f, approximate="tanh")
    found |= _op("swiglu", [(s.n, 2 * s.g)], g, (3, 5), s.n * s.g)
    found |= _op("softmax", [t], t, (2, 3), s.n * s.t)
    found |= _op("dropout", [c], c, (2, 2), s.n * s.c, p=0.2, key=5, offset=0)
    qkv = (s.n // s.t, s.t, 3 * s.c)
    turned = dict(heads=2 * s.c // s.d, size=s.d, start=0, base=1e4, turn=1)
    found |= _op("rotary", [qkv], qkv, (2, 2), 3 * s.n * s.c, **turned)
    # A row for each sequence, over a full cache, to which its key and its value go.
    found["attention decode"] = Job((2 * s.n + 6 * (s.n // s.t)) * s.c * ITEM, lambda: _decode(s))
    found["row product, of the head"] = Job((s.v + 1) * s.c * ITEM, lambda: _row_product(s))
    logits = s.n * s.v * ITEM
    found["cross_entropy in place"] = Job(2 * logits + 12 * s.n, lambda: _in_place(s))
    found["cross_entropy forward"] = Job(logits + 20 * s.n, lambda: _cross_entropy(s, False))
    found["cross_entropy backward"] = Job(2 * logits + 16 * s.n, lambda: _cross_entropy(s, True))
    touched = len(np.unique(_tokens(s)))
    found["embedding gradient"] = Job((s.n + 2 * touched) * s.c * ITEM + 8 * s.n, lambda: _embedding(s))
    # Gradient and parameter in 16 bits, read and written; both moments and the master in 32, read and written.
    found["adamw, float32 master"] = Job((ITEM + ITEM + 3 * 8) * s.p, lambda: _adamw(s))
    found["sum of squares"] = Job(ITEM * s.p, lambda: _sum_of_squares(s))
    found["column sums"] = Job((s.n + 1) * s.f * ITEM, lambda: _column_sums(s))
    return found


def _op(name, shapes, out_shape, arrays_moved, elements, extra=(0, 0), **params) -> dict[str, Job]:
    """An op's two jobs: how many arrays of `elements` numbers move forward and backward, and what bytes beside."""

    def make(backward: bool):
        kernel = lookup("cuda", name)
        given = [random_array(shape, bfloat16, i) for i, shape in enumerate(shapes)]
        if not backward:
            return lambda: kernel.forward(*given, **params)
        _, saved = kernel.forward(*given, **params)
        g, into = random_array(out_shape, bfloat16, 9), tuple(cupy().empty(shape, dtype=bfloat16) for shape in shapes)
        return lambda: kernel.backward(g, saved, (True,) * len(given), into, **params)

    ways = zip(("forward", "backward"), arrays_moved, extra)
    return {
        f"{name} {way}": Job(n * elements * ITEM + beside, lambda w=way: make(w == "backward"))
        for way, n, beside in ways
    }


def _norm_and_residual(s: Sizes):
    """A norm's gradient added to what a residual sent: one array more to read, and no sum of its own."""
    kernel, (x, g, previous) = lookup("cuda", "layer_norm"), (random_array((s.n, s.c), bfloat16, i) for i in range(3))
    weight, bias = (random_array((s.c,), bfloat16, i) for i in (3, 4))
    _, saved = kernel.forward(x, weight, bias, eps=1e-5)
    into = tuple(cupy().empty(a.shape, dtype=bfloat16) for a in (x, weight, bias))
    return lambda: kernel.backward(g, saved, (True,) * 3, into, (previous, None, None), eps=1e-5)


def _decode(s: Sizes):
    batch, heads = s.n // s.t, s.c // s.d
    keys, values = (random_array((batch, heads, s.t, s.d), bfloat16, i) for i in range(2))
    row, at = random_array((batch, 1, 3 * s.c), bfloat16), cupy().asarray(np.array([s.t - 1]))
    return lambda: lookup("cuda", "attention_decode").attend(
        row, keys, values, at, heads=heads, window=None, scale=s.d**-0.5
    )


def _row_product(s: Sizes):
    """The logits of one token."""
    from tinygrad_lite.kernels.cuda.product import matmul

    x, w, out = (random_array(shape, bfloat16) for shape in ((1, s.c), (s.v, s.c), (1, s.v)))
    return lambda: matmul(x, w.T, out)


def _targets(s: Sizes):
    return cupy().asarray(np.arange(s.n) * 7919 % s.v)


def _in_place(s: Sizes):
    from tinygrad_lite.kernels.cuda import linear_cross_entropy as module
    from tinygrad_lite.kernels.cuda.cross_entropy import count_valid

    logits, targets, losses = random_array((s.n, s.v), bfloat16), _targets(s), cupy().empty((s.n,), dtype=float32)
    valid = count_valid(bfloat16, targets, -100)
    return lambda: module._in_place(logits, targets, losses, valid, -100)


def _cross_entropy(s: Sizes, backward: bool):
    kernel, params = lookup("cuda", "cross_entropy"), dict(ignore_index=-100, label_smoothing=0.0)
    logits, targets = random_array((s.n, s.v), bfloat16), _targets(s)
    if not backward:
        return lambda: kernel.forward(logits, targets, **params)
    _, saved = kernel.forward(logits, targets, **params)
    g, into = cupy().asarray(np.ones((), np.float32)), (cupy().empty(logits.shape, dtype=bfloat16), None)
    return lambda: kernel.backward(g, saved, (True, False), into, **params)


def _tokens(s: Sizes) -> np.ndarray:
    """Tokens as a text has them: some often, many seldom."""
    return (np.random.default_rng(6).random(s.n) ** 4 * s.v).astype(np.int64)


def _embedding(s: Sizes):
    kernel = lookup("cuda", "scatter_add_rows")
    out, tokens, g = (
        cupy().zeros((s.v, s.c), dtype=bfloat16),
        cupy().asarray(_tokens(s)),
        random_array((s.n, s.c), bfloat16),
    )
    return lambda: kernel.scatter_add_rows(out, tokens, g)


def _adamw(s: Sizes):
    master = random_array((s.p,), float32, scale=0.02)
    param, grad = random_array((s.p,), bfloat16, scale=0.02), random_array((s.p,), bfloat16, 1, scale=1e-3)
    m, v = cupy().zeros((s.p,), dtype=float32), cupy().zeros((s.p,), dtype=float32)
    settings = dict(
        lr=6e-4, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1, bias_correction1=0.1, bias_correction2=0.05
    )
    scale = cupy().asarray(np.ones((), np.float32))
    return lambda: lookup("cuda", "adamw").step(param, grad, m, v, **settings, grad_scale=scale, master=master)


def _sum_of_squares(s: Sizes):
    x, out = random_array((s.p,), bfloat16), cupy().zeros((), dtype=float64)
    return lambda: lookup("cuda", "adamw").sum_of_squares_into(x, out)


def _column_sums(s: Sizes):
    from tinygrad_lite.kernels.cuda.column_sums import column_sums

    x, out = random_array((s.n, s.f), bfloat16), cupy().empty((s.f,), dtype=bfloat16)
    return lambda: column_sums(x, out)
