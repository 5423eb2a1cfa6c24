"""The norm of all gradients, and clipping by it. Pascanu et al. 2013, arXiv:1211.5063."""

from __future__ import annotations

import math

from ..config import settings
from ..device import CPU
from ..dtypes import float32, float64
from ..kernels import lookup
from .flat import gradient_spans

# float32 sums of squares are taken over this many elements and added up in float64, so that their error stays small.
SPAN = 1 << 16


def _sum_of_squares(span) -> float:
    if isinstance(span, CPU.xp.ndarray):
        kernel = lookup("cpu", "adamw") if settings.use_fused and span.dtype in (float32, float64) else None
        if kernel is not None:
            return float(kernel.sum_of_squares(span))
        if span.dtype.itemsize == 2:
            pieces = (span[i : i + SPAN].astype(float32) for i in range(0, span.size, SPAN))
        else:
            pieces = (span[i : i + SPAN] for i in range(0, span.size, SPAN))
        return math.fsum(float(piece.dot(piece)) for piece in pieces)
    wide = span.astype(float32) if span.dtype.itemsize == 2 else span
    return float((wide * wide).sum(dtype=float64))


def grad_norm(parameters) -> float:
    """Euclidean norm of all gradients together; parameters without one are passed over."""
    return math.sqrt(math.fsum(_sum_of_squares(span) for span in gradient_spans(parameters)))


def clip_coefficient(norm: float, max_norm: float) -> float:
    """What to multiply gradients of a norm with so that it does not exceed max_norm: at most 1.

    Given to optimizer.step(grad_scale=...) it clips without a pass over the gradients. NaN if the norm is.
    """
    if not max_norm > 0.0:
        raise ValueError(f"clip: max_norm must be above 0, got {max_norm}")
    coefficient = max_norm / (norm + 1e-6)  # PyTorch's guard against a norm of 0
    return 1.0 if coefficient > 1.0 else coefficient


def clip_grad_norm_(parameters, max_norm: float, error_if_nonfinite: bool = False) -> float:
    """Scale all gradients in place so that their norm together is at most max_norm. Returns the norm before.

    Raises RuntimeError with error_if_nonfinite if the norm is NaN or infinite; else NaN passes into the gradients.
    """
    spans = gradient_spans(parameters)
    norm = math.sqrt(math.fsum(_sum_of_squares(span) for span in spans))
    if error_if_nonfinite and not math.isfinite(norm):
        raise RuntimeError(f"clip_grad_norm_: the norm of the gradients is {norm}: skip this step, or lower the rate")
    coefficient = clip_coefficient(norm, max_norm)
    if coefficient != 1.0:
        for span in spans:
            span *= coefficient
    return norm
