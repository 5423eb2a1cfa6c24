"""What the machine allows: the time of the matrix products alone, and of moving the bytes that must be moved.

A product's time is the best of 50 warmed `np.matmul(out=)`, with NumPy's BLAS on all the threads that the benchmark has.
It is measured in a process of its own: OpenBLAS's threads spin, and would slow whatever shares their cores.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from threading import Thread

import numpy as np

from transformer.config import GPTConfig

from .pair import REST, Side

BLAS_THREADS = (
    "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
)  # fmt: skip
REPEATS = 50
STREAM_BYTES = 256 * 2**20  # of each array: many times what caches hold
ADAMW_MOVES = 7  # reads weight, gradient and two moments, writes weight and moments
NORM_MOVES = 1  # reads the gradient


@dataclass(frozen=True)
class Product:
    """x @ y of float32, stack times over: x (rows, inner), y (inner, columns); "t" after a name: stored transposed."""

    rows: int
    inner: int
    columns: int
    layout: str = "x y"
    stack: int = 1

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * self.stack * self.rows * self.inner * self.columns


def linear_products(rows: int, inputs: int, outputs: int) -> list[Product]:
    """A linear layer's three products in a step: forward, the gradient of its input, the gradient of its weight."""
    return [
        Product(rows, inputs, outputs, "x yt"),  # x (R, I) @ weight (O, I)^T
        Product(rows, outputs, inputs, "x y"),  # g (R, O) @ weight
        Product(outputs, rows, inputs, "xt y"),  # g^T @ x
    ]


def attention_products(stack: int, t: int, d: int) -> Counter:
    """Attention's products, forward and backward, of `stack` heads: full squares, of which causal ones need half."""
    return Counter({
        Product(t, d, t, "x yt", stack): 2,  # scores = q k^T; gradient of the weights = g v^T
        Product(t, t, d, "x y", stack): 2,  # weights @ v; gradient of q
        Product(t, t, d, "xt y", stack): 2,  # gradients of k and v
    })  # fmt: skip


def step_products(config: GPTConfig, batch: int) -> tuple[Counter, Counter]:
    """(linear, attention): how often a training step needs each product; of attention's only the causal half counts."""
    c, rows, linear = config.channels, batch * config.block_size, Counter()
    up = 2 * config.hidden if config.mlp == "swiglu" else config.hidden
    qkv = (config.heads + 2 * config.kv_heads) * config.head_size
    for inputs, outputs in ((c, qkv), (c, c), (c, up), (config.hidden, c)):
        for product in linear_products(rows, inputs, outputs):
            linear[product] += config.layers
    linear.update(linear_products(rows, c, config.vocab_size))
    heads = attention_products(batch * config.heads, config.block_size, config.head_size)
    return linear, Counter({product: n * config.layers for product, n in heads.items()})


class Bound:
    """The process that measures, on so many threads."""

    def __init__(self, threads: int, repeats: int = REPEATS):
        self.repeats = repeats
        self.side = Side(_make, threads, environment=dict.fromkeys(BLAS_THREADS, str(threads)))

    def product_ms(self, product: Product) -> float:
        """The best time of a product."""
        return self.side.call(("product", product, self.repeats))

    def stream(self) -> dict[str, float]:
        """Bytes a millisecond: "read" of one pass over memory, "update" of reading and writing it in place."""
        return self.side.call(("stream", min(self.repeats, 10)))

    def close(self):
        """End the process."""
        self.side.close()


@dataclass(frozen=True)
class StepBound:
    """What a training step must take at least, in milliseconds, and of what that is made."""

    linear_ms: float
    attention_ms: float
    bytes_ms: float
    gflops: float  # of the linear products: a thousand million operations a second

    @property
    def ms(self) -> float:
        """The sum: none of the three can hide behind another where all cores multiply."""
        return self.linear_ms + self.attention_ms + self.bytes_ms


class StepMeter:
    """Measures a step's bound in visits between the rounds of the steps themselves, and keeps the best of each figure.

    A machine whose speed changes within the hour would otherwise give the steps and their bound different speeds.
    """

    def __init__(self, config: GPTConfig, batch: int, parameters: int, threads: int, repeats: int):
        self.products, self.parameters = step_products(config, batch), parameters
        self.bound = Bound(threads, repeats)
        self.best_ms: dict[Product, float] = {}
        self.update = 0.0  # bytes a millisecond

    def visit(self):
        """Measure every product and the stream, `repeats` times each."""
        for product in {**self.products[0], **self.products[1]}:
            self.best_ms[product] = min(self.bound.product_ms(product), self.best_ms.get(product, float("inf")))
        self.update = max(self.bound.stream()["update"], self.update)
        time.sleep(REST)

    def close(self) -> StepBound:
        """End the process that measured; the bound that the best figures make."""
        self.bound.close()
        linear, attention = self.products
        linear_ms = sum(n * self.best_ms[product] for product, n in linear.items())
        attention_ms = sum(n * self.best_ms[product] for product, n in attention.items()) / 2
        bytes_ms = 4 * self.parameters * (ADAMW_MOVES + NORM_MOVES) / self.update
        flops = sum(n * product.flops for product, n in linear.items())
        return StepBound(linear_ms, attention_ms, bytes_ms, flops / linear_ms / 1e6)


# -- in the process that measures ---------------------------------------------------------------------------------
def _make(threads: int):
    def measure(request):
        kind, *rest = request
        return _product(*rest) if kind == "product" else _stream(threads, *rest)

    return measure


def _product(product: Product, repeats: int) -> float:
    x, y = _operand("x", product.rows, product.inner, product), _operand("y", product.inner, product.columns, product)
    out = np.empty((product.stack, product.rows, product.columns), np.float32)
    if product.stack == 1:
        x, y, out = x[0], y[0], out[0]
    return _best_ms(lambda: np.matmul(x, y, out=out), repeats)


def _operand(name: str, rows: int, columns: int, product: Product) -> np.ndarray:
    rng, transposed = np.random.default_rng(0), f"{name}t" in product.layout
    shape = (product.stack, columns, rows) if transposed else (product.stack, rows, columns)
    array = rng.standard_normal(shape, dtype=np.float32)
    return array.transpose(0, 2, 1) if transposed else array


def _stream(threads: int, repeats: int) -> dict[str, float]:
    x = np.ones(STREAM_BYTES // 4, np.float32)
    parts = np.array_split(x, threads)

    def everywhere(function):
        workers = [Thread(target=function, args=(part,)) for part in parts[1:]]
        for worker in workers:
            worker.start()
        function(parts[0])
        for worker in workers:
            worker.join()

    update = _best_ms(lambda: everywhere(lambda part: np.negative(part, out=part)), repeats)
    # BLAS's product of a vector with itself reads as fast as anything, on its own threads or on one in each of ours.
    read = min(
        _best_ms(lambda: np.dot(x, x), repeats),
        _best_ms(lambda: everywhere(lambda part: np.dot(part, part)), repeats),
        _best_ms(lambda: everywhere(lambda part: np.max(part)), repeats),
    )
    return {"read": STREAM_BYTES / read, "update": 2 * STREAM_BYTES / update}


def _best_ms(function, repeats: int) -> float:
    function()
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - began)
    return best * 1e3
