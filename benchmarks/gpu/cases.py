"""What part `correct` checks: by name, a function that checks it and gives its row."""

from __future__ import annotations

from functools import partial

import numpy as np

from tinygrad_lite import Tensor, grad
from tinygrad_lite.dtypes import HALF, bfloat16, float16, float32
from tinygrad_lite.kernels import lookup
from tinygrad_lite.ops import OPS

EPS = {float32: 2.0**-23, bfloat16: 2.0**-7, float16: 2.0**-10}
TYPES = {"float32": float32, "bfloat16": bfloat16, "float16": float16}
NORM, CAUSAL = dict(eps=1e-5), dict(causal=True, window=None, scale=0.125)
DROPPED = dict(p=0.3, key=2**63 + 5, offset=2)
LOSS = dict(ignore_index=-100)


def normal(*shape, scale=1.0):
    """Normal numbers, the same for a shape."""
    return scale * np.random.default_rng(sum(shape) + 7).standard_normal(shape)


def cases(toy: bool) -> dict:
    """Every check by its name; the large ones only without `toy`. Nothing is computed or loaded here."""
    found = {}
    for type_name, dtype in TYPES.items():
        for op, label, arrays, params, terms, more in _ops(toy):
            found[f"{op} {type_name} {label}"] = partial(check_op, op, arrays, dtype, params, terms, **more)
        for (label, size), check in _others(toy).items():
            found[f"{label} {type_name} {size}".rstrip()] = partial(check, dtype)
    return found


def _ops(toy: bool):
    """(op, label, arrays, its parameters, numbers that a sum adds up, more for check_op); arrays is a function."""
    for n, c in [(3, 31), (70, 64)] + ([] if toy else [(300, 1025), (8192, 768)]):
        x, v, label = partial(normal, n, c), partial(normal, c), f"{n} x {c}"
        yield "layer_norm", label, lambda x=x, v=v: (x() + 0.5, v() + 1, v()), NORM, 4 * (n + c), {}
        yield "rms_norm", label, lambda x=x, v=v: (x() + 0.5, v() + 1), NORM, 4 * (n + c), {}
        yield "softmax", label, lambda x=x: (3 * x(),), {}, c, dict(roundings=2)  # the result is kept, rounded
        yield "log_softmax", label, lambda x=x: (3 * x(),), {}, c, dict(roundings=2)
        for approximate in ("none", "tanh"):
            p = dict(approximate=approximate)
            yield "gelu", f"{label} {approximate}", lambda x=x: (3 * x(),), p, 1, {}
            yield "bias_gelu", f"{label} {approximate}", lambda x=x, v=v: (3 * x(), v()), p, n, {}
        yield "swiglu", label, lambda n=n, c=c: (2 * normal(n, 2 * c),), {}, 4, {}
        yield "linear", label, lambda n=n, c=c: (
            normal(n, c), normal(2 * c, c, scale=0.1), normal(2 * c), normal(n, 2 * c),
        ), {}, n + c, dict(roundings=2)  # fmt: skip
        yield "gelu_mlp", label, lambda n=n, c=c: (
            normal(n, c), normal(2 * c, c, scale=c**-0.5), normal(2 * c), normal(c, 2 * c, scale=(2 * c) ** -0.5), normal(c),
            normal(n, c),
        ), {}, n + 3 * c, dict(roundings=2)  # fmt: skip
        yield "cross_entropy", label, lambda x=x, n=n, c=c: (3 * x(), _targets(n, c)), LOSS | dict(label_smoothing=0.1), n + c, {
            "g": n}  # fmt: skip
    for n, c, v in [(5, 33, 65)] + ([] if toy else [(512, 768, 50304)]):
        yield "linear_cross_entropy", f"{n} x {c} x {v}", lambda n=n, c=c, v=v: (
            normal(n, c), normal(v, c, scale=0.05), _targets(n, v),
        ), LOSS, n + c, dict(g=n, roundings=6)  # fmt: skip
    for b, t, heads, size, columns in [(2, 31, 2, 8, 40), (1, 33, 3, 32, 96)] + (
        [] if toy else [(4, 1024, 24, 64, 2304)]
    ):
        p = dict(heads=heads, size=size, start=5, base=1e4, turn=1)
        yield "rotary", f"{b} x {t} x {columns}", lambda b=b, t=t, c=columns: (normal(b, t, c),), p, 2, {}
    yield from _attentions(toy)


def _attentions(toy: bool):
    large = [] if toy else [(2, 12, 12, 1024, 64), (1, 4, 2, 333, 128), (1, 3, 1, 1000, 40)]
    for b, h, k, t, d in [(1, 2, 2, 31, 16), (1, 4, 2, 130, 64)] + large:
        more, label = dict(roundings=6), f"{b} x {h}/{k} x {t} x {d}"
        for kind, params in {
            "causal": CAUSAL, "window": CAUSAL | dict(window=50), "full": CAUSAL | dict(causal=False),
            "dropout": CAUSAL | DROPPED,
        }.items():  # fmt: skip
            if kind != "causal" and (t < 100 if kind == "dropout" else toy or t > 500):
                continue
            yield "attention", f"{label} {kind}", lambda b=b, h=h, k=k, t=t, d=d: (
                normal(b, h, t, d), normal(b, k, t, d), normal(b, k, t, d, scale=1.1),
            ), params, 4 * (t + d), more  # fmt: skip
        yield "attention_qkv", label, lambda b=b, h=h, k=k, t=t, d=d: (normal(b, t, (h + 2 * k) * d),), CAUSAL | dict(
            heads=h, kv_heads=k), 4 * (t + d), more  # fmt: skip


def _targets(n: int, classes: int):
    targets = np.arange(n) * 7919 % classes
    targets[::5] = -100
    targets[-1] = classes - 1
    return targets


def _others(toy: bool) -> dict:
    from . import cases_flat as flat

    sizes = [(65, 64, 129)] + ([] if toy else [(1000, 771, 333), (2048, 768, 3072)])
    found = {("gemm", f"{m} x {k} x {n}"): partial(flat.check_product, shape=(m, k, n)) for m, k, n in sizes}
    found["gemm", "one-hot"] = partial(flat.check_one_hot_product, size=32 if toy else 128)
    found["attention", "one-hot"] = flat.check_one_hot_attention
    for *shape, window in [(2, 4, 2, 70, 24, 66, None), (1, 2, 1, 140, 64, 130, 70)] + (
        [] if toy else [(1, 12, 12, 1024, 64, 1023, None), (4, 8, 2, 3000, 128, 2500, 2000), (1, 3, 1, 1000, 40, 63, None)]
    ):  # fmt: skip
        label = f"{shape[0]} x {shape[1]}/{shape[2]} x {shape[5]} of {shape[3]} x {shape[4]}"
        found["attention_decode", label] = partial(flat.check_decode, shape=shape, window=window)
    for n, v, c in [(200, 7, 33)] + ([] if toy else [(32768, 50304, 768)]):
        found["scatter_add_rows", f"{n} x {c}"] = partial(flat.check_scatter, shape=(n, v, c))
    for k, n in [(264, 33)] + ([] if toy else [(768, 2304), (3072, 768), (768, 50304)]):
        found["row_product", f"{k} x {n}"] = partial(flat.check_row_product, shape=(k, n))
    for n, c in [(70, 33)] + ([] if toy else [(32768, 3072)]):
        found["column_sums", f"{n} x {c}"] = partial(flat.check_column_sums, shape=(n, c))
    for n in [2049] + ([] if toy else [10_000_001]):
        found["adamw", f"{n}"] = partial(flat.check_adamw, n=n)
        found["sum_of_squares", f"{n}"] = partial(flat.check_sum_of_squares, n=n)
        found["scale_into", f"{n}"] = partial(flat.check_scale, n=n)
        found["dropout", f"{n}"] = partial(flat.check_dropout, n=n)
    found["training step", ""] = flat.check_step
    return found


def device(x):
    """A host array on the device."""
    from tinygrad_lite.kernels.cuda.launch import cupy

    return cupy().asarray(x)


def host(x):
    """A device array in float64."""
    from tinygrad_lite.kernels.cuda.launch import cupy

    return cupy().asnumpy(x).astype(np.float64)


def rounded(x, dtype):
    """float64 values as dtype holds them, in float64."""
    return x.astype(dtype).astype(np.float64)


def check_op(op, arrays, dtype, params, terms, g=None, roundings=1) -> dict:
    """A kernel with forward and backward against the op on the CPU in float64, which other tests hold to formulas.

    g: the gradient of a loss, else of normal numbers. roundings: to dtype, on the way to a result.
    """
    kernel = lookup("cuda", op)
    arrays = [rounded(x, dtype) if x.dtype.kind == "f" else x for x in arrays()]
    real = tuple(x.dtype.kind == "f" for x in arrays)
    given = [device(x.astype(dtype) if r else x) for x, r in zip(arrays, real)]
    nowhere = (None,) * len(arrays)
    inputs = [Tensor(x).requires_grad_(r) for x, r in zip(arrays, real)]
    out = OPS[op](*inputs, **params)
    upstream = np.float64(g) if g is not None else rounded(normal(*out.shape), dtype)
    gradients = iter(grad(out, [x for x in inputs if x.requires_grad], Tensor(upstream)))
    exact = [out.numpy(), *(next(gradients).numpy() if r else None for r in real)]

    def run():
        out, saved = kernel.forward(*given, **params)
        coming = device(np.asarray(upstream).astype(out.dtype))
        return [out, *kernel.backward(coming, saved, real, nowhere, **params)]

    names = ["out", *(f"gradient {i}" for i in range(len(arrays)))]
    kept = [i for i, x in enumerate(exact) if x is not None]
    return compare(
        lambda: [x for i, x in enumerate(run()) if i in kept], [exact[i] for i in kept], dtype, terms,
        roundings=roundings, names=[names[i] for i in kept],
    )  # fmt: skip


def compare(run, exact, dtype, terms, roundings=1, names=None, is_exact=False) -> dict:
    """The row of a check: run() gives device arrays, exact are their values in float64.

    An error may be as large as `roundings` to dtype of the largest value, and float32 sums of `terms` products allow.
    """
    got, again = run(), [run(), run()]
    raw = [host(x).tobytes() for x in got]
    repeats = all([host(x).tobytes() for x in other] == raw for other in again)
    limit = 0.0 if is_exact else roundings + 16 * EPS[float32] * np.sqrt(max(1, terms)) / EPS[dtype]
    worst, where = -1.0, ""
    for i, (x, reference) in enumerate(zip(got, exact, strict=True)):
        reference = np.asarray(reference, np.float64)
        if x.shape != reference.shape:
            raise AssertionError(f"result {i} has shape {x.shape}, not {reference.shape}")
        size = max(1.0, np.abs(reference).max(initial=0.0))
        error = np.abs(host(x) - reference).max(initial=0.0) / (EPS[dtype] * size)
        if not (error <= worst or np.isnan(worst)):  # a NaN is the worst
            worst, where = float(error), names[i] if names else f"result {i}"
    return {
        "error_eps": worst,
        "limit_eps": limit,
        "array": where,
        "repeats": repeats,
        "right": repeats and bool(worst <= limit),
    }


def is_half(dtype) -> bool:
    """Whether a type has 16 bits."""
    return np.dtype(dtype) in HALF
