"""Running a model so that its activations, and their gradients, are kept by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from tinygrad_lite import Tensor, enable_grad, grad, no_grad, zeros_like

from ..model import GPT, as_tokens
from .names import matching
from .taps import Hook, hooked


class Activations(Mapping):
    """What one run computed: name to Tensor, outside any graph. `gradients`: the same names to gradients, if asked for.

    loss: what the gradients are of, a number; None without gradients.
    """

    def __init__(self, values: dict, gradients: dict, loss: float | None, what: str = "activation"):
        self._values, self._what, self.loss = values, what, loss
        self.gradients = Activations(gradients, {}, loss, "gradient") if what == "activation" else None

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._values:
            why = f"kept: {', '.join(self) or 'nothing'}"
            if self._what == "gradient" and self.loss is None:
                why = "run_with_cache was called without gradients="
            raise KeyError(f"lens: no {self._what} of {name!r} was kept; {why}")
        return self._values[name]

    def __iter__(self):
        return iter(self._values)

    def __len__(self):
        return len(self._values)

    def __repr__(self):
        lines = [f"  {name} {tuple(x.shape)}" for name, x in self.items()]
        return "\n".join([f"Activations of {len(self)} names:", *lines])


def run_with_cache(
    model: GPT,
    tokens,
    names: str | Iterable[str] = "*",
    gradients: Callable[[Tensor], Tensor] | bool = False,
    hooks: Mapping[str, Hook | Iterable[Hook]] | None = None,
) -> tuple[Tensor, Activations]:
    """model(tokens), and what it computed on the way: (logits (B, T, V), `Activations`).

    tokens: ids, (B, T) or (T,). names: what to keep, names or patterns; `names_of(model)` lists them. gradients: a
    function from the logits to a loss of one element, whose gradient by each kept value is kept too; no parameter's
    `.grad` is touched. hooks: as for `hooked`; what is kept is what went on.

    The logits are the model's in every bit where `names` asks for values between modules only (resid_*, norm*, embed,
    logits); a value within a fused op makes that op run as its parts, which agree with it within rounding. The model
    runs in the mode it is in: call model.eval() first where it has dropout.

    Raises ValueError for a name that matches nothing, and for a loss of more than one element.
    """
    kept: dict[str, Tensor] = {}

    def keep(x, name):
        leaf = None
        if gradients and x.node is None:  # a frozen model, or a hook's constant: the gradient is asked for all the same
            x = leaf = x.detach().requires_grad_()
        kept[name] = x
        return leaf

    if gradients and not callable(gradients):
        raise TypeError(f"run_with_cache: gradients must be a function from the logits to a loss, got {gradients!r}")
    order, tokens = matching(model, names), as_batch(model, tokens)
    taps = hooked(model, hooks or {})
    for name in order:
        taps.add(name, keep)
    if not gradients:
        with no_grad(), taps:
            logits = model(tokens)
        return logits.detach(), Activations({n: kept[n].detach() for n in order}, {}, None)
    with enable_grad():
        with taps:
            logits = model(tokens)
        loss = gradients(logits)
    if type(loss) is not Tensor or loss.size != 1:
        raise ValueError(f"run_with_cache: gradients= must return a Tensor of one element, got {loss!r}")
    found = grad(loss, [kept[n] for n in order], allow_unused=True)
    slopes = {n: zeros_like(kept[n]).detach() if g is None else g for n, g in zip(order, found, strict=True)}
    return logits.detach(), Activations({n: kept[n].detach() for n in order}, slopes, loss.item())


def as_batch(model: GPT, tokens) -> Tensor:
    """Token ids (T,) or (B, T), of any integer type, as a Tensor (B, T) where the model is."""
    tokens = tokens if type(tokens) is Tensor else as_tokens(tokens, model.device)
    if tokens.ndim == 1:
        tokens = tokens.unsqueeze(0)
    if tokens.ndim != 2:
        raise ValueError(f"lens: tokens must be (T,) or (B, T), got {tokens.shape}")
    return tokens


def must_be_still(what: str, model: GPT):
    """ValueError where dropout acts: no two runs of the model would agree."""
    if model.training and model.config.dropout:
        raise ValueError(f"{what}: the model is in training mode, where dropout acts: call model.eval() first")
