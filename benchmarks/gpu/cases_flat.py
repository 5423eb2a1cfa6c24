"""Checks of kernels that are no op with a forward and a backward: products, sums, updates, and a whole step."""

from __future__ import annotations

import math

import numpy as np

from tinygrad_lite import philox
from tinygrad_lite.dtypes import float32, float64
from tinygrad_lite.kernels import lookup

from .cases import EPS, compare, device, host, is_half, normal, rounded

LAYOUTS = [(False, False), (False, True), (True, False), (True, True)]
HYPER = dict(lr=0.01, beta1=0.9, beta2=0.95, eps=1e-2, weight_decay=0.1)  # an eps that shows
STEP_BAND = {True: 0.02, False: 2e-5}  # of a loss after some steps, in 16 bits and in float32


def _laid(x, turned: bool, dtype):
    """x on the device as it is, or as the transpose of an array."""
    return device(np.ascontiguousarray(x.T).astype(dtype)).T if turned else device(x.astype(dtype))


def check_product(dtype, shape) -> dict:
    """Our product and the library's, in every layout."""
    from tinygrad_lite.kernels.cuda.product import matmul

    m, k, n = shape
    x, y = rounded(normal(m, k), dtype), rounded(normal(k, n), dtype)
    given = [(_laid(x, a, dtype), _laid(y, b, dtype)) for a, b in LAYOUTS]
    run = lambda: [matmul(a, b, use_own=own) for own in (True, False) for a, b in given]
    names = [f"{who} {layout}" for who in ("ours", "library's") for layout in ("x y", "x y'", "x' y", "x' y'")]
    return compare(run, [x @ y] * 8, dtype, k, names=names)


def check_one_hot_product(dtype, size: int) -> dict:
    """Rows that pick one row of the other operand: every place of both fragments, with every one of the other."""
    from tinygrad_lite.kernels.cuda.product import matmul

    x = np.concatenate([np.roll(np.eye(size), shift, axis=1) for shift in range(size)])
    y = np.random.default_rng(3).integers(-255, 256, (size, size)).astype(np.float64)  # what 8 bits hold
    run = lambda: [matmul(_laid(x, a, dtype), _laid(y, b, dtype), use_own=True) for a, b in LAYOUTS]
    left = lambda: [matmul(_laid(y, a, dtype), _laid(x.T, b, dtype), use_own=True) for a, b in LAYOUTS]
    return compare(lambda: run() + left(), [x @ y] * 4 + [y @ x.T] * 4, dtype, 1, is_exact=True)


def check_one_hot_attention(dtype) -> dict:
    """Each query sees one key alone, so that the result is that key's value."""
    kernel, found, expected = lookup("cuda", "attention"), [], []
    rng = np.random.default_rng(4)
    for d in (32, 64, 128):
        order = rng.permutation(d)
        q, k, v = 128.0 * np.eye(d)[order], np.eye(d), rng.integers(-255, 256, (d, d)).astype(np.float64)
        found.append([device(x[None, None].astype(dtype)) for x in (q, k, v)])
        expected.append(v[order][None, None])
    run = lambda: [kernel.forward(*given, causal=False, window=None, scale=1.0)[0] for given in found]
    return compare(run, expected, dtype, 1, names=["32", "64", "128"], is_exact=True)


def check_decode(dtype, shape, window) -> dict:
    """One new row over a cache, and the row that it leaves there; what is behind it in the cache is NaN."""
    b, heads, key_heads, room, d, position = shape
    rows, (keys, values) = rounded(normal(b, heads + 2 * key_heads, d), dtype), (
        rounded(normal(b, key_heads, room, d) + shift, dtype) for shift in (0.0, 0.5)
    )  # fmt: skip
    keys[:, :, position:] = values[:, :, position:] = np.nan
    given = [device(x.astype(dtype)) for x in (rows.reshape(b, 1, -1), keys, values)]
    keys[:, :, position], values[:, :, position] = rows[:, heads : heads + key_heads], rows[:, heads + key_heads :]
    seen = slice(0 if window is None else max(0, position + 1 - window), position + 1)
    k, v = (np.repeat(x[:, :, seen], heads // key_heads, axis=1) for x in (keys, values))
    scores = np.einsum("bhd,bhsd->bhs", rows[:, :heads], k) / math.sqrt(d)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    out = np.einsum("bhs,bhsd->bhd", weights / weights.sum(axis=-1, keepdims=True), v).reshape(b, 1, heads * d)
    attend, at = lookup("cuda", "attention_decode").attend, device(np.array([position]))
    run = lambda: [
        attend(*given, at, heads=heads, window=window, scale=d**-0.5), *(x[:, :, : position + 1] for x in given[1:])
    ]  # fmt: skip
    exact = [out, *(x[:, :, : position + 1] for x in (keys, values))]
    return compare(run, exact, dtype, 4 * (position + d), names=["out", "keys", "values"])


def check_row_product(dtype, shape) -> dict:
    """A linear layer of one row, with what may be added to it."""
    from tinygrad_lite.kernels.cuda.product import matmul

    k, n = shape
    x, w, bias, residual = (rounded(normal(*size), dtype) for size in ((1, k), (n, k), (n,), (1, n)))
    given = [device(a.astype(dtype)) for a in (x, w, bias, residual)]
    run = lambda: [matmul(given[0], given[1].T, bias=given[2], residual=given[3])]
    return compare(run, [x @ w.T + bias + residual], dtype, k)


def check_scatter(dtype, shape) -> dict:
    """Rows added by index."""
    n, v, c = shape
    start, g = rounded(normal(v, c), dtype), rounded(normal(n, c), dtype)
    indices = (np.random.default_rng(5).random(n) ** 3 * v).astype(np.int64)  # some often, many never
    exact = start.copy()
    np.add.at(exact, indices, g)
    kernel, given = lookup("cuda", "scatter_add_rows"), (device(indices), device(g.astype(dtype)))
    run = lambda: [kernel.scatter_add_rows(device(start.astype(dtype)), *given)]
    return compare(run, [exact], dtype, np.bincount(indices).max())


def check_column_sums(dtype, shape) -> dict:
    """A bias's gradient."""
    from tinygrad_lite.kernels.cuda.column_sums import column_sums

    x = rounded(normal(*shape), dtype)
    given = device(x.astype(dtype))
    run = lambda: [column_sums(given, device(np.zeros(shape[1], dtype)))]
    return compare(run, [x.sum(0)], dtype, 16 * shape[0])  # a sum is smaller than its terms together


def check_adamw(dtype, n: int) -> dict:
    """One step; of 16 bits, the float32 master is compared, and the parameter must be its rounding."""
    param, grad, m, v = normal(n), rounded(normal(n, scale=2.0), dtype), normal(n), normal(n) ** 2
    param, m, v = (rounded(x, float32) for x in (param, m, v))
    corrections = dict(bias_correction1=1 - 0.9**3, bias_correction2=1 - 0.95**3)
    half, g = is_half(dtype), 0.5 * grad
    m2, v2 = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g**2
    exact = param * (1 - 0.01 * 0.1) - 0.01 / corrections["bias_correction1"] * m2 / (
        np.sqrt(v2) / math.sqrt(corrections["bias_correction2"]) + HYPER["eps"]
    )

    def run():
        p, g = device(param.astype(dtype)), device(grad.astype(dtype))
        moments = device(m.astype(float32)), device(v.astype(float32))
        master = device(param.astype(float32)) if half else None
        lookup("cuda", "adamw").step(p, g, *moments, **HYPER, **corrections, grad_scale=0.5, master=master)
        if half and not np.array_equal(host(p), rounded(host(master), dtype)):
            raise AssertionError("the parameter is not its master's rounding")
        return [master if half else p, *moments]

    return compare(run, [exact, m2, v2], float32, 1, roundings=4, names=["parameter", "m", "v"])


def check_sum_of_squares(dtype, n: int) -> dict:
    """What clipping asks for: in float64, so the inputs' type does not matter; and the coefficient."""
    from tinygrad_lite.kernels.cuda.clip import norm_and_coefficient

    x = rounded(normal(n), dtype)
    given, scale = device(x.astype(dtype)), device(np.ones((), np.float32))
    out = lambda: device(np.zeros((), float64))

    def run():
        place = out()
        lookup("cuda", "adamw").sum_of_squares_into(given, place)
        return [place, *norm_and_coefficient([given], scale, 1.0)]

    total = (x**2).sum()
    exact = [total, math.sqrt(total), min(1.0, 1.0 / (math.sqrt(total) + 1e-6))]
    return compare(run, exact, float32, 1, roundings=4, names=["sum", "norm", "coefficient"])


def check_scale(dtype, n: int) -> dict:
    """An array times a number that lies on the device."""
    from tinygrad_lite.kernels.cuda.scale import scale_into

    x, factor = rounded(normal(n), dtype), device(np.array(0.75, np.float32))
    given = device(x.astype(dtype))

    def run():
        out = device(np.zeros(n, dtype))
        scale_into(given, factor, out)
        return [out]

    return compare(run, [0.75 * x], dtype, 1)


def check_dropout(dtype, n: int) -> dict:
    """The mask that the CPU's generator makes."""
    x, params = rounded(normal(n), dtype), dict(p=0.3, key=2**63 + 12345, offset=2**32 - 2)
    keep = philox.uniform(n, params["key"], params["offset"]) >= np.float32(0.3)
    given = device(x.astype(dtype))
    return compare(
        lambda: [lookup("cuda", "dropout").forward(given, **params)[0]], [np.where(keep, x / 0.7, 0)], dtype, 1
    )


def check_step(dtype) -> dict:
    """Steps of a small GPT with dropout: as one graph and launch by launch the same bits, and the CPU's losses."""
    graph, launches, exact = (_losses(dtype, *how) for how in (("cuda", True), ("cuda", False), ("cpu", False)))
    band = STEP_BAND[is_half(dtype)]
    apart, same = float(np.abs(graph - exact).max()), bool((graph == launches).all())
    return {"error_eps": apart / EPS[dtype], "limit_eps": band / EPS[dtype], "array": "losses", "repeats": same,
            "right": same and apart <= band}  # fmt: skip


def _losses(dtype, where: str, use_graph: bool, steps: int = 6):
    from tinygrad_lite import default_generator, optim
    from tinygrad_lite.config import settings
    from tokenizer import CharTokenizer
    from transformer.presets import TrainConfig
    from transformer.trainer import Trainer

    text = "".join(f"{a} and {b} make {a + b}.\n" for a in range(30) for b in range(30))
    tokenizer = CharTokenizer.train(text)
    ids = tokenizer.encode_to_array(text)
    config = TrainConfig(
        tokenizer="char", model=dict(layers=2, heads=2, channels=32, block_size=16, dropout=0.1), batch_size=4,
        steps=steps, lr=3e-3, warmup=1, device=where, dtype=str(np.dtype(dtype)) if where == "cuda" else "float32",
    )  # fmt: skip
    before, settings.use_graph = settings.use_graph, use_graph
    try:
        trainer = Trainer(config, ids[:-800], ids[-800:], tokenizer)
    finally:
        settings.use_graph = before
    if trainer.scaler.enabled:
        trainer.scaler = optim.LossScaler(enabled=True)
        trainer.scaler.scale = 2.0**8  # so that no step is left out
    default_generator.manual_seed(9)
    return np.array([trainer.train_step(step)["loss"] for step in range(steps)])
