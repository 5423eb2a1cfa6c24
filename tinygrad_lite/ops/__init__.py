"""The mathematics: each op with its formula, its backward rules and the cases that prove them."""

from . import activation, attention, elementwise, index, loss, normalise, product, reduce, shape
from .registry import OPS, At, Bools, Case, Ints, Op, Values, fused, primitive

__all__ = [
    "OPS", "At", "Bools", "Case", "Ints", "Op", "Values", "fused", "primitive",
    "activation", "attention", "elementwise", "index", "loss", "normalise", "product", "reduce", "shape",
]  # fmt: skip
