"""Muon: momentum made orthogonal, for hidden matrices; and its usual company with AdamW."""

from __future__ import annotations

import math

from ..dtypes import HALF, float32
from .adam import MOMENTS, adam_update
from .optimizer import Optimizer

# a x + b x**3 + c x**5, applied to singular values, takes (0, 1] near 1 in five rounds: Jordan et al. 2024.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)

_scratch: dict = {}


def _buffers(rows: int, columns: int, dtype, device):
    key = rows, columns, dtype, device.name
    if key not in _scratch:
        empty = device.xp.empty
        _scratch[key] = [empty((rows, columns), dtype) for _ in range(2)] + [empty((rows, rows), dtype) for _ in range(2)]
    return _scratch[key]


def orthogonalise(xp, g, buffers, steps: int = 5, eps: float = 1e-7):
    """Newton-Schulz iteration: a matrix with g's singular vectors and singular values between about 0.7 and 1.2.

    g (R, C) with R <= C; buffers: two arrays (R, C) and two (R, R) to work in. Returns one of the buffers.
    """
    a, b, c = COEFFICIENTS
    x, y, square, mixed = buffers
    norm = math.sqrt(float((g * g).sum())) + eps  # the Frobenius norm bounds the largest singular value
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
    """One Muon step of matrices first to last."""
    momentum, lr, decay, xp = group["momentum"], group["lr"], group["weight_decay"], flat.device.xp
    for i in range(first, last + 1):
        rows, columns = flat.views[i].shape
        if not rows or not columns:
            continue
        a, b = flat.starts[i], flat.stops[i]
        dtype = float32 if flat.dtype in HALF else flat.dtype
        low, high = min(rows, columns), max(rows, columns)
        buffers = _buffers(low, high, dtype, flat.device)
        x, y = buffers[0], buffers[1]
        direction, spare, held = y.reshape(-1), x.reshape(-1), flat.state["momentum_buffer"][a:b]
        direction[...] = flat.grad[a:b]
        if grad_scale != 1.0:
            direction *= grad_scale
        held *= momentum
        held += direction
        if group["nesterov"]:
            xp.multiply(held, momentum, out=spare)
            direction += spare
        else:
            direction[...] = held
        matrix = direction.reshape(rows, columns)
        tall = rows > columns
        if tall:
            x[...] = matrix.T  # the smaller square, and contiguous
            matrix, buffers = x, [y, x, *buffers[2:]]
        o = orthogonalise(xp, matrix, buffers, group["ns_steps"])
        scale = lr * math.sqrt(max(1.0, rows / columns))
        o *= scale
        step = o.T if tall else o  # (rows, columns)
        target = flat.views[i] if flat.dtype not in HALF else flat.state["master"][a:b].reshape(rows, columns)
        if flat.dtype in HALF:
            written = xp.not_equal(target.astype(flat.dtype), flat.views[i])
            target[written] = flat.views[i][written]
        if decay:
            target *= 1.0 - lr * decay
        target -= step
        if flat.dtype in HALF:
            flat.views[i][...] = target


def _check_matrices(name, group):
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
        _check_matrices("Muon", group)

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

    def add_param_group(self, group):
        if not isinstance(group.get("use_muon"), bool):
            raise ValueError("MuonAdamW: every group must say use_muon=True or False: make the groups with muon_groups()")
        super().add_param_group({**(self.MUON if group["use_muon"] else self.ADAMW), **group})

    def check(self, group):
        super().check(group)
        if group["use_muon"]:
            _check_matrices("MuonAdamW", group)

    def state_names(self, group):
        return ("momentum_buffer",) if group["use_muon"] else MOMENTS

    def update(self, group, flat, first, last, grad_scale):
        if group["use_muon"]:
            muon_update(group, flat, first, last, grad_scale)
        else:
            adam_update(group, flat, first, last, grad_scale, decoupled=True)
