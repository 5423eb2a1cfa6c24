"""Muon: momentum made orthogonal, for hidden matrices; and its usual company with AdamW."""

from __future__ import annotations

import math
from numbers import Integral

import numpy as np

from ..config import settings
from ..dtypes import float32, float64
from ..kernels import lookup
from .adam import MOMENTS, adam_update
from .blocks import computing_dtype, scratch
from .optimizer import Optimizer

# a x + b x**3 + c x**5, applied to singular values, takes (0, 1] near 1 in five rounds: Jordan et al. 2024.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
EPS = 1e-7  # beside the norm that a matrix is divided by


def orthogonalise(xp, g, buffers, steps: int = 5, eps: float = EPS):
    """Newton-Schulz iteration: a matrix with g's singular vectors and singular values between about 0.7 and 1.2.

    g (R, C) contiguous with R <= C; buffers: two arrays (R, C), of which g may be the second, and two (R, R).
    Returns one of the buffers. Cost: steps * (4 R R C + 2 R R R) operations.
    """
    a, b, c = COEFFICIENTS
    x, y, square, mixed = buffers
    line = g.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        norm = math.sqrt(float(xp.matmul(line, line))) + eps  # Frobenius: it bounds the largest singular value
        if math.isinf(norm):  # squares overflow from 1e19 in float32, and dividing by infinity would leave zeros
            line /= max(float(line.max()), -float(line.min()))
            norm = math.sqrt(float(xp.matmul(line, line)))
    xp.divide(g, norm, out=x)
    for _ in range(steps):
        xp.matmul(x, x.T, out=square)  # (R, R)
        xp.matmul(square, square, out=mixed)  # (R, R)
        mixed *= c
        square *= b
        mixed += square
        xp.matmul(mixed, x, out=y)  # (R, C)
        x *= a
        y += x
        x, y = y, x
    return x


def muon_update(group, flat, first, last, grad_scale):
    """One Muon step of matrices first to last: the compiled kernel where there is one, else matrix by matrix."""
    matrices = [i for i in range(first, last + 1) if flat.params[i].size]
    kernel = lookup(flat.device.name, "muon") if settings.use_fused and flat.dtype in (float32, float64) else None
    if matrices and kernel is not None and kernel.works(flat.dtype):
        options = {name: group[name] for name in ("lr", "momentum", "nesterov", "ns_steps", "weight_decay")}
        places = np.array([(flat.starts[i], *flat.params[i].shape) for i in matrices])
        kernel.step(flat.data, flat.grad, flat.state["momentum_buffer"], places, **options, coefficients=COEFFICIENTS,
                    eps=EPS, grad_scale=grad_scale)  # fmt: skip
        return
    for i in matrices:
        _update_matrix(group, flat, i, grad_scale)


def _update_matrix(group, flat, i, grad_scale):
    xp, dtype = flat.device.xp, computing_dtype(flat)
    momentum, lr, decay = group["momentum"], group["lr"], group["weight_decay"]
    (rows, columns), a, b = flat.views[i].shape, flat.starts[i], flat.stops[i]
    low, high = min(rows, columns), max(rows, columns)
    x, y, *squares = scratch("muon", [(low, high)] * 2 + [(low, low)] * 2, dtype, flat.device)
    held, direction, spare = flat.state["momentum_buffer"][a:b], y.reshape(-1), x.reshape(-1)
    xp.multiply(flat.grad[a:b], grad_scale, out=direction)
    held *= momentum
    held += direction
    if group["nesterov"]:
        xp.multiply(held, momentum, out=spare)
        direction += spare
    else:
        direction[...] = held
    tall = rows > columns
    if tall:  # the transposed problem has the smaller squares
        x[...] = direction.reshape(rows, columns).T
        x, y = y, x
    u = orthogonalise(xp, y, [x, y, *squares], group["ns_steps"])
    u *= lr * math.sqrt(max(1.0, rows / columns))
    opened = flat.open_master(a, b)
    p = opened.reshape(rows, columns)
    if decay:
        p *= 1.0 - lr * decay
    p -= u.T if tall else u
    flat.close_master(opened, a, b, flat.steps[i])


def _check_muon(name, group):
    if not isinstance(group["ns_steps"], Integral) or group["ns_steps"] < 1:
        raise ValueError(f"{name}: ns_steps must be a whole number of at least 1, got {group['ns_steps']!r}")
    for i, p in enumerate(group["params"]):
        if p.ndim != 2:
            raise ValueError(f"{name}: parameter {i} of a Muon group must be a matrix, got {p.shape}: give it to AdamW")


class Muon(Optimizer):
    """Momentum whose update is made orthogonal, so that all directions of a matrix learn at one rate.

        v = momentum * v + grad
        u = orthogonal(grad + momentum * v  if nesterov else  v)          by `ns_steps` of Newton-Schulz
        p = p * (1 - lr * weight_decay) - lr * sqrt(max(1, rows / columns)) * u

    For hidden matrices only; raises ValueError for a parameter that is not 2-D. Jordan et al. 2024, "Muon: an
    optimizer for hidden layers in neural networks".
    """

    def __init__(self, params, lr: float = 0.02, momentum: float = 0.95, nesterov: bool = True, ns_steps: int = 5,
                 weight_decay: float = 0.0, flat: bool = True):  # fmt: skip
        defaults = dict(lr=lr, momentum=momentum, nesterov=nesterov, ns_steps=ns_steps, weight_decay=weight_decay)
        super().__init__(params, defaults, flat)

    def check(self, group):
        super().check(group)
        _check_muon("Muon", group)

    def state_names(self, group):
        return ("momentum_buffer",)

    def update(self, group, flat, first, last, grad_scale):
        muon_update(group, flat, first, last, grad_scale)


class MuonAdamW(Optimizer):
    """Muon for groups with use_muon=True, AdamW for groups with use_muon=False: see `muon_groups`.

    Each group may give its own settings; lr defaults to 0.02 for Muon and to 3e-4 for AdamW.
    """

    MUON = dict(lr=0.02, momentum=0.95, nesterov=True, ns_steps=5)
    ADAMW = dict(lr=3e-4, betas=(0.9, 0.95), eps=1e-8)

    def __init__(self, groups, weight_decay: float = 0.0, flat: bool = True):
        super().__init__(groups, dict(weight_decay=weight_decay), flat)

    def settings_of(self, group):
        return {"weight_decay", "use_muon", *(self.MUON if group["use_muon"] else self.ADAMW)}

    def add_param_group(self, group):
        if not isinstance(group, dict) or not isinstance(group.get("use_muon"), bool):
            raise ValueError("MuonAdamW: every group must say use_muon=True or False: make them with muon_groups()")
        super().add_param_group({**(self.MUON if group["use_muon"] else self.ADAMW), **group})

    def check(self, group):
        super().check(group)
        if group["use_muon"]:
            _check_muon("MuonAdamW", group)

    def state_names(self, group):
        return ("momentum_buffer",) if group["use_muon"] else MOMENTS

    def update(self, group, flat, first, last, grad_scale):
        if group["use_muon"]:
            muon_update(group, flat, first, last, grad_scale)
        else:
            adam_update(group, flat, first, last, grad_scale, decoupled=True)
