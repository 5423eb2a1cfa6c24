"""One op of the recorded graph.

A node holds its parent *nodes*, never parent tensors, and of the arrays only what its rules read: an
activation that no rule reads is freed as soon as the user lets it go.
"""

from __future__ import annotations

import itertools

# Eager creation order is already topological: the number orders the walk, without recursion.
next_seq = itertools.count().__next__

FREED = ("freed",)

# The version cell of a tensor outside the graph whose memory a recorded result shares: writing is refused,
# because no node watches its own results.
SHARED = (0,)


class Node:
    """An op's place in the graph."""

    __slots__ = (
        "op",
        "parents",  # one node, or None, per input
        "saved",  # the arrays and shapes that op.reads names; for a fused op (inputs, kernel's saved, kernel)
        "params",  # keyword parameters of the call
        "shape",  # of the output: broadcasting is undone against the parent's shape
        "dtype",
        "device",
        "seq",
        "watch",  # ((version cell, version when saved), ...) of what could still be written in place
        "extra",  # hooks and a retained gradient, where asked for: most nodes have none
        "noted",  # what a tracer wants to know of the op once backward is there; unset unless one traced it
    )

    def __init__(self, op, parents, saved, params, data, device, watch=None):
        self.op = op
        self.parents = parents
        self.saved = saved
        self.params = params
        self.shape = data.shape
        self.dtype = data.dtype
        self.device = device
        self.seq = next_seq()
        self.watch = watch
        self.extra = None

    def __repr__(self):
        return f"<node {self.op.name if self.op else 'leaf'} {self.shape} #{self.seq}>"


class Leaf(Node):
    """A tensor that the user asked gradients for. The gradient lives here, so that no cycle holds the tensor."""

    __slots__ = ("grad", "buffer")

    def __init__(self, data, device):
        super().__init__(None, (), (), None, data, device)
        self.grad = None  # a Tensor, or None
        self.buffer = None  # where the gradient goes, when the optimiser keeps all gradients in one array


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
    """Add a callable to a tensor's or a module's hooks, in order."""
    if not callable(hook):
        raise TypeError(f"hook: expected a callable, got {type(hook).__name__}")
    key = object()
    hooks[key] = hook
    return Handle(hooks, key)


class Extra:
    """What the user hung on a node."""

    __slots__ = ("hooks", "retain", "grad")

    def __init__(self):
        self.hooks = {}
        self.retain = False
        self.grad = None


def extra_of(node: Node) -> Extra:
    """The node's Extra, made at the first request."""
    if node.extra is None:
        node.extra = Extra()
    return node.extra
