"""Binding: from an op over arrays to a callable over Tensors that records what backward will need.

The two short paths (one or two float Tensors of the same type) are written out, because an op on four
elements is mostly these lines: benchmarks/overhead.py guards them. Everything else, promotion, half
precision, devices, many inputs, takes `apply`, which says the same thing at length.
"""

from __future__ import annotations

from ..config import settings
from ..dtypes import HALF, default_float, float32, float64, int64, is_float, result_type
from ..errors import explain
from ..kernels import lookup
from .keep import recorder, watched
from .mode import TRACE, mode
from .node import SHARED, Node

_SCALARS = (bool, int, float)
_REFUSALS = (TypeError, ValueError, IndexError, OverflowError, AttributeError)  # what a check may trip over


class Binder:
    """Makes ops callable over one Tensor class; `functional` is the namespace of ops over Tensors."""

    def __init__(self, tensor_class, functional, as_tensor):
        self.Tensor, self.functional, self.as_tensor = tensor_class, functional, as_tensor
        self.wrap = tensor_class._of

    def bind(self, op):
        """The callable of an op: chosen once, by its number of inputs."""
        if op.is_fused:
            call = self._bind_fused(op)
        elif op.variadic or len(op.inputs) > 2 or op.integer_inputs:
            call = self._bind_any(op)
        elif len(op.inputs) == 1:
            call = self._bind_unary(op)
        elif op.params:
            call = self._bind_any(op)
        else:
            call = self._bind_binary(op)
        call.__name__ = call.__qualname__ = op.name  # Python's own complaints about arguments name the op
        call.__doc__ = op.__doc__
        setattr(self.functional, op.name, call)
        return call

    # -- the short paths ----------------------------------------------------------------------------------
    def _bind_unary(self, op):
        Tensor, new, forward, check, exact = (
            self.Tensor,
            self.Tensor.__new__,
            op.forward,
            op.check,
            op.exact and not op.to_float,
        )
        apply, record, views, rules, complete = self.apply, recorder(op), op.views, op.rules, _completer(op)

        def call(x, **params):
            if type(x) is not Tensor or ((t := x.data.dtype) is not float32 and t is not float64 and not exact):
                return apply(op, (x,), params)
            params = complete(params)
            if check is not None:
                try:
                    params = check(x, **params)
                except _REFUSALS as error:
                    raise explain(op, (x,), params, error) from None
            device = x.device
            try:
                data = forward(device.xp, x.data, **params)
            except (ValueError, TypeError, IndexError) as error:
                raise explain(op, (x,), params, error) from None
            if type(data) is not device.xp.ndarray:  # NumPy turns 0-d results into scalars
                data = device.xp.asarray(data)
            out = new(Tensor)
            out.data, out.node, out.device, out.cell = data, None, device, None
            if views:
                share_version(x, out)
            state = mode.state
            if state:
                if x.node is not None and rules:
                    record(op, (x,), params, out)
                if state == TRACE:
                    out = traced(op, (x,), params, out)
            return out

        return call

    def _bind_binary(self, op):
        Tensor, new, forward = self.Tensor, self.Tensor.__new__, op.forward
        apply, record, rules, check = self.apply, recorder(op), op.rules, op.check

        def call(x, y):
            if type(x) is Tensor:
                a, device, t = x.data, x.device, x.data.dtype
                if type(y) is Tensor:
                    b = y.data
                    if b.dtype is not t or y.device is not device:
                        return apply(op, (x, y), {})
                elif type(y) is float or type(y) is int:
                    b = y
                else:
                    return apply(op, (x, y), {})
            elif type(x) is float or type(x) is int:
                a, b, device = x, y.data, y.device
                t = b.dtype
            else:
                return apply(op, (x, y), {})
            if t is not float32 and t is not float64:
                return apply(op, (x, y), {})
            if check is not None:
                check(x, y)
            try:
                data = forward(device.xp, a, b)
            except (ValueError, TypeError, OverflowError) as error:
                raise explain(op, (x, y), {}, error) from None
            if type(data) is not device.xp.ndarray:
                data = device.xp.asarray(data)
            out = new(Tensor)
            out.data, out.node, out.device, out.cell = data, None, device, None
            state = mode.state
            if state:
                if rules:
                    record(op, (x, y), None, out)
                if state == TRACE:
                    out = traced(op, (x, y), {}, out)
            return out

        return call

    # -- the general path ---------------------------------------------------------------------------------
    def _bind_any(self, op):
        apply = self.apply

        def call(*xs, **params):
            return apply(op, xs, params)

        return call

    def apply(self, op, xs, params):
        """Run a primitive on anything: Tensors of mixed types, scalars, arrays, half precision."""
        Tensor = self.Tensor
        device, xs = self._prepare(op, xs)
        params = _completer(op)(params)
        if op.check is not None:
            params = _checked(op, xs, params)
        arrays = [x.data if type(x) is Tensor else x for x in xs]
        half = None if is_exact(op, arrays, device.xp) else _half_of(arrays)
        if half is not None:
            arrays = [widen(a) for a in arrays]
        try:
            data = op.forward(device.xp, *arrays, **params)
        except (ValueError, TypeError, IndexError, OverflowError) as error:
            raise explain(op, xs, params, error) from None
        if type(data) is not device.xp.ndarray:
            data = device.xp.asarray(data)
        if half is not None and data.dtype == float32:
            data = data.astype(half)
        out = self.wrap(data, None, device)
        if op.views and type(xs[0]) is Tensor:
            share_version(xs[0], out)
        state = mode.state
        if state:
            if op.rules:
                recorder(op)(op, xs, params, out)
            if state == TRACE:
                out = traced(op, xs, params, out)
        return out

    def _bind_fused(self, op):
        Tensor = self.Tensor
        complete, forward, functional = _completer(op), op.forward, self.functional

        def call(*xs, **params):
            settled = self._is_settled(op, xs)
            device, xs = (xs[0].device, xs) if settled else self._prepare(op, xs)
            params = complete(params)
            if op.check is not None:
                params = _checked(op, xs, params)
            state = mode.state
            if settings.use_fused and not (state == TRACE and mode.tracer.open_fused):
                kernel = lookup(device.name, op.name)
                if kernel is not None:
                    arrays = [x.data if type(x) is Tensor else x for x in xs]
                    half = None if settled else _half_of(arrays)
                    if half is not None and half in kernel.DTYPES:  # computed as it is
                        half = None
                    elif half is not None:
                        arrays = [widen(a) for a in arrays]
                    dtype = arrays[0].dtype if settled else _float_of(arrays)
                    if dtype in kernel.DTYPES and (kernel.supports is None or kernel.supports(*arrays, **params)):
                        return self._run_kernel(op, kernel, xs, arrays, params, device, half, state)
            try:
                return forward(functional, *xs, **params)
            except (ValueError, TypeError, IndexError) as error:
                raise explain(op, xs, params, error) from None

        return call

    def _run_kernel(self, op, kernel, xs, arrays, params, device, half, state):
        Tensor, ndarray = self.Tensor, device.xp.ndarray
        differentiable = xs
        if op.integer_inputs:  # kernels take one integer type
            arrays = [
                device.xp.astype(a, dtype=int64) if name in op.integer_inputs and a.dtype != int64 else a
                for a, name in zip(arrays, op.inputs, strict=True)
            ]
            differentiable = [None if name in op.integer_inputs else x for x, name in zip(xs, op.inputs, strict=True)]
        nodes = [x.node if state and type(x) is Tensor else None for x in differentiable]
        needs = tuple([node is not None for node in nodes])
        if True in needs or not getattr(kernel, "TAKES_STRIDES", False):
            contiguous = device.xp.contiguous
            arrays = [a if type(a) is not ndarray or a.flags.c_contiguous else contiguous(a) for a in arrays]
        wants_needs = getattr(kernel, "FORWARD_TAKES_NEEDS", False)
        data, kept = kernel.forward(*arrays, **params, **({"needs": needs} if wants_needs else {}))
        if half is not None and data.dtype == float32 and not op.wide_result:
            data = data.astype(half)
        out = self.wrap(data, None, device)
        if True in needs:
            parents = tuple(nodes)
            watch = watched([x for x in xs if type(x) is Tensor])
            out.node = Node(op, parents, (tuple(arrays), kept, kernel), params, data, device, watch)
        if state == TRACE:
            out = traced(op, xs, params, out)
        return out

    # -- inputs -------------------------------------------------------------------------------------------
    def _is_settled(self, op, xs):
        """Whether nothing is to be prepared: Tensors of one float type on one device, as in most calls."""
        Tensor, first = self.Tensor, xs[0] if xs else None
        if type(first) is not Tensor or (len(xs) != len(op.inputs) and not op.variadic):
            return False
        device, dtype = first.device, first.data.dtype
        if dtype is not float32 and dtype is not float64:
            return False
        for x in xs:
            if x is first or (x is None and op.is_fused):  # None: no bias, say
                continue
            if type(x) is not Tensor or x.data.dtype is not dtype or x.device is not device:
                return False
        return True

    def _prepare(self, op, xs):
        """One device, and PyTorch's promotion among the inputs that compute together."""
        Tensor, as_tensor = self.Tensor, self.as_tensor
        if self._is_settled(op, xs):
            return xs[0].device, xs
        device = None
        for x in xs:
            if type(x) is Tensor:
                if device is None:
                    device = x.device
                elif x.device is not device:
                    raise ValueError(
                        f"{op.name}: inputs are on {device.name} and on {x.device.name}: move one with .to({device.name!r})"
                    )
        if not op.variadic and len(xs) != len(op.inputs):
            raise TypeError(f"{op.name}: expected {len(op.inputs)} input(s) ({', '.join(op.inputs)}), got {len(xs)}")
        xs = [
            x if type(x) is Tensor or type(x) in _SCALARS or (x is None and op.is_fused)  # None: no bias
            else float(x) if isinstance(x, float)  # numpy.float64, which NumPy would not let a float32 array outrank
            else as_tensor(x, device, op.name)
            for x in xs
        ]  # fmt: skip
        if device is None:
            xs = [as_tensor(x, None, op.name) if isinstance(x, _SCALARS) else x for x in xs]
            device = next((x.device for x in xs if x is not None), None)
            if device is None:
                raise TypeError(f"{op.name}: expected a Tensor for {' and '.join(op.inputs)}, got {len(xs)} times None")
        names = op.inputs if not op.variadic else op.inputs * len(xs)
        joint = [i for i, name in enumerate(names) if name not in op.integer_inputs and xs[i] is not None]
        tensors = [xs[i] for i in joint if type(xs[i]) is Tensor]
        if not tensors or (len(tensors) == len(joint) == 1 and not op.to_float):
            if len(joint) and not tensors:
                dtype = result_type((), [xs[i] for i in joint])
                for i in joint:
                    xs[i] = self.wrap(device.xp.asarray(xs[i], dtype=dtype), None, device)
            return device, tuple(xs)
        dtype = result_type([t.data for t in tensors], [xs[i] for i in joint if type(xs[i]) is not Tensor])
        if op.to_float and not is_float(dtype):
            dtype = default_float
        for i in joint:
            if type(xs[i]) is Tensor and xs[i].data.dtype != dtype:
                xs[i] = self.functional.astype(xs[i], dtype=dtype)
            elif type(xs[i]) is not Tensor and dtype in HALF:
                # a scalar beside half precision: computed in float32 like the rest
                xs[i] = float(xs[i])
        return device, tuple(xs)


def _checked(op, xs, params):
    try:
        return op.check(*xs, **params)
    except _REFUSALS as error:
        raise explain(op, xs, params, error) from None


def share_version(x, out):
    """Make `out`, which may be a view of x's array, share x's version cell."""
    if x.cell is None and (x.node is None or x.node.op is None):
        x.cell = [0]
    out.cell = SHARED if x.cell is None else x.cell  # a recorded view of a leaf has the leaf's cell, and passes it on


def widen(a):
    """Half precision computes and accumulates in float32."""
    dtype = getattr(a, "dtype", None)
    return a.astype(float32) if dtype in HALF else a


def traced(op, xs, params, out):
    """Tell the thread's tracer of an op: what it returns, a Tensor or None, may replace the result."""
    changed = mode.tracer.on_forward(op, xs, params, out)
    return out if changed is None else changed


def is_exact(op, arrays, xp):
    """Whether half precision needs no widening: of numbers beside an array the library would first make half ones."""
    return (op.exact or op.name in xp.takes_halves) and not any(type(a) in _SCALARS for a in arrays)


def _half_of(arrays):
    for a in arrays:
        dtype = getattr(a, "dtype", None)
        if dtype is not None and dtype.itemsize == 2 and dtype in HALF:
            return dtype
    return None


def _float_of(arrays):
    return next((a.dtype for a in arrays if getattr(a, "dtype", None) is not None and is_float(a.dtype)), None)


def _completer(op):
    """A function that fills in the defaults of an op's keyword parameters and refuses unknown ones."""
    if not op.params:

        def complete(params):
            if params:
                raise TypeError(f"{op.name}: takes no parameter {sorted(params)}")
            return params

        return complete
    defaults = op.defaults
    count, names = len(op.params), set(op.params)

    def complete(params):
        if len(params) != count:
            params = {**defaults, **params}
        if len(params) != count or params.keys() != names:
            missing, unknown = sorted(names - params.keys() - defaults.keys()), sorted(params.keys() - names)
            raise TypeError(f"{op.name}: parameters are {op.params}; missing {missing}, unknown {unknown}")
        return params

    return complete
