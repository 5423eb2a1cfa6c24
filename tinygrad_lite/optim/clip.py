"""The norm of all gradients, and clipping by it. Pascanu et al. 2013, arXiv:1211.5063."""

from __future__ import annotations

import math

import numpy as np

from ..config import settings
from ..device import CPU
from ..dtypes import HALF, float32
from ..kernels import lookup
from .flat import gradient_spans

# Sums of squares are taken over this many elements and added up in float64, so that their error stays small.
SPAN, GPU_SPAN = 1 << 16, 1 << 24


def _kernel(span, device):
    """The compiled passes over flat arrays, where there are any."""
    kernel = lookup(device.name, "adamw") if settings.use_fused else None
    return kernel if kernel is not None and span.dtype in kernel.DTYPES else None


def _sum_of_squares(span, device) -> float:
    kernel = _kernel(span, device)
    if kernel is not None:
        return float(kernel.sum_of_squares(span))
    total, length = 0.0, SPAN if device is CPU else GPU_SPAN
    for i in range(0, span.size, length):
        piece = span[i : i + length]
        if piece.dtype in HALF:
            piece = piece.astype(float32)
        total += float(device.xp.matmul(piece, piece))
    return total


def _norm(spans) -> float:
    return math.sqrt(sum(_sum_of_squares(span, device) for span, device in spans))


def grad_norm(parameters) -> float:
    """Euclidean norm of all gradients together; parameters without one are passed over."""
    return _norm(gradient_spans(parameters))


def clip_coefficient(norm: float, max_norm: float) -> float:
    """What to multiply gradients of a norm with so that it does not exceed max_norm: at most 1.

    Given to optimizer.step(grad_scale=...) it clips without a pass over the gradients. 0 if the norm is infinite, NaN
    if it is NaN, as in PyTorch: a step with either spoils parameters, so look at the norm first.
    """
    if not max_norm > 0.0:
        raise ValueError(f"clip: max_norm must be above 0, got {max_norm}")
    coefficient = max_norm / (norm + 1e-6)  # PyTorch's guard against a norm of 0
    return 1.0 if coefficient > 1.0 else coefficient


def clip_grad_norm_(parameters, max_norm: float, error_if_nonfinite: bool = False) -> float:
    """Scale all gradients in place so that their norm together is at most max_norm. Returns the norm before.

    With error_if_nonfinite raises RuntimeError if the norm is NaN or infinite, and scales nothing. Without, as in
    PyTorch, a NaN makes all gradients NaN, and an infinity becomes NaN and makes all others 0.
    """
    spans = gradient_spans(parameters)
    norm = _norm(spans)
    if error_if_nonfinite and not math.isfinite(norm):
        raise RuntimeError(f"clip_grad_norm_: the norm of the gradients is {norm}: skip this step, or lower the rate")
    coefficient = clip_coefficient(norm, max_norm)
    if coefficient != 1.0:
        with np.errstate(invalid="ignore"):  # infinity times 0 is the NaN that we promise
            for span, device in spans:
                kernel = _kernel(span, device)
                if kernel is not None:
                    kernel.scale_into(span, coefficient, span)
                else:
                    span *= coefficient
    return norm
