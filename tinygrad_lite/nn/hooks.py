"""Hooks around a module's forward and backward: a call that has any comes here, other calls never do."""

from __future__ import annotations

import math

from ..autograd.mode import mode
from ..ops import elementwise
from ..tensor import Tensor, functional


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

    Inputs enter, and outputs leave, through a node of their own, so that the gradient seen is what passed through
    this module alone, and not what other users of the same Tensor sent.
    """

    def __init__(self, module):
        self.module = module
        self.inputs = self.outputs = None  # a _Gate each
        self.grad_output = ()

    def enter(self, args):
        self.inputs = _Gate(args, self._at_inputs)
        return tuple(self.inputs.passed)

    def leave(self, out):
        self.outputs = _Gate(out if isinstance(out, (tuple, list)) else (out,), self._at_outputs)
        passed = self.outputs.passed
        if not isinstance(out, (tuple, list)):
            return passed[0]
        return type(out)(*passed) if hasattr(out, "_fields") else type(out)(passed)  # named tuples take fields apart

    def _at_outputs(self, g):
        self.grad_output = self.outputs.split(g)
        if not self.inputs.places:  # nothing below asks for a gradient: this is as far as backward comes
            self._call((None,) * len(self.inputs.passed))

    def _at_inputs(self, g):
        changed = self._call(self.inputs.split(g))
        return None if changed is None else self.inputs.join(changed)

    def _call(self, grad_input):
        grad_output, count, replaced = self.grad_output, len(grad_input), None
        for hook in tuple(self.module._backward_hooks.values()):
            changed = hook(self.module, grad_input, grad_output)
            if changed is not None:
                replaced = grad_input = changed if type(changed) is tuple else (changed,)
                if len(grad_input) != count:
                    raise ValueError(
                        f"full backward hook of {type(self.module).__name__}: expected {count} gradients, one an "
                        f"argument, got {len(grad_input)}"
                    )
        return replaced


class _Gate:
    """Values of which those that require a gradient pass through one node, which backward reaches once.

    Several pass flat and side by side, so that their gradients are known together; one passes as it is.
    """

    def __init__(self, values, hook):
        self.passed = list(values)
        self.places = [i for i, x in enumerate(values) if type(x) is Tensor and x.node is not None]
        watched = [values[i] for i in self.places]
        self.shapes = [x.shape for x in watched]
        if not watched:
            return
        if len(watched) == 1:
            node = self.passed[self.places[0]] = elementwise.identity.call(watched[0])
        else:
            node = functional.concatenate(*[x.reshape(-1) for x in watched], axis=0)
            for i, x, piece in zip(self.places, watched, self._pieces(node), strict=True):
                self.passed[i] = piece.to(x.dtype)
        node.register_hook(hook)

    def _pieces(self, flat):
        start, pieces = 0, []
        for shape in self.shapes:
            size = math.prod(shape)
            pieces.append(flat[start : start + size].reshape(shape))
            start += size
        return pieces

    def split(self, g) -> tuple:
        """The gradient of each value, None for those that require none."""
        found = [None] * len(self.passed)
        for i, piece in zip(self.places, [g] if len(self.places) == 1 else self._pieces(g), strict=True):
            found[i] = piece
        return tuple(found)

    def join(self, gradients):
        """The other way round."""
        chosen = [gradients[i] for i in self.places]
        return chosen[0] if len(chosen) == 1 else functional.concatenate(*[g.reshape(-1) for g in chosen], axis=0)
