"""Tensor: an array on a device, its place in the graph, and the methods a user touches.

A method leads to its op's formula in one jump: `def exp(self): return elementwise.exp.call(self)`. Names and
meaning follow PyTorch; reductions also take NumPy's `axis` and `keepdims`.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np

from . import dtypes
from .autograd.mode import mode, no_grad
from .autograd.node import FREED, SHARED, Leaf, extra_of
from .autograd.record import Binder, share_version
from .autograd.walk import Walk, accumulate
from .device import CPU, get_device, is_device
from .ops import activation, elementwise, index, normalise, product, reduce, registry, shape
from .ops._axes import all_axes, one_axis

functional = SimpleNamespace()  # every op over Tensors, by name: the namespace that `create_graph` hands to rules


def _axis(dim, axis):
    if dim is not None and axis is not None:
        raise TypeError("give dim or axis, not both: they mean the same")
    return dim if axis is None else axis


def _shape(sizes):
    return tuple(sizes[0]) if len(sizes) == 1 and not isinstance(sizes[0], (int, np.integer)) else tuple(sizes)


class Tensor:
    """An array with a gradient history.

    data: anything NumPy takes. Python floats become float32, as in PyTorch; arrays keep their type.
    dtype: a float, integer or bool type; device: "cpu" or "cuda". requires_grad: record what is done with it.
    """

    __slots__ = ("data", "node", "device", "cell", "__weakref__")
    __array_ufunc__ = None  # ndarray * Tensor asks Tensor
    __array_priority__ = 1000
    _backward_steps = None  # the walk of backward(): installed by autograd/gradient.py, which stands above this file

    def __init__(self, data, dtype=None, device=None, requires_grad: bool = False):
        self.device = get_device(device)
        if isinstance(data, Tensor):
            data = data.numpy()
        try:
            array = np.array(data)
        except ValueError as error:
            raise ValueError(f"tensor: the data is no rectangular array of numbers: {error}") from None
        if dtype is None and not isinstance(data, (np.ndarray, np.generic)) and array.dtype == np.float64:
            dtype = dtypes.default_float
        dtype = dtypes.as_dtype(dtype if dtype is not None else array.dtype)
        array = array.astype(dtype, copy=False)
        if array.dtype is not dtype:
            array = array.view(dtype)  # the same type by another object
        self.data = self.device.xp.asarray(array)
        self.node, self.cell = None, [0]
        if requires_grad:
            self.requires_grad_()

    # -- what it is ---------------------------------------------------------------------------------------
    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self.data.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.data.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.data.size

    @property
    def dtype(self):
        """Element type."""
        return self.data.dtype

    @property
    def T(self) -> Tensor:
        """The axes reversed."""
        return shape.transpose.call(self, axes=tuple(range(self.ndim))[::-1])

    @property
    def requires_grad(self) -> bool:
        """Whether what is done with it is recorded."""
        return self.node is not None

    @requires_grad.setter
    def requires_grad(self, flag: bool):
        self.requires_grad_(flag)

    @property
    def is_leaf(self) -> bool:
        """Whether it was made by the user and not by a recorded op."""
        return self.node is None or self.node.op is None

    @property
    def grad(self):
        """The gradient that backward() has accumulated here, or None."""
        node = self.node
        if node is None:
            return None
        return node.grad if type(node) is Leaf else node.extra.grad if node.extra else None

    @grad.setter
    def grad(self, value):
        if type(self.node) is not Leaf:
            raise RuntimeError("grad: only a leaf that requires a gradient holds one: call requires_grad_() first")
        if value is not None and (not isinstance(value, Tensor) or value.shape != self.shape):
            raise ValueError(f"grad: expected None or a Tensor of shape {self.shape}, got {value!r}")
        self.node.grad = value

    def requires_grad_(self, flag: bool = True) -> Tensor:
        """Start (or stop) recording what is done with this leaf."""
        if flag and self.node is None:
            if not dtypes.is_float(self.dtype):
                raise TypeError(
                    f"requires_grad: only floats have gradients, got {self.dtype}: convert with .to('float32')"
                )
            self.node = Leaf(self.data, self.device)
        elif not flag and self.node is not None:
            if self.node.op is not None:
                raise RuntimeError("requires_grad: this tensor is the result of a recorded op: use .detach()")
            self.node = None
        return self

    def numel(self) -> int:
        """Number of elements."""
        return self.data.size

    def __len__(self):
        if not self.ndim:
            raise TypeError("len: a 0-d tensor has no length")
        return self.shape[0]

    def __repr__(self):
        values = np.array2string(
            self._host().astype(np.float32) if self.dtype in dtypes.HALF else self._host(),
            prefix="Tensor(",
            precision=4,
            threshold=200,
        )
        parts = [values, f"shape={self.shape}", f"dtype={self.dtype}"]
        if self.device is not CPU:
            parts.append(f"device={self.device.name!r}")
        if self.node is not None:
            parts.append("requires_grad=True" if self.node.op is None else f"from={self.node.op.name}")
        return f"Tensor({', '.join(parts)})"

    def __bool__(self):
        if self.size != 1:
            raise ValueError(f"bool: a tensor of {self.size} elements is neither true nor false: use .any() or .all()")
        return bool(self._host().reshape(())[()])

    __hash__ = object.__hash__

    # -- out of the engine --------------------------------------------------------------------------------
    def _host(self):
        return self.device.to_host(self.data)

    def numpy(self) -> np.ndarray:
        """The values as a NumPy array; shared memory on the CPU, read-only while the graph may need them."""
        array = self._host()
        if self.node is not None or self.cell is SHARED:
            array = array.view()
            array.flags.writeable = False
        return array

    def item(self):
        """The only element as a Python number."""
        if self.size != 1:
            raise ValueError(f"item: expected one element, got shape {self.shape}: index first, or use .tolist()")
        return self._host().reshape(()).item()

    def tolist(self):
        """Nested Python lists of numbers."""
        return self._host().tolist()

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __index__(self):
        if self.dtype.kind not in "iu":
            raise TypeError(f"index: expected an integer tensor, got {self.dtype}")
        return int(self.item())

    def __array__(self, dtype=None, copy=None):
        array = self.numpy()
        return array.astype(dtype) if dtype is not None and dtype != array.dtype else array.copy() if copy else array

    def __dlpack__(self, **kwargs):
        return self.detach().data.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self.data.__dlpack_device__()

    def __reduce__(self):
        if self.node is not None and self.node.op is not None:
            raise RuntimeError("pickle, deepcopy: only leaves can be copied: use .detach() on a result")
        grad = self.grad
        return _rebuild, (self._host(), self.device.name, self.node is not None, grad)

    # -- the graph ----------------------------------------------------------------------------------------
    def detach(self) -> Tensor:
        """The same memory, outside the graph."""
        out = wrap(self.data, None, self.device)
        share_version(self, out)
        return out

    def clone(self) -> Tensor:
        """A copy that stands in the graph."""
        out = elementwise.identity.call(self)
        out.data, out.cell = self.device.xp.array_copy(self.data), None
        return out

    def backward(self, gradient=None, *, retain_graph: bool = False, create_graph: bool = False):
        """Add d(self)/d(leaf), times `gradient`, to the `.grad` of every leaf that this tensor depends on.

        gradient: of self's shape; may be left out for a single element. retain_graph: keep what the graph saved,
        to walk it again. create_graph: make the gradients differentiable too.
        """
        for _ in self._backward_steps(self, gradient, retain_graph=retain_graph, create_graph=create_graph):
            pass

    def retain_grad(self):
        """Keep the gradient of this result too; read it at `.grad` after backward()."""
        if self.node is None:
            raise RuntimeError("retain_grad: this tensor has no gradient: it does not require one")
        if self.node.op is not None:
            extra_of(self.node).retain = True

    def register_hook(self, hook):
        """Call hook(gradient) when the gradient of this tensor is known; a returned Tensor replaces it.

        Returns a handle whose remove() takes the hook away.
        """
        if self.node is None:
            raise RuntimeError("register_hook: this tensor has no gradient: it does not require one")
        hooks = extra_of(self.node).hooks
        key = object()
        hooks[key] = hook
        return SimpleNamespace(remove=lambda: hooks.pop(key, None))

    # -- moving and converting ----------------------------------------------------------------------------
    def to(self, target) -> Tensor:
        """Converted to a dtype, or moved to a device ("cpu", "cuda")."""
        if is_device(target):
            device = get_device(target)
            if device is self.device:
                return self
            if self.node is not None and mode.state:
                raise RuntimeError(
                    "to: moving a recorded tensor between devices is not differentiable: detach() it first"
                )
            return wrap(device.xp.asarray(self._host()), None, device)
        dtype = dtypes.as_dtype(target)
        return self if dtype == self.dtype else elementwise.astype.call(self, dtype=dtype)

    def astype(self, dtype) -> Tensor:
        """Converted to a dtype."""
        return self.to(dtypes.as_dtype(dtype))

    def float(self) -> Tensor:
        """Converted to float32."""
        return self.to(dtypes.float32)

    def double(self) -> Tensor:
        """Converted to float64."""
        return self.to(dtypes.float64)

    def half(self) -> Tensor:
        """Converted to float16."""
        return self.to(dtypes.float16)

    def bfloat16(self) -> Tensor:
        """Converted to bfloat16."""
        return self.to(dtypes.bfloat16)

    def int(self) -> Tensor:
        """Converted to int32."""
        return self.to(dtypes.int32)

    def long(self) -> Tensor:
        """Converted to int64."""
        return self.to(dtypes.int64)

    def bool(self) -> Tensor:
        """Converted to bool: where it is not zero."""
        return self.to(dtypes.bool_)

    # -- arithmetic ---------------------------------------------------------------------------------------
    def __add__(self, other):
        return elementwise.add.call(self, other)

    def __radd__(self, other):
        return elementwise.add.call(other, self)

    def __sub__(self, other):
        return elementwise.subtract.call(self, other)

    def __rsub__(self, other):
        return elementwise.subtract.call(other, self)

    def __mul__(self, other):
        return elementwise.multiply.call(self, other)

    def __rmul__(self, other):
        return elementwise.multiply.call(other, self)

    def __truediv__(self, other):
        return elementwise.divide.call(self, other)

    def __rtruediv__(self, other):
        return elementwise.divide.call(other, self)

    def __floordiv__(self, other):
        return elementwise.floor_divide.call(self, other)

    def __rfloordiv__(self, other):
        return elementwise.floor_divide.call(other, self)

    def __mod__(self, other):
        return elementwise.remainder.call(self, other)

    def __rmod__(self, other):
        return elementwise.remainder.call(other, self)

    def __pow__(self, other):
        return elementwise.power.call(self, other)

    def __rpow__(self, other):
        return elementwise.power.call(other, self)

    def __neg__(self):
        return elementwise.negative.call(self)

    def __abs__(self):
        return elementwise.absolute.call(self)

    def __matmul__(self, other):
        return self.matmul(other)

    def __rmatmul__(self, other):
        return as_tensor(other, self.device).matmul(self)

    def __eq__(self, other):
        return elementwise.equal.call(self, other)

    def __ne__(self, other):
        return elementwise.not_equal.call(self, other)

    def __lt__(self, other):
        return elementwise.less.call(self, other)

    def __le__(self, other):
        return elementwise.less_equal.call(self, other)

    def __gt__(self, other):
        return elementwise.greater.call(self, other)

    def __ge__(self, other):
        return elementwise.greater_equal.call(self, other)

    def __and__(self, other):
        return elementwise.logical_and.call(*_booleans("&", self, other))

    def __or__(self, other):
        return elementwise.logical_or.call(*_booleans("|", self, other))

    def __xor__(self, other):
        return elementwise.logical_xor.call(*_booleans("^", self, other))

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __invert__(self):
        return elementwise.logical_not.call(*_booleans("~", self))

    add, sub, mul, div, pow, neg = __add__, __sub__, __mul__, __truediv__, __pow__, __neg__
    eq, ne, lt, le, gt, ge, remainder = __eq__, __ne__, __lt__, __le__, __gt__, __ge__, __mod__

    # -- in place: outside a graph, and on leaves under no_grad ---------------------------------------------
    def _writable(self, name: str, instead: str):
        if self.node is not None and (self.node.op is not None or mode.state):
            where = "a recorded result" if self.node.op is not None else "a leaf that records"
            raise RuntimeError(
                f"{name}: in-place writing to {where} would corrupt backward: write {instead}, or use no_grad() on a leaf"
            )
        if self.cell is SHARED:
            raise RuntimeError(
                f"{name}: a recorded result shares this memory, and backward may need it: write {instead}, or clone() first"
            )
        if self.cell is None:
            self.cell = [0]
        self.cell[0] += 1

    def _incoming(self, name: str, instead: str, value):
        """What is to be written, as an array of this device or a scalar."""
        if isinstance(value, (bool, int, float)):
            return value
        value = as_tensor(value, self.device, name)
        if value.node is not None and mode.state:
            raise RuntimeError(
                f"{name}: the gradient of what is written would be lost: write {instead}, or detach() it"
            )
        if value.device is not self.device:
            raise ValueError(
                f"{name}: {self.device.name} meets {value.device.name}: move one with .to({self.device.name!r})"
            )
        return value.data

    def _in_place(self, name, instead, function, other):
        other = self._incoming(name, instead, other)
        self._writable(name, instead)
        try:
            function(self.data, other, out=self.data, casting="same_kind")
        except (TypeError, ValueError) as error:
            given = f"{self.dtype} {self.shape} and {getattr(other, 'dtype', other)} {getattr(other, 'shape', ())}"
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{name}: {given} do not fit in place: write {instead}") from None
        return self

    def _overwrite(self, name, instead, key, value):
        value = self._incoming(name, instead, value)
        self._writable(name, instead)
        key = plain_key(key, self.device)
        index.check_key(name, key, self.shape, self.device.xp)
        try:
            self.data[key] = value
        except (TypeError, ValueError, IndexError) as error:
            kind = next(k for k in (TypeError, IndexError, ValueError) if isinstance(error, k))
            raise kind(f"{name}: {error}") from None
        return self

    def __iadd__(self, other):
        return self._in_place("+=", "x = x + y", self.device.xp.add, other)

    def __isub__(self, other):
        return self._in_place("-=", "x = x - y", self.device.xp.subtract, other)

    def __imul__(self, other):
        return self._in_place("*=", "x = x * y", self.device.xp.multiply, other)

    def __itruediv__(self, other):
        return self._in_place("/=", "x = x / y", self.device.xp.divide, other)

    def __setitem__(self, key, value):
        self._overwrite("x[key] = y", "x = where(mask, y, x)", key, value)

    def copy_(self, source) -> Tensor:
        """Overwrite the elements with source's."""
        return self._overwrite("copy_", "x = source.clone()", Ellipsis, source)

    def zero_(self) -> Tensor:
        """Overwrite the elements with zeros."""
        return self._overwrite("zero_", "x = zeros_like(x)", Ellipsis, 0)

    def fill_(self, value) -> Tensor:
        """Overwrite the elements with one value."""
        return self._overwrite("fill_", "x = full_like(x, value)", Ellipsis, value)

    # -- elementwise functions ----------------------------------------------------------------------------
    def exp(self):
        """e ** x."""
        return elementwise.exp.call(self)

    def expm1(self):
        """e ** x - 1."""
        return elementwise.expm1.call(self)

    def log(self):
        """Natural logarithm."""
        return elementwise.log.call(self)

    def log1p(self):
        """log(1 + x)."""
        return elementwise.log1p.call(self)

    def sqrt(self):
        """Square root."""
        return elementwise.sqrt.call(self)

    def rsqrt(self):
        """1 / sqrt(x)."""
        return elementwise.rsqrt.call(self)

    def square(self):
        """x * x."""
        return elementwise.square.call(self)

    def reciprocal(self):
        """1 / x."""
        return elementwise.reciprocal.call(self)

    def sin(self):
        """Sine."""
        return elementwise.sin.call(self)

    def cos(self):
        """Cosine."""
        return elementwise.cos.call(self)

    def tan(self):
        """Tangent."""
        return elementwise.tan.call(self)

    def tanh(self):
        """Hyperbolic tangent."""
        return elementwise.tanh.call(self)

    def sigmoid(self):
        """1 / (1 + exp(-x))."""
        return elementwise.sigmoid.call(self)

    def erf(self):
        """The error function."""
        return elementwise.erf.call(self)

    def abs(self):
        """|x|."""
        return elementwise.absolute.call(self)

    def sign(self):
        """-1, 0 or 1."""
        return elementwise.sign.call(self)

    def floor(self):
        """The largest integer at most x."""
        return elementwise.floor.call(self)

    def ceil(self):
        """The smallest integer at least x."""
        return elementwise.ceil.call(self)

    def round(self):
        """The nearest integer, halves to even."""
        return elementwise.rint.call(self)

    def isnan(self):
        """Where x is not a number."""
        return elementwise.isnan.call(self)

    def isinf(self):
        """Where x is infinite."""
        return elementwise.isinf.call(self)

    def isfinite(self):
        """Where x is neither NaN nor infinite."""
        return elementwise.isfinite.call(self)

    def softplus(self):
        """log(1 + exp(x))."""
        return elementwise.softplus.call(self)

    def leaky_relu(self, negative_slope: float = 0.01):
        """x where positive, else negative_slope * x."""
        return activation.leaky_relu.call(self, negative_slope=negative_slope)

    def elu(self, alpha: float = 1.0):
        """x where positive, else alpha * (exp(x) - 1)."""
        return activation.elu.call(self, alpha=alpha)

    def relu(self):
        """max(x, 0)."""
        return activation.relu.call(self)

    def silu(self):
        """x * sigmoid(x)."""
        return activation.silu.call(self)

    def gelu(self, approximate: str = "none"):
        """x * Phi(x)."""
        return activation.gelu.call(self, approximate=approximate)

    def clamp(self, min=None, max=None):
        """x limited to [min, max]: numbers, None, or Tensors that broadcast."""
        if isinstance(min, Tensor) or isinstance(max, Tensor):
            bounds = [b for b in (min, max) if b is not None]
            arrays = [b.data for b in bounds if isinstance(b, Tensor)]
            x = self.to(dtypes.result_type([self.data, *arrays], [b for b in bounds if not isinstance(b, Tensor)]))
            x = x if min is None else x.maximum(min)
            return x if max is None else x.minimum(max)
        if min is None and max is None:
            raise ValueError("clamp: give min, max or both")
        x = self
        if not dtypes.is_float(x.dtype) and (type(min) is float or type(max) is float):
            x = x.to(dtypes.default_float)
        return elementwise.clamp.call(x, min=min, max=max)

    def where(self, condition, other):
        """x where the condition holds, else other."""
        return elementwise.where.call(as_tensor(condition, self.device, "where"), self, other)

    def maximum(self, other):
        """The larger of x and other."""
        return elementwise.maximum.call(self, other)

    def minimum(self, other):
        """The smaller of x and other."""
        return elementwise.minimum.call(self, other)

    def masked_fill(self, mask, value):
        """x with `value` where mask holds."""
        mask = as_tensor(mask, self.device, "masked_fill")
        if mask.dtype != dtypes.bool_:
            raise TypeError(f"masked_fill: mask must be bool, got {mask.dtype}: compare first, or use .bool()")
        if isinstance(value, Tensor):
            value = value.to(self.dtype)
        elif self.dtype.kind in "iu":  # x keeps its type, as in PyTorch
            value = int(value)
        elif self.dtype == dtypes.bool_:
            value = value != 0
        return elementwise.where.call(mask, value, self)

    # -- reductions ---------------------------------------------------------------------------------------
    def sum(self, dim=None, keepdim=False, *, axis=None, keepdims=False):
        """Sum over axes; integers and booleans add up as int64."""
        x = self if self.data.dtype.kind == "f" else self._widened()
        return reduce.sum.call(x, axis=_axis(dim, axis), keepdims=keepdim or keepdims)

    def _widened(self):
        return self.to(dtypes.int64) if self.dtype.kind in "iub" else self

    def mean(self, dim=None, keepdim=False, *, axis=None, keepdims=False):
        """Mean over axes."""
        axes = all_axes("mean", _axis(dim, axis), self.ndim)
        if not dtypes.is_float(self.dtype):
            raise TypeError(f"mean: expected a float tensor, got {self.dtype}: convert with .float()")
        count = 1
        for a in axes:
            count *= self.shape[a]
        return reduce.sum.call(self, axis=axes, keepdims=keepdim or keepdims) * (1.0 / count if count else float("nan"))

    def var(self, dim=None, correction=1, keepdim=False, *, axis=None, keepdims=False):
        """Variance over axes: squared deviations over (count - correction), unbiased by default as in PyTorch."""
        centred, axes, scale = self._centred("var", _axis(dim, axis), correction)
        return reduce.sum.call(centred * centred, axis=axes, keepdims=keepdim or keepdims) * scale

    def _centred(self, op, dim, correction):
        axes = all_axes(op, dim, self.ndim)
        if not dtypes.is_float(self.dtype):
            raise TypeError(f"{op}: expected a float tensor, got {self.dtype}: convert with .float()")
        count = math.prod([self.shape[a] for a in axes])
        scale = 1.0 / (count - correction) if count > correction else math.nan if count <= 1 else math.inf
        return self - self.mean(axes, keepdim=True), axes, scale

    def std(self, dim=None, correction=1, keepdim=False, *, axis=None, keepdims=False):
        """Square root of the variance; the gradient where nothing varies is 0."""
        centred, axes, scale = self._centred("std", _axis(dim, axis), correction)
        return reduce.norm.call(centred, axis=axes, keepdims=keepdim or keepdims) * math.sqrt(scale)

    def prod(self, dim=None, keepdim=False, *, axis=None, keepdims=False):
        """Product over axes."""
        return reduce.prod.call(self._widened(), axis=_axis(dim, axis), keepdims=keepdim or keepdims)

    def amax(self, dim=None, keepdim=False, *, axis=None, keepdims=False):
        """Largest element over axes; ties share the gradient."""
        return reduce.max.call(self, axis=_axis(dim, axis), keepdims=keepdim or keepdims)

    def amin(self, dim=None, keepdim=False, *, axis=None, keepdims=False):
        """Smallest element over axes; ties share the gradient."""
        return reduce.min.call(self, axis=_axis(dim, axis), keepdims=keepdim or keepdims)

    def max(self, dim=None, keepdim=False):
        """Largest element; along `dim`, a pair (values, indices) as in PyTorch."""
        return self.amax() if dim is None else self._extreme(reduce.argmax, dim, keepdim)

    def min(self, dim=None, keepdim=False):
        """Smallest element; along `dim`, a pair (values, indices) as in PyTorch."""
        return self.amin() if dim is None else self._extreme(reduce.argmin, dim, keepdim)

    def _extreme(self, op, dim, keepdim):
        if not self.ndim:
            one_axis(op.name, dim, 0)
            return self.amax(), op.call(self)
        indices = op.call(self, axis=dim, keepdims=True)
        values = index.take_along_axis.call(self, indices, axis=dim)
        return (values, indices) if keepdim else (values.squeeze(dim), indices.squeeze(dim))

    def argmax(self, dim=None, keepdim=False, *, axis=None):
        """Index of the largest element."""
        return reduce.argmax.call(self, axis=_axis(dim, axis), keepdims=keepdim)

    def argmin(self, dim=None, keepdim=False, *, axis=None):
        """Index of the smallest element."""
        return reduce.argmin.call(self, axis=_axis(dim, axis), keepdims=keepdim)

    def any(self, dim=None, keepdim=False, *, axis=None):
        """Whether any element is non-zero."""
        return reduce.any.call(self, axis=_axis(dim, axis), keepdims=keepdim)

    def all(self, dim=None, keepdim=False, *, axis=None):
        """Whether all elements are non-zero."""
        return reduce.all.call(self, axis=_axis(dim, axis), keepdims=keepdim)

    def norm(self, p=2, dim=None, keepdim=False, *, axis=None):
        """(sum of |x| ** p) ** (1 / p) over axes, by default Euclidean; the gradient at zero is 0. p: 1, 2 or inf."""
        dim = _axis(dim, axis)
        if p == 2:
            return reduce.norm.call(self, axis=dim, keepdims=keepdim)
        if p == 1:
            return self.abs().sum(dim, keepdim)
        if p == math.inf:
            return self.abs().amax(dim, keepdim)
        raise ValueError(f"norm: p must be 1, 2 or inf, got {p!r}: to name an axis write dim={p!r}")

    def logsumexp(self, dim=None, keepdim=False, *, axis=None):
        """log(sum(exp(x))) over axes, without overflow."""
        return reduce.logsumexp.call(self, axis=_axis(dim, axis), keepdims=keepdim)

    def cumsum(self, dim=None, *, axis=None):
        """Running sum along an axis."""
        return self._running(reduce.cumsum, _axis(dim, axis))

    def cumprod(self, dim=None, *, axis=None):
        """Running product along an axis."""
        return self._running(reduce.cumprod, _axis(dim, axis))

    def _running(self, op, axis):
        x = self._widened()
        if not self.ndim:
            one_axis(op.name, axis, 0)
            return x.clone()
        return op.call(x, axis=axis)

    def argsort(self, dim=-1, descending=False):
        """Indices that sort an axis; stable."""
        if not self.ndim:
            one_axis("argsort", dim, 0)
            return reduce.argmax.call(self)
        if not descending:
            return reduce.argsort.call(self, axis=dim)
        # Stable also downwards: sort the reversed axis, and count its indices from the other end.
        n = self.shape[one_axis("argsort", dim, self.ndim)]
        return (n - 1) - reduce.argsort.call(self.flip(dim), axis=dim).flip(dim)

    def sort(self, dim=-1, descending=False):
        """(values, indices) sorted along an axis; stable."""
        indices = self.argsort(dim, descending)
        if not self.ndim:
            return self.clone(), indices
        return index.take_along_axis.call(self, indices, axis=dim), indices

    def topk(self, k, dim=-1, largest=True):
        """(values, indices) of the k largest (or smallest) elements along an axis, best first."""
        axis = one_axis("topk", dim, self.ndim)
        if not self.ndim:
            values, indices = self.reshape(1).topk(k, 0, largest)
            return values.reshape(()), indices.reshape(())
        if not 0 <= k <= self.shape[axis]:
            raise ValueError(f"topk: k must be from 0 to {self.shape[axis]}, got {k}")
        indices = self.argsort(axis, descending=largest)[(slice(None),) * axis + (slice(0, k),)]
        return index.take_along_axis.call(self, indices, axis=axis), indices

    def softmax(self, dim=-1):
        """exp(x) over its sum along an axis."""
        return self._on_last(normalise.softmax, dim)

    def log_softmax(self, dim=-1):
        """log(softmax(x)) along an axis."""
        return self._on_last(normalise.log_softmax, dim)

    def _on_last(self, op, dim):
        axis = one_axis(op.name, dim, self.ndim)
        if axis >= self.ndim - 1:
            return op.call(self)
        return op.call(self.transpose(axis, -1)).transpose(axis, -1)

    # -- shapes -------------------------------------------------------------------------------------------
    def reshape(self, *sizes):
        """The same elements in another shape; one -1 is worked out."""
        return shape.reshape.call(self, shape=_shape(sizes))

    view = reshape

    def flatten(self, start_dim=0, end_dim=-1):
        """Axes start_dim to end_dim as one."""
        first, last = one_axis("flatten", start_dim, self.ndim), one_axis("flatten", end_dim, self.ndim)
        if not self.ndim:
            return self.reshape(1)
        if first > last:
            raise ValueError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
        merged = 1
        for n in self.shape[first : last + 1]:
            merged *= n
        return self.reshape(*self.shape[:first], merged, *self.shape[last + 1 :])

    def transpose(self, dim0, dim1):
        """Two axes exchanged, as in PyTorch."""
        axes = list(range(self.ndim))
        a, b = one_axis("transpose", dim0, self.ndim), one_axis("transpose", dim1, self.ndim)
        if axes:
            axes[a], axes[b] = axes[b], axes[a]
        return shape.transpose.call(self, axes=tuple(axes))

    def permute(self, *axes):
        """The axes in another order."""
        return shape.transpose.call(self, axes=_shape(axes))

    def expand(self, *sizes):
        """Axes of size 1 stretched; -1 keeps a size."""
        sizes = _shape(sizes)
        extra = len(sizes) - self.ndim
        if extra < 0:
            raise ValueError(f"expand: {self.shape} has more axes than {sizes}")
        full = tuple(self.shape[i - extra] if n == -1 and i >= extra else n for i, n in enumerate(sizes))
        return shape.broadcast_to.call(self, shape=full)

    def squeeze(self, dim=None):
        """Without axes of size 1; with `dim`, that axis if its size is 1."""
        axes = [i for i, n in enumerate(self.shape) if n == 1]
        if dim is not None:
            chosen = all_axes("squeeze", dim, self.ndim)
            axes = [a for a in axes if a in chosen]
        return self.reshape(tuple(n for i, n in enumerate(self.shape) if i not in axes))

    def unsqueeze(self, dim):
        """A new axis of size 1."""
        return shape.expand_dims.call(self, axis=dim)

    def flip(self, *dims):
        """Axes reversed."""
        return shape.flip.call(self, axis=_shape(dims))

    def roll(self, shifts, dims=None):
        """Elements moved along axes; without dims, along the flattened tensor."""
        if dims is None:
            return self.flatten().roll(shifts, 0).reshape(self.shape)
        shifts, dims = (shifts,) if isinstance(shifts, int) else shifts, (dims,) if isinstance(dims, int) else dims
        dims = tuple(one_axis("roll", d, self.ndim) for d in dims)
        return shape.roll.call(self, shift=tuple(shifts), axis=dims)

    def repeat(self, *reps):
        """The whole tensor repeated along each axis, as in PyTorch (numpy.tile)."""
        reps = _shape(reps)
        if len(reps) < self.ndim:
            raise ValueError(f"repeat: expected at least {self.ndim} numbers, one an axis, got {reps}")
        return shape.tile.call(self, reps=reps)

    def tile(self, *reps):
        """The whole tensor repeated along its last axes."""
        return shape.tile.call(self, reps=_shape(reps))

    def pad(self, widths, value: float = 0.0):
        """`value` added around x: widths is one pair (before, after) an axis, first axis first."""
        return shape.pad.call(self, widths=widths, value=value)

    def tril(self, diagonal=0):
        """The lower triangle of the last two axes."""
        return shape.tril.call(self, k=diagonal)

    def triu(self, diagonal=0):
        """The upper triangle of the last two axes."""
        return shape.triu.call(self, k=diagonal)

    def diagonal(self, offset=0, dim1=0, dim2=1):
        """The diagonal of two axes, as a new last axis."""
        a, b = _real_axis("diagonal", dim1, self.ndim), _real_axis("diagonal", dim2, self.ndim)
        if a == b:
            raise ValueError(f"diagonal: dim1 and dim2 are the same axis {a}")
        rest = [i for i in range(self.ndim) if i not in (a, b)]
        x = self.permute(a, b, *rest) if rest or a > b else self
        n = max(0, min(x.shape[0] + min(offset, 0), x.shape[1] - max(offset, 0)))
        rows = np.arange(n) + max(-offset, 0)
        out = x[rows, rows + offset]  # (n, rest...)
        return out.permute(*range(1, out.ndim), 0)

    def split(self, size, dim=0):
        """Pieces of `size` along an axis (the last may be smaller), or of the sizes given."""
        axis = _real_axis("split", dim, self.ndim)
        n = self.shape[axis]
        if isinstance(size, int):
            if size < 1:
                raise ValueError(f"split: the size must be positive, got {size}")
            sizes = [min(size, n - start) for start in range(0, n, size)] or [0]
        else:
            sizes = list(size)
            if sum(sizes) != n or min(sizes, default=0) < 0:
                raise ValueError(f"split: sizes {sizes} must be from 0 and add up to {n}, the size of axis {axis}")
        out, start = [], 0
        for s in sizes:
            out.append(self[(slice(None),) * axis + (slice(start, start + s),)])
            start += s
        return tuple(out)

    def chunk(self, chunks, dim=0):
        """At most `chunks` pieces of equal size along an axis, the last smaller."""
        if chunks < 1:
            raise ValueError(f"chunk: expected at least 1 piece, got {chunks}")
        n = self.shape[_real_axis("chunk", dim, self.ndim)]
        if not n:
            return self.split([0] * chunks, dim)
        return self.split(max(1, -(-n // chunks)), dim)

    # -- indexing -----------------------------------------------------------------------------------------
    def __getitem__(self, key):
        return index.getitem.call(self, key=plain_key(key, self.device, copy=True))

    def __iter__(self):
        if not self.ndim:
            raise TypeError("iter: a 0-d tensor cannot be iterated")
        return (self[i] for i in range(self.shape[0]))

    def gather(self, dim, indices):
        """out[i, j] = x[i, indices[i, j]] for dim=1; indices may be smaller than x on the other axes."""
        axis = _real_axis("gather", dim, self.ndim)
        indices = _same_axes("gather", self, as_tensor(indices, self.device))
        if any(n > m for i, (n, m) in enumerate(zip(indices.shape, self.shape)) if i != axis):
            raise ValueError(
                f"gather: indices {indices.shape} reach beyond x {self.shape} on an axis other than {axis}"
            )
        key = tuple(slice(0, n) if i != axis else slice(None) for i, n in enumerate(indices.shape))
        return index.take_along_axis.call(self[key], indices, axis=axis)

    def scatter_add(self, dim, indices, source):
        """x with source[i, j] added at [i, indices[i, j]] for dim=1."""
        axis = _real_axis("scatter_add", dim, self.ndim)
        indices, source = as_tensor(indices, self.device), as_tensor(source, self.device)
        _same_axes("scatter_add", self, indices), _same_axes("scatter_add", self, source)
        index.check_indices("scatter_add", indices, self.shape[axis])
        if any(n > m for n, m in zip(indices.shape, source.shape)):
            raise ValueError(
                f"scatter_add: indices {indices.shape} need as many elements of source, got {source.shape}"
            )
        if source.dtype != self.dtype:
            raise TypeError(f"scatter_add: source must be {self.dtype} as x, got {source.dtype}")
        source = source[tuple(slice(0, n) for n in indices.shape)]
        key = index._mesh(self.device.xp, indices.data, axis)
        return self + index.scatter.call(source, key=key, shape=self.shape, unique=False)

    def index_select(self, dim, indices):
        """Slices along an axis by index."""
        axis = _real_axis("index_select", dim, self.ndim)
        indices = as_tensor(indices, self.device)
        if indices.ndim > 1:
            raise ValueError(f"index_select: indices must be 1-D, got {indices.shape}: use gather, or x[indices]")
        indices = indices.reshape(-1)
        index.check_indices("index_select", indices, self.shape[axis])
        return self[(slice(None),) * axis + (indices,)]

    # -- products -----------------------------------------------------------------------------------------
    def matmul(self, other):
        """Matrix product; a 1-D operand is a row or a column whose axis is dropped again."""
        other = as_tensor(other, self.device, "matmul")
        if self.data.ndim > 1 and other.data.ndim > 1:
            return product.matmul.call(self, other)
        if not self.ndim or not other.ndim:
            raise ValueError("matmul: a 0-d tensor has no matrix product: use *")
        x = self.unsqueeze(0) if self.ndim == 1 else self
        y = other.unsqueeze(1) if other.ndim == 1 else other
        out = product.matmul.call(x, y)
        if other.ndim == 1:
            out = out.squeeze(-1)
        return out.squeeze(-2 if other.ndim > 1 else -1) if self.ndim == 1 else out

    def dot(self, other):
        """Inner product of two vectors."""
        if self.ndim != 1 or other.ndim != 1:
            raise ValueError(f"dot: expected two vectors, got {self.shape} and {other.shape}")
        return self.matmul(other)

    def outer(self, other):
        """All products of two vectors' elements."""
        if self.ndim != 1 or other.ndim != 1:
            raise ValueError(f"outer: expected two vectors, got {self.shape} and {other.shape}")
        return self.unsqueeze(1) * other.unsqueeze(0)


def _booleans(sign, *xs):
    for x in xs:
        if not (isinstance(x, bool) or getattr(x, "dtype", None) == dtypes.bool_):
            raise TypeError(
                f"{sign}: expected bool tensors, got {getattr(x, 'dtype', x)}: compare first, or use .bool()"
            )
    return xs


def _real_axis(op, dim, ndim):
    if not ndim:
        raise ValueError(f"{op}: a 0-d tensor has no axis: reshape it to (1,)")
    return one_axis(op, dim, ndim)


def _same_axes(op, x, other):
    if other.ndim != x.ndim:
        raise ValueError(f"{op}: expected {x.ndim} axes as x has, got {other.shape} beside {x.shape}")
    return other


def plain_key(key, device=CPU, copy: bool = False):
    """An index without Tensors: they become arrays of the device, copied when the graph will keep them."""
    if type(key) is tuple:
        return tuple([plain_key(k, device, copy) for k in key])
    if type(key) is int or type(key) is slice or key is None or key is Ellipsis:
        return key
    if isinstance(key, Tensor):
        if key.device is not device:
            raise ValueError(
                f"x[key]: x is on {device.name}, the key on {key.device.name}: move it with .to({device.name!r})"
            )
        key = key.data
    elif isinstance(key, list):
        key = np.asarray(key) if key else np.zeros(0, np.int64)
    if isinstance(key, np.ndarray):
        key = device.xp.array_copy(key) if copy or device is not CPU else key
    elif copy and isinstance(key, device.xp.ndarray):
        key = device.xp.array_copy(key)
    return key


def as_tensor(x, device=None, op: str = "tensor") -> Tensor:
    """x as a Tensor, without a copy where it is an array already."""
    if isinstance(x, Tensor):
        return x
    device = get_device(device)
    if isinstance(x, device.xp.ndarray):
        return wrap(x, None, device)
    if not isinstance(x, (bool, int, float, list, tuple, np.ndarray, np.generic)):
        raise TypeError(f"{op}: expected a Tensor, an array or a number, got {type(x).__name__}")
    return Tensor(x, device=device)


def _rebuild(array, device, requires_grad, grad):
    out = Tensor(array, dtype=array.dtype, device=device, requires_grad=requires_grad)
    if grad is not None:
        out.grad = grad.detach().clone()  # copy.copy would share it, and backward adds in place
    return out


_binder = Binder(Tensor, functional, as_tensor)
wrap = _binder.wrap
registry.set_binder(_binder.bind)


def _zeros_like(x):
    return wrap(x.device.xp.zeros_like(x.data), None, x.device)


def _full_like(x, value):
    return wrap(x.device.xp.full_like(x.data, value), None, x.device)


def _positions(x, *, axis):
    return wrap(x.device.xp.positions(x.data, axis=axis), None, x.device)


functional.zeros_like, functional.full_like = _zeros_like, _full_like
functional.positions = _positions
functional.stretched = functional.broadcast_to
__all__ = ["FREED", "Tensor", "Walk", "accumulate", "as_tensor", "functional", "no_grad", "wrap"]
