"""Rows of logits: log-sum-exp and softmax, shared by softmax, cross_entropy and linear_cross_entropy."""

import numpy as np

from .compile import routine, vectorise
from .elementary import exp, row_max


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
