"""Gradients proved right: analytic against finite differences, and every disagreement explained.

problem.py     the function under test as a map between flat float64 vectors, and its recorded twin
tolerance.py   step sizes and tolerances, derived from the element type's eps
noise.py       how noisy a function's values are, measured
classify.py    why two figures disagree: a wrong rule, round-off, truncation, a kink
report.py      the result, its findings, and how they read
check.py       gradcheck and gradgradcheck, entry by entry
directions.py  the same along random directions
narrow.py      gradients of float32 and narrower inputs, held to float64
registry.py    every case of every op
"""

from .check import gradcheck, gradgradcheck
from .report import Finding, GradcheckError, GradcheckResult, InputReport

__all__ = ["Finding", "GradcheckError", "GradcheckResult", "InputReport", "gradcheck", "gradgradcheck"]
