"""Taps on the model that trains: each named value is shown to functions, which may give another in its place.

Values at the edge of a module come by its hooks. Scores and weights of attention exist only within an op, whose kernel
never holds them whole; where they are asked for, the op runs as its readable twin, which a tracer watches, from the
projection before it to the one after it, whatever else goes on there (`no_grad`, another tracer). There is no second
model: nothing here computes what a GPT computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from tinygrad_lite import Tensor, concatenate
from tinygrad_lite.autograd.mode import GRAD, TRACE, mode
from tinygrad_lite.study import Tracer

from ..model import GPT
from .names import matching

# The one op of attention's twin that gives each (ops/attention.py `attend`, ops/normalise.py `softmax`).
_WITHIN_ATTENTION = {"where": "scores", "divide": "pattern"}

_ENTERED: dict[int, list[Taps]] = {}  # by the id of the model, the outermost first

Hook = Callable[[Tensor, str], Tensor | None]


class Taps(Tracer):
    """A context manager in which `model` shows its values: `hooks` maps names to functions.

    A function is called with (value, name), and returns None or a Tensor of the same shape and type that goes on in its
    place. Within another `Taps` of the same model its functions are called after that one's. Leaving raises RuntimeError
    where a value was never computed, although the model ran: a hook on "logits" while the loss is asked for, say, or on
    attention's weights while a GPU decodes.
    """

    def __init__(self, model: GPT, hooks: Mapping[str, Iterable[Hook]]):
        super().__init__()
        self.model, self._hooks = model, {name: list(fns) for name, fns in hooks.items()}
        self._fns: dict[str, list[Hook]] = {}  # those of all contexts on the model, the outermost first
        self._visited: set[str] = set()
        self._handles, self._layer, self._residual, self._ran = [], None, None, False
        self._entered = self._outside = None  # (state, tracer) of the thread: where this began, where tracing began

    def add(self, name: str, hook: Hook):
        """One more function for a name, called after those it has."""
        self._hooks.setdefault(name, []).append(hook)

    # -- one value ----------------------------------------------------------------------------------------
    def _has(self, *names) -> bool:
        return any(name in self._fns for name in names)

    def visit(self, name: str, x: Tensor) -> Tensor:
        """Show a value to its functions; returns what goes on."""
        fns = self._fns.get(name, ())
        if not fns:
            return x
        for taps in _ENTERED[id(self.model)]:
            taps._visited.add(name)
        state = mode.state
        mode.state = min(state if self._outside is None else self._outside[0], GRAD)  # what they compute is not traced
        try:
            for fn in fns:
                changed = fn(x, name)
                if changed is not None:
                    x = _checked(changed, x, name)
        finally:
            mode.state = state
        return x

    # -- taking and giving back ---------------------------------------------------------------------------
    def __enter__(self):
        # The innermost alone holds the modules' hooks: two would open the same op, and take the residual from each other.
        entered = _ENTERED.setdefault(id(self.model), [])
        if entered:
            entered[-1]._detach()
        entered.append(self)
        self._attach()
        self._entered = mode.state, mode.tracer
        return self

    def _attach(self):
        self._fns = {}
        for taps in _ENTERED[id(self.model)]:
            for name, fns in taps._hooks.items():
                self._fns.setdefault(name, []).extend(fns)
        model, edges = (
            self.model,
            [(self.model.tokens, "embed"), (self.model.norm, "norm"), (self.model.head, "logits")],
        )
        for i, block in enumerate(model.blocks):
            at = f"blocks.{i}."
            edges += [(block.norm1, at + "norm1"), (block.attention, at + "resid_mid"), (block.norm2, at + "norm2"),
                      (block.mlp.up, at + "mlp.pre"), (block, at + "resid_post")]  # fmt: skip
            if self._has(at + "resid_pre"):
                self._before(block, lambda m, args, n=at + "resid_pre": (self.visit(n, args[0]), *args[1:]))
            attention, within = block.attention, at + "attention."
            if self._has(within + "q", within + "k", within + "v"):
                self._after(attention.qkv, lambda m, args, out, a=within: self._qkv(a, out))
            if self._has(within + "scores", within + "pattern"):
                self._after(attention.qkv, lambda m, args, out, i=i: self._trace(i))
                self._before(attention.project, lambda m, args: self._trace_no_more())
            self._adder(attention.project, attention.dropout, within + "z", within + "out", heads=True)
            self._adder(block.mlp.down, block.mlp.dropout, at + "mlp.post", at + "mlp.out", heads=False)
        for module, name in edges:
            if self._has(name):
                self._after(module, lambda m, args, out, n=name: self.visit(n, out))
        if self._has("pos_embed"):
            self._after(model.tokens, lambda m, args, out: self._trace())
            self._before(model.dropout, lambda m, args: self._trace_no_more())
        self._before(model, self._begin)

    def _detach(self):
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def __exit__(self, *exc):
        if self._outside is not None:  # an error fell out of attention
            self._outside = None
            mode.state, mode.tracer = self._entered
        entered = _ENTERED[id(self.model)]
        entered[-1]._detach()
        entered.remove(self)
        if entered:
            entered[-1]._attach()
        else:
            del _ENTERED[id(self.model)]
        missed = [name for name in self._hooks if name not in self._visited]
        if missed and self._ran and exc[0] is None:
            raise RuntimeError(
                f"lens: {', '.join(missed)} was never computed: there are no logits where the loss is asked for, and no "
                "scores where a GPU decodes from a cache: call model(tokens)"
            )
        return False

    def _before(self, module, hook):
        self._handles.append(module.register_forward_pre_hook(hook))

    def _after(self, module, hook):
        self._handles.append(module.register_forward_hook(hook))

    def _begin(self, module, args):
        for taps in _ENTERED[id(self.model)]:
            taps._ran = True
        if self._outside is not None:  # an error fell out of attention in a run before, and was caught
            if mode.tracer is self:
                mode.state = self._outside[0] if mode.state == TRACE else mode.state  # no_grad has put its own back
                mode.tracer = self._outside[1]
            self._outside = self._layer = None

    # -- what is more than a module's result --------------------------------------------------------------
    def _qkv(self, at, out):
        """Queries, keys and values of (B, T, (H + 2 Hkv) D), and all of them together again."""
        c = self.model.config
        b, t, width = out.shape
        heads = out.reshape(b, t, -1, c.head_size)  # (B, T, H + 2 Hkv, D)
        ends = 0, c.heads, c.heads + c.kv_heads, c.heads + 2 * c.kv_heads
        parts = [self.visit(at + n, heads[:, :, i:j]) for n, i, j in zip("qkv", ends, ends[1:])]
        return concatenate(parts, 2).reshape(b, t, width)

    def _adder(self, linear, dropout, name_in, name_out, heads: bool):
        """Tap what a layer that adds to the residual stream reads, and what it adds: after dropout, where that acts."""
        if not self._has(name_in, name_out):
            return

        def before(module, args):
            x, residual = args[0], args[1] if len(args) > 1 else None
            if self._has(name_in):
                b, t, c = x.shape
                shape = (b, t, self.model.config.heads, c // self.model.config.heads) if heads else (b, t, c)
                x = self.visit(name_in, x.reshape(shape)).reshape(b, t, c)
            if not self._has(name_out):
                return x, residual
            self._residual = residual
            return x, None

        def after(module, args, out):
            return out if self._residual is None else self.visit(name_out, out) + self._residual

        self._before(linear, before)
        if self._has(name_out):
            self._after(linear, after)
            self._after(dropout, lambda module, args, out: self.visit(name_out, out))  # called in training

    def _trace(self, layer: int | None = None):
        """Watch each op from here on; in a layer's attention, with fused ones opened."""
        self._outside = mode.state, mode.tracer
        mode.state, mode.tracer = TRACE, self
        self._layer, self.open_fused = layer, layer is not None

    def _trace_no_more(self):
        mode.state, mode.tracer = self._outside
        self._outside = self._layer = None

    def on_forward(self, op, xs, params, out):
        """Of the ops, those that give attention's scores and weights, and the slice of the positions."""
        if self._layer is not None:
            if op.name in _WITHIN_ATTENTION:
                return self.visit(f"blocks.{self._layer}.attention.{_WITHIN_ATTENTION[op.name]}", out)
        elif op.name == "getitem" and self._has("pos_embed") and xs[0] is self.model.positions.weight:
            return self.visit("pos_embed", out)
        return None


def _checked(changed, x: Tensor, name: str) -> Tensor:
    if type(changed) is not Tensor:
        raise TypeError(f"lens: the hook on {name} must return None or a Tensor, got {type(changed).__name__}")
    if (changed.shape, changed.dtype, changed.device) != (x.shape, x.dtype, x.device):
        raise ValueError(
            f"lens: the hook on {name} must return {x.dtype} {x.shape} on {x.device.name}, got {changed.dtype} "
            f"{changed.shape} on {changed.device.name}"
        )
    return changed


def hooked(model: GPT, hooks: Mapping[str, Hook | Iterable[Hook]]) -> Taps:
    """A context in which functions see, and may replace, the values that the names or patterns match.

    with hooked(model, {"blocks.*.attention.z": ablate(heads=0)}):
        evaluate(model, ...)

    Raises ValueError for a pattern that matches nothing.
    """
    found: dict[str, list[Hook]] = {}
    for pattern, fns in hooks.items():
        for name in matching(model, pattern):
            found.setdefault(name, []).extend((fns,) if callable(fns) else fns)
    return Taps(model, found)
