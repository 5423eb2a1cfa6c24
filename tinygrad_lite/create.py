"""Making tensors: constants, ranges, random draws (always drawn on the CPU, then moved)."""

from __future__ import annotations

import numpy as np

from . import dtypes
from .device import get_device
from .random import default_generator
from .tensor import Tensor, as_tensor, functional
from .tensor.arguments import shape_of


def tensor(data, dtype=None, device=None, requires_grad=False) -> Tensor:
    """A Tensor from numbers, nested lists or an array (copied)."""
    return Tensor(data, dtype, device, requires_grad)


def from_dlpack(source) -> Tensor:
    """A Tensor on the memory of another library's array (PyTorch, NumPy, CuPy, JAX ...), without a copy on the CPU."""
    if isinstance(source, Tensor):
        source = source.detach().data
    on_host = getattr(source, "__dlpack_device__", lambda: (1, 0))()[0] == 1
    array = np.from_dlpack(source) if on_host else get_device("cuda").xp.lib.from_dlpack(source)
    dtypes.as_dtype(array.dtype)  # refuses what the engine does not compute with
    return as_tensor(array, None if on_host else "cuda", "from_dlpack")


def _made(array, dtype, device, requires_grad):
    return Tensor(array, dtypes.as_dtype(dtype) if dtype is not None else dtypes.default_float, device, requires_grad)


def full(shape, value, dtype=None, device=None, requires_grad=False) -> Tensor:
    """Every element `value`; the type follows the value where none is given."""
    if dtype is None:
        dtype = bool if isinstance(value, bool) else np.int64 if isinstance(value, int) else dtypes.default_float
    return _made(np.full(shape, value), dtype, device, requires_grad)


def zeros(*shape, dtype=None, device=None, requires_grad=False) -> Tensor:
    """Zeros."""
    return _made(np.zeros(shape_of(shape) if shape else ()), dtype, device, requires_grad)


def ones(*shape, dtype=None, device=None, requires_grad=False) -> Tensor:
    """Ones."""
    return _made(np.ones(shape_of(shape) if shape else ()), dtype, device, requires_grad)


def empty(*shape, dtype=None, device=None, requires_grad=False) -> Tensor:
    """Unwritten memory made safe: zeros."""
    return zeros(*shape, dtype=dtype, device=device, requires_grad=requires_grad)


def arange(start, end=None, step=1, dtype=None, device=None, requires_grad=False) -> Tensor:
    """start, start + step, ... below end."""
    start, end = (0, start) if end is None else (start, end)
    if not step:
        raise ValueError(f"arange: step must not be 0, got {step}")
    array = np.arange(start, end, step)
    return _made(array, dtype or (array.dtype if array.dtype.kind == "i" else None), device, requires_grad)


def linspace(start, end, steps, dtype=None, device=None, requires_grad=False) -> Tensor:
    """`steps` equally spaced values, both ends included."""
    return _made(np.linspace(start, end, steps), dtype, device, requires_grad)


def eye(n, m=None, dtype=None, device=None, requires_grad=False) -> Tensor:
    """Ones on the diagonal."""
    return _made(np.eye(n, m), dtype, device, requires_grad)


def uniform(low, high, shape, dtype=None, device=None, requires_grad=False, generator=None) -> Tensor:
    """Uniform in [low, high)."""
    dtype = dtypes.as_dtype(dtype) if dtype is not None else dtypes.default_float
    u = (generator or default_generator).uniform(int(np.prod(shape, dtype=np.int64))).astype(np.float64)
    array = (low + (high - low) * u.reshape(shape)).astype(dtype)
    if high > low:  # rounding to the type may have reached the upper end
        array = np.where(array < high, array, np.nextafter(dtype.type(high), dtype.type(low))).astype(dtype)
    return _made(array, dtype, device, requires_grad)


def normal(mean, std, shape, dtype=None, device=None, requires_grad=False, generator=None) -> Tensor:
    """Normal with a mean and a standard deviation."""
    z = (generator or default_generator).normal(int(np.prod(shape, dtype=np.int64)))
    return _made(mean + std * z.reshape(shape), dtype, device, requires_grad)


def rand(*shape, **options) -> Tensor:
    """Uniform in [0, 1)."""
    return uniform(0.0, 1.0, shape_of(shape) if shape else (), **options)


def randn(*shape, **options) -> Tensor:
    """Normal of mean 0 and variance 1."""
    return normal(0.0, 1.0, shape_of(shape) if shape else (), **options)


def randint(low, high, shape, dtype=None, device=None, generator=None) -> Tensor:
    """Integers in [low, high), int64 if no dtype is given."""
    if not 0 < high - low <= 2**32:
        raise ValueError(f"randint: expected low < high within 2**32, got {low} and {high}")
    n = (generator or default_generator).integers(low, high, int(np.prod(shape, dtype=np.int64)))
    return Tensor(n.reshape(shape), dtype, device)


def multinomial(probabilities, num_samples: int, replacement: bool = False, generator=None) -> Tensor:
    """Indices drawn with the given weights (..., V): shape (..., num_samples)."""
    p = as_tensor(probabilities).detach().numpy().astype(np.float64)
    if p.ndim not in (1, 2) or (p < 0).any() or not np.isfinite(p).all() or (p.sum(-1) <= 0).any():
        raise ValueError("multinomial: expected rows of finite weights >= 0 with a positive sum")
    rows = p.reshape(-1, p.shape[-1])
    if not replacement and ((rows > 0).sum(-1) < num_samples).any():
        raise ValueError(f"multinomial: fewer than {num_samples} weights are positive: pass replacement=True")
    generator = generator or default_generator
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


def _like(maker):
    def like(x, dtype=None, device=None, requires_grad=False, **options):
        return maker(
            *x.shape, dtype=dtype or x.dtype, device=device or x.device, requires_grad=requires_grad, **options
        )

    like.__name__ = f"{maker.__name__}_like"
    like.__doc__ = f"{maker.__doc__[:-1]}, of x's shape, type and device."
    return like


zeros_like, ones_like, empty_like, rand_like, randn_like = map(_like, (zeros, ones, empty, rand, randn))


def full_like(x, value, dtype=None, device=None, requires_grad=False) -> Tensor:
    """Every element `value`, of x's shape, type and device."""
    return full(x.shape, value, dtype or x.dtype, device or x.device, requires_grad)


def randint_like(x, low, high, dtype=None, device=None, generator=None) -> Tensor:
    """Integers in [low, high), of x's shape, type and device."""
    return randint(low, high, x.shape, dtype or x.dtype, device or x.device, generator)


def concatenate(tensors, dim=0, *, axis=None) -> Tensor:
    """Tensors joined along an axis."""
    return functional.concatenate(*tensors, axis=dim if axis is None else axis)


cat = concatenate


def stack(tensors, dim=0, *, axis=None) -> Tensor:
    """Tensors of one shape joined along a new axis."""
    return functional.stack(*tensors, axis=dim if axis is None else axis)


def where(condition, x, y) -> Tensor:
    """x where the condition holds, else y."""
    return functional.where(as_tensor(condition), x, y)


def einsum(subscripts: str, *tensors) -> Tensor:
    """Sum of products over named axes, as numpy.einsum."""
    return functional.einsum(*tensors, subscripts=subscripts)


def pad(x, widths, value: float = 0.0) -> Tensor:
    """`value` added around x: widths is one pair (before, after) an axis."""
    return functional.pad(x, widths=widths, value=value)
