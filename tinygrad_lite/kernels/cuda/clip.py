"""The gradient's norm and the factor that clips it, on the device: nothing waits."""

from ...dtypes import float32, float64
from .adamw import sum_of_squares_into
from .arrays import empty
from .launch import Source

_kernels = Source("clip.cu", "clip_coefficient")


def norm_and_coefficient(spans, loss_scale, max_norm: float):
    """(norm, coefficient), 0-d float32: the Euclidean norm of all 1-D arrays in spans over loss_scale, and what the
    update multiplies gradients with: at most 1 / loss_scale, NaN if any gradient is not finite. max_norm 0: no clipping.
    """
    squares, norm, coefficient = empty((), float64), empty((), float32), empty((), float32)
    for i, span in enumerate(spans):
        sum_of_squares_into(span, squares, adds=i > 0)
    launch = _kernels[float32]["clip_coefficient"]
    launch((1,), (1,), norm, coefficient, squares, loss_scale, float(max_norm))
    return norm, coefficient
