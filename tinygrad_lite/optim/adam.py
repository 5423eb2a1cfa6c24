"""Adam and AdamW."""

from __future__ import annotations

import math

from ..config import settings
from ..dtypes import HALF, bfloat16
from ..kernels import lookup
from .blocks import blocks
from .optimizer import Optimizer
from .rounding import ELEMENTS

MOMENTS = ("exp_avg", "exp_avg_sq")
LARGEST = "max_exp_avg_sq"  # of amsgrad


def can_use_kernel(kernel, group, flat, decoupled: bool) -> bool:
    """Whether the compiled step computes what these settings ask for, in these types."""
    plain = not group.get("amsgrad", False) and (decoupled or not group["weight_decay"])
    return plain and flat.dtype in kernel.DTYPES


def corrections_at(group, step: int) -> dict:
    """1 - beta**step of both averages."""
    beta1, beta2 = group["betas"]
    return dict(bias_correction1=1.0 - beta1**step, bias_correction2=1.0 - beta2**step)


def step_scalars(group, step: int) -> tuple[float, float, float, float]:
    """What changes from step to step: the decay factor, the rate, what sqrt(v) is multiplied with, and the step itself."""
    c = corrections_at(group, step)
    lr = group["lr"]
    return (
        1.0 - lr * group["weight_decay"],
        lr / c["bias_correction1"],
        1.0 / math.sqrt(c["bias_correction2"]),
        float(step),
    )


def adam_update(group, flat, first, last, grad_scale, decoupled: bool, **replayed):
    """One Adam step of parameters first to last: the compiled kernel where there is one, else `adam_formula`.

    replayed: scalars=array on the device, in place of numbers (optim/replay.py).
    """
    step = flat.steps[first]
    (beta1, beta2), decay = group["betas"], group["weight_decay"]
    corrections = corrections_at(group, step)
    amsgrad = group.get("amsgrad", False)
    kernel = lookup(flat.device.name, "adamw") if settings.use_fused else None
    if kernel is not None and can_use_kernel(kernel, group, flat, decoupled):
        a, b = flat.starts[first], flat.stops[last]
        arrays = flat.data[a:b], flat.grad[a:b], *(flat.state[name][a:b] for name in MOMENTS)
        if flat.key is not None:
            replayed["draws"] = flat.key, step, a // ELEMENTS
        elif flat.dtype in HALF:
            replayed["master"] = flat.state["master"][a:b]
        kernel.step(*arrays, lr=group["lr"], beta1=beta1, beta2=beta2, eps=group["eps"], weight_decay=decay,
                    **corrections, grad_scale=grad_scale, **replayed)  # fmt: skip
        return
    options = dict(lr=group["lr"], beta1=beta1, beta2=beta2, eps=group["eps"], weight_decay=decay, decoupled=decoupled)
    names = (*MOMENTS, LARGEST) if amsgrad else MOMENTS
    for p, g, (m, v, *largest), (t,) in blocks(flat, first, last, names, grad_scale):
        adam_formula(flat.device.xp, p, g, m, v, t, *largest, **options, **corrections)


def adam_formula(
    xp,
    p,
    g,
    m,
    v,
    t,
    largest=None,
    *,
    lr,
    beta1,
    beta2,
    eps,
    weight_decay,
    decoupled,
    bias_correction1,
    bias_correction2,
):
    """The update over 1-D arrays, in place on p, m, v and amsgrad's largest v; g and t are scratch."""
    if weight_decay:
        if decoupled:
            p *= 1.0 - lr * weight_decay
        else:
            xp.multiply(p, weight_decay, out=t)
            g += t
    # m = beta1 * m + (1 - beta1) * g
    xp.subtract(g, m, out=t)
    t *= 1.0 - beta1
    m += t
    # v = beta2 * v + (1 - beta2) * g**2
    v *= beta2
    xp.multiply(g, g, out=t)
    t *= 1.0 - beta2
    v += t
    # p = p - lr * (m / bias_correction1) / (sqrt(v / bias_correction2) + eps)
    if largest is not None:
        v = xp.maximum(largest, v, out=largest)
    xp.sqrt(v, out=t)
    t /= math.sqrt(bias_correction2)
    t += eps
    xp.divide(m, t, out=t)
    t *= lr / bias_correction1
    p -= t


class Adam(Optimizer):
    """Adam: steps of about lr whatever the gradient's scale. Equal to PyTorch's.

        m = beta1 * m + (1 - beta1) * g          mh = m / (1 - beta1**step)
        v = beta2 * v + (1 - beta2) * g**2       vh = v / (1 - beta2**step)
        p = p - lr * mh / (sqrt(vh) + eps)

    weight_decay is added to the gradient (g = grad + weight_decay * p). amsgrad: vh is made of the largest v so far
    (Reddi et al. 2018, arXiv:1904.09237), without the compiled kernel. Kingma & Ba 2015, arXiv:1412.6980.
    """

    decoupled = False

    def __init__(self, params, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0.0, amsgrad: bool = False, flat: bool = True):  # fmt: skip
        super().__init__(
            params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=bool(amsgrad)), flat
        )

    def state_names(self, group):
        return (*MOMENTS, LARGEST) if group["amsgrad"] else MOMENTS

    def update(self, group, flat, first, last, grad_scale):
        adam_update(group, flat, first, last, grad_scale, self.decoupled)


class AdamW(Adam):
    """Adam whose weight decay acts on the parameter, p *= 1 - lr * weight_decay, and not through the moments.

    Equal to PyTorch's. Loshchilov & Hutter 2019, arXiv:1711.05101.

    stochastic_rounding: for bfloat16 parameters, without their float32 masters: 12 bytes a parameter (weight, gradient,
    two moments) in place of 16. A step is computed in float32 from the bfloat16 weight and rounded up or down by chance,
    to the result on average (optim/rounding.py); to nearest, a step of less than half a last digit, 0.2 to 0.4 % of the
    weight, would be lost. Zamirai et al. 2020, arXiv:2010.06192, find models trained so as good as in float32. Beside a
    master rounding by chance, which llm.c does too, would add noise to a sum that loses nothing, and save no memory:
    with masters weights are rounded to nearest. The bits are a function of parameter, step and element: a run that is
    resumed draws what it would have drawn. Raises ValueError for parameters that are not bfloat16.
    """

    decoupled = True

    def __init__(self, params, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 1e-2, amsgrad: bool = False, flat: bool = True,
                 stochastic_rounding: bool = False):  # fmt: skip
        self.stochastic_rounding = bool(stochastic_rounding)
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, flat)

    def check(self, group):
        super().check(group)
        if not self.stochastic_rounding:
            return
        for i, p in enumerate(group["params"]):
            if p.dtype != bfloat16:
                why = "there is nothing to round" if p.dtype not in HALF else "only bfloat16 can"
                raise ValueError(
                    f"AdamW: stochastic_rounding is for bfloat16, and parameter {i} is {p.dtype}: {why}: "
                    'convert the model first, module.to("bfloat16"), or leave it out'
                )
