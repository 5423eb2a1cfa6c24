"""Stochastic gradient descent."""

from __future__ import annotations

from ..errors import check_number
from .blocks import blocks
from .optimizer import Optimizer


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if asked for. Equal to PyTorch's.

        g = grad + weight_decay * p
        v = momentum * v + (1 - dampening) * g, and g itself at the first step
        p = p - lr * (g + momentum * v  if nesterov else  v)

    Robbins & Monro 1951; momentum: Polyak 1964; nesterov: Sutskever et al. 2013.
    """

    def __init__(self, params, lr: float = 1e-3, momentum: float = 0.0, nesterov: bool = False,
                 weight_decay: float = 0.0, dampening: float = 0.0, flat: bool = True):  # fmt: skip
        settings = dict(lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay, dampening=dampening)
        super().__init__(params, settings, flat)

    def check(self, group):
        super().check(group)
        check_number("SGD", "dampening", group["dampening"])
        if group["nesterov"] and (not group["momentum"] or group["dampening"]):
            raise ValueError("SGD: nesterov needs a momentum above 0 and no dampening")

    def state_names(self, group):
        return ("momentum_buffer",) if group["momentum"] else ()

    def update(self, group, flat, first, last, grad_scale):
        lr, momentum, decay = group["lr"], group["momentum"], group["weight_decay"]
        names, share = self.state_names(group), 1.0 if flat.steps[first] == 1 else 1.0 - group["dampening"]
        multiply = flat.device.xp.multiply
        for p, g, kept, (t,) in blocks(flat, first, last, names, grad_scale):
            if decay:
                multiply(p, decay, out=t)
                g += t
            if kept:
                v = kept[0]
                v *= momentum
                v += g if share == 1.0 else multiply(g, share, out=t)
                if group["nesterov"]:
                    multiply(v, momentum, out=t)
                    g += t
                else:
                    g = v
            multiply(g, lr, out=t)
            p -= t
