"""What kernels ask of one row: sums, deviation, log-sum-exp and softmax."""

import numpy as np

from .compile import inline, routine, vectorise
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
    """1 / sqrt(mean((row - centre)^2) + eps)"""
    real = row.dtype.type
    total = real(0)
    for j in range(row.size):
        total += (row[j] - centre) * (row[j] - centre)
    return real(1) / np.sqrt(total / real(row.size) + real(eps))


@routine
def log_sum_exp(row):
    """log(sum(exp(row))), the largest element taken out first."""
    vectorise()
    top, total = row_max(row), row.dtype.type(0)
    for j in range(row.size):
        total += exp(row[j] - top)
    return top + np.log(total)


@routine
def softmax_row(row):
    """row becomes exp(row) / sum(exp(row)), in place; returns the log of that sum."""
    vectorise()
    top, total = row_max(row), row.dtype.type(0)
    for j in range(row.size):
        e = exp(row[j] - top)
        row[j] = e
        total += e
    factor = row.dtype.type(1) / total
    for j in range(row.size):
        row[j] *= factor
    return top + np.log(total)
