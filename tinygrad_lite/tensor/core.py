"""Tensor: an array on a device, its place in the graph, and the methods a user touches.

A method leads to its op's formula in one jump: `def exp(self): return elementwise.exp.call(self)`. Names and
meaning follow PyTorch; reductions also take NumPy's `axis` and `keepdims`. The methods stand in groups, a file each;
here is what makes a tensor, and what ties it to the graph.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from .. import dtypes
from ..autograd.mode import mode
from ..autograd.node import Handle, Leaf, add_hook, extra_of
from ..autograd.record import Binder, share_version
from ..device import get_device, is_device
from ..ops import elementwise, registry
from .arithmetic import Arithmetic
from .elementwise import Elementwise
from .indexing import Indexing
from .inplace import InPlace
from .interchange import Interchange
from .products import Products
from .reductions import Reductions
from .shapes import Shapes

functional = SimpleNamespace()  # every op over Tensors, by name: the namespace that `create_graph` hands to rules


class Tensor(Arithmetic, InPlace, Elementwise, Reductions, Shapes, Indexing, Products, Interchange):
    """An array with a gradient history.

    data: anything NumPy takes. Python floats become float32, as in PyTorch; arrays keep their type.
    dtype: a float, integer or bool type; device: "cpu" or "cuda". requires_grad: record what is done with it.
    """

    __slots__ = ()
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
        if array.dtype.kind == "O" and all(isinstance(v, int) for v in array.flat):
            raise OverflowError("tensor: an integer beyond 64 bits: give it as a float")
        if dtype is None or array.dtype.kind not in "fiub":  # text or complex: refused whatever the dtype
            found = dtypes.as_dtype(array.dtype)
        dtype = dtypes.as_dtype(dtype) if dtype is not None else found
        if dtype.kind in "iu" and array.dtype != dtype and not isinstance(data, np.ndarray):
            dtypes.check_fits("tensor", array, dtype)
        array = array.astype(dtype, copy=False)
        if array.dtype is not dtype:
            array = array.view(dtype)  # the same type by another object
        self.data = self.device.xp.asarray(array)
        self.node, self.cell = None, [0]
        if requires_grad:
            self.requires_grad_()

    # -- the graph ----------------------------------------------------------------------------------------
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
        if value is not None:
            if not isinstance(value, Tensor):
                raise TypeError(f"grad: expected None or a Tensor, got {type(value).__name__}")
            if (value.shape, value.dtype, value.device) != (self.shape, self.dtype, self.device):
                raise ValueError(
                    f"grad: expected {self.dtype} {self.shape} on {self.device.name} as its tensor, got {value.dtype} "
                    f"{value.shape} on {value.device.name}"
                )
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
        options = dict(retain_graph=retain_graph, create_graph=create_graph, stepped=False)
        for _ in self._backward_steps(self, gradient, **options):
            pass

    def retain_grad(self):
        """Add up the gradient of this result too; read it at `.grad` after backward()."""
        if self.node is None:
            raise RuntimeError("retain_grad: this tensor has no gradient: it does not require one")
        if self.node.op is not None:
            extra_of(self.node).retain = True

    def register_hook(self, hook) -> Handle:
        """Call hook(gradient) when the gradient of this tensor is known; a returned Tensor replaces it.

        Returns a handle whose remove(), or the end of a `with`, takes the hook away.
        """
        if self.node is None:
            raise RuntimeError("register_hook: this tensor has no gradient: it does not require one")
        return add_hook(extra_of(self.node).hooks, hook)

    def to(self, target=None, dtype=None, *, device=None) -> Tensor:
        """Converted to a dtype, moved to a device ("cpu", "cuda"), or both: to("cuda", "float16")."""
        if device is not None or dtype is not None:
            if target is not None and (device is not None or not is_device(target)):
                raise TypeError(f"to: expected one device and one dtype, got {target!r} beside them")
            device = target if device is None else device
            out = self if device is None else self.to(get_device(device))
            return out if dtype is None else out.to(dtypes.as_dtype(dtype))
        if is_device(target):
            device = get_device(target)
            if device is self.device:
                return self
            if self.node is not None and mode.state:
                raise RuntimeError(
                    "to: moving a recorded tensor between devices is not differentiable: detach() it first"
                )
            return wrap(device.xp.asarray(self._host()), None, device)
        try:
            dtype = dtypes.as_dtype(target)
        except TypeError:
            if isinstance(target, str):  # "cuda:1" or "gpu", say
                raise TypeError(f'to: expected a dtype or a device ("cpu", "cuda"), got {target!r}') from None
            raise
        return self if dtype == self.dtype else elementwise.astype.call(self, dtype=dtype)

    def __reduce__(self):
        if self.node is not None and self.node.op is not None:
            raise RuntimeError("pickle, deepcopy: only leaves can be copied: use .detach() on a result")
        grad = self.grad
        return _rebuild, (self._host(), self.device.name, self.node is not None, grad)


def as_tensor(x, device=None, op: str = "tensor") -> Tensor:
    """x as a Tensor, without a copy where it is an array already."""
    return Tensor._from(x, device, op)


def _rebuild(array, device, requires_grad, grad):
    out = Tensor(array, dtype=array.dtype, device=device, requires_grad=requires_grad)
    if grad is not None:
        out.grad = grad.detach().clone()  # copy.copy would share it, and backward adds in place
    return out


wrap = Tensor._of
registry.set_binder(Binder(Tensor, functional, as_tensor).bind)


def _zeros_like(x):
    return wrap(x.device.xp.zeros_like(x.data), None, x.device)


def _full_like(x, value):
    return wrap(x.device.xp.full_like(x.data, value), None, x.device)


def _positions(x, *, axis):
    return wrap(x.device.xp.positions(x.data, axis=axis), None, x.device)


functional.zeros_like, functional.full_like = _zeros_like, _full_like
functional.positions = _positions
functional.stretched = functional.broadcast_to
