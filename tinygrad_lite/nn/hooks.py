"""Hooks around a module's forward and backward: a call that has any comes here, other calls never do."""

from __future__ import annotations

from ..autograd.mode import mode
from ..ops import elementwise
from ..tensor import Tensor, functional


class Handle:
    """What registering a hook returns: remove() takes it away, also at the end of a `with`."""

    __slots__ = ("_hooks", "_key")

    def __init__(self, hooks, key):
        self._hooks, self._key = hooks, key

    def remove(self):
        """Take the hook away; a second time does nothing."""
        self._hooks.pop(self._key, None)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.remove()


def add_hook(hooks: dict, hook) -> Handle:
    """Add a callable to a module's hooks, in order."""
    if not callable(hook):
        raise TypeError(f"hook: expected a callable, got {type(hook).__name__}")
    key = object()
    hooks[key] = hook
    return Handle(hooks, key)


def call_with_hooks(module, args, kwargs):
    """module.forward between its hooks."""
    for hook in tuple(module._pre_hooks.values()):
        changed = hook(module, args)
        if changed is not None:
            args = changed if type(changed) is tuple else (changed,)
    watch = _BackwardWatch(module) if module._backward_hooks and mode.state else None
    given = args if watch is None else watch.enter(args)
    out = module.forward(*given, **kwargs)
    for hook in tuple(module._hooks.values()):
        changed = hook(module, args, out)
        if changed is not None:
            out = changed
    return out if watch is None else watch.leave(out)


class _BackwardWatch:
    """One call of a module whose backward is watched.

    Inputs enter through a node of their own, so that its gradient is what came through this module alone, and not
    what other users of the same Tensor sent. Several inputs enter through one joint node, flat and side by side:
    backward reaches it once, when all of their gradients are known. Outputs leave through nodes that note theirs.
    """

    def __init__(self, module):
        self.module = module
        self.places, self.shapes = (), ()  # positions of the watched arguments, and their shapes
        self.count = 0  # of positional arguments
        self.grad_output: list = []

    def enter(self, args):
        self.count = len(args)
        self.places = tuple(i for i, x in enumerate(args) if type(x) is Tensor and x.node is not None)
        watched = [args[i] for i in self.places]
        self.shapes = [x.shape for x in watched]
        if not watched:
            return args
        args = list(args)
        if len(watched) == 1:
            joint = args[self.places[0]] = elementwise.identity.call(watched[0])
        else:
            joint = functional.concatenate(*[x.reshape(-1) for x in watched], axis=0)
            start = 0
            for i, x in zip(self.places, watched, strict=True):
                args[i] = joint[start : start + x.size].reshape(x.shape).to(x.dtype)
                start += x.size
        joint.register_hook(self._at_inputs)
        return tuple(args)

    def leave(self, out):
        parts = list(out) if isinstance(out, (tuple, list)) else [out]
        self.grad_output = [None] * len(parts)
        for i, x in enumerate(parts):
            if type(x) is Tensor and x.node is not None:
                parts[i] = elementwise.identity.call(x)
                parts[i].register_hook(self._noting(i))
        if type(out) is tuple or type(out) is list:
            return type(out)(parts)
        return type(out)(*parts) if isinstance(out, tuple) else parts[0]  # a named tuple takes its fields apart

    def _noting(self, i):
        def note(g):
            self.grad_output[i] = g
            if not self.places:  # nothing below asks for a gradient: this is as far as backward comes
                self._call((None,) * self.count)

        return note

    def _call(self, grad_input):
        grad_output, changed_any = tuple(self.grad_output), False
        if self.places:
            self.grad_output = [None] * len(grad_output)  # a second backward through the same graph starts anew
        for hook in tuple(self.module._backward_hooks.values()):
            changed = hook(self.module, grad_input, grad_output)
            if changed is not None:
                grad_input = changed if type(changed) is tuple else (changed,)
                if len(grad_input) != self.count:
                    raise ValueError(
                        f"full backward hook of {type(self.module).__name__}: expected {self.count} gradients, one an "
                        f"argument, got {len(grad_input)}"
                    )
                changed_any = True
        return grad_input if changed_any else None

    def _at_inputs(self, g):
        grad_input, start = [None] * self.count, 0
        for i, shape in zip(self.places, self.shapes, strict=True):
            if len(self.places) == 1:
                grad_input[i] = g
                break
            size = 1
            for n in shape:
                size *= n
            grad_input[i] = g[start : start + size].reshape(shape)
            start += size
        changed = self._call(tuple(grad_input))
        if changed is None:
            return None
        if len(self.places) == 1:
            return changed[self.places[0]]
        return functional.concatenate(*[changed[i].reshape(-1) for i in self.places], axis=0)
