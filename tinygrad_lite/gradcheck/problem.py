"""The function under test, seen twice: as a map between flat float64 vectors, and as a recorded graph."""

from __future__ import annotations

import numpy as np

from ..autograd.gradient import grad
from ..autograd.mode import enable_grad, no_grad
from ..dtypes import float64, is_float
from ..tensor import Tensor, wrap
from .tolerance import eps_of, typical_scale

# What the walk says of a rule whose gradient does not fit its input.
_MISFIT = ("does not reduce to the input's shape", "must have its tensor's type")


class Misfit(Exception):
    """A rule returned a gradient of the wrong shape or type."""


def outputs_of(result) -> list[Tensor]:
    """The float Tensors among what a function returned."""
    found = [out for out in _leaves(result) if isinstance(out, Tensor) and is_float(out.dtype)]
    if not found:
        raise TypeError(f"gradcheck: the function must return a float Tensor or several, got {_described(result)}")
    return found


def _leaves(result):
    """What stands in a result of nested tuples, lists and dicts."""
    if isinstance(result, dict):
        result = tuple(result.values())
    if not isinstance(result, (tuple, list)):
        return [result]
    return [leaf for part in result for leaf in _leaves(part)]


def _described(result) -> str:
    if isinstance(result, Tensor):
        return f"a Tensor of {result.dtype}: integers and booleans have no gradient"
    if result is None:
        return "None: is a return missing?"
    return f"{type(result).__name__}: use Tensor operations throughout, and return a Tensor"


def host64(x: Tensor) -> np.ndarray:
    """A Tensor's values as a contiguous float64 array of their own."""
    return np.array(x.device.to_host(x.data), dtype=np.float64, order="C")


def flat64(xs: list[Tensor]) -> np.ndarray:
    """The values of several Tensors in a row."""
    flat = [host64(x).ravel() for x in xs]
    return flat[0] if len(flat) == 1 else np.concatenate(flat)


def overlaps(array) -> bool:
    """Whether two elements of an array stand at the same address."""
    if not array.size:
        return False
    pairs = sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1)
    reach = 0
    for stride, n in pairs:
        # Sufficient for distinct addresses: each stride steps over all that the smaller ones reach.
        if stride < reach + array.itemsize:
            return True
        reach += stride * (n - 1)
    return False


class Recorded:
    """A run of the function that recorded: rows of the analytic Jacobian come from here."""

    def __init__(self, outs, xs):
        self.outs, self.xs = outs, xs
        self.products = {}  # those taken, by v: the inputs of a problem share them
        self.starts = np.cumsum([0] + [out.size for out in outs])
        self.values = flat64(outs)

    def place(self, o: int) -> tuple[int, tuple]:
        """Flat output number to (output, index)."""
        k = int(np.searchsorted(self.starts, o, side="right")) - 1
        return k, tuple(int(i) for i in np.unravel_index(o - self.starts[k], self.outs[k].shape))

    def row(self, o: int, weight: float) -> list[np.ndarray | None]:
        """weight times the gradient of flat output o, one array an input; None where backward sends nothing."""
        k = self.place(o)[0]
        out = self.outs[k]
        seed = np.zeros(out.size)
        seed[o - self.starts[k]] = weight
        return self._gradients([out], [seed.reshape(out.shape)])

    def product(self, v: np.ndarray, again=False) -> list[np.ndarray | None]:
        """v (all outputs, flat) times the Jacobian. again: by another backward pass, though one with this v was made."""
        key = v.tobytes()
        if again or key not in self.products:
            pieces = [v[a:b].reshape(o.shape) for o, a, b in zip(self.outs, self.starts, self.starts[1:], strict=False)]
            gs = self._gradients(self.outs, pieces)
            if again:
                return gs
            self.products[key] = gs
        return self.products[key]

    def of_sum(self, k: int) -> list[np.ndarray | None]:
        """The gradients of the sum of output k's elements."""
        return self._gradients([self.outs[k]], [np.ones(self.outs[k].shape)])

    def _gradients(self, outs, seeds):
        tracked = [(o, Tensor(s, o.dtype, o.device)) for o, s in zip(outs, seeds, strict=True) if o.node is not None]
        if not tracked:
            return [None] * len(self.xs)
        outs, seeds = zip(*tracked, strict=True)
        try:
            gs = grad(outs, self.xs, seeds, retain_graph=True, allow_unused=True)
        except (TypeError, ValueError) as error:
            if any(text in str(error) for text in _MISFIT):
                raise Misfit(str(error)) from error
            raise
        for g, x in zip(gs, self.xs, strict=True):
            if g is not None and (g.shape != x.shape or g.dtype != x.dtype):
                raise Misfit(f"the gradient is {g.dtype} {g.shape}, the input {x.dtype} {x.shape}")
        return [None if g is None else host64(g) for g in gs]


class Problem:
    """A function, its inputs, and which of them (`checked`, positions) are differentiated.

    eps: what the values are known to at best, over what the types of the outputs tell. typical: for each output
    element, a size that it may have lost to cancellation, as where a gradient is 0. fn records; plain, where given, computes the same without recording the result (the gradient function of
    second order runs the rules on arrays there).
    """

    def __init__(self, fn, inputs, checked, plain=None, eps=0.0, typical=None):
        self.eps, self.typical = eps, typical
        self.fn, self.plain, self.inputs, self.checked = fn, plain or fn, list(inputs), tuple(checked)
        self.points = [host64(self.inputs[i]) for i in self.checked]
        # Constants among the inputs are taken to float64 too, so that the shadow computes in float64 throughout.
        self.frozen = [
            x.detach().to(float64) if isinstance(x, Tensor) and is_float(x.dtype) else x for x in self.inputs
        ]
        self.records = False
        self.narrow = any(self.is_narrow(k) for k in range(len(self.checked)))

    def is_narrow(self, k: int) -> bool:
        """Whether checked input k is of a type narrower than float64."""
        return self.inputs[self.checked[k]].dtype != float64

    def value(self, points) -> np.ndarray:
        """All outputs at float64 points (one array a checked input), flat."""
        args = list(self.frozen)
        for i, point in zip(self.checked, points, strict=True):
            device = self.inputs[i].device
            args[i] = wrap(device.xp.asarray(point.copy()), None, device)
            if self.records:
                args[i].requires_grad_()
        with enable_grad() if self.records else no_grad():
            try:
                outs = outputs_of(self.plain(*args))
            except RuntimeError as error:
                # A function that differentiates inside, for a gradient penalty say, needs inputs that record.
                if self.records or "require" not in str(error):
                    raise
                self.records = True
                return self.value(points)
        return flat64(outs)

    def moved(self, k: int, direction: np.ndarray, t: float) -> np.ndarray:
        """All outputs with checked input k at point + t * direction."""
        points = list(self.points)
        points[k] = points[k] + t * direction
        return self.value(points)

    def record(self, which: str) -> Recorded:
        """A recorded run: on the inputs as "given", their float64 "shadow", or its contiguous "copy".

        A float64 input keeps its memory layout in the shadow; widening makes a contiguous one anyway.
        """
        args, xs = list(self.inputs if which == "given" else self.frozen), []
        for i, point in zip(self.checked, self.points, strict=True):
            x = self.inputs[i]
            if which == "given" or (which == "shadow" and x.dtype == float64):
                x = wrap(x.data, None, x.device)
            else:
                x = wrap(x.device.xp.asarray(point.copy()), None, x.device)
            args[i] = x.requires_grad_()
            xs.append(x)
        with enable_grad():
            recorded = Recorded(outputs_of(self.fn(*args)), xs)
        for i, point, x in zip(self.checked, self.points, xs, strict=True):
            if not (host64(x) == point).all():
                x.data[...] = x.device.xp.asarray(point.astype(x.dtype))
                raise ValueError(
                    f"gradcheck: the function writes to its input {i}: let it work on a copy, x.clone() say"
                )
        return recorded


def gradient_function(fn, checked, count: int, create_graph: bool):
    """(inputs..., vs...) -> the gradients of fn's outputs, weighted by vs, for the checked inputs.

    An input that backward sends nothing to gives zeros. count: how many of the arguments are fn's.
    """

    def gradients(*args):
        inputs, vs = list(args[:count]), args[count:]
        with enable_grad():
            if not create_graph:
                for i in checked:
                    inputs[i] = wrap(inputs[i].data, None, inputs[i].device).requires_grad_()
            xs = [inputs[i] for i in checked]
            tracked = [(o, v) for o, v in zip(outputs_of(fn(*inputs)), vs, strict=True) if o.node is not None]
            gs = [None] * len(xs)
            if tracked:
                outs, given = zip(*tracked, strict=True)
                gs = grad(outs, xs, given, create_graph=create_graph, allow_unused=True)
        zeros = [wrap(x.device.xp.zeros_like(x.data), None, x.device) for x in xs]
        return tuple(z if g is None else g for g, z in zip(gs, zeros, strict=True))

    return gradients


def _typical(problem, recorded) -> list[float]:
    """For each checked input, the size of gradient to expect: that of the outputs which it reaches, over its own."""
    found = [0.0] * len(problem.points)
    for i, out in enumerate(recorded.outs):
        if out.node is None or not out.size:
            continue
        values = recorded.values[recorded.starts[i] : recorded.starts[i + 1]]
        large = float(np.max(np.abs(values), where=np.isfinite(values), initial=0.0))
        for k, (g, point) in enumerate(zip(recorded.of_sum(i), problem.points, strict=True)):
            if g is not None and point.size:
                found[k] = max(found[k], large / typical_scale(point))
    return found


def second_order(first: Problem, shadow: Recorded, seed: int) -> Problem:
    """The problem whose function is the gradient of first's; the incoming gradients v are checked inputs too.

    shadow: a recorded run of first, of that name.
    """
    outs = first.record("given").outs if first.narrow else shadow.outs
    rng = np.random.default_rng(seed)
    signed = [rng.uniform(0.5, 1.5, o.shape) * rng.choice([-1.0, 1.0], o.shape) for o in outs]
    vs = [Tensor(v, dtype=o.dtype, device=o.device) for v, o in zip(signed, outs, strict=True)]
    fn, checked, n = first.fn, first.checked, len(first.inputs)
    typical = np.concatenate([np.full(p.size, t) for p, t in zip(first.points, _typical(first, shadow), strict=True)])
    return Problem(
        gradient_function(fn, checked, n, True), [*first.inputs, *vs], (*checked, *range(n, n + len(vs))),
        gradient_function(fn, checked, n, False), max(eps_of(o.dtype) for o in shadow.outs), typical,
    )  # fmt: skip
