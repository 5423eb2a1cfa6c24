"""Flat buffers: the parameters of a group as views of one array, their gradients as views of another.

A step then is one pass over long arrays instead of one call a parameter, and the walk back writes gradients where
the optimiser reads them: `leaf.buffer` is that place (autograd/walk.py).
"""

from __future__ import annotations

import weakref

import numpy as np

from ..device import CPU
from ..dtypes import HALF, float32
from ..tensor import Tensor, wrap
from .rounding import round_stochastically

ALIGN_BYTES = 64  # a cache line: no parameter begins inside a vector that another one ends in

# By id of each gradient's view: how a gradient finds its buffer again (`gradient_spans`).
_flats: weakref.WeakValueDictionary[int, Flat] = weakref.WeakValueDictionary()


def aligned_zeros(n: int, dtype, device):
    """A 1-D array of zeros that begins at a cache line, on the CPU; other allocators align by themselves."""
    if device is not CPU:
        return device.xp.zeros((n,), dtype)
    n_bytes = n * np.dtype(dtype).itemsize
    raw = np.zeros(n_bytes + ALIGN_BYTES, np.uint8)
    start = -raw.ctypes.data % ALIGN_BYTES
    return raw[start : start + n_bytes].view(dtype)


class Flat:
    """Parameters of one type and device, back to back.

    data, grad      1-D arrays; parameter i is data[starts[i] : stops[i]], gaps up to the next cache line stay zero
    state           what the optimiser keeps, 1-D arrays of the same layout, by name; float32 for half precision
    key             without a float32 master: of the random bits that round half precision (rounding.py), else None
    steps           how often each parameter was updated: one without a gradient sits a step out, as in PyTorch
    """

    __slots__ = (
        "params", "data", "grad", "state", "key", "steps", "starts", "stops", "views", "grad_views", "index", "dtype",
        "device", "__weakref__",
    )  # fmt: skip

    def __init__(self, params, state_names=(), key: int | None = None):
        self.params, self.key = list(params), key
        self.dtype, self.device = self.params[0].dtype, self.params[0].device
        step, at = ALIGN_BYTES // self.dtype.itemsize, 0
        self.starts, self.stops = [], []
        for p in self.params:
            self.starts.append(at)
            self.stops.append(at + p.size)
            at += -(-p.size // step) * step
        total = self.stops[-1]
        alone = self.params[0].data if len(self.params) == 1 else None
        if alone is not None and self.device.xp.is_own(alone):
            self.data, self.views = alone.reshape(-1), [alone]  # already in one piece: stays where it is
        else:
            self.data = aligned_zeros(total, self.dtype, self.device)
            self.views = self.split(self.data)
        self.grad = aligned_zeros(total, self.dtype, self.device)
        self.grad_views = self.split(self.grad)
        kept = float32 if self.dtype in HALF else self.dtype
        self.state = {name: aligned_zeros(total, kept, self.device) for name in state_names}
        if self.dtype in HALF and key is None:
            # lr * update is often below a half's resolution: the sum is kept in float32, the parameter is its rounding.
            self.state["master"] = aligned_zeros(total, kept, self.device)
        self.steps = [0] * len(self.params)
        self.index = {id(p): i for i, p in enumerate(self.params)}
        for view in self.grad_views:
            _flats[id(view)] = self
        self.gather()

    def split(self, array) -> list:
        """The parts of a flat array in the shapes of the parameters."""
        return [array[a:b].reshape(p.shape) for a, b, p in zip(self.starts, self.stops, self.params, strict=True)]

    def moved(self) -> bool:
        """Whether a parameter changed its type or device since: module.to() was called, build anew."""
        dtype, device = self.dtype, self.device
        return any(p.data.dtype != dtype or p.device is not device for p in self.params)

    def gather(self) -> list[int]:
        """Bring back what was assigned from outside, and return which parameters have a gradient.

        `p.data = ...` and `p.grad = ...` leave our buffers: the values are copied in, and p bound to its view again.
        """
        present, foreign = [], []
        for i, p in enumerate(self.params):
            view, node = self.grad_views[i], p.node
            if p.data is not self.views[i]:
                foreign.append((self.views[i], self._foreign("data", i, p.data)))
                p.data = self.views[i]
            if node is None:  # frozen
                continue
            if node.buffer is not view:
                node.buffer = view
            grad = node.grad
            if grad is not None:
                present.append(i)
                if grad.data is not view:
                    foreign.append((view, self._foreign("a gradient", i, grad.data)))
                    node.grad = wrap(view, None, self.device)
        for view, values in foreign:
            view[...] = values
        return present

    def _foreign(self, what, i, array):
        expected = self.views[i].shape
        if array.shape != expected:
            raise ValueError(
                f"optimiser: parameter {i} was built with shape {expected}, got {what} of shape {array.shape}: build a "
                "new optimiser for parameters of other shapes"
            )
        # What was assigned may itself lie in our buffers (two parameters exchanged): read all before writing any.
        return self.device.xp.array_copy(array)

    def open_master(self, a: int, b: int):
        """data[a:b] to update in place, in float32 for half precision; to be closed again."""
        if self.dtype not in HALF:
            return self.data[a:b]
        if self.key is not None:
            return self.data[a:b].astype(float32)
        master, rounded = self.state["master"][a:b], self.data[a:b]
        # Where the parameter is not its master's rounding, somebody wrote it: loading a model, say.
        written = self.device.xp.not_equal(master.astype(self.dtype), rounded)
        master[written] = rounded[written]
        return master

    def close_master(self, opened, a: int, b: int, step: int):
        """Round what was opened into the parameter, in the parameter's step; nothing for full precision."""
        if self.key is not None:
            host = round_stochastically(self.device.to_host(opened), self.key, step, a)
            self.data[a:b] = self.device.xp.asarray(host)
        elif self.dtype in HALF:
            self.data[a:b] = opened

    def __reduce__(self):
        raise TypeError(
            "optimiser: it cannot be copied or pickled, for a copy would no longer share memory with the parameters: "
            "build one over the copied parameters and load_state_dict(optimizer.state_dict())"
        )

    def runs(self, present, by_steps: bool = False) -> list[tuple[int, int]]:
        """Parameters that are neighbours as (first, last) pairs; with by_steps, those updated equally often."""
        runs: list[tuple[int, int]] = []
        for i in present:
            if runs and runs[-1][1] == i - 1 and not (by_steps and self.steps[i] != self.steps[i - 1]):
                runs[-1] = (runs[-1][0], i)
            else:
                runs.append((i, i))
        return runs


def gradient_spans(parameters) -> list:
    """(1-D array, device) pairs that hold every gradient once, to read or to scale in place; neighbours come joined.

    parameters: a Tensor or an iterable of Tensors; those without a gradient are passed over.
    """
    parameters = [parameters] if isinstance(parameters, Tensor) else parameters
    if not hasattr(parameters, "__iter__"):
        raise TypeError(f"gradients: expected Tensors, got {type(parameters).__name__}: pass module.parameters()")
    spans, by_flat, seen = [], {}, set()
    for i, p in enumerate(parameters):
        if not isinstance(p, Tensor):
            kind = type(p).__name__
            raise TypeError(f"gradients: parameter {i} must be a Tensor, got {kind}: pass module.parameters()")
        grad = p.grad
        if grad is None or id(p) in seen:
            continue
        seen.add(id(p))
        flat = _flats.get(id(grad.data))
        i = None if flat is None else flat.index.get(id(p))
        if i is not None and grad.data is flat.grad_views[i]:  # and not another parameter's
            by_flat.setdefault(id(flat), (flat, []))[1].append(i)
            continue
        if grad.node is not None or not p.device.xp.is_own(grad.data):
            p.grad = grad = wrap(p.device.xp.array_copy(grad.data), None, p.device)
        spans.append((grad.data.reshape(-1), p.device))
    for flat, present in by_flat.values():
        spans += [(flat.grad[flat.starts[a] : flat.stops[b]], flat.device) for a, b in flat.runs(sorted(present))]
    return spans
