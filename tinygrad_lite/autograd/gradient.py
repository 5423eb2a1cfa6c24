"""What users call: backward, grad, products with Jacobians, whole Jacobians and Hessians, checkpointing."""

from __future__ import annotations

from contextlib import nullcontext

from ..errors import function, several
from ..tensor import Tensor, as_tensor, functional, wrap
from .mode import TRACE, enable_grad, mode, no_grad
from .walk import Walk


def _seed(op, output, gradient, create_graph):
    if not isinstance(output, Tensor):
        raise TypeError(f"{op}: expected a Tensor, got {type(output).__name__}")
    if output.node is None:
        raise RuntimeError(
            f"{op}: this tensor does not depend on any that requires a gradient: call requires_grad_() on an input "
            "before the computation, outside no_grad()"
        )
    if gradient is None:
        if output.size != 1:
            raise RuntimeError(
                f"{op}: the output has shape {output.shape}: reduce it to one element, by .sum() say, or pass "
                f"{'gradient=' if op == 'backward' else 'grad_outputs=' if op == 'grad' else 'v'}"
            )
        xp = output.device.xp
        gradient = wrap(xp.full_like(output.data, 1), None, output.device)
    elif not isinstance(gradient, Tensor):
        gradient = as_tensor(gradient, output.device, op)
    if gradient.shape != output.shape:
        raise ValueError(f"{op}: gradient must be {output.shape}, as the output, got {gradient.shape}")
    if gradient.dtype != output.dtype:
        gradient = gradient.to(output.dtype)
    return gradient if create_graph else gradient.data


def _tensors(op, inputs):
    """One Tensor or a sequence of them, as a tuple."""
    inputs = (inputs,) if isinstance(inputs, Tensor) or not hasattr(inputs, "__iter__") else tuple(inputs)
    if not inputs:
        raise ValueError(f"{op}: expected a Tensor or several as inputs, got none")
    for x in inputs:
        if not isinstance(x, Tensor):
            raise TypeError(f"{op}: expected a Tensor or a sequence of Tensors as inputs, got {type(x).__name__}")
    return inputs


def backward_walk(output, gradient=None, *, retain_graph=False, create_graph=False, stepped=True) -> Walk:
    """The walk that `backward()` makes, for whoever wants to look at its sums between the steps."""
    g = _seed("backward", output, gradient, create_graph)
    return Walk([output.node], [g], wrap=wrap, functional=functional, create_graph=create_graph, retain_graph=retain_graph,
                accumulating=True, stepped=stepped)  # fmt: skip


def backward_steps(output, gradient=None, *, retain_graph=False, create_graph=False, stepped=True):
    """The backward walk as a generator of steps; a stepper calls next(), `backward()` drains it and is not `stepped`."""
    walk = backward_walk(output, gradient, retain_graph=retain_graph, create_graph=create_graph, stepped=stepped)
    return _recorded(_steps(walk)) if create_graph else _steps(walk)


def _steps(walk):
    """The walk's steps, past this thread's tracer if there is one."""
    return mode.tracer.on_backward(walk) if mode.state == TRACE else iter(walk)


def _recording():
    """Record, also within no_grad(); where this thread's tracer looks on, it still does."""
    return nullcontext() if mode.state == TRACE else enable_grad()


def _recorded(steps):
    # The mode is set for each step alone: whoever pauses the walk finds his own.
    while True:
        with enable_grad():
            step = next(steps, None)
        if step is None:
            return
        yield step


Tensor._backward_steps = staticmethod(backward_steps)  # tensor/core.py, which stands below, calls it by this name


def grad(outputs, inputs, grad_outputs=None, *, create_graph=False, retain_graph=None, allow_unused=False):
    """Gradients of outputs with respect to inputs, without touching any `.grad`.

    outputs, inputs: a Tensor or a sequence. grad_outputs: one gradient an output; may be left out for single
    elements. create_graph: make the result differentiable. Returns a tuple, one Tensor an input; None for an
    input that no output depends on, if allow_unused, else RuntimeError.
    """
    outputs = (outputs,) if isinstance(outputs, Tensor) else several("grad", "a Tensor or several as outputs", outputs)
    inputs = _tensors("grad", inputs)
    gs = (None,) * len(outputs) if grad_outputs is None else grad_outputs
    gs = (gs,) if hasattr(gs, "dtype") else several("grad", "a Tensor or several as grad_outputs", gs)
    if len(gs) != len(outputs):
        raise ValueError(f"grad: expected {len(outputs)} grad_outputs, one an output, got {len(gs)}")
    for i, x in enumerate(inputs):
        if x.node is None:
            raise RuntimeError(
                f"grad: input {i} does not require a gradient: call requires_grad_() before the computation"
            )
    seeds = [_seed("grad", o, g, create_graph) for o, g in zip(outputs, gs, strict=True)]
    targets = {x.node for x in inputs}
    retain = create_graph if retain_graph is None else retain_graph
    walk = Walk([o.node for o in outputs], seeds, wrap=wrap, functional=functional, create_graph=create_graph,
                retain_graph=retain, targets=targets)  # fmt: skip
    found, steps = {}, _steps(walk)
    with enable_grad() if create_graph else no_grad():
        for step in steps:
            if step.node in targets:
                found[step.node] = step.g
    results = []
    for i, x in enumerate(inputs):
        g = found.get(x.node)
        if g is None and not allow_unused:
            raise RuntimeError(f"grad: no output depends on input {i}: pass allow_unused=True to get None for it")
        if g is not None and not create_graph:
            g = wrap(x.device.xp.array_copy(g), None, x.device)
        results.append(g)
    return tuple(results)


def vjp(fn, inputs, v=None):
    """(fn(*inputs), v times the Jacobian): one backward pass. None for an input that the output does not depend on."""
    tracked, out = _tracked("vjp", fn, inputs)
    if v is not None:
        (v,) = _directions("vjp", (v,) if hasattr(v, "dtype") else v, (out,), "the output")
    if out.node is None:
        return out.detach(), (None,) * len(tracked)
    return out.detach(), grad(out, tracked, v, allow_unused=True)


def jvp(fn, inputs, v):
    """(fn(*inputs), the Jacobian times v), by differentiating the vector-Jacobian product once more.

    The product u -> u J is linear in u, so its derivative with respect to u, times v, is J v.
    """
    tracked, out = _tracked("jvp", fn, inputs)
    v = _directions("jvp", (v,) if hasattr(v, "dtype") else v, tracked, "input")
    gs = (None,) * len(tracked)
    if out.node is not None:
        u = wrap(out.device.xp.zeros_like(out.data), None, out.device).requires_grad_()
        gs = grad(out, tracked, [u], create_graph=True, allow_unused=True)
    pairs = [(g, t) for g, t in zip(gs, v, strict=True) if g is not None and g.node is not None]
    if not pairs:
        return out.detach(), wrap(out.device.xp.zeros_like(out.data), None, out.device)
    (product,) = grad([g for g, _ in pairs], u, [t for _, t in pairs], allow_unused=True)
    return out.detach(), product


def _directions(op, vs, like, what):
    """One Tensor for each of `like`, of its shape."""
    vs = several(op, f"v, a Tensor or several, as {what}", vs)
    vs = tuple([as_tensor(v, x.device, op) for v, x in zip(vs, like)]) if len(vs) == len(like) else tuple(vs)
    if len(vs) != len(like) or any(v.shape != x.shape for v, x in zip(vs, like)):
        wanted = ", ".join(str(x.shape) for x in like)
        raise ValueError(
            f"{op}: v must have {what}'s shape, {wanted}, got {', '.join(str(getattr(v, 'shape', v)) for v in vs)}"
        )
    return vs


def _tracked(op, fn, inputs):
    """New leaves on the memory of the inputs, and fn of them."""
    inputs = _tensors(op, inputs)
    with _recording():
        tracked = tuple(x.detach().requires_grad_() for x in inputs)
        return tracked, _result(op, function(op, fn)(*tracked))


def _result(op, out):
    if not isinstance(out, Tensor):
        raise TypeError(f"{op}: the function must return one Tensor, got {type(out).__name__}")
    return out


def jacobian(fn, inputs, create_graph=False):
    """d fn / d input: shape output.shape + input.shape for each input (one Tensor if inputs is one).

    Row by row, one backward pass an output element.
    """
    function("jacobian", fn)
    single, xs = isinstance(inputs, Tensor), _tensors("jacobian", inputs)
    with _recording():
        tracked = tuple(x if create_graph and x.node is not None else x.detach().requires_grad_() for x in xs)
        out = _result("jacobian", fn(*tracked))
        rows = [[] for _ in xs]
        flat = out.reshape(-1)
        for i in range(out.size):
            gs = (None,) * len(xs)
            if out.node is not None:
                gs = grad(flat[i], tracked, create_graph=create_graph, retain_graph=True, allow_unused=True)
            for row, g, x in zip(rows, gs, tracked, strict=True):
                row.append(g if g is not None else wrap(x.device.xp.zeros_like(x.data), None, x.device))
        results = tuple(_stacked(row, out.shape, x) for row, x in zip(rows, tracked, strict=True))
    return results[0] if single else results


def _stacked(rows, shape, x):
    if not rows:  # an output without elements
        return wrap(x.device.xp.zeros((*shape, *x.shape), x.dtype), None, x.device)
    return functional.stack(*rows, axis=0).reshape(*shape, *x.shape)


def hessian(fn, x):
    """Second derivatives of a function of one Tensor to one element: shape x.shape + x.shape."""
    if not isinstance(x, Tensor):
        raise TypeError(f"hessian: expected one Tensor, got {type(x).__name__}: close over the others")
    function("hessian", fn)

    def first(x):
        out = _result("hessian", fn(x))
        if out.size != 1:
            raise ValueError(f"hessian: the function must return one element, got shape {out.shape}")
        (g,) = grad(out, x, create_graph=True, allow_unused=True) if out.node is not None else (None,)
        return g if g is not None else x * 0.0

    return jacobian(first, x)
