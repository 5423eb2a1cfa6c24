"""Tensor, what a user touches: core.py joins the groups of methods, a file each."""

from .core import Tensor, _rebuild, as_tensor, functional, wrap

__all__ = ["Tensor", "_rebuild", "as_tensor", "functional", "wrap"]  # _rebuild: pickles name it
