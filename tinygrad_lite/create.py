"""Making tensors: constants, ranges, random draws (always drawn on the CPU, then moved)."""

from __future__ import annotations

import numpy as np

from . import dtypes
from .device import get_device
from .errors import number, several
from .random import given_or_default
from .tensor import Tensor, as_tensor, functional
from .tensor.arguments import integer, shape_of
from .tensor.dlpack import imported


def tensor(data, dtype=None, device=None, requires_grad=False) -> Tensor:
    """A Tensor from numbers, nested lists or an array (copied)."""
    return Tensor(data, dtype, device, requires_grad)


def from_dlpack(source) -> Tensor:
    """A Tensor on the memory of another library's array (PyTorch, NumPy, CuPy, JAX ...), without a copy on the CPU."""
    if isinstance(source, Tensor):
        source = source.detach().data
    if not hasattr(source, "__dlpack_device__"):
        raise TypeError(f"from_dlpack: expected an array that speaks DLPack, got {type(source).__name__}: use tensor()")
    on_host = source.__dlpack_device__()[0] == 1
    try:
        array = imported(source) if on_host else get_device("cuda").xp.lib.from_dlpack(source)
    except (RuntimeError, BufferError) as error:
        raise TypeError(f"from_dlpack: {error}") from None
    dtypes.as_dtype(array.dtype)  # refuses what the engine does not compute with
    return as_tensor(array, None if on_host else "cuda", "from_dlpack")


def _made(array, dtype, device, requires_grad):
    return Tensor(array, dtypes.as_dtype(dtype) if dtype is not None else dtypes.default_float, device, requires_grad)


def _sizes(op: str, shape) -> tuple[int, ...]:
    """A shape given as f(2, 3), f((2, 3)) or f() as a tuple of sizes from 0."""
    sizes = shape_of(op, shape) if shape else ()
    if min(sizes, default=0) < 0:
        raise ValueError(f"{op}: sizes must be from 0, got {sizes}")
    return sizes


def _drawn_type(op: str, dtype):
    dtype = dtypes.as_dtype(dtype) if dtype is not None else dtypes.default_float
    if not dtypes.is_float(dtype):
        raise TypeError(f"{op}: draws floats, got dtype {dtype}: use randint, or convert the result")
    return dtype


def full(shape, value, dtype=None, device=None, requires_grad=False) -> Tensor:
    """Every element `value`, a number; the type follows the value where none is given."""
    if hasattr(value, "item"):
        value = value.item()  # of a NumPy scalar or a Tensor
    value = number("full", "value", value)
    if dtype is None:
        dtype = bool if isinstance(value, bool) else np.int64 if isinstance(value, int) else dtypes.default_float
    dtype = dtypes.as_dtype(dtype)
    if dtype.kind in "iu":
        dtypes.check_fits("full", np.array(value), dtype)
    return Tensor(np.full(_sizes("full", (shape,)), value, dtype), dtype, device, requires_grad)


def zeros(*shape, dtype=None, device=None, requires_grad=False) -> Tensor:
    """Zeros."""
    return _made(np.zeros(_sizes("zeros", shape)), dtype, device, requires_grad)


def ones(*shape, dtype=None, device=None, requires_grad=False) -> Tensor:
    """Ones."""
    return _made(np.ones(_sizes("ones", shape)), dtype, device, requires_grad)


def empty(*shape, dtype=None, device=None, requires_grad=False) -> Tensor:
    """Unwritten memory made safe: zeros."""
    return zeros(*shape, dtype=dtype, device=device, requires_grad=requires_grad)


def arange(start, end=None, step=1, dtype=None, device=None, requires_grad=False) -> Tensor:
    """start, start + step, ... below end."""
    start, end = (0, start) if end is None else (start, end)
    start, end, step = [number("arange", n, v) for n, v in (("start", start), ("end", end), ("step", step))]
    if not step:
        raise ValueError(f"arange: step must not be 0, got {step}")
    array = np.arange(start, end, step)
    return _made(array, dtype or (array.dtype if array.dtype.kind == "i" else None), device, requires_grad)


def linspace(start, end, steps, dtype=None, device=None, requires_grad=False) -> Tensor:
    """`steps` equally spaced values, both ends included."""
    start, end = number("linspace", "start", start), number("linspace", "end", end)
    if integer("linspace", "steps", steps) < 0:
        raise ValueError(f"linspace: steps must be from 0, got {steps}")
    return _made(np.linspace(start, end, steps), dtype, device, requires_grad)


def eye(n, m=None, dtype=None, device=None, requires_grad=False) -> Tensor:
    """Ones on the diagonal."""
    n, m = _sizes("eye", (n, n if m is None else m))
    return _made(np.eye(n, m), dtype, device, requires_grad)


def uniform(low, high, shape, dtype=None, device=None, requires_grad=False, generator=None) -> Tensor:
    """Uniform in [low, high)."""
    dtype, shape = _drawn_type("uniform", dtype), _sizes("uniform", (shape,))
    low, high = number("uniform", "low", low), number("uniform", "high", high)
    if not low <= high:
        raise ValueError(f"uniform: expected low <= high, got {low} and {high}")
    u = given_or_default("uniform", generator).uniform(int(np.prod(shape, dtype=np.int64))).astype(np.float64)
    array = (low + (high - low) * u.reshape(shape)).astype(dtype)
    if high > low:  # rounding to the type may have reached the upper end
        array = np.where(array < high, array, np.nextafter(dtype.type(high), dtype.type(low))).astype(dtype)
    return _made(array, dtype, device, requires_grad)


def normal(mean, std, shape, dtype=None, device=None, requires_grad=False, generator=None) -> Tensor:
    """Normal with a mean and a standard deviation."""
    dtype, shape = _drawn_type("normal", dtype), _sizes("normal", (shape,))
    mean, std = number("normal", "mean", mean), number("normal", "std", std)
    if not std >= 0:
        raise ValueError(f"normal: std must be from 0, got {std}")
    z = given_or_default("normal", generator).normal(int(np.prod(shape, dtype=np.int64)))
    return _made(mean + std * z.reshape(shape), dtype, device, requires_grad)


def rand(*shape, **options) -> Tensor:
    """Uniform in [0, 1)."""
    return uniform(0.0, 1.0, _sizes("rand", shape), **options)


def randn(*shape, **options) -> Tensor:
    """Normal of mean 0 and variance 1."""
    return normal(0.0, 1.0, _sizes("randn", shape), **options)


def randint(low, high, shape=None, dtype=None, device=None, generator=None) -> Tensor:
    """Integers in [low, high), int64 if no dtype is given; randint(high, shape) counts from 0."""
    if shape is None:
        low, high, shape = 0, low, high
    shape = _sizes("randint", (shape,))
    low, high = integer("randint", "low", low), integer("randint", "high", high)
    if not 0 < high - low <= 2**32:
        raise ValueError(f"randint: expected low < high within 2**32, got {low} and {high}")
    n = given_or_default("randint", generator).integers(low, high, int(np.prod(shape, dtype=np.int64)))
    return Tensor(n.reshape(shape), dtype, device)


def multinomial(probabilities, num_samples: int, replacement: bool = False, generator=None) -> Tensor:
    """Indices drawn with the given weights (..., V): shape (..., num_samples)."""
    p = as_tensor(probabilities).detach().numpy().astype(np.float64)
    if p.ndim not in (1, 2) or (p < 0).any() or not np.isfinite(p).all() or (p.sum(-1) <= 0).any():
        raise ValueError("multinomial: expected rows of finite weights >= 0 with a positive sum")
    rows = p.reshape(-1, p.shape[-1])
    if integer("multinomial", "num_samples", num_samples) < 0:
        raise ValueError(f"multinomial: num_samples must be from 0, got {num_samples}")
    if not replacement and ((rows > 0).sum(-1) < num_samples).any():
        raise ValueError(f"multinomial: fewer than {num_samples} weights are positive: pass replacement=True")
    generator = given_or_default("multinomial", generator)
    if replacement:
        cumulative = np.cumsum(rows / rows.sum(-1, keepdims=True), axis=-1)
        u = generator.uniform(len(rows) * num_samples).reshape(len(rows), num_samples)
        drawn = np.stack([np.searchsorted(c, v, side="right") for c, v in zip(cumulative, u, strict=True)])
        last = np.array([np.flatnonzero(r)[-1] for r in rows])[:, None]
        drawn = np.minimum(drawn, last)
    else:
        # The largest of log(p) + Gumbel noise are a draw without replacement (Efraimidis & Spirakis 2006).
        u = (generator.bits(rows.size).astype(np.float64).reshape(rows.shape) + 0.5) * 2.0**-32
        with np.errstate(divide="ignore"):
            keys = np.log(rows) - np.log(-np.log(u))
        drawn = np.argsort(-keys, axis=-1, kind="stable")[:, :num_samples]
    return Tensor(drawn.reshape(*p.shape[:-1], num_samples).astype(np.int64))


def _like(op: str, x):
    if not hasattr(x, "shape") or not hasattr(x, "dtype"):
        raise TypeError(f"{op}: expected a Tensor or an array, got {type(x).__name__}")
    return x


def zeros_like(x, dtype=None, device=None, requires_grad=False) -> Tensor:
    """Zeros, of x's shape, type and device."""
    x = _like("zeros_like", x)
    return zeros(x.shape, **_as(x, dtype, device), requires_grad=requires_grad)


def ones_like(x, dtype=None, device=None, requires_grad=False) -> Tensor:
    """Ones, of x's shape, type and device."""
    x = _like("ones_like", x)
    return ones(x.shape, **_as(x, dtype, device), requires_grad=requires_grad)


def empty_like(x, dtype=None, device=None, requires_grad=False) -> Tensor:
    """Unwritten memory made safe: zeros, of x's shape, type and device."""
    x = _like("empty_like", x)
    return zeros(x.shape, **_as(x, dtype, device), requires_grad=requires_grad)


def rand_like(x, dtype=None, device=None, requires_grad=False, generator=None) -> Tensor:
    """Uniform in [0, 1), of x's shape, type and device."""
    return uniform_like(x, 0.0, 1.0, dtype, device, requires_grad, generator)


def randn_like(x, dtype=None, device=None, requires_grad=False, generator=None) -> Tensor:
    """Normal of mean 0 and variance 1, of x's shape, type and device."""
    return normal_like(x, 0.0, 1.0, dtype, device, requires_grad, generator)


def uniform_like(x, low, high, dtype=None, device=None, requires_grad=False, generator=None) -> Tensor:
    """Uniform in [low, high), of x's shape, type and device."""
    x = _like("uniform_like", x)
    return uniform(low, high, x.shape, **_as(x, dtype, device), requires_grad=requires_grad, generator=generator)


def normal_like(x, mean, std, dtype=None, device=None, requires_grad=False, generator=None) -> Tensor:
    """Normal with a mean and a standard deviation, of x's shape, type and device."""
    x = _like("normal_like", x)
    return normal(mean, std, x.shape, **_as(x, dtype, device), requires_grad=requires_grad, generator=generator)


def _as(x, dtype, device):
    """x's type and device where none is given. x may be an array: its device is the CPU."""
    if device is None and isinstance(x, Tensor):
        device = x.device
    return {"dtype": x.dtype if dtype is None else dtype, "device": device}


def full_like(x, value, dtype=None, device=None, requires_grad=False) -> Tensor:
    """Every element `value`, of x's shape, type and device."""
    x = _like("full_like", x)
    return full(x.shape, value, **_as(x, dtype, device), requires_grad=requires_grad)


def randint_like(x, low, high, dtype=None, device=None, generator=None) -> Tensor:
    """Integers in [low, high), of x's shape, type and device."""
    x = _like("randint_like", x)
    return randint(low, high, x.shape, **_as(x, dtype, device), generator=generator)


def concatenate(tensors, dim=0, *, axis=None) -> Tensor:
    """Tensors joined along an axis."""
    return functional.concatenate(
        *several("concatenate", "a sequence of Tensors", tensors), axis=dim if axis is None else axis
    )


cat = concatenate


def stack(tensors, dim=0, *, axis=None) -> Tensor:
    """Tensors of one shape joined along a new axis."""
    return functional.stack(*several("stack", "a sequence of Tensors", tensors), axis=dim if axis is None else axis)


def where(condition, x, y) -> Tensor:
    """x where the condition holds, else y."""
    return functional.where(as_tensor(condition), x, y)


def einsum(subscripts: str, *tensors) -> Tensor:
    """Sum of products over named axes, as numpy.einsum."""
    if not isinstance(subscripts, str):
        raise TypeError(f"einsum: expected subscripts such as 'ij,jk->ik' first, got {type(subscripts).__name__}")
    return functional.einsum(*[as_tensor(x, None, "einsum") for x in tensors], subscripts=subscripts)


def pad(x, widths, value: float = 0.0) -> Tensor:
    """`value` added around x: widths is one pair (before, after) an axis."""
    return functional.pad(x, widths=widths, value=value)
