"""What kernels ask of one row: sums, deviation, log-sum-exp and softmax."""

import numpy as np

from ...native.compile import inline, inline_in_order, vectorise
from .elementary import exp, row_max


@inline
def row_sum(row):
    """sum(row)"""
    total = row.dtype.type(0)
    for j in range(row.size):
        total += row[j]
    return total


@inline
def inverse_deviation(row, centre, eps):
    """1 / sqrt(mean((row - centre)^2) + eps)

    The root in float64: in float32 LLVM takes the processor's estimate, which is NaN where the sum has overflowed.
    """
    real = row.dtype.type
    total = real(0)
    for j in range(row.size):
        total += (row[j] - centre) * (row[j] - centre)
    return real(1.0 / np.sqrt(np.float64(total) / row.size + eps))


@inline_in_order
def log_probability(x, top, rest):
    """x - (top + rest), the two parts of its row's log_sum_exp."""
    return (x - top) - rest


@inline
def log_sum_exp(row):
    """log(sum(exp(row))) in two parts, to be added: the largest element, and the log of the sum without it.

    Kept apart, for at logits of 10,000 their sum knows a float32 probability to 1e-3 only.
    """
    vectorise()
    top, total = row_max(row), row.dtype.type(0)
    for j in range(row.size):
        total += exp(row[j] - top)
    return top, np.log(total)


@inline
def softmax_row(row):
    """row becomes exp(row) / sum(exp(row)), in place; returns what log_sum_exp does."""
    vectorise()
    top, total = row_max(row), row.dtype.type(0)
    for j in range(row.size):
        e = exp(row[j] - top)
        row[j] = e
        total += e
    factor = row.dtype.type(1) / total
    for j in range(row.size):
        row[j] *= factor
    return top, np.log(total)
