"""Module: a tree of parameters, buffers and other modules, with one forward.

Values live as ordinary attributes, so that `self.weight` costs what any attribute costs; the module keeps only
which names are parameters, buffers and modules.
"""

from __future__ import annotations

import numpy as np

from .. import dtypes
from ..autograd.node import add_hook
from ..device import get_device, is_device
from ..tensor import Tensor
from .hooks import call_with_hooks
from .state import copy_state, load_state
from .tree import refuse_missed, tree_lines

PARAMETER, BUFFER, HIDDEN_BUFFER, MODULE = "parameter", "buffer", "buffer that is not saved", "module"


def Parameter(data, dtype=None, device=None) -> Tensor:  # noqa: N802 - PyTorch's name
    """A leaf Tensor that requires a gradient: what a Module registers as a parameter. The data is copied.

    A function and not a class: the engine's fast paths test `type(x) is Tensor`.
    """
    return Tensor(data, dtype=dtype, device=device, requires_grad=True)


class Module:
    """Base of all layers: subclass it, assign parameters and modules to attributes, define forward().

    Assigned to an attribute, a leaf Tensor that requires a gradient becomes a parameter, a Module a child. Other
    Tensors are plain attributes unless `register_buffer` names them. One Tensor under two names is one parameter.
    Modules and parameters in a plain list or dict would be missed: parameters() raises and names the attribute.
    A tuple is not looked into, so it holds what is to stay outside, a parent say.
    """

    def __new__(cls, *args, **kwargs):
        # Here and not in __init__, so that a subclass works whether or not it calls super().__init__().
        self = super().__new__(cls)
        self.__dict__.update(training=True, _kinds={}, _pre_hooks={}, _hooks={}, _backward_hooks={})
        return self

    def forward(self, *args, **kwargs):
        """What calling the module computes."""
        raise NotImplementedError(f"{type(self).__name__}: define forward(), which calling the module runs")

    def __call__(self, *args, **kwargs):
        if self.has_hooks:
            return call_with_hooks(self, args, kwargs)
        return self.forward(*args, **kwargs)

    # -- registration -------------------------------------------------------------------------------------
    def __setattr__(self, name, value):
        kinds = self._kinds
        if isinstance(value, Module):
            if any(module is self for module in value.modules()):
                raise ValueError(
                    f"{type(self).__name__}.{name}: a module cannot hold itself or what holds it: put it in a tuple"
                )
            self._register(name, MODULE)
        elif type(value) is Tensor and value.node is not None and value.is_leaf:
            self._register(name, PARAMETER)
        elif name in kinds:
            kind = kinds[name]
            if value is None:
                del kinds[name]
            elif kind == PARAMETER or not (type(value) is Tensor and kind in (BUFFER, HIDDEN_BUFFER)):
                raise TypeError(
                    f"{type(self).__name__}.{name} is a {kind}, got a {type(value).__name__} that is none: assign a "
                    f"{kind}, or del the attribute first"
                    + (" (register_parameter() takes a frozen one)" if kind == PARAMETER else "")
                )
        object.__setattr__(self, name, value)

    def __delattr__(self, name):
        self._kinds.pop(name, None)
        object.__delattr__(self, name)

    def _register(self, name: str, kind: str):
        if "." in name:
            raise ValueError(
                f"{type(self).__name__}: a {kind} cannot be named {name!r}: a dot parts levels of the tree"
            )
        self._kinds[name] = kind

    def register_parameter(self, name: str, parameter):
        """Make a leaf Tensor (or None) a parameter also where it is frozen, so that assigning it would not."""
        if parameter is None:
            setattr(self, name, None)
            return
        if type(parameter) is not Tensor or not parameter.is_leaf or not dtypes.is_float(parameter.dtype):
            raise TypeError(f"register_parameter: {name!r} must be a float Tensor and a leaf, got {parameter!r}")
        self._register(name, PARAMETER)
        object.__setattr__(self, name, parameter)

    def register_buffer(self, name: str, tensor, persistent: bool = True):
        """Make a Tensor (or None) part of the module without training it; `persistent`: it is in state_dict()."""
        if tensor is not None and (type(tensor) is not Tensor or tensor.requires_grad):
            raise TypeError(f"register_buffer: {name!r} must be a Tensor that requires no gradient, got {tensor!r}")
        if hasattr(self, name) and name not in self._kinds:
            raise KeyError(f"register_buffer: {type(self).__name__} already has an attribute {name!r}")
        if tensor is not None:
            self._register(name, BUFFER if persistent else HIDDEN_BUFFER)
        object.__setattr__(self, name, tensor)

    # -- what it holds ------------------------------------------------------------------------------------
    def _own(self, *kinds):
        values = self.__dict__
        return [(name, values[name]) for name, kind in self._kinds.items() if kind in kinds]

    def _own_parameters(self):
        return self._own(PARAMETER)

    def _own_buffers(self):
        return self._own(BUFFER, HIDDEN_BUFFER)

    def _own_modules(self):
        return self._own(MODULE)

    def named_children(self):
        """(name, module) of the direct children, each module once."""
        seen = set()
        for name, module in self._own_modules():
            if id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self):
        """The direct children."""
        for _, module in self.named_children():
            yield module

    def named_modules(self, prefix: str = "", *, remove_duplicate: bool = True):
        """(dotted name, module) of this module and all below, parents first; the root's name is the prefix."""
        found: list[tuple[str, Module]] = []
        self._collect(prefix, set() if remove_duplicate else None, found)
        return iter(found)

    def _collect(self, prefix, seen, found):
        if seen is not None:
            if id(self) in seen:
                return
            seen.add(id(self))
        found.append((prefix, self))
        for name, module in self._own_modules():
            module._collect(f"{prefix}.{name}" if prefix else name, seen, found)

    def modules(self):
        """This module and all below, each once."""
        for _, module in self.named_modules():
            yield module

    def _named(self, kinds, prefix, remove_duplicate):
        seen, tree = set(), list(self.named_modules(prefix, remove_duplicate=remove_duplicate))
        if PARAMETER in kinds:
            refuse_missed(tree)
        for path, module in tree:
            for name, value in module._own(*kinds):
                if remove_duplicate and id(value) in seen:
                    continue
                seen.add(id(value))
                yield f"{path}.{name}" if path else name, value

    def named_parameters(self, prefix: str = "", *, remove_duplicate: bool = True):
        """(dotted name, parameter) of all; a tied parameter once, under its first name, unless told otherwise."""
        return self._named((PARAMETER,), prefix, remove_duplicate)

    def parameters(self):
        """All parameters, each once."""
        for _, value in self.named_parameters():
            yield value

    def named_buffers(self, prefix: str = "", *, remove_duplicate: bool = True):
        """(dotted name, buffer) of all."""
        return self._named((BUFFER, HIDDEN_BUFFER), prefix, remove_duplicate)

    def buffers(self):
        """All buffers, each once."""
        for _, value in self.named_buffers():
            yield value

    def num_parameters(self) -> int:
        """Number of elements of all parameters, tied ones counted once."""
        return sum(p.size for p in self.parameters())

    # -- what is done to all of it ------------------------------------------------------------------------
    def train(self, mode: bool = True):
        """Set the training flag here and below: dropout is on. Returns the module."""
        if mode not in (True, False):
            raise TypeError(f"train: expected True or False, got {mode!r}")
        for module in self.modules():
            module.training = bool(mode)
        return self

    def eval(self):
        """Clear the training flag here and below: dropout is off. Returns the module."""
        return self.train(False)

    def apply(self, fn):
        """Call fn(module) once on every module, children before parents. Returns the module."""
        self._apply(fn, set())
        return self

    def _apply(self, fn, seen):
        seen.add(id(self))
        for child in self.children():
            if id(child) not in seen:
                child._apply(fn, seen)
        fn(self)

    def zero_grad(self, set_to_none: bool = True):
        """Forget all gradients, or with set_to_none=False overwrite them with zeros."""
        for p in self.parameters():
            if p.grad is not None:
                if set_to_none:
                    p.grad = None
                else:
                    p.grad.zero_()

    def requires_grad_(self, flag: bool = True):
        """Train all parameters, or freeze them; frozen ones stay parameters. Returns the module."""
        for p in self.parameters():
            p.requires_grad_(flag)
        return self

    def to(self, target):
        """Convert all to a float dtype, or move all to a device ("cpu", "cuda"). Returns the module.

        The Tensors stay the same objects, so ties and optimisers hold. Integer buffers keep their type.
        """
        tensors = [*self.parameters(), *self.buffers()]
        if is_device(target):
            device = get_device(target)
            for x in tensors:
                _replace(x, x.dtype, device)
            return self
        try:
            dtype = dtypes.as_dtype(target)
        except TypeError:
            dtype = None
        if dtype is None or not dtypes.is_float(dtype):
            raise TypeError(f'Module.to: expected a float dtype or a device ("cpu", "cuda"), got {target!r}')
        for x in tensors:
            if dtypes.is_float(x.dtype):
                _replace(x, dtype, x.device)
        return self

    def float(self):
        """All floats converted to float32."""
        return self.to(dtypes.float32)

    def double(self):
        """All floats converted to float64."""
        return self.to(dtypes.float64)

    # -- saving -------------------------------------------------------------------------------------------
    def _named_state(self):
        return list(self._named((PARAMETER, BUFFER), "", False))

    def state_dict(self) -> dict[str, np.ndarray]:
        """A copy of all parameters and persistent buffers: dotted name to NumPy array.

        A tied Tensor stands under each of its names, as one and the same array.
        """
        return copy_state(self._named_state())

    def load_state_dict(self, state, strict: bool = True):
        """Overwrite parameters and buffers, in place, with arrays or Tensors by name.

        strict: every name must be there and no other. A tied Tensor may come under any of its names. Returns
        (missing, unexpected) names. Raises ValueError listing every mismatch, before anything is written.
        """
        return load_state(type(self).__name__, self._named_state(), state, strict)

    # -- hooks --------------------------------------------------------------------------------------------
    def register_forward_pre_hook(self, hook):
        """Call hook(module, args) before forward(); a returned tuple (or single value) replaces the arguments."""
        return add_hook(self._pre_hooks, hook)

    def register_forward_hook(self, hook):
        """Call hook(module, args, output) after forward(); a returned value replaces the output."""
        return add_hook(self._hooks, hook)

    def register_full_backward_hook(self, hook):
        """Call hook(module, grad_input, grad_output) once backward has passed the module.

        grad_input: one gradient a positional argument, None for what requires none; grad_output likewise for
        outputs. A returned tuple replaces grad_input for what lies below. All three hooks return a handle whose
        remove() takes the hook away.
        """
        return add_hook(self._backward_hooks, hook)

    @property
    def has_hooks(self) -> bool:
        """Whether a call runs hooks; whoever computes what a module does without calling it asks."""
        return bool(self._hooks or self._pre_hooks or self._backward_hooks)

    # -- showing ------------------------------------------------------------------------------------------
    def extra_repr(self) -> str:
        """What stands between the parentheses of repr: settings of the layer."""
        return ""

    def __repr__(self):
        return "\n".join(tree_lines(self))


def _replace(x, dtype, device):
    """Give a Tensor, and its gradient, an array of another type or place; the object stays."""
    if x.dtype == dtype and x.device is device:
        return
    grad = x.grad

    def moved(array):
        return device.xp.asarray(x.device.to_host(array).astype(dtype))

    x.data = moved(x.data)
    if grad is not None:
        grad = Tensor(grad.numpy(), dtype=dtype, device=device)
    x.device = device
    if x.node is not None:
        x.node.dtype, x.node.device, x.node.buffer = x.data.dtype, device, None
        x.node.grad = grad
    if x.cell is not None:
        x.cell[0] += 1
